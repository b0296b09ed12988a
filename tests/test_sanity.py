"""Randomised layers and labels: what is random and in what order, scores by hand."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from keras import layers

import hrcam
from hrcam import _backend, maps, plots
from hrcam.maps.controls import edge_magnitude
from hrcam.sanity import (
    MapSimilarity,
    cascading_randomization,
    label_randomization,
    map_similarity,
)

EXAMPLE = Path(__file__).parent.parent / "examples" / "anatomy_sanity.py"
BLANK = pytest.mark.filterwarnings("ignore:The .*cam map has no positive value")
ORDER = ("predictions", "bn3", "conv3", "bn2", "conv2", "bn1", "conv1")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def response(model, images):
    return hrcam.attentive_response_maps(model, images, top_n=3)["response"]


class Recorder:
    """An explain function that notes the models and their weights; maps are edges."""

    def __init__(self):
        self.models, self.weights = [], []

    def __call__(self, model, images):
        self.models.append(model)
        paths = dict.fromkeys(variable.path for variable in model.weights)
        assert len(paths) == len(model.weights)
        self.weights.append(dict(zip(paths, model.get_weights(), strict=True)))
        return edge_magnitude(model, images)


def record(model, images, **options):
    recorder = Recorder()
    return cascading_randomization(model, recorder, images, **options), recorder


def of_layer(weights, layer):
    own = {p: w for p, w in weights.items() if layer.split("/")[-1] in p.split("/")}
    assert own
    return own


# --- what is randomised -----------------------------------------------------------


@pytest.mark.parametrize(
    ("fixture", "prefix"),
    [
        ("flat_model", ""),
        ("sigmoid_model", ""),
        ("nested_model", "backbone/"),
        ("functional_nested_model", "backbone/"),
    ],
)
def test_layers_are_randomised_one_after_the_other(request, fixture, prefix, images):
    model = request.getfixturevalue(fixture)
    result, recorder = record(model, images)

    inner = [prefix + layer for layer in ORDER[1:]]
    assert result.layers == (ORDER[0], *inner)
    trained, *steps = recorder.weights
    assert len(steps) == len(result.layers) == 7
    for mine, copied in zip(model.get_weights(), trained.values(), strict=True):
        np.testing.assert_array_equal(mine, copied)
    for step, weights in enumerate(steps):
        before = recorder.weights[step]
        for place, layer in enumerate(result.layers):
            for path, now in of_layer(weights, layer).items():
                assert (now != trained[path]).any() == (place <= step), path
                # Random once, not anew at each step.
                assert (now != before[path]).any() == (place == step), path


def test_draws_are_those_of_the_layers_initialisers(images):
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(4, 3, kernel_initializer="he_normal", name="he")(image)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(40, 3, bias_initializer=keras.initializers.Constant(7))(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(2, name="dense")(x))
    model.set_weights([w + 100 for w in model.get_weights()])

    _, recorder = record(model, images)

    he, he_bias, gamma, beta, mean, variance, glorot, sevens, *_ = recorder.weights[
        -1
    ].values()
    assert np.abs(he).max() <= 2 * np.sqrt(2 / 9) / 0.87962566  # truncated at 2 sd
    assert 0.5 < he.std() / np.sqrt(2 / 9) < 1.5  # 36 draws
    limit = np.sqrt(6 / (9 * 4 + 9 * 40))
    assert np.abs(glorot).max() <= limit
    assert 0.95 < glorot.std() / (limit / np.sqrt(3)) < 1.05  # 1,440 draws
    assert set(sevens) == {7}
    for array, value in [(he_bias, 0), (gamma, 1), (beta, 0), (mean, 0), (variance, 1)]:
        assert set(array) == {value}


def test_a_fixed_seed_of_an_initialiser_is_not_drawn_again(images):
    """The weights that a network started from may be those that it still has."""
    image = keras.Input((16, 16, 1))
    start = keras.initializers.GlorotUniform(seed=3)
    x = layers.Conv2D(2, 3, kernel_initializer=start, name="conv")(image)
    model = keras.Model(image, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))

    _, recorder = record(model, images)

    assert (recorder.weights[-1]["conv/kernel"] != model.get_weights()[0]).all()


def test_shared_layers_are_randomised_once_and_data_statistics_never(images):
    image = keras.Input((16, 16, 1))
    normalize = layers.Normalization(axis=None, name="normalize")
    normalize.adapt(images)
    shared = layers.Conv2D(1, 3, padding="same", name="shared")
    x = shared(layers.Conv2D(1, 3, padding="same", name="own")(normalize(image)))
    x = layers.GlobalAveragePooling2D()(shared(x))
    model = keras.Model(image, layers.Dense(2, name="dense")(x))

    result, recorder = record(model, images)

    assert result.layers == ("dense", "shared", "own")
    last = recorder.weights[-1]
    assert last["normalize/mean"] == pytest.approx(images.mean())


def test_the_model_is_not_changed(nested_model, images):
    nested_model.compile("sgd", "categorical_crossentropy")
    nested_model.get_layer("backbone").trainable = False
    before = nested_model.get_weights()
    config = json.dumps(nested_model.get_config(), sort_keys=True)
    trainable = [variable.trainable for variable in nested_model.weights]
    output = nested_model(images)
    state = random.getstate(), np.random.get_state()[1].tolist()

    _, recorder = record(nested_model, images)

    assert (random.getstate(), np.random.get_state()[1].tolist()) == state
    assert len({id(model) for model in recorder.models}) == 1
    copy = recorder.models[0]
    mine = {id(variable) for variable in nested_model.variables}
    assert not mine & {id(variable) for variable in copy.variables}
    for was, now in zip(before, nested_model.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    np.testing.assert_array_equal(output, nested_model(images))
    assert json.dumps(nested_model.get_config(), sort_keys=True) == config
    assert [variable.trainable for variable in nested_model.weights] == trainable
    assert nested_model.compiled
    assert nested_model not in _backend._COMPILED  # it is not run, either


def test_the_seed_decides(flat_model, images):
    once, twice, other = (
        record(flat_model, images, seed=seed)[1].weights for seed in (0, 0, 1)
    )
    for step in range(8):
        for path, drawn in once[step].items():
            np.testing.assert_array_equal(drawn, twice[step][path])
            np.testing.assert_array_equal(once[0][path], other[0][path])
    for number in (1, 2, 3):
        path = f"conv{number}/kernel"
        assert (once[-1][path] != other[-1][path]).all()


# --- the maps ---------------------------------------------------------------------


def test_maps_are_compiled_once_and_read_the_weights(flat_model, images):
    copies = []

    def explain(model, images):
        copies.append(model)
        return response(model, images)

    result = cascading_randomization(flat_model, explain, images)

    # The classifier on top does not matter to them, the layers below do.
    np.testing.assert_array_equal(result.maps[1], result.maps[0])
    assert (result.similarity.spearman[2] < 1).all()
    assert len(_backend._COMPILED[copies[0]][1]) == 1
    np.testing.assert_allclose(result.maps[0], response(flat_model, images), atol=1e-6)
    fresh = keras.models.clone_model(flat_model)  # compiled anew
    fresh.set_weights(copies[0].get_weights())
    np.testing.assert_allclose(result.maps[-1], response(fresh, images), atol=1e-6)


def test_a_map_that_ignores_the_model_stays(flat_model, images):
    result = cascading_randomization(flat_model, edge_magnitude, images)

    assert result.maps.shape == (8, 6, 16, 16)
    assert result.maps.dtype == np.float32
    for scores in result.similarity:
        assert scores.shape == (8, 6)
        np.testing.assert_allclose(scores, 1)


@BLANK
@pytest.mark.parametrize("method", [hrcam.cam, hrcam.grad_cam])
def test_a_map_of_the_weights_changes(flat_model, images, method):
    result = cascading_randomization(flat_model, lambda m, x: method(m, x, 1), images)

    np.testing.assert_allclose(result.similarity.spearman[0], 1)
    assert (result.similarity.spearman[1] < 0.99).all()  # the class's own weights
    assert np.median(np.abs(result.similarity.spearman[-1])) < 0.5


@BLANK
def test_hr_cam(flat_model, images):
    model = hrcam.build_hrcam_model(flat_model)  # its base is frozen
    result = cascading_randomization(model, lambda m, x: hrcam.hr_cam(m, x, 1), images)

    assert result.layers == ORDER
    assert (result.similarity.spearman[1:] < 0.99).all()


# --- every method -----------------------------------------------------------------


def response_of_class(model, images, class_index):
    return response(model, images)


METHODS = [*maps.__all__, "attentive_response_maps"]


@BLANK
@pytest.mark.parametrize("name", METHODS)
def test_every_method_goes_down_the_cascade(flat_model, images, name):
    """Same steps for each, maps of the trained network first, all finite."""
    method = getattr(maps, name, response_of_class)
    model = hrcam.build_hrcam_model(flat_model) if name == "hr_cam" else flat_model
    images = images[:2]
    result = cascading_randomization(model, lambda m, x: method(m, x, 1), images)

    assert result.layers == ORDER
    np.testing.assert_allclose(result.maps[0], method(model, images, 1), atol=1e-5)
    assert np.isfinite(result.maps).all()
    # Once the first layer is random, nothing is left of what was learned.
    assert (result.maps[-1] != result.maps[0]).any(axis=(1, 2)).all()


# --- random labels ----------------------------------------------------------------

LABELS = np.repeat([0, 1, 2], 4)


class Fit:
    """A model whose weights say which labels it was given."""

    def __init__(self):
        self.given = []

    def __call__(self, labels):
        self.given.append(labels)
        image = keras.Input((8, 8, 1))
        x = layers.GlobalAveragePooling2D()(image)
        model = keras.Model(image, layers.Dense(1, use_bias=False)(x))
        weight = np.dot(labels, np.arange(len(labels)))
        model.set_weights([np.full((1, 1), weight, "float32")])
        return model


def test_label_randomization():
    fit, images = Fit(), noise(3, 8, 8, 1)

    def explain(model, images):
        return model.get_weights()[0][0, 0] * images[..., 0] ** len(fit.given)

    result = label_randomization(fit, LABELS, explain, images)

    true, permuted = fit.given
    np.testing.assert_array_equal(true, LABELS)
    np.testing.assert_array_equal(permuted, result.labels)
    assert (permuted != LABELS).any()
    assert np.bincount(permuted).tolist() == [4, 4, 4]
    # 0 * (0 + 1 + 2 + 3) + 1 * (4 + ... + 7) + 2 * (8 + ... + 11) = 22 + 76.
    np.testing.assert_allclose(result.maps[0], 98 * images[..., 0], rtol=1e-5)
    weight = np.dot(permuted, np.arange(12))
    np.testing.assert_allclose(result.maps[1], weight * images[..., 0] ** 2, rtol=1e-5)
    assert result.maps.dtype == np.float32
    # A power keeps the order of the pixels, but not their spacing.
    np.testing.assert_allclose(result.similarity.spearman, [1] * 3)
    assert (result.similarity.ssim < 0.999).all()


def test_the_labels_given_are_kept_and_the_seed_decides():
    def spoil(labels):
        model = Fit()(labels)
        labels[:] = 9
        return model

    images, labels = noise(2, 8, 8, 1), LABELS.copy()
    one, same, other = (
        label_randomization(spoil, labels, edge_magnitude, images, seed=seed).labels
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(one, same)
    assert sorted(one) == sorted(other) == sorted(LABELS)
    assert (one != other).any()


def test_one_hot_labels_move_as_rows():
    result = label_randomization(
        lambda labels: Fit()(labels.argmax(axis=1)),
        np.eye(3)[LABELS],
        edge_magnitude,
        noise(2, 8, 8, 1),
    )
    assert result.labels.shape == (12, 3)
    assert (result.labels.sum(axis=1) == 1).all()


@pytest.mark.parametrize(
    ("labels", "images", "explain", "message"),
    [
        ([1, 1, 1], (2, 8, 8, 1), edge_magnitude, "several classes.*Received: 3"),
        (LABELS, (2, 8, 8), edge_magnitude, "shape of the model's input"),
        (LABELS, (2, 8, 8, 1), lambda m, x: x, "`explain` must return real maps"),
    ],
)
def test_label_errors(labels, images, explain, message):
    with pytest.raises(ValueError, match=message):
        label_randomization(Fit(), labels, explain, np.zeros(images))


# --- errors -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("explain", "message"),
    [
        (lambda model, images: images, r"shape \(6, 'height', 'width'\).*Received"),
        (lambda model, images: images[:2, ..., 0], "one an image.*Received: float32"),
        (lambda model, images: images[..., 0] + 1j, "real maps.*Received: complex64"),
        (lambda model, images: images[:, :5, :5, 0], "7x7"),
    ],
)
def test_maps_of_a_wrong_shape(flat_model, images, explain, message):
    with pytest.raises(ValueError, match=message):
        cascading_randomization(flat_model, explain, images)


def test_maps_that_change_their_shape(flat_model, images):
    sizes = iter([16, 16, 8])
    with pytest.raises(ValueError, match=r"\(6, 16, 16\).*Received: .*\(6, 8, 16\)"):
        cascading_randomization(
            flat_model, lambda model, images: images[:, : next(sizes), :, 0], images
        )


def test_models_and_images_that_do_not_fit(flat_model, images):
    with pytest.raises(ValueError, match="must have the shape of the model's input"):
        cascading_randomization(flat_model, response, images[..., 0])
    with pytest.raises(TypeError, match="must be a functional or built Sequential"):
        cascading_randomization("best.keras", response, images)
    empty = keras.Sequential([keras.Input((16, 16, 1)), layers.GlobalMaxPooling2D()])
    with pytest.raises(ValueError, match="must have a layer with weights"):
        cascading_randomization(empty, edge_magnitude, images)


# --- similarity -------------------------------------------------------------------


def one(score):
    assert score.shape == (1,)
    return score[0]


def test_spearman_golden():
    ranks = np.random.default_rng(0).permutation(49).reshape(1, 7, 7)
    swapped = np.where(ranks == 3, 4, np.where(ranks == 4, 3, ranks))
    # 1 - 6 sum(d^2) / (n (n^2 - 1)): two pixels are off by 1; n = 49.
    expected = 1 - 6 * 2 / (49 * 2400)
    assert one(map_similarity(swapped, ranks).spearman) == pytest.approx(expected)
    assert one(map_similarity(np.exp(ranks), ranks).spearman) == pytest.approx(1)
    assert one(map_similarity(5.0 - ranks, ranks).spearman) == pytest.approx(-1)


def test_spearman_of_ties_golden():
    top, tops, left = np.zeros((3, 1, 7, 7))
    top[0, :1], tops[0, :2], left[0, :, :1] = 1, 1, 1
    # Of two values, ranks correlate as the values do: (p11 - p1 p2) / (s1 s2).
    # Shares of ones: 1/7 and 2/7, both in 1/7: (1/7 - 2/49) / sqrt(6/49 * 10/49).
    similarity = map_similarity(np.stack([top, tops, left]), top)
    np.testing.assert_allclose(
        similarity.spearman, [[1], [5 / np.sqrt(60)], [0]], atol=1e-12
    )


def test_signs_and_scales():
    maps = noise(1, 8, 9)
    similarity = map_similarity(np.stack([-2 * maps, 3 * maps + 5, maps - 0.5]), maps)

    np.testing.assert_allclose(similarity.spearman, [[-1], [1], [1]])
    np.testing.assert_allclose(similarity.spearman_absolute[:2], [[1], [1]])
    assert one(similarity.spearman_absolute[2]) < 0.5  # |map - 0.5| turns half round
    np.testing.assert_allclose(similarity.ssim[1:], [[1], [1]], atol=1e-5)
    assert one(similarity.ssim[0]) < 0


def test_blank_maps_are_nan_and_counted():
    reference = noise(5, 7, 7)
    maps = noise(5, 7, 7, seed=1)
    maps[0] = 3
    maps[1, 0, 0] = np.nan
    maps[2, 0, 0] = np.inf
    maps[3] = np.sign(maps[3] - 0.5)  # varies, but its absolute values do not

    similarity = map_similarity(maps, reference)

    blank = [True, True, True, False, False]
    assert np.isnan(similarity.spearman).tolist() == blank
    assert np.isnan(similarity.ssim).tolist() == blank
    assert np.isnan(similarity.spearman_absolute).tolist() == [*[True] * 4, False]
    found = similarity.summary()
    assert [found[name]["undefined"] for name in MapSimilarity._fields] == [3, 4, 3]
    middle = similarity.spearman[3:].mean()
    assert found["spearman"]["median"] == pytest.approx(middle)
    reverse = map_similarity(reference, maps)
    assert np.isnan(reverse.spearman).tolist() == blank


def test_a_map_constant_but_for_rounding_is_blank():
    flat = np.full((1, 7, 7), 0.1, np.float32)
    flat[0, 0, 0] = np.nextafter(flat[0, 0, 0], np.float32(1))
    assert np.isnan(map_similarity(flat, noise(1, 7, 7)).spearman).all()


def test_summary():
    scores = np.array([[1, 2, 3, 4, 5], [np.nan, 7, np.nan, 9, np.nan], [np.nan] * 5])
    summary = MapSimilarity(scores, scores, scores).summary()["ssim"]

    assert summary == {
        "lower quartile": [2, 7.5, None],
        "median": [3, 8, None],
        "upper quartile": [4, 8.5, None],
        "undefined": [0, 3, 5],
    }
    json.dumps(summary, allow_nan=False)


@pytest.mark.parametrize(
    ("maps", "reference"),
    [((2, 8, 8), (3, 8, 8)), ((2, 8, 8), (8, 8)), ((8, 8), (2, 8, 8))],
)
def test_shapes_that_do_not_fit(maps, reference):
    with pytest.raises(ValueError, match=r"Received: \(.*\) and \(.*\)"):
        map_similarity(np.zeros(maps), np.zeros(reference))


# --- the edge control -------------------------------------------------------------


def test_edge_magnitude_golden():
    image = np.zeros((2, 5, 6, 2))
    image[0, :, 3:] = 1  # an upright edge; the second image is empty
    edges = edge_magnitude(None, image)

    # Sobel's kernel across the edge: (1 + 2 + 1) * (1 - 0), on both sides of it.
    expected = np.zeros((2, 5, 6))
    expected[0, :, 2:4] = 4
    np.testing.assert_array_equal(edges, expected)
    assert edges.dtype == np.float32
    turned = edge_magnitude(None, image.transpose(0, 2, 1, 3), class_index=1)
    np.testing.assert_array_equal(turned, expected.transpose(0, 2, 1))


# --- the figure -------------------------------------------------------------------


def made_result(scores, layers=("b", "a")):
    similarity = MapSimilarity(*[np.asarray(scores, float)] * 2, np.zeros((3, 4)))
    return SimpleNamespace(layers=layers, similarity=similarity)


STAYS = made_result([[1] * 4, [0.9, 0.8, 0.7, 0.6], [np.nan] * 4])
FALLS = made_result([[1] * 4, [np.nan, 0.2, np.nan, 0.4], [-0.1, 0.1, 0, 0]])


def curve(panel, name):
    (line,) = [line for line in panel.lines if line.get_label() == name]
    return line


def test_curves_are_medians_with_quartile_bands():
    figure = plots.sanity_curves({"stays": STAYS, "falls": FALLS})

    (panel,) = figure.axes
    np.testing.assert_allclose(curve(panel, "stays").get_ydata(), [1, 0.75, np.nan])
    np.testing.assert_allclose(curve(panel, "falls").get_ydata(), [1, 0.3, 0])
    band = panel.collections[1].get_paths()[0].vertices
    at_b = band[band[:, 0] == 1, 1]
    assert (at_b.min(), at_b.max()) == pytest.approx((0.25, 0.35))
    labels = [text.get_text() for text in panel.get_xticklabels()]
    assert labels == ["trained", "b", "a"]
    assert panel.get_ylim()[0] < -0.025  # the quartile of the lowest step
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["stays", "falls"]
    figure.draw_without_rendering()


def test_controls_have_a_panel_and_lines():
    controls = {
        "falls": FALLS.similarity,
        "stays": made_result([[0.1, 0.2, 0.3, 0.6], *[[0.5] * 4] * 2]).similarity,
    }
    figure = plots.sanity_curves({"stays": STAYS, "falls": FALLS}, controls)

    upper, lower = figure.axes
    np.testing.assert_allclose(curve(lower, "stays").get_ydata(), [0.25, 0.5, 0.5])
    np.testing.assert_allclose(curve(lower, "falls").get_ydata(), [1, 0.3, 0])
    dashed = {
        line.get_color(): line.get_ydata()[0]
        for line in upper.lines
        if line.get_linestyle() == "--" and len(line.get_ydata())
    }
    colors = [curve(upper, name).get_color() for name in ("stays", "falls")]
    assert dashed == pytest.approx(dict(zip(colors, (0.25, 1), strict=True)))
    assert "edge magnitude" in figure.legends[0].get_texts()[-1].get_text()


def test_measure():
    figure = plots.sanity_curves({"stays": STAYS}, measure="ssim")

    assert curve(figure.axes[0], "stays").get_ydata().tolist() == [0, 0, 0]
    assert figure.axes[0].get_ylabel().startswith("SSIM")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (({},), ValueError, "at least one method"),
        ((STAYS,), TypeError, "must be a dict"),
        (({str(i): STAYS for i in range(9)},), ValueError, "at most 8.*Received: 9"),
        (
            ({"x": STAYS, "y": made_result(np.ones((3, 4)), ("a", "b"))},),
            ValueError,
            "the same layers",
        ),
        (({"x": STAYS}, {"y": STAYS.similarity}), ValueError, "methods of `results`"),
        (
            ({"x": STAYS}, {"x": MapSimilarity(*np.ones((3, 2, 4)))}),
            ValueError,
            "a row a step",
        ),
    ],
)
def test_figure_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        plots.sanity_curves(*arguments)


def test_unknown_measure():
    with pytest.raises(ValueError, match=r"must be one of.*Received: 'pearson'"):
        plots.sanity_curves({"x": STAYS}, measure="pearson")


# --- the example ------------------------------------------------------------------


def test_example(tmp_path, he_scale, fracatlas_tree):
    fracatlas_tree(tmp_path, 40)
    model = he_scale(hrcam.build_shallow_net((16, 16, 1), 4))
    model.save(tmp_path / "tiny.keras")
    out = tmp_path / "out"
    options = ["--model", tmp_path / "tiny.keras", "--data-dir", tmp_path]
    options += ["--num-images", 3, "--out", out]
    done = subprocess.run(
        [sys.executable, EXAMPLE, *map(str, options)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    assert "| deconvnet | 1.000 |" in done.stdout
    text = (out / "sanity.md").read_text()
    assert "| linear | 1.000 |" in text
    assert str(tmp_path) not in text
    record = json.loads((out / "sanity.json").read_text())
    assert len(record["facts"]["images"]) == 3
    assert [row["gating"] for row in record["table"]] == [*record["cascade"]]
    for row in record["table"]:
        assert row["first layer that counts"] == "block3_bn1"
        measures = record["cascade"][row["gating"]][
            "similarity to the trained network's maps"
        ]
        assert len(measures["spearman"]["median"]) == 8  # trained, 7 layers
        assert measures["spearman"]["median"][-1] == pytest.approx(row["all random"])
    for name in ("curves.png", "sheet.png"):
        assert (out / name).stat().st_size > 0
