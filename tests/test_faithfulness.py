"""Insertion, deletion, drop and gain: by hand, by a literal loop, and invariants."""

import itertools

import keras
import numpy as np
import pytest
from keras import layers

import hrcam
from hrcam.faithfulness import average_drop_gain, insertion_deletion
from hrcam.maps.controls import edge_magnitude


def linear_model(weights, bias=0.0, units=1, activation="sigmoid"):
    """`sigmoid(sum of weights * pixels + bias)`, on one channel."""
    weights = np.asarray(weights, float)
    image = keras.Input((*weights.shape, 1))
    x = layers.Dense(units, activation, name="predictions")(layers.Flatten()(image))
    model = keras.Model(image, x)
    kernel = np.zeros((weights.size, units))
    kernel[:, -1] = weights.ravel()
    model.set_weights([kernel, np.full(units, bias)])
    return model


def sigmoid(x):
    return 1 / (1 + np.exp(-np.asarray(x, float)))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


# A 2x2 image of mean 1, which is the baseline: pixels differ from it by
# +2, -1, 0, -1. With weights 1, 2, 5, -1 each adds to the score 2, -2, 0, 1, and
# the baseline alone scores 1 + 2 + 5 - 1 = 7; the bias -7 makes it 0.
IMAGE = np.array([[3, 0], [1, 0]], "float32")[None, ..., None]
WEIGHTS, BIAS = [[1, 2], [5, -1]], -7
ORDER = np.array([[[9, 4], [0, -3]]])  # first, second, third, last pixel
INSERTED = sigmoid([0, 2, 0, 0, 1])  # partial sums of 2, -2, 0, 1
DELETED = sigmoid([1, -1, 1, 1, 0])  # 1 less the same


def test_golden_curves():
    model = linear_model(WEIGHTS, BIAS)
    curves = insertion_deletion(model, IMAGE, ORDER, 1, baseline="mean", steps=4)

    np.testing.assert_allclose(curves.fractions, [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curves.insertion, [INSERTED], atol=1e-6)
    np.testing.assert_allclose(curves.deletion, [DELETED], atol=1e-6)
    # Trapezoids of width 1/4: the inner points whole, both ends half.
    area = (INSERTED[1:4].sum() + (INSERTED[0] + INSERTED[4]) / 2) / 4
    assert curves.insertion_auc == pytest.approx([area], abs=1e-6)
    area = (DELETED[1:4].sum() + (DELETED[0] + DELETED[4]) / 2) / 4
    assert curves.deletion_auc == pytest.approx([area], abs=1e-6)


def test_class_0_of_one_sigmoid_unit_is_the_rest():
    model = linear_model(WEIGHTS, BIAS)
    curves = insertion_deletion(model, IMAGE, ORDER, 0, baseline="mean", steps=4)

    np.testing.assert_allclose(curves.insertion, [1 - INSERTED], atol=1e-6)


def test_steps_that_do_not_divide_the_pixels():
    model = linear_model(WEIGHTS, BIAS)
    curves = insertion_deletion(model, IMAGE, ORDER, 1, baseline="mean", steps=3)

    # 4/3 and 8/3 pixels are 1 and 3; the areas take the true shares.
    np.testing.assert_allclose(curves.fractions, [0, 0.25, 0.75, 1])
    np.testing.assert_allclose(curves.insertion, [INSERTED[[0, 1, 3, 4]]], atol=1e-6)
    p = INSERTED[[0, 1, 3, 4]]
    area = (p[0] + p[1]) / 8 + (p[1] + p[2]) / 4 + (p[2] + p[3]) / 8
    assert curves.insertion_auc == pytest.approx([area], abs=1e-6)


def test_blurred_baseline_golden():
    """A Gaussian of 1/20 of the mean side, here 1: seen at the first point."""
    images = np.zeros((1, 12, 28, 1), "float32")
    images[0, 6, 14] = 1  # an impulse becomes the kernel: 1 / (2 pi) at its place
    weights = np.zeros((12, 28))
    weights[6, 14] = 1
    curves = insertion_deletion(linear_model(weights), images, weights[None], 1)

    kernel = np.exp(-(np.arange(-4, 5) ** 2) / 2)  # cut at four deviations
    expected = sigmoid(1 / kernel.sum() ** 2)
    assert curves.insertion[0, 0] == pytest.approx(expected, abs=1e-6)
    assert curves.deletion[0, -1] == pytest.approx(expected, abs=1e-6)
    assert curves.insertion[0, -1] == pytest.approx(sigmoid(1), abs=1e-6)


def test_channels_are_blurred_and_filled_one_by_one():
    images = np.zeros((1, 4, 4, 2), "float32")
    images[..., 1] = 3
    image = keras.Input((4, 4, 2))
    x = layers.GlobalAveragePooling2D()(image)
    model = keras.Model(image, layers.Dense(1, "sigmoid")(x))
    model.set_weights([np.array([[1.0], [-1.0]]), np.zeros(1)])
    for baseline in ("blur", "mean"):
        curves = insertion_deletion(
            model, images, noise(1, 4, 4), 1, baseline=baseline, steps=4
        )
        # Both channels are constant, so nothing changes: 0 - 3 at each step.
        np.testing.assert_allclose(curves.insertion, sigmoid(-3), atol=1e-6)


def test_a_literal_loop_gives_the_same(flat_model, images):
    maps = noise(6, 16, 16, seed=3)
    classes = [0, 1, 2, 0, 1, 2]
    curves = insertion_deletion(
        flat_model, images, maps, classes, baseline="mean", steps=8
    )

    for i in range(6):
        below = np.full_like(images[i], images[i].mean())
        copies = [(below.copy(), images[i].copy())]
        order = sorted(np.ndindex(16, 16), key=lambda at: -maps[i][at])
        for step in range(8):
            shown, left = (copy.copy() for copy in copies[-1])
            for at in order[32 * step : 32 * step + 32]:
                shown[at], left[at] = images[i][at], below[at]
            copies.append((shown, left))
        for found, pictures in zip(curves[1:3], zip(*copies, strict=True), strict=True):
            expected = np.asarray(flat_model(np.stack(pictures)))[:, classes[i]]
            np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_batches_do_not_change_the_result(flat_model, images):
    maps = edge_magnitude(None, images).round(1)  # with ties
    whole = insertion_deletion(flat_model, images, maps, 2, steps=10)
    parts = insertion_deletion(flat_model, images, maps, 2, steps=10, batch_size=3)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    one = insertion_deletion(flat_model, images[:1], maps[:1], 2, steps=10)
    np.testing.assert_allclose(one.deletion, whole.deletion[:1], atol=1e-6)


@pytest.mark.parametrize("baseline", ["blur", "mean"])
def test_deletion_is_insertion_in_the_opposite_order(flat_model, images, baseline):
    maps = noise(6, 16, 16)
    options = {"baseline": baseline, "steps": 16}
    one = insertion_deletion(flat_model, images, maps, 1, **options)
    other = insertion_deletion(flat_model, images, -maps, 1, **options)

    np.testing.assert_allclose(one.deletion, other.insertion[:, ::-1], atol=1e-6)
    np.testing.assert_allclose(one.deletion_auc, other.insertion_auc, atol=1e-6)
    np.testing.assert_allclose(one.insertion[:, -1], one.deletion[:, 0], atol=1e-6)


def test_only_the_order_of_the_map_counts(flat_model, images):
    maps = np.random.default_rng(0).integers(-9, 9, (6, 16, 16))  # with ties
    one = insertion_deletion(flat_model, images, maps, 1, steps=7)
    for other in (maps**3, 5.0 * maps - 100, np.exp(maps / 3)):
        again = insertion_deletion(flat_model, images, other, 1, steps=7)
        np.testing.assert_array_equal(one.insertion, again.insertion)
        np.testing.assert_array_equal(one.deletion, again.deletion)


def test_the_true_map_of_a_linear_model_beats_every_order():
    """What a pixel adds to the score is weight * (pixel - baseline)."""
    model = linear_model(WEIGHTS, BIAS)
    orders = np.array([*itertools.permutations(range(4))]).reshape(-1, 2, 2)
    copies = np.repeat(IMAGE, len(orders), axis=0)
    options = {"class_index": 1, "baseline": "mean", "steps": 4}
    every = insertion_deletion(model, copies, orders, **options)
    true = (np.array(WEIGHTS) * (IMAGE[..., 0] - 1)).astype(float)
    best = insertion_deletion(model, IMAGE, true, **options)

    assert best.insertion_auc[0] == pytest.approx(every.insertion_auc.max(), abs=1e-7)
    assert best.deletion_auc[0] == pytest.approx(every.deletion_auc.min(), abs=1e-7)
    assert np.ptp(every.insertion_auc) > 0.1


# --- ties -------------------------------------------------------------------------


def test_ties_have_no_place_in_the_image():
    """Half of a blank map's pixels, first in its order, lie all over the image."""
    size = 32
    images = np.ones((8, size, size, 1), "float32")
    images[:, 0, 0] = -1023  # so the mean, the baseline, is 0
    upper = np.repeat([1.0, 0.0], size // 2)[:, None] * np.ones(size)
    left = upper.T.copy()
    for part in (upper, left):
        weights = part.copy()
        weights[0, 0] = 0
        curves = insertion_deletion(
            linear_model(weights / 512),
            images,
            np.full((8, size, size), 7.0),
            1,
            baseline="mean",
            steps=2,
        )
        score = np.log(curves.insertion / (1 - curves.insertion))[:, 1]
        # Score: how many of the 511 pixels of the part are in, over 512. In raster
        # order it would be 1 or 0.5; at random 0.5 with a deviation of about
        # sqrt(512 * 1/2 * 1/2 * 1/2) / 512 = 0.016.
        assert np.abs(score - 0.5).max() < 0.08
        assert len(np.unique(score.round(6))) > 4  # another order for each image


def test_ties_are_drawn_from_the_seed(flat_model, images):
    blank = np.zeros((6, 16, 16))
    one, same, other = (
        insertion_deletion(flat_model, images, blank, 1, steps=8, seed=seed)
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one.insertion, same.insertion)
    assert (one.insertion[:, 1:-1] != other.insertion[:, 1:-1]).any(axis=1).all()
    # The same order for insertion and deletion: the halves of one and the other.
    half = insertion_deletion(flat_model, images, blank, 1, steps=2)
    assert (half.insertion[:, 1] != half.deletion[:, 1]).all()


# --- the class --------------------------------------------------------------------


def test_the_predicted_class(flat_model, images):
    maps = noise(6, 16, 16)
    predicted = np.argmax(flat_model(images), axis=1)
    assert len(set(predicted)) > 1
    for score in (insertion_deletion, average_drop_gain):
        given = score(flat_model, images, maps, predicted)
        for one, other in zip(score(flat_model, images, maps), given, strict=True):
            np.testing.assert_array_equal(one, other)


def test_models_of_any_kind(nested_model, sigmoid_model, images):
    maps = hrcam.cam(sigmoid_model, images, 1)
    for model in (nested_model, sigmoid_model, hrcam.build_hrcam_model(sigmoid_model)):
        before = model.get_weights()
        curves = insertion_deletion(model, images, maps, 1, steps=4)
        probability = average_drop_gain(model, images, maps, 1).probability
        np.testing.assert_allclose(curves.deletion[:, 0], probability, atol=1e-6)
        whole = np.asarray(model(images, training=False))
        np.testing.assert_allclose(
            probability, whole[:, min(1, whole.shape[1] - 1)], atol=1e-6
        )
        for was, now in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(was, now)


# --- drop and gain ----------------------------------------------------------------


def test_drop_and_gain_golden():
    # Two pixels of 1 with weights 2 and -2 (and two of none): y = sigmoid(0) = 1/2.
    model = linear_model([[2, -2], [0, 0]])
    images = np.ones((4, 2, 2, 1), "float32")
    maps = np.array(
        [
            [[1, 0], [0, 0]],  # keeps the first: sigmoid(2)
            [[-4, 6], [1, 1]],  # 0, 1: keeps the second: sigmoid(-2)
            [[2, 4], [0, 0]],  # 1/2, 1: sigmoid(1 - 2)
            [[3, 3], [0, 1]],  # 1, 1: sigmoid(0), neither drop nor increase
        ]
    )
    scores = average_drop_gain(model, images, maps, 1)

    after = sigmoid([2, -2, -1, 0])
    np.testing.assert_allclose(scores.probability, 0.5, atol=1e-7)
    np.testing.assert_allclose(scores.masked_probability, after, atol=1e-6)
    drop = [0, 1 - 2 * after[1], 1 - 2 * after[2], 0]
    np.testing.assert_allclose(scores.drop, drop, atol=1e-6)
    np.testing.assert_allclose(scores.gain, [2 * after[0] - 1, 0, 0, 0], atol=1e-6)
    assert scores.increase.tolist() == [True, False, False, False]
    assert scores.summary() == pytest.approx(
        {
            "average drop": sum(drop) / 4,
            "increase in confidence": 0.25,
            "average gain": (2 * after[0] - 1) / 4,
            "blank": 0,
        },
        abs=1e-6,
    )


def test_blank_maps_are_nan_and_counted():
    model = linear_model([[2, -2], [0, 0]])
    images = np.ones((5, 2, 2, 1), "float32")
    maps = np.array(
        [
            [[1, 0], [0, 0]],
            [[0, 0], [0, 0]],
            [[-1, -2], [-3, 0]],  # no positive value
            [[5, 5], [5, 5]],  # positive, but it names no pixel
            [[-1, -2], [-3, 0.1]],  # hardly positive
        ]
    )
    scores = average_drop_gain(model, images, maps, 1)

    blank = [False, True, True, True, False]
    for name in ("masked_probability", "drop", "gain"):
        assert np.isnan(getattr(scores, name)).tolist() == blank
    assert not np.isnan(scores.probability).any()
    assert scores.increase.tolist() == [True, *[False] * 3, True]
    summary = scores.summary()
    assert summary["blank"] == 3
    assert summary["increase in confidence"] == 1  # of two, not of five
    assert summary["average drop"] == 0
    none = average_drop_gain(model, images[1:4], maps[1:4], 1).summary()
    assert none["blank"] == 3
    assert np.isnan([none["average drop"], none["increase in confidence"]]).all()


def test_certain_probabilities_divide_nothing_by_0():
    model = linear_model([[500, 0], [0, 0]])  # sigmoid(500) is 1 in float32
    images = np.array([[[1, 0], [0, 0]], [[-1, 0], [0, 0]]], "float32")[..., None]
    maps = np.array([[[0, 1], [0, 0]]] * 2)  # takes the pixel away: 1/2
    scores = average_drop_gain(model, images, maps, 1)

    np.testing.assert_allclose(scores.probability, [1, 0])
    np.testing.assert_allclose(scores.drop, [0.5, 0])
    np.testing.assert_allclose(scores.gain, [0, 0.5])


def test_drop_does_not_depend_on_scale_or_batches(flat_model, images):
    maps = noise(6, 16, 16) - 0.5
    one = average_drop_gain(flat_model, images, maps, 1)
    other = average_drop_gain(flat_model, images, 8 * maps + 2, 1, batch_size=4)
    np.testing.assert_allclose(one.drop, other.drop, atol=1e-5)
    rectified = average_drop_gain(flat_model, images, np.maximum(maps, 0), 1)
    assert (one.drop != rectified.drop).any()


# --- errors -----------------------------------------------------------------------


@pytest.mark.parametrize("score", [insertion_deletion, average_drop_gain])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": np.zeros((2, 4, 5, 1))}, "shape of the model's input"),
        ({"maps": np.zeros((2, 5, 4))}, r"\(2, 4, 4\). Received: float64 .*\(2, 5, 4"),
        ({"maps": np.zeros((4, 4))}, r"Received: float64 of shape \(4, 4\)"),
        ({"maps": np.zeros((2, 4, 4), complex)}, "Received: complex128"),
        (
            {"maps": np.array([np.zeros((4, 4)), np.full((4, 4), np.nan)])},
            r"must be finite.*the maps \[1\] \(1 of 2\)",
        ),
        ({"class_index": 2}, r"in \[0, 2\).*Received: \[2\]"),
        ({"class_index": [0, 1, 1]}, "one int for each of 2 images"),
        ({"batch_size": 0}, "`batch_size` must be at least 1. Received: 0"),
        (
            {"model": linear_model(np.ones((4, 4)), activation="linear")},
            "after softmax or sigmoid.*ends in 'linear'",
        ),
        (
            {"model": keras.Sequential([keras.Input((4, 4, 1)), layers.Softmax()])},
            r"\(batch, classes\)",
        ),
    ],
)
def test_errors(score, change, message):
    arguments = {
        "model": linear_model(np.ones((4, 4))),
        "images": np.zeros((2, 4, 4, 1)),
        "maps": np.zeros((2, 4, 4)),
        "class_index": 1,
    }
    with pytest.raises(ValueError, match=message):
        score(**(arguments | change))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"baseline": "black"}, r"one of \('blur', 'mean'\). Received: 'black'"),
        ({"steps": 0}, "from 1 to 16.*Received: 0"),
        ({"steps": 17}, "from 1 to 16, the pixels of an image. Received: 17"),
    ],
)
def test_option_errors(option, message):
    with pytest.raises(ValueError, match=message):
        insertion_deletion(
            linear_model(np.ones((4, 4))),
            np.zeros((1, 4, 4, 1)),
            np.zeros((1, 4, 4)),
            **({"steps": 4} | option),
        )
