"""Each rule against its definition: a linear layer A goes back by its adjoint A^T.

<A x, y> = <x, A^T y> for random x and y, where A is the Keras layer itself without its
offset, `layer(x) - layer(0)`; activations are held against TensorFlow's gradient.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from keras.src.applications import convnext, inception_resnet_v2  # not exported

from hrcam.deconvnet.model import build_back_projector
from hrcam.deconvnet.rules import RULES

GATINGS = ("deconvnet", "guided", "gradient", "linear")


def draw(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def trunk_of(function, shape):
    """A model of one image, a layer of it, or what `function` makes of it."""
    image = keras.Input(shape, name="image")
    return keras.Model(image, function(image))


def go_back(trunk, signal, image=None, gating="linear", unpooling="switches"):
    """Takes signals `(units, ...)` back, with what is recorded of the one image."""
    projector, records = build_back_projector(trunk, gating, unpooling)
    recorded = []
    if records:
        image = np.zeros((1, *trunk.input_shape[1:])) if image is None else image
        recorded = keras.tree.flatten(keras.Model(trunk.inputs[0], records)(image))
    back = projector([tf.constant(signal), *recorded])
    assert tuple(back.shape) == (len(signal), *trunk.input_shape[1:])
    return ops.convert_to_numpy(back)


def assert_adjoint(trunk, tolerance=1e-5):
    """<A x_i, y_j> = <x_i, A^T y_j> for two images and three signals."""
    x, y = draw((2, *trunk.input_shape[1:]), 0), draw((3, *trunk.output_shape[1:]), 1)
    forth = np.float64(trunk(x) - trunk(np.zeros_like(x))).reshape(2, -1)
    back = np.float64(go_back(trunk, y)).reshape(3, -1)
    x, y = x.reshape(2, -1), y.reshape(3, -1)
    scale = np.linalg.norm(forth) * np.linalg.norm(y)
    assert scale > 0
    np.testing.assert_allclose(forth @ y.T, x @ back.T, atol=tolerance * scale)


# --- convolutions -----------------------------------------------------------------

KERNELS = [1, 2, 3, 5, 7, (3, 2)]
SIZES = [(8, 8), (7, 9), (10, 7)]  # even, odd, mixed


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, 3, (1, 2)])
@pytest.mark.parametrize("kernel", KERNELS)
def test_convolution(kernel, strides, padding, he_scale):
    for size in SIZES:
        layer = layers.Conv2D(3, kernel, strides, padding)
        assert_adjoint(he_scale(trunk_of(layer, (*size, 2))))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel", [1, 2, 3, (3, 2)])
def test_dilated_convolution(kernel, padding, he_scale):
    for size, dilation in itertools.product(SIZES, (2, (1, 3))):
        layer = layers.Conv2D(3, kernel, padding=padding, dilation_rate=dilation)
        assert_adjoint(he_scale(trunk_of(layer, (*size, 2))))


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_grouped_convolution(padding, strides, he_scale):
    """Four channels and six filters in two groups; each group sees its own half."""
    for size, kernel in itertools.product(SIZES, (1, 2, 3)):
        layer = layers.Conv2D(6, kernel, strides, padding, groups=2)
        assert_adjoint(he_scale(trunk_of(layer, (*size, 4))))


def test_a_group_stays_in_its_channels(he_scale):
    trunk = he_scale(trunk_of(layers.Conv2D(6, 3, groups=2), (6, 6, 4)))
    signal = draw((1, 4, 4, 6), 0)
    signal[..., :3] = 0
    back = go_back(trunk, signal)
    assert (back[..., :2] == 0).all()
    assert (back[..., 2:] != 0).any()


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_depthwise_convolution(strides, padding, multiplier, he_scale):
    for size, kernel in itertools.product(SIZES, (1, 2, 3, (3, 2))):
        layer = layers.DepthwiseConv2D(kernel, strides, padding, multiplier)
        assert_adjoint(he_scale(trunk_of(layer, (*size, 3))))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_dilated_depthwise_convolution(padding, he_scale):
    for size, multiplier in itertools.product(SIZES, (1, 2)):
        layer = layers.DepthwiseConv2D(
            3, padding=padding, depth_multiplier=multiplier, dilation_rate=2
        )
        assert_adjoint(he_scale(trunk_of(layer, (*size, 3))))


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("strides", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_separable_convolution(strides, dilation, padding, he_scale):
    for size, multiplier in itertools.product(SIZES, (1, 2)):
        layer = layers.SeparableConv2D(
            4, 3, strides, padding, None, dilation, depth_multiplier=multiplier
        )
        assert_adjoint(he_scale(trunk_of(layer, (*size, 3))))


def test_one_convolution_golden():
    """Zeiler's transpose of FACTS' two all-ones 3x3 kernels, each pixel by hand.

    The signal is 1 everywhere in map 1 and [1, -1, -1, -1], rectified to [1, 0, 0, 0],
    in map 2. A value covers the nine pixels of its window: map 1 gives
    [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]], map 2 a 1 in the first
    three rows and columns.
    """
    trunk = trunk_of(layers.Conv2D(2, 3, activation="relu", name="conv"), (4, 4, 1))
    trunk.get_layer("conv").set_weights([np.ones((3, 3, 1, 2)), np.array([-50, -75])])
    signal = np.float32([[[[1, 1], [1, -1]], [[1, -1], [1, -1]]]])

    back = go_back(trunk, signal, np.arange(16).reshape(1, 4, 4, 1), "deconvnet")

    expected = [[2, 3, 3, 1], [3, 5, 5, 2], [3, 5, 5, 2], [1, 2, 2, 1]]
    assert back[0, ..., 0].tolist() == expected


def test_the_kernel_is_turned():
    """Of an impulse the adjoint leaves the kernel as it is, in place of the window."""
    trunk = trunk_of(layers.Conv2D(1, 2, use_bias=False), (3, 3, 1))
    trunk.layers[-1].set_weights([np.float32([[1, 2], [3, 4]])[..., None, None]])
    signal = np.float32([[0, 1], [0, 0]])[None, ..., None]
    back = go_back(trunk, signal)
    assert back[0, ..., 0].tolist() == [[0, 1, 2], [0, 3, 4], [0, 0, 0]]


class OwnConvolution(layers.Conv2D):
    """May do anything in its `call`."""


def test_a_rule_can_be_added(monkeypatch, he_scale):
    """Here that of the layer that it is a subclass of."""
    monkeypatch.setitem(RULES, OwnConvolution, RULES[layers.Conv2D])
    assert_adjoint(he_scale(trunk_of(OwnConvolution(2, 3, 2), (7, 8, 2))))


# --- other linear layers ----------------------------------------------------------

LINEAR = {
    "average pool 2": lambda: layers.AveragePooling2D(2),
    "average pool 3/2": lambda: layers.AveragePooling2D(3, 2),
    "average pool 3/2 same": lambda: layers.AveragePooling2D(3, 2, "same"),
    "average pool 2/3": lambda: layers.AveragePooling2D((2, 1), 3),
    "batch norm": lambda: layers.BatchNormalization(epsilon=0.1),
    "batch norm axis 3": lambda: layers.BatchNormalization(axis=3),
    "batch norm, no scale": lambda: layers.BatchNormalization(scale=False),
    "batch norm, no center": lambda: layers.BatchNormalization(center=False),
    "padding": lambda: layers.ZeroPadding2D(((1, 2), (3, 0))),
    "cropping": lambda: layers.Cropping2D(((1, 2), (3, 0))),
    "rescaling": lambda: layers.Rescaling(2.5, -1.0),
    "rescaling of channels": lambda: layers.Rescaling([1.0, -2.0, 3.0], [1, 2, 3]),
    "normalization": lambda: layers.Normalization(mean=[1, 2, 3], variance=[4, 5, 0.1]),
    "normalization, inverted": lambda: layers.Normalization(
        mean=[1, 2, 3], variance=[4, 5, 0.1], invert=True
    ),
    "normalization of all": lambda: layers.Normalization(None, mean=2, variance=9),
    "upsampling": lambda: layers.UpSampling2D((2, 3)),
    "upsampling, bilinear": lambda: layers.UpSampling2D(
        (3, 2), interpolation="bilinear"
    ),
    "flip of channels": lambda: lambda x: ops.flip(x, axis=-1),
    "flip of pixels": lambda: lambda x: ops.flip(x, axis=(1, 2)),
    "constant": lambda: lambda x: x + 1.0,
    "add itself": lambda: lambda x: layers.Add()([x, x]),
    "dense": lambda: layers.Dense(4),
    "dense, no bias": lambda: layers.Dense(2, use_bias=False),
    "layer scale": lambda: convnext.LayerScale(0.3, 3),
}


@pytest.mark.parametrize("name", LINEAR)
def test_linear_layer(name, he_scale):
    for size in SIZES:
        trunk = trunk_of(LINEAR[name](), (*size, 3))
        if "normalization" not in name:
            he_scale(trunk)
        assert_adjoint(trunk)


def test_adapted_normalization():
    layer = layers.Normalization()
    layer.adapt(3 * draw((4, 6, 5, 2), 0) + 2)
    assert_adjoint(trunk_of(layer, (6, 5, 2)))


IDENTITIES = {
    "Dropout": lambda: layers.Dropout(0.5),
    "SpatialDropout2D": lambda: layers.SpatialDropout2D(0.5),
    "GaussianDropout": lambda: layers.GaussianDropout(0.5),
    "GaussianNoise": lambda: layers.GaussianNoise(1.0),
    "AlphaDropout": lambda: layers.AlphaDropout(0.5),
    "Identity": layers.Identity,
    "StochasticDepth": lambda: convnext.StochasticDepth(0.5),
    "Activation": lambda: layers.Activation("linear"),
    "RandomFlip": layers.RandomFlip,
    "RandomRotation": lambda: layers.RandomRotation(0.1),
    "RandomTranslation": lambda: layers.RandomTranslation(0.1, 0.1),
    "RandomZoom": lambda: layers.RandomZoom(0.1),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_layers_that_do_nothing_when_not_training(name):
    signal = draw((2, 5, 6, 2), 0)
    for gating in GATINGS:
        back = go_back(trunk_of(IDENTITIES[name](), (5, 6, 2)), signal, gating=gating)
        np.testing.assert_array_equal(back, signal)


@pytest.mark.parametrize(
    "join",
    [
        lambda a, b: layers.Add()([a, b, a]),
        lambda a, b: a + b,
        lambda a, b: inception_resnet_v2.CustomScaleLayer(0.3)([a, b]),
        lambda a, b: layers.Concatenate()([layers.Conv2D(1, 1)(a), b]),
        lambda a, b: layers.Concatenate(axis=3)([b, layers.Conv2D(4, 1)(a), a]),
        lambda a, b: layers.Concatenate(axis=1)([layers.Cropping2D((1, 0))(a), b]),
        lambda a, b: layers.Concatenate(axis=-2)([b, layers.Cropping2D((0, 1))(a)]),
    ],
)
def test_branches_that_join(join, he_scale):
    """The signals that come back by both branches are added at the image."""

    def branches(image):
        a = layers.Conv2D(3, 3, padding="same")(image)
        return join(a, layers.Conv2D(3, (1, 2), padding="same")(image))

    assert_adjoint(he_scale(trunk_of(branches, (6, 5, 2))))


def test_a_skip_over_several_layers(he_scale):
    def block(image):
        x = layers.Conv2D(4, 3, 2, "same", name="a")(image)
        y = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(x))
        return layers.Conv2D(3, 3)(layers.Add()([x, layers.AveragePooling2D(1)(y)]))

    assert_adjoint(he_scale(trunk_of(block, (11, 10, 2))))


def test_a_layer_that_is_called_twice_goes_back_twice(he_scale):
    shared = layers.Conv2D(2, 3, padding="same", name="shared")
    assert_adjoint(he_scale(trunk_of(lambda x: shared(shared(x)), (6, 5, 2))))


def test_a_rectifier_that_is_called_twice_has_two_gates(he_scale):
    """Each is told by what it reads; that of a fused one would be its own output."""
    shared = layers.ReLU(name="shared")
    trunk = trunk_of(lambda x: shared(layers.Conv2D(2, 1)(shared(x))), (6, 5, 2))
    he_scale(trunk)
    image, signal = draw((1, 6, 5, 2), 0), draw((2, 6, 5, 2), 1)
    back = go_back(trunk, signal, image, "gradient")
    np.testing.assert_allclose(back, gradient_of(trunk, image, signal), atol=1e-6)

    fused = layers.Conv2D(2, 1, activation="relu", name="fused")
    trunk = trunk_of(lambda x: fused(fused(x)), (6, 5, 2))
    with pytest.raises(
        ValueError, match=r"once\. Received: the layer 'fused.* several"
    ):
        build_back_projector(trunk, "guided", "switches")


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("gating", GATINGS)
def test_multiplication_holds_its_gate_fixed(gating, position, he_scale):
    """Squeeze-and-excite: the signal times sigmoid(dense(mean)), worked out anew."""

    def squeeze(image):
        gate = layers.GlobalAveragePooling2D(keepdims=True)(image)
        gate = layers.Dense(3, "sigmoid", name="dense")(gate)
        pair = [image, gate] if position == 0 else [gate, image]
        return layers.Multiply()(pair)

    trunk = he_scale(trunk_of(squeeze, (5, 4, 3)))
    image, signal = draw((1, 5, 4, 3), 0), draw((2, 5, 4, 3), 1)
    kernel, bias = trunk.get_layer("dense").get_weights()
    gate = 1 / (1 + np.exp(-(image.mean(axis=(1, 2)) @ kernel + bias)))

    back = go_back(trunk, signal, image, gating)

    np.testing.assert_allclose(back, signal * gate[:, None, None], rtol=1e-4)


def test_multiplication_by_a_gate_of_pixels(he_scale):
    def attend(image):
        return layers.Multiply()([image, layers.Conv2D(1, 1, name="gate")(image)])

    trunk = he_scale(trunk_of(attend, (5, 4, 3)))
    image, signal = draw((1, 5, 4, 3), 0), draw((2, 5, 4, 3), 1)
    gate = trunk.get_layer("gate")(image).numpy()
    np.testing.assert_allclose(go_back(trunk, signal, image), signal * gate, rtol=1e-5)


# --- layer normalization ------------------------------------------------------------


def test_layer_normalization_of_two_channels_by_hand():
    """Channels 1 and 3: mean 2, deviation sqrt(1 + 3) = 2, h = (-1/2, 1/2).

    gamma is (2, 4), so the signal (4, 1) arrives as g = (8, 4), of mean 6; the mean of
    g h is (-4 + 2) / 2 = -1. Back goes (8 - 6 - 1/2, 4 - 6 + 1/2) / 2 = (0.75, -0.75).
    """
    trunk = trunk_of(layers.LayerNormalization(epsilon=3.0), (1, 1, 2))
    trunk.layers[-1].set_weights([np.array([2, 4]), np.array([5, -7])])
    image, signal = np.float32([[[[1, 3]]]]), np.float32([[[[4, 1]]]])
    for gating in GATINGS:
        back = go_back(trunk, signal, image, gating)
        np.testing.assert_allclose(back.ravel(), [0.75, -0.75], atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"scale": False}, {"axis": 3, "epsilon": 0.5}])
def test_layer_normalization_is_its_derivative_at_the_image(options, he_scale):
    trunk = he_scale(trunk_of(layers.LayerNormalization(**options), (5, 4, 6)))
    image, signal = 2 * draw((1, 5, 4, 6), 0) + 1, draw((3, 5, 4, 6), 1)
    expected = gradient_of(trunk, image, signal)
    for gating in GATINGS:
        back = go_back(trunk, signal, image, gating)
        np.testing.assert_allclose(back, expected, atol=1e-5, err_msg=gating)


def test_layer_normalization_of_pixels_is_refused():
    trunk = trunk_of(layers.LayerNormalization(axis=(1, 2), name="odd"), (5, 4, 3))
    with pytest.raises(
        ValueError, match=r"along the last axis.*Received: axis=\[1, 2\].*'odd'"
    ):
        build_back_projector(trunk, "linear", "switches")


def test_scaling_by_variance_is_refused():
    with pytest.warns(UserWarning, match="deprecated"):
        layer = layers.LayerNormalization(rms_scaling=True, name="odd")
    with pytest.raises(ValueError, match=r"Received: .*rms_scaling=True.*'odd'"):
        build_back_projector(trunk_of(layer, (5, 4, 3)), "linear", "switches")


def test_a_small_convnext_goes_back_by_its_gradient(he_scale):
    """Stem, blocks and downsampling as in `keras.applications`, of a few maps."""
    network = convnext.ConvNeXt(
        depths=[1, 2, 1, 1], projection_dims=[4, 4, 6, 8], drop_path_rate=0.5,
        layer_scale_init_value=0.3, weights=None, include_top=False,
        input_shape=(64, 64, 3), name="tiny",
    )  # fmt: skip
    he_scale(network)
    image, signal = 255 * abs(draw((1, 64, 64, 3), 0)), draw((2, 2, 2, 8), 1)
    expected = gradient_of(network, image, signal)
    back = go_back(network, signal, image, "gradient")
    np.testing.assert_allclose(back, expected, atol=1e-4 * abs(expected).max())


# --- pooling ----------------------------------------------------------------------


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(("pool", "strides"), [(2, 2), (3, 2), ((2, 3), 3), (3, 1)])
def test_max_pooling_is_its_gradient_at_the_recorded_image(pool, strides, padding):
    """All values differ, so there are no ties; any gating gives the same."""
    trunk = trunk_of(layers.MaxPooling2D(pool, strides, padding), (7, 8, 2))
    image = np.random.default_rng(0).permutation(112).reshape(1, 7, 8, 2) - 60
    image = tf.constant(image, "float32")
    with tf.GradientTape() as tape:
        tape.watch(image)
        pooled = trunk(image)
    signal = draw(pooled.shape, 1)
    expected = tape.gradient(pooled, image, output_gradients=signal)
    for gating in GATINGS:
        back = go_back(trunk, signal, image, gating)
        np.testing.assert_allclose(back, expected, atol=1e-6)


def test_nearest_unpooling_repeats_and_records_nothing():
    trunk = trunk_of(layers.MaxPooling2D((2, 3)), (4, 6, 2))
    signal = draw((2, 2, 2, 2), 0)
    _, records = build_back_projector(trunk, "linear", "nearest")
    assert records == []
    back = go_back(trunk, signal, unpooling="nearest")
    np.testing.assert_array_equal(back, signal.repeat(2, axis=1).repeat(3, axis=2))


# --- activations ------------------------------------------------------------------

ACTIVATIONS = {
    "ReLU": layers.ReLU,
    "ReLU, all options": lambda: layers.ReLU(1.5, negative_slope=0.2, threshold=0.3),
    "relu": lambda: layers.Activation("relu"),
    "relu6": lambda: layers.Activation("relu6"),
    "ops.relu": lambda: ops.relu,
    "LeakyReLU": lambda: layers.LeakyReLU(0.2),
    "leaky_relu": lambda: layers.Activation("leaky_relu"),
    "PReLU": lambda: layers.PReLU(shared_axes=[1, 2]),
    "ELU": lambda: layers.ELU(0.7),
    "swish": lambda: layers.Activation("swish"),
    "gelu": lambda: layers.Activation("gelu"),
    "tanh": lambda: layers.Activation("tanh"),
    "sigmoid": lambda: layers.Activation("sigmoid"),
    "function": lambda: layers.Activation(lambda x: ops.sin(3 * x)),
}


def gradient_of(trunk, image, signal):
    """The vector-Jacobian product of each signal, by TensorFlow."""
    image = tf.constant(np.repeat(image, len(signal), axis=0))
    with tf.GradientTape() as tape:
        tape.watch(image)
        made = trunk(image)
    return tape.gradient(made, image, output_gradients=signal).numpy()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation(name, he_scale):
    trunk = he_scale(trunk_of(ACTIVATIONS[name](), (5, 6, 3)))
    image, signal = 4 * draw((1, 5, 6, 3), 0), draw((2, 5, 6, 3), 1)
    rectified = np.maximum(signal, 0)
    expected = {
        "linear": signal,
        "deconvnet": rectified,
        "guided": rectified * (image > 0),
        "gradient": gradient_of(trunk, image, signal),
    }
    for gating in GATINGS:
        back = go_back(trunk, signal, image, gating)
        np.testing.assert_allclose(back, expected[gating], atol=1e-5, err_msg=gating)


CONVOLUTIONS = {
    "Conv2D": lambda **options: layers.Conv2D(4, 3, 2, "same", **options),
    "Depthwise": lambda **options: layers.DepthwiseConv2D(3, 2, "same", 2, **options),
    "Separable": lambda **options: layers.SeparableConv2D(4, 3, 2, "same", **options),
    "Dense": lambda **options: layers.Dense(4, **options),
}


@pytest.mark.parametrize("activation", ["relu", "relu6", "tanh", "sigmoid", "linear"])
@pytest.mark.parametrize("gating", GATINGS)
@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_fused_activation_is_a_layer_of_its_own(kind, gating, activation, he_scale):
    fused = trunk_of(CONVOLUTIONS[kind](activation=activation), (7, 8, 2))
    he_scale(fused)
    apart = trunk_of(
        lambda x: layers.Activation(activation)(CONVOLUTIONS[kind]()(x)), (7, 8, 2)
    )
    apart.set_weights(fused.get_weights())
    image = 4 * draw((1, 7, 8, 2), 0)
    signal = draw((2, *fused.output_shape[1:]), 1)

    back = go_back(fused, signal, image, gating)

    expected = go_back(apart, signal, image, gating)
    if gating == "gradient":
        expected = gradient_of(fused, image, signal)
    np.testing.assert_allclose(back, expected, atol=1e-5)


def test_fused_swish_has_no_gradient_but_the_other_gatings(he_scale):
    """Swish is not monotonic: its output does not tell what went in."""
    layer = layers.Conv2D(2, 3, activation="swish", name="fused")
    trunk = he_scale(trunk_of(layer, (5, 5, 1)))
    with pytest.raises(
        ValueError, match=r"activation 'silu' of the layer 'fused'.*Use another gating"
    ):
        build_back_projector(trunk, "gradient", "switches")
    for gating in ("deconvnet", "guided", "linear"):
        assert np.isfinite(go_back(trunk, draw((1, 3, 3, 2), 0), gating=gating)).all()
