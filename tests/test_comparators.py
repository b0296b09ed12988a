"""The maps made of gradients, but for Grad-CAM itself (see test_maps.py).

Golden values are worked out by hand; the second road is a gradient tape over the
layers called one by one, with each formula as it is printed, in numpy.
"""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import hrcam

ONE_LAYER = {
    "grad_cam_plus_plus": hrcam.grad_cam_plus_plus,
    "hires_cam": hrcam.hires_cam,
    "layer_cam": hrcam.layer_cam,
}
SEVERAL_LAYERS = {
    "fused_layer_cam": hrcam.fused_layer_cam,
    "mean_grad_cam": hrcam.mean_grad_cam,
    "refine_cam": hrcam.refine_cam,
}
METHODS = ONE_LAYER | SEVERAL_LAYERS

# Random heads argue against some class of some image: the warning is tested alone.
pytestmark = pytest.mark.filterwarnings("ignore:The .*cam.* map has no positive value")


# --- golden values ------------------------------------------------------------------


def one_convolution_model():
    """4x4 -> two 3x3 valid kernels of ones, biases -50, -75 -> ReLU -> one score.

    On the image 0..15 the maps are [[0, 4], [31, 40]] and [[0, 0], [6, 15]], the
    derivatives [[1, 1], [1, 1]] and [[1, -1], [-1, -1]].
    """
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 3, name="conv")(image)
    x = layers.ReLU(name="relu")(x)
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x))
    model = keras.Model(image, layers.Dense(1, "sigmoid")(x))
    model.get_layer("conv").set_weights([np.ones((3, 3, 1, 2)), np.array([-50, -75])])
    kernel = np.array([1, 1, 1, 1, 1, -1, -1, -1])[:, None]
    model.layers[-1].set_weights([kernel, np.array([9])])
    return model


# Half-pixel bilinear, 2 -> 4: samples at -0.25, 0.25, 0.75, 1.25, clamped.
UP = np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])


@pytest.mark.parametrize(
    ("name", "class_index", "expected"),
    [
        # The pixels of the second map count against the class, but for its first.
        ("hires_cam", 1, [[0, 4], [31 - 6, 40 - 15]]),
        ("hires_cam", 0, [[0, -4], [-31 + 6, -40 + 15]]),
        # The second map is 0 where its derivative is positive ...
        ("layer_cam", 1, [[0, 4], [31, 40]]),
        # ... and for class 0 it alone has positive derivatives.
        ("layer_cam", 0, [[0, 0], [6, 15]]),
        # Sums of the maps 75 and 21. Class 1: alpha 1/(2 + 75) at four pixels,
        # 1/(2 + 21) at one: weights 4/77 and 1/23.
        (
            "grad_cam_plus_plus",
            1,
            [[0, 16 / 77], [124 / 77 + 6 / 23, 160 / 77 + 15 / 23]],
        ),
        # Class 0: no positive derivative in the first map, three in the second.
        ("grad_cam_plus_plus", 0, [[0, 0], [18 / 23, 45 / 23]]),
    ],
)
def test_one_layer_golden(name, class_index, expected):
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    actual = METHODS[name](one_convolution_model(), image, class_index, "relu")
    np.testing.assert_allclose(actual[0], UP @ expected @ UP.T, rtol=1e-5)


def test_rectifier_of_the_signed_maps():
    """Before the ReLU: maps [[-5, 4], [31, 40]] and [[-30, -21], [6, 15]].

    Derivatives pass the ReLU where it is open: [[0, 1], [1, 1]] and [[0, 0], [-1, -1]].
    HiResCAM of class 0: [[0, -4], [-31 + 6, -40 + 15]], all of it against the class.
    Grad-CAM++ of class 1: sums 70 and -30; weights 3/72 and 0: the map is [[-5, 4],
    [31, 40]] / 24. Of class 0, only the second map: 2 alpha, alpha = 1/(2 - 30).
    """
    model, image = one_convolution_model(), np.arange(16.0).reshape(1, 4, 4, 1)
    signed = np.array([[-5, 4], [31, 40]]) / 24
    with pytest.warns(UserWarning, match=r"hires_cam map .*image 0 \(class 0\)"):
        blank = hrcam.hires_cam(model, image, 0, "conv", relu=True)
    assert (blank == 0).all()
    for relu, own_size in ((False, signed), (True, np.maximum(signed, 0))):
        actual = hrcam.grad_cam_plus_plus(model, image, 1, "conv", relu=relu)
        np.testing.assert_allclose(actual[0], UP @ own_size @ UP.T, atol=1e-6)
    actual = hrcam.grad_cam_plus_plus(model, image, 0, "conv", relu=False)
    expected = np.array([[-30, -21], [6, 15]]) * 2 / -28
    np.testing.assert_allclose(actual[0], UP @ expected @ UP.T, atol=1e-6)


def three_layer_model():
    """`first` and `second` copy the image, `coarse` its 2x2 maxima; one score."""
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(1, 1, activation="relu", name="first")(image)
    x = layers.Conv2D(1, 1, activation="relu", name="second")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(1, 1, activation="relu", name="coarse")(x)
    model = keras.Model(image, layers.Dense(1, "sigmoid")(layers.Flatten()(x)))
    for name in ("first", "second", "coarse"):
        model.get_layer(name).set_weights([np.ones((1, 1, 1, 1)), np.zeros(1)])
    model.layers[-1].set_weights([np.array([[1], [3], [2], [-1]]), np.zeros(1)])
    return model


# Features: the coarse ones are COARSE, the fine ones have the same four values, at
# the peaks, and 0 elsewhere; so have the derivatives [[1, 3], [2, -1]].
COARSE = np.array([[4, 2], [1, 8]])
PEAKS = ([0, 1, 2, 3], [0, 3, 0, 3])


def at_peaks(values):
    image = np.zeros((4, 4))
    image[PEAKS] = values
    return image


@pytest.mark.parametrize(
    ("name", "names", "expected"),
    [
        # Features times positive derivatives are 4, 6, 2, 0: over the maximum 2/3, 1,
        # 1/3, 0. The first of three layers is lifted, the last two are not.
        (
            "fused_layer_cam",
            ["first", "second", "coarse"],
            np.maximum(
                np.tanh(2 * at_peaks([2 / 3, 1, 1 / 3, 0])),
                np.maximum(
                    at_peaks([2 / 3, 1, 1 / 3, 0]),
                    UP @ [[2 / 3, 1], [1 / 3, 0]] @ UP.T,
                ),
            ),
        ),
        (
            "fused_layer_cam",
            ["second", "coarse"],
            np.maximum(
                at_peaks([2 / 3, 1, 1 / 3, 0]), UP @ [[2 / 3, 1], [1 / 3, 0]] @ UP.T
            ),
        ),
        # Mean derivatives 5/16 and 5/4, positive: the features over their maximum 8.
        (
            "mean_grad_cam",
            ["second", "coarse"],
            at_peaks([4, 2, 1, 8]) / 16 + UP @ (COARSE / 16) @ UP.T,
        ),
        # One feature map a layer, of positive weight: fine 4/8, 2/8, 1/8, 8/8; coarse
        # [[3, 1], [0, 7]] / 7, which is 3/7, (3 + 7)/28, 9/28 * 1/3, 1 at the peaks:
        # 0.75 * 1/7 + 0.25 * 1 = 5/14 and 0.25 * 3/7 + 0.75 * 0 = 3/28.
        (
            "refine_cam",
            ["second", "coarse"],
            at_peaks([1 / 2 * 3 / 7, 1 / 4 * 5 / 14, 1 / 8 * 3 / 28, 1]),
        ),
    ],
)
def test_several_layers_golden(name, names, expected):
    image = at_peaks([4, 2, 1, 8])[None, :, :, None]
    actual = METHODS[name](three_layer_model(), image, 1, names)
    np.testing.assert_allclose(actual[0], expected, atol=1e-6)


# --- a second road ------------------------------------------------------------------


def features_and_gradients(steps, images, names, class_index):
    """`steps` are the layers from the image to the dense one, each called by itself."""
    features, x = {}, tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        for layer in steps[:-1]:
            x = layer(x, training=False)
            if layer.name in names:
                features[layer.name] = x
        dense = steps[-1]
        scores = x @ dense.kernel + dense.bias
        if dense.units == 1:
            scores = tf.concat([-scores, scores], axis=1)
        score = tf.reduce_sum(scores[:, class_index])
    found = [features[name] for name in names]
    gradients = tape.gradient(score, found)
    return [
        (f.numpy().astype(float), g.numpy().astype(float))
        for f, g in zip(found, gradients, strict=True)
    ]


def resized(maps):
    return tf.image.resize(np.asarray(maps)[..., None], (16, 16)).numpy()[..., 0]


def over_peak(maps):
    peak = maps.max(axis=(1, 2), keepdims=True)
    return maps / np.where(peak > 0, peak, 1)


def literal_grad_cam(features, gradient):
    alpha = gradient.mean(axis=(1, 2), keepdims=True)
    return np.maximum((alpha * features).sum(axis=-1), 0)


def literal_plus_plus(features, gradient):
    total = features.sum(axis=(1, 2), keepdims=True)
    below = 2 * gradient**2 + total * gradient**3
    alpha = np.divide(gradient**2, below, np.zeros_like(below), where=below != 0)
    weights = (alpha * np.maximum(gradient, 0)).sum(axis=(1, 2), keepdims=True)
    return np.maximum((weights * features).sum(axis=-1), 0)


def literal_hires_cam(features, gradient):
    return (features * gradient).sum(axis=-1)


def literal_layer_cam(features, gradient):
    return np.maximum((np.maximum(gradient, 0) * features).sum(axis=-1), 0)


def literal_fused(pairs):
    first, second, third = (literal_layer_cam(*pair) for pair in pairs)
    maps = [np.tanh(2 * over_peak(first)), over_peak(second), over_peak(third)]
    return np.max([resized(m) for m in maps], axis=0)


def literal_mean(pairs):
    maps = [literal_grad_cam(*pair) for pair in pairs]
    return np.mean([resized(over_peak(m)) for m in maps], axis=0)


def literal_refine(pairs):
    product = 1
    for pair in pairs:
        m = literal_plus_plus(*pair)
        m = m - m.min(axis=(1, 2), keepdims=True)
        product = product * resized(over_peak(m))
    return product


LITERAL = {
    "grad_cam_plus_plus": literal_plus_plus,
    "hires_cam": literal_hires_cam,
    "layer_cam": literal_layer_cam,
    "fused_layer_cam": literal_fused,
    "mean_grad_cam": literal_mean,
    "refine_cam": literal_refine,
}
NAMES = ["relu1", "relu2", "relu3"]


def assert_close(actual, expected):
    assert np.ptp(expected) > 0
    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.ptp(expected))


@pytest.mark.parametrize("name", ONE_LAYER)
def test_one_layer_is_its_formula(name, flat_model, images):
    steps = flat_model.layers[1:]
    pair = features_and_gradients(steps, images, ["relu2"], 1)[0]
    actual = METHODS[name](flat_model, images, 1, "relu2")
    assert_close(actual, resized(LITERAL[name](*pair)))


@pytest.mark.parametrize("name", SEVERAL_LAYERS)
def test_several_layers_are_their_formula(name, flat_model, images):
    pairs = features_and_gradients(flat_model.layers[1:], images, NAMES, 1)
    assert_close(METHODS[name](flat_model, images, 1), LITERAL[name](pairs))


def test_nested_and_frozen(nested_model, images):
    nested_model.trainable = False
    rescaling, backbone, gap, _, dense = nested_model.layers
    steps = [rescaling, *backbone.layers[1:], gap, dense]
    pairs = features_and_gradients(steps, images, NAMES, 2)
    assert_close(hrcam.fused_layer_cam(nested_model, images, 2), literal_fused(pairs))
    assert_close(
        hrcam.layer_cam(nested_model, images, 2, "backbone/relu1"),
        resized(literal_layer_cam(*pairs[0])),
    )


def test_sigmoid_unit_tells_two_classes_apart(sigmoid_model, images):
    steps = sigmoid_model.layers[1:]
    for class_index in (0, 1):
        pairs = features_and_gradients(steps, images, NAMES, class_index)
        assert_close(
            hrcam.fused_layer_cam(sigmoid_model, images, class_index),
            literal_fused(pairs),
        )


# --- invariants ---------------------------------------------------------------------


def test_last_layer_of_a_pooled_model(flat_model, images):
    """There the derivative is the same at each pixel, w / (H W)."""
    signed = hrcam.grad_cam(flat_model, images, 1, relu=False)
    np.testing.assert_allclose(
        hrcam.hires_cam(flat_model, images, 1), signed, atol=1e-5 * np.ptp(signed)
    )
    kernel, bias = flat_model.layers[-1].get_weights()
    flat_model.layers[-1].set_weights([np.abs(kernel), bias])
    expected = hrcam.grad_cam(flat_model, images, 1)
    np.testing.assert_allclose(
        hrcam.layer_cam(flat_model, images, 1), expected, atol=1e-5 * expected.max()
    )


def test_hires_cam_adds_up_to_the_score_less_its_bias():
    """Of the golden case: 4 + 25 + 25 = 54, the score without the bias of 9."""
    model, image = one_convolution_model(), np.arange(16.0).reshape(1, 4, 4, 1)
    linear = keras.Model(model.inputs[0], model.layers[-1].input)
    kernel, _ = model.layers[-1].get_weights()
    score = ops.convert_to_numpy(linear(image)) @ kernel
    total = hrcam.hires_cam(model, image, 1, "relu").mean() * 4
    np.testing.assert_allclose(total, score[0, 0], rtol=1e-6)
    np.testing.assert_allclose(total, 54, rtol=1e-6)


def test_no_exponential_of_the_score(flat_model, images):
    """exp(1000) overflows; a bias moves no derivative of the score."""
    before = hrcam.grad_cam_plus_plus(flat_model, images, 0)
    kernel, bias = flat_model.layers[-1].get_weights()
    flat_model.layers[-1].set_weights([kernel, bias + np.array([1000, 0, 0])])
    after = hrcam.grad_cam_plus_plus(flat_model, images, 0)
    np.testing.assert_allclose(after, before, atol=1e-6)
    assert before.max() > 0


@pytest.mark.parametrize("name", METHODS)
def test_class_and_batch(name, flat_model, images):
    """No class is the predicted one, each image's own; alone or among others."""
    predicted = flat_model.predict(images, verbose=0).argmax(axis=1)
    assert len(set(predicted)) > 1
    together = METHODS[name](flat_model, images)
    scale = np.ptp(together)
    for i, class_index in enumerate(predicted):
        alone = METHODS[name](flat_model, images[i : i + 1], int(class_index))
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5 * scale)
    parts = METHODS[name](flat_model, images, predicted, batch_size=4)
    np.testing.assert_allclose(together, parts, atol=1e-5 * scale)


def test_half_precision_gradients_do_not_underflow(he_scale):
    """1/Z of a weight of 1e-4, Z = 64 x 64, is below float16's last digit, 6e-8."""
    maps = {}
    for policy in ("float32", "mixed_float16"):
        image = keras.Input((128, 128, 1))
        x = layers.Conv2D(2, 3, padding="same", name="a", dtype=policy)(image)
        x = layers.ReLU(name="fine", dtype=policy)(x)
        x = layers.MaxPooling2D(2, dtype=policy)(x)
        x = layers.Conv2D(2, 3, padding="same", name="b", dtype=policy)(x)
        x = layers.ReLU(name="coarse", dtype=policy)(x)
        x = layers.GlobalAveragePooling2D(dtype=policy)(x)
        model = he_scale(keras.Model(image, layers.Dense(2, dtype="float32")(x)))
        model.layers[-1].set_weights([np.full((2, 2), 1e-4), np.zeros(2)])
        images = np.random.default_rng(0).uniform(size=(1, 128, 128, 1))
        maps[policy] = hrcam.mean_grad_cam(model, images, 1)
    assert maps["float32"].max() > 0.5
    np.testing.assert_allclose(maps["mixed_float16"], maps["float32"], atol=0.02)


def test_models_are_not_kept_alive():
    model = one_convolution_model()
    image = np.arange(16.0).reshape(1, 4, 4, 1)
    for method in (hrcam.layer_cam, hrcam.score_cam):
        assert method(model, image, 1, "relu").shape == (1, 4, 4)
    dead = weakref.ref(model)
    del model
    gc.collect()
    assert dead() is None


# --- what is refused, and what is warned of -------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_blank_map_warns_of_image_and_class(name, flat_model, images):
    kernel, bias = flat_model.layers[-1].get_weights()
    kernel[:, 1] = -1  # nothing in the last layer argues for class 1
    flat_model.layers[-1].set_weights([kernel, bias])
    layer = ["relu3"] if name in SEVERAL_LAYERS else "relu3"
    with pytest.warns(UserWarning, match=rf"The {name} map .*image 1 \(class 1\)"):
        maps = METHODS[name](flat_model, images[:3], [0, 1, 0], layer)
    assert np.isfinite(maps).all()
    assert (maps[1] <= 0).all()


@pytest.mark.parametrize("name", SEVERAL_LAYERS)
@pytest.mark.parametrize("names", ["relu1", [], ["relu1", "relu1"]])
def test_bad_layer_names(name, names, flat_model, images):
    message = r"at least one layer, and none twice, as in \['relu1', 'relu2', 'relu3'\]"
    with pytest.raises(ValueError, match=message):
        METHODS[name](flat_model, images, 0, names)


@pytest.mark.parametrize("name", METHODS)
def test_bad_layers_images_and_classes(name, flat_model, images):
    def explain(images=images, class_index=0, layer="relu1", **options):
        layer = [layer] if name in SEVERAL_LAYERS else layer
        return METHODS[name](flat_model, images, class_index, layer, **options)

    with pytest.raises(ValueError, match=r"Received: 'gap' with \(None, 8\)"):
        explain(layer="gap")
    with pytest.raises(ValueError, match=r"Received: \['conv9'\]"):
        explain(layer="conv9")
    with pytest.raises(ValueError, match=r"`images` must have the shape"):
        explain(images=images[0])
    with pytest.raises(ValueError, match=r"in \[0, 3\).*Received: \[3\]"):
        explain(class_index=3)
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0"):
        explain(batch_size=0)


@pytest.mark.parametrize("gamma", [0, -1.0, float("nan")])
def test_bad_gamma(gamma, flat_model, images):
    with pytest.raises(ValueError, match=r"`gamma` must be above 0. Received"):
        hrcam.fused_layer_cam(flat_model, images, 0, gamma=gamma)


def test_gamma_lifts_the_shallow_layers():
    """Of the golden case, at a peak that only the fine layers have: tanh(gamma / 3)."""
    model, image = three_layer_model(), at_peaks([4, 2, 1, 8])[None, :, :, None]
    names = ["first", "second", "coarse"]
    actual = hrcam.fused_layer_cam(model, image, 1, names, gamma=5)
    np.testing.assert_allclose(actual[0, 2, 0], np.tanh(5 / 3), rtol=1e-5)


def test_layer_that_the_score_does_not_depend_on(images):
    image = keras.Input((16, 16, 1))
    beside = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="beside")(image))
    pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="conv")(image))
    classes = layers.Dense(2, "softmax", name="classes")(pooled)
    model = keras.Model(image, {"classes": classes, "beside": beside})
    with pytest.raises(ValueError, match=r"Received: \['beside'\]. Its layers"):
        hrcam.layer_cam(model, images, 0, "beside", output="classes")


def test_stopped_gradient_is_a_blank_map(images):
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(2, 3, name="conv")(image)
    x = layers.GlobalAveragePooling2D()(ops.stop_gradient(x))
    model = keras.Model(image, layers.Dense(2, "softmax")(x))
    with pytest.warns(UserWarning, match="no positive value"):
        maps = hrcam.layer_cam(model, images, 0, "conv")
    assert not maps.any()
