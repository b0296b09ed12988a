"""Which layers a head leans on: by hand, by a second road, and what must not matter."""

import csv
import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import hrcam
from hrcam.classification import classification_scores
from hrcam.evaluation import score_maps, score_rows
from hrcam.heads import build_gap_classifier, build_hrcam_model
from hrcam.layer_analysis import head_weights, leave_one_layer_out, logit_shares
from hrcam.report import write_layer_analysis

VECTORS = np.array([[1, 0, 2], [3, 4, 0]], "float32")


def tiny(w, bias=0.0, layer_names=("a", "b")):
    """4x4x1 -> one sigmoid; layer a is the image x, b is (2 p, -p), p pooled 2x2."""
    image = x = keras.Input((4, 4, 1))
    for name, kernel in (("a", [1.0]), ("b", [2.0, -1.0])):
        conv = layers.Conv2D(len(kernel), 1, use_bias=False, name=name)
        x = conv(x)
        conv.set_weights([np.reshape(kernel, (1, 1, 1, -1))])
        x = layers.AveragePooling2D(2)(x) if name == "a" else x
    base_model = build_gap_classifier(keras.Model(image, x), 1)
    model = build_hrcam_model(base_model, layer_names)
    model.get_layer("predictions").set_weights(
        [np.reshape(w, (-1, 1)), np.array([bias])]
    )
    return model


@pytest.fixture
def corner():
    """An image and its mask: ones in the upper left quarter."""
    image = np.zeros((1, 4, 4, 1), "float32")
    image[:, :2, :2] = 1
    return image, image[..., 0] > 0


@pytest.fixture(params=["flat_model", "nested_model", "sigmoid_model"])
def model(request):
    """An HR-CAM model of 4 + 6 + 8 maps with random head."""
    model = build_hrcam_model(request.getfixturevalue(request.param))
    dense, rng = model.get_layer("predictions"), np.random.default_rng(0)
    dense.set_weights([rng.normal(size=w.shape) for w in dense.get_weights()])
    return model


@pytest.fixture
def masks():
    masks = np.zeros((6, 16, 16), bool)
    masks[1::3, 2:12, 4:14] = True
    masks[2::3, ::2] = True
    return masks


def vectors_of(model, images):
    pooling = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
    return ops.convert_to_numpy(pooling(images))


def without_layer(model, number):
    """A second model whose kernel is zero on the layer's rows."""
    kernel, bias = model.get_layer("predictions").get_weights()
    kernel[[slice(0, 4), slice(4, 10), slice(10, 18)][number]] = 0
    cut = keras.models.clone_model(model)
    cut.set_weights(model.get_weights())
    cut.get_layer("predictions").set_weights([kernel, bias])
    return cut


# ----------------------------------------------------------------------------- weights


def test_weights_by_hand():
    model = tiny([2, -1, 0.5])

    weights = head_weights(model, 1, VECTORS)
    others = head_weights(model, 0)

    assert list(weights) == list(others) == ["a", "b"]
    np.testing.assert_array_equal(weights["a"].w, [2])
    np.testing.assert_array_equal(weights["b"].w, [-1, 0.5])
    # Columns (1, 3), (0, 4), (2, 0): standard deviations 1, 2, 1.
    np.testing.assert_allclose(weights["a"].scaled, [2])
    np.testing.assert_allclose(weights["b"].scaled, [-2, 0.5])
    np.testing.assert_array_equal(others["a"].w, [-2])  # class 0 of a sigmoid is -w
    assert others["a"].scaled is None


def test_weights_are_the_columns_of_the_kernel(model):
    kernel = model.get_layer("predictions").get_weights()[0]

    weights = head_weights(model, 1)

    assert [len(layer.w) for layer in weights.values()] == [4, 6, 8]
    joined = np.concatenate([layer.w for layer in weights.values()])
    np.testing.assert_array_equal(joined, kernel[:, -1 if kernel.shape[1] == 1 else 1])


def test_scaled_weights_in_float64():
    """A float32 mean of 10,000 values about 5,000 would be off by more than this."""
    vectors = np.tile(np.float32([[5000, 0, 0], [5000.5, 0, 0]]), (5000, 1))

    weights = head_weights(tiny([2, 1, 1]), 1, vectors)

    np.testing.assert_allclose(weights["a"].scaled, [2 * 0.25], rtol=1e-9)


# ------------------------------------------------------------------------------ shares


def test_shares_by_hand():
    shares = logit_shares(tiny([2, -1, 0.5], bias=0.25), VECTORS, 1)

    assert shares.layers == ("a", "b")
    # 2 * 1, -0 + 1; 2 * 3, -4 + 0
    np.testing.assert_array_equal(shares.contributions, [[2, 1], [6, -4]])
    assert shares.bias == 0.25
    np.testing.assert_array_equal(shares.logit, [3.25, 2.25])
    np.testing.assert_array_equal(shares.mean, [4, -1.5])
    # (2/3, 1/3) and (6/10, 4/10)
    np.testing.assert_allclose(shares.absolute_share, [19 / 30, 11 / 30])
    # From the mean: logit (0.5, -0.5), a (-2, 2), b (2.5, -2.5); products summed:
    # 0.5 with itself, -2 with a, 2.5 with b.
    np.testing.assert_allclose(shares.covariance_share, [-4, 5])


def test_contributions_complete_the_logit(model, images):
    """Softmax or sigmoid of the logits is what the model itself predicts."""
    vectors = vectors_of(model, images)
    count = max(2, model.output.shape[-1])

    shares = [logit_shares(model, vectors, c) for c in range(count)]

    for share in shares:
        assert share.contributions.shape == (6, 3)
        total = share.contributions.sum(axis=1) + share.bias
        np.testing.assert_allclose(share.logit, total, rtol=1e-12)
        assert share.absolute_share.sum() == pytest.approx(1)
        assert share.covariance_share.sum() == pytest.approx(1)
    powers = np.exp([share.logit for share in shares])
    if model.output.shape[-1] == 1:
        expected = (powers[1] / (1 + powers[1]))[:, None]
        np.testing.assert_allclose(shares[0].logit, -shares[1].logit)
        np.testing.assert_allclose(shares[0].mean, -shares[1].mean)
    else:
        expected = (powers / powers.sum(axis=0)).T
    np.testing.assert_allclose(model(images), expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The hr_cam map")
def test_contributions_are_the_means_of_the_maps(model, images):
    maps = hrcam.hr_cam(model, images, 1, per_layer=True)

    contributions = logit_shares(model, images, 1, batch_size=4).contributions

    expected = maps.mean(axis=(2, 3), dtype=float)
    np.testing.assert_allclose(contributions, expected, atol=1e-4 * np.ptp(expected))
    from_vectors = logit_shares(model, vectors_of(model, images), 1).contributions
    np.testing.assert_allclose(contributions, from_vectors, rtol=1e-4, atol=1e-5)


def test_the_scale_of_a_feature_changes_w_alone():
    """A feature 8 times as large with a weight of an eighth is the same head."""
    scaled = VECTORS * [1, 8, 1]
    before, after = tiny([2, -1, 0.5]), tiny([2, -1 / 8, 0.5])

    weights = head_weights(before, 1, VECTORS), head_weights(after, 1, scaled)
    shares = logit_shares(before, VECTORS, 1), logit_shares(after, scaled, 1)

    assert weights[0]["b"].w[0] == 8 * weights[1]["b"].w[0]
    np.testing.assert_allclose(weights[0]["b"].scaled, weights[1]["b"].scaled)
    for name in ("contributions", "logit", "absolute_share", "covariance_share"):
        np.testing.assert_allclose(getattr(shares[0], name), getattr(shares[1], name))


def test_a_part_that_never_changes_has_no_share_of_the_variance():
    vectors = np.float32([[100, 0, 2], [100, 4, 0]])

    shares = logit_shares(tiny([2, -1, 0.5]), vectors, 1)

    np.testing.assert_allclose(shares.covariance_share, [0, 1])
    assert shares.absolute_share[0] > 0.9


def test_undefined_shares_are_nan():
    one_image = logit_shares(tiny([2, -1, 0.5]), VECTORS[:1], 1)
    assert np.isnan(one_image.covariance_share).all()
    np.testing.assert_allclose(one_image.absolute_share, [2 / 3, 1 / 3])
    # 0.3 - 0.1 is not 0.2 to the last digit: the same logit but for rounding
    rounded = logit_shares(tiny([1, 1, 0]), np.array([[0.3, -0.1, 0], [0.2, 0, 0]]), 1)
    assert 0 < np.ptp(rounded.logit) < 1e-15
    assert np.isnan(rounded.covariance_share).all()
    nothing = logit_shares(tiny([2, -1, 0.5]), np.zeros((2, 3)), 1)
    assert np.isnan(nothing.absolute_share).all()
    half = logit_shares(tiny([2, -1, 0.5]), np.float32([[0, 0, 0], [1, 0, 2]]), 1)
    np.testing.assert_allclose(half.absolute_share, [2 / 3, 1 / 3])


# ------------------------------------------------------------------ leave one layer out


def test_leave_one_out_by_hand(corner):
    # Part a: -x. Part b: 2 p + p = 3 p, p = 1 in the corner, upsampled along each axis
    # to 1, 3/4, 1/4, 0. In the mask: 3, 9/4, 9/4, 27/16; outside: twice 3/4, twice
    # 9/16, 3/16 and seven zeros.
    rows = leave_one_layer_out(tiny([-1, 1, -1]), *corner, 1)

    assert [row["without"] for row in rows] == ["nothing", "a", "b"]
    # All of it is 1 less in the mask: 2, 5/4, 5/4, 11/16, and two others are higher
    # than 11/16. Without a all of the mask is higher; without b, -1 below the zeros.
    assert [row["pixel auc"] for row in rows] == [46 / 48, 1, 0]
    assert [row["pointing game"] for row in rows] == [1, 1, 0]
    inside, outside = 83 / 16, 45 / 16
    expected = [inside / (inside + outside), (inside + 4) / (inside + 4 + outside)]
    assert [row["energy inside"] for row in rows[:2]] == pytest.approx(expected)
    assert np.isnan(rows[2]["energy inside"])
    assert [row["blank"] for row in rows] == [0, 0, 1]
    assert "accuracy" not in rows[0]


def test_leave_one_out_of_the_classes_by_hand(corner):
    rows = leave_one_layer_out(
        tiny([2, -1, 0.5], bias=-3), *corner, 1, vectors=VECTORS, labels=[1, 0]
    )

    # a: 2, 6; b: 1, -4; logits 0 (class 1), -1. Without a: -2, -7. Without b: -1, 3.
    assert [row["accuracy"] for row in rows] == [1, 0.5, 0]
    assert [row["classification auc"] for row in rows] == [1, 1, 0]


@pytest.mark.filterwarnings("ignore:The hr_cam map")
def test_leave_one_out_is_a_head_with_zeros(model, images, masks):
    vectors, labels = vectors_of(model, images), np.arange(6) % 2
    labels[-1] = model.output.shape[-1] - 1 or 1

    rows = leave_one_layer_out(
        model,
        images,
        masks,
        1,
        vectors=vectors,
        labels=labels,
        thresholds=(0.25,),
        batch_size=4,
    )

    assert [row["without"] for row in rows[1:]] == hrcam.pooled_layers(model)
    for number, row in enumerate(rows):
        cut = model if number == 0 else without_layer(model, number - 1)
        maps = hrcam.hr_cam(cut, images, 1)
        (expected,) = score_rows(score_maps({"": maps}, masks, (0.25,)), (0.25,))
        classes = classification_scores(labels, ops.convert_to_numpy(cut(images)))
        assert row["accuracy"] == classes["accuracy"]
        assert row["classification auc"] == pytest.approx(classes["auc"])
        for name in ("sensitivity 0.25", "pixel auc", "best iou", "energy inside"):
            assert row[name] == pytest.approx(expected[name], abs=0.01, nan_ok=True)
        assert row["images"] == 4  # noise has an empty mask
    assert len({row["pixel auc"] for row in rows}) > 2


def test_batches_do_not_change_the_scores(model, images, masks):
    whole = leave_one_layer_out(model, images, masks, 1)
    pieces = leave_one_layer_out(model, images, masks, 1, batch_size=1)

    for one, other in zip(whole, pieces, strict=True):
        assert one.pop("without") == other.pop("without")
        assert one == pytest.approx(other, abs=0.005, nan_ok=True)


def test_a_large_part_leaves_nothing_of_itself(corner):
    """In float32, (1e8 + 3) - 1e8 is 0 and would put the mask below the rest."""
    rows = leave_one_layer_out(tiny([1e8, 1, -1]), *corner, 1)

    assert rows[1]["pixel auc"] == 1


def test_without_its_only_layer_a_map_is_blank(corner):
    rows = leave_one_layer_out(tiny([1], layer_names=["a"]), *corner, 1)

    assert [row["pixel auc"] for row in rows] == [1, 0.5]
    assert [row["blank"] for row in rows] == [0, 1]


def test_blank_maps_are_counted_not_warned_of(corner):
    rows = leave_one_layer_out(tiny([-1, 1, -1]), *corner, 0)  # the negative map

    assert [row["blank"] for row in rows] == [1, 1, 0]


# ------------------------------------------------------------------------------ report


@pytest.mark.filterwarnings("ignore:The hr_cam map")
@pytest.mark.parametrize("model", ["nested_model"], indirect=True)
def test_report(model, images, masks, tmp_path):
    vectors, labels = vectors_of(model, images), np.arange(6) % 2
    masks[0, 0, 0] = True

    text = write_layer_analysis(
        tmp_path / "new" / "out",
        model,
        vectors,
        images,
        masks,
        1,
        labels,
        row_titles=list("abcdef"),
        num_rows=2,
        facts={"seed": 0},
    )

    out = tmp_path / "new" / "out"
    for name in ("layer_weights", "layer_shares", "layer_maps"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    names = hrcam.pooled_layers(model)
    for name in names:
        assert text.count(f"| {name} |") == 2  # a row in both tables
    written = (out / "layers.md").read_text()
    assert text in written
    assert "- class: 1\n- vectors: 6\n- seed: 0\n" in written
    record = json.loads((out / "layers.json").read_text())
    assert record["facts"] == {"class": 1, "vectors": 6, "seed": 0}
    weights, shares = head_weights(model, 1, vectors), logit_shares(model, vectors, 1)
    without = leave_one_layer_out(
        model, images, masks, 1, vectors=vectors, labels=labels
    )
    assert [row["without"] for row in record["without"]] == ["nothing", *names]
    for number, (row, name) in enumerate(zip(record["layers"], names, strict=True)):
        assert row["layer"] == name
        assert row["channels"] == (4, 6, 8)[number]
        for part, what in (("w", "w"), ("w*std", "scaled")):
            values = getattr(weights[name], what)
            assert row[f"{part} median"] == pytest.approx(np.median(values))
            assert row[f"{part} q3"] == pytest.approx(np.percentile(values, 75))
        assert row["mean contribution"] == pytest.approx(shares.mean[number])
        share = shares.covariance_share[number]
        assert row["share of its variance"] == pytest.approx(share)
    with (out / "layers.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["nothing", *names]
    assert rows[0]["w median"] == ""
    assert float(rows[2]["w median"]) == record["layers"][1]["w median"]
    for row, expected in zip(rows, without, strict=True):
        assert float(row["without: accuracy"]) == expected["accuracy"]


def test_report_without_labels_and_titles(corner, tmp_path):
    text = write_layer_analysis(tmp_path, tiny([-1, 1, -1]), VECTORS, *corner, 1)

    assert "accuracy" not in text
    # Quartiles of the weights (1, -1), and of (2, -1), for features of deviation 2, 1.
    assert "| b | 2 | -0.5 | 0 | 0.5 | -0.25 | 0.5 | 1.25 |" in text


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"class_index": 2}, r"one int in \[0, 2\).*Received: 2"),
        ({"class_index": -1}, "Received: -1"),
        ({"class_index": [1]}, r"Received: \[1\]"),
        ({"class_index": 1.0}, "Received: 1.0"),
        ({"class_index": None}, "Received: None"),
        ({"vectors": VECTORS[:, :2]}, r"\(n, 3\).*\[1, 2\] by layer.*\(2, 2\)"),
        ({"vectors": VECTORS[0]}, r"Received: \(3,\).*pool_features"),
        ({"vectors": VECTORS[:0]}, r"n > 0.*Received: \(0, 3\)"),
        ({"vectors": VECTORS * np.nan}, "float32, with NaN or infinity"),
        ({"vectors": VECTORS.astype(str)}, "finite numbers. Received: <U"),
    ],
)
def test_bad_class_or_vectors(change, reason, corner):
    class_index, vectors = ({"class_index": 1, "vectors": VECTORS} | change).values()
    model = tiny([1, 1, 1])

    for call in (
        lambda: head_weights(model, class_index, vectors),
        lambda: logit_shares(model, vectors, class_index),
        lambda: leave_one_layer_out(
            model, *corner, class_index, vectors=vectors, labels=[0, 1]
        ),
    ):
        with pytest.raises(ValueError, match=reason):
            call()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"images": np.zeros((1, 5, 5, 1))}, r"'batch', 4, 4, 1.*\(1, 5, 5, 1\)"),
        ({"masks": np.zeros((2, 4, 4), bool)}, r"\(1, 4, 4\).*Received: \(2, 4, 4\)"),
        ({"masks": np.full((1, 4, 4), 7)}, "bool or 0/1"),
        ({"vectors": VECTORS}, "given together.*only `vectors`"),
        ({"labels": [0, 1]}, "given together.*only `labels`"),
        ({"vectors": VECTORS, "labels": [0, 2]}, "from 0 to 1.*2"),
        ({"vectors": VECTORS, "labels": [0, 1, 1]}, r"Received: \(3,\)"),
        ({"batch_size": 0}, "at least 1. Received: 0"),
        ({"thresholds": (2,)}, r"in \[0, 1\]"),
    ],
)
def test_bad_leave_one_out(change, reason, corner):
    options = dict(zip(("images", "masks"), corner, strict=True)) | change
    with pytest.raises(ValueError, match=reason):
        leave_one_layer_out(tiny([1, 1, 1]), class_index=1, **options)


def test_a_model_without_a_head(flat_model, images):
    for function in (head_weights, lambda m, c: logit_shares(m, images, c)):
        with pytest.raises(ValueError, match="build_hrcam_model"):
            function(flat_model, 1)
