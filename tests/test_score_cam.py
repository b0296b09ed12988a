"""Golden values are worked out by hand; the second road loops over the feature maps."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import hrcam
from hrcam.graph import tap

pytestmark = pytest.mark.filterwarnings("ignore:The score_cam map has no positive")


def two_map_model(kernels=(1, -1), biases=(0, 3)):
    """2x2 -> 1x1 kernels, ReLU -> average pooling -> class 0: second map, 1: first."""
    image = keras.Input((2, 2, 1))
    x = layers.Conv2D(len(kernels), 1, activation="relu", name="conv")(image)
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model.get_layer("conv").set_weights([np.array([[[kernels]]]), np.array(biases)])
    weights = np.zeros((len(kernels), 2))
    weights[0, 1] = weights[1, 0] = 1
    model.layers[-1].set_weights([weights, np.array([7, 5])])
    return model


IMAGE = np.array([[[[1.0], [2.0]], [[3.0], [4.0]]]])
FIRST, SECOND = np.array([[1, 2], [3, 4]]), np.array([[2, 1], [0, 0]])

# Masks [[0, 1/3], [2/3, 1]] and [[1, 1/2], [0, 0]]; masked images [[0, 2/3], [2, 4]]
# and [[1, 1], [0, 0]]. Class 1, the mean of x: 20/12 and 1/2, so the weights are as
# 1 to exp(-7/6). Class 0, the mean of relu(3 - x): (3 + 7/3 + 1 + 0)/4 = 19/12 and
# (2 + 2 + 3 + 3)/4 = 30/12: as 1 to exp(11/12). The biases 7 and 5 are common to all.
RATIOS = {1: np.exp(-7 / 6), 0: np.exp(11 / 12)}


@pytest.mark.parametrize("class_index", RATIOS)
def test_golden(class_index):
    ratio = RATIOS[class_index]
    expected = (FIRST + ratio * SECOND) / (1 + ratio)
    actual = hrcam.score_cam(two_map_model(), IMAGE, class_index)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-5)


def test_maps_without_range_count_nothing():
    """A constant 5 and a dead map beside the two: the same weights, the same map."""
    model = two_map_model((1, -1, 0, 0), (0, 3, 5, -1))
    expected = (FIRST + RATIOS[1] * SECOND) / (1 + RATIOS[1])
    actual = hrcam.score_cam(model, IMAGE, 1)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-5)


@pytest.mark.parametrize(("count", "expected"), [(1, FIRST), (7, None)])
def test_max_channels_takes_those_of_the_largest_deviation(count, expected):
    """The first map's is 1.12, the second's 0.83; a weight alone is 1."""
    if expected is None:
        expected = (FIRST + RATIOS[1] * SECOND) / (1 + RATIOS[1])
    actual = hrcam.score_cam(two_map_model(), IMAGE, 1, max_channels=count)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-5)


def test_max_channels_is_chosen_for_each_image():
    """Maps x + 20 and relu(6 - 2x), on two images.

    [20, 20, 20, 22.9] and [6, 6, 6, 0.2]: the second is wider, of the smaller mean.
    [24, 28, 32, 36] and [0, 0, 0, 0]: the first.
    """
    model = two_map_model((1, -2), (20, 6))
    small = np.array([[[[0.0], [0.0]], [[0.0], [2.9]]]])
    both = np.concatenate([small, 4 * IMAGE])
    actual = hrcam.score_cam(model, both, 1, max_channels=1)
    np.testing.assert_allclose(actual[0], [[6, 6], [6, 0.2]], rtol=1e-5)
    np.testing.assert_allclose(actual[1], 4 * FIRST + 20, rtol=1e-5)


def literal_score_cam(model, features, images, class_index):
    """Image by image and map by map."""
    trunk = keras.Model(model.inputs[0], model.layers[-1].input)
    kernel, bias = model.layers[-1].get_weights()
    maps = np.zeros(features.shape[:3])
    for i, (image, found) in enumerate(zip(images, features, strict=True)):
        up = tf.image.resize(found, image.shape[:2]).numpy()
        scores = np.full(found.shape[-1], -np.inf)
        for k in np.flatnonzero(np.ptp(found, axis=(0, 1))):
            mask = (up[..., k] - up[..., k].min()) / np.ptp(up[..., k])
            vector = trunk(image[None] * mask[None, ..., None], training=False).numpy()
            scores[k] = vector[0] @ kernel[:, class_index] + bias[class_index]
        weights = np.exp(scores - scores.max())
        maps[i] = found @ (weights / weights.sum())
    return tf.image.resize(maps[..., None], images.shape[1:3]).numpy()[..., 0]


@pytest.mark.parametrize(
    ("fixture", "layer"), [("flat_model", "relu2"), ("nested_model", "backbone/relu3")]
)
def test_literal_loop(fixture, layer, images, request):
    model, images = request.getfixturevalue(fixture), images[:3]
    model.trainable = False
    features = tap(model, [layer])(images)[layer].numpy()
    expected = literal_score_cam(model, features, images, 1)

    actual = hrcam.score_cam(model, images, 1, layer)

    assert actual.dtype == np.float32
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.ptp(expected))


def test_class_and_batch(flat_model, images):
    """No class is the predicted one, each image's own; alone or among others."""
    predicted = flat_model.predict(images, verbose=0).argmax(axis=1)
    assert len(set(predicted)) > 1
    together = hrcam.score_cam(flat_model, images)
    for i, class_index in enumerate(predicted):
        alone = hrcam.score_cam(flat_model, images[i : i + 1], int(class_index))
        np.testing.assert_allclose(together[i], alone[0], atol=1e-4)
    parts = hrcam.score_cam(flat_model, images, predicted, batch_size=4)
    np.testing.assert_allclose(together, parts, atol=1e-4)
    assert np.abs(together - hrcam.score_cam(flat_model, images, 0)).max() > 1e-3


def test_sigmoid_unit_tells_two_classes_apart():
    """Score x for class 1, -x for class 0: the weights change places."""
    image = keras.Input((2, 2, 1))
    x = layers.Conv2D(2, 1, activation="relu", name="conv")(image)
    x = layers.Dense(1, "sigmoid")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model.get_layer("conv").set_weights([np.array([[[[1, -1]]]]), np.array([0, 3])])
    model.layers[-1].set_weights([np.array([[1], [0]]), np.zeros(1)])
    for class_index, ratio in ((1, RATIOS[1]), (0, 1 / RATIOS[1])):
        expected = (FIRST + ratio * SECOND) / (1 + ratio)
        actual = hrcam.score_cam(model, IMAGE, class_index)
        np.testing.assert_allclose(actual[0], expected, rtol=1e-5)


def test_rectified_before_upsampling():
    """A linear layer 4x4 -> 2x2, kernel 1, stride 2; one map, its rows [-1, 3]."""
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(1, 1, strides=2, name="conv")(image)
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model.get_layer("conv").set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    images = np.zeros((1, 4, 4, 1))
    images[0, :, 0], images[0, :, 2] = -1, 3
    signed = hrcam.score_cam(model, images, 0, relu=False)
    np.testing.assert_allclose(signed[0, 0], [-1, 0, 2, 3], atol=1e-6)
    rectified = hrcam.score_cam(model, images, 0)
    np.testing.assert_allclose(rectified[0, 0], [0, 0.75, 2.25, 3], atol=1e-6)


def test_constant_model_is_blank(flat_model, images):
    """Also where its features are constant but not 0: they point at no place."""
    flat_model.get_layer("bn3").set_weights(
        [np.zeros(8), np.ones(8), np.zeros(8), np.ones(8)]
    )
    with pytest.warns(UserWarning, match=r"The score_cam map .*image 1 \(class 2\)"):
        maps = hrcam.score_cam(flat_model, images[:2], 2)
    assert (maps == 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_channels": 0}, r"`max_channels` must be at least 1.*Received: 0"),
        ({"layer_name": "gap"}, r"Received: 'gap' with \(None, 8\)"),
        ({"layer_name": "conv9"}, r"Received: \['conv9'\]"),
        ({"class_index": 3}, r"in \[0, 3\).*Received: \[3\]"),
        ({"batch_size": 0}, r"at least 1\. Received: 0"),
    ],
)
def test_bad_arguments(arguments, message, flat_model, images):
    with pytest.raises(ValueError, match=message):
        hrcam.score_cam(flat_model, images, **arguments)
