"""Attentive response maps: values by hand, second roads through autodiff, invariants.

A unit's map z_f is ds/dz of s = 0.5 * sum(z_f^2), so a back-projection that starts at
z_f is the derivative of s, with ReLUs whose derivative is what `gating` says.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import hrcam

PAPER = {"seed": "map", "rank": "sum", "combine": "max"}


def numbers(result):
    return {name: ops.convert_to_numpy(value) for name, value in result.items()}


def project(classifier, images, *args, **options):
    """Builds the model and runs it, layer by layer."""
    model = hrcam.build_deconv_model(classifier, *args, **options)
    return numbers(model(tf.constant(images)))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def half_squares(features, image, unit):
    """d/dx of 0.5 * sum(z_f^2) for one image; `features` is any function."""
    image = tf.constant(image[None])
    with tf.GradientTape() as tape:
        tape.watch(image)
        score = 0.5 * tf.reduce_sum(tf.square(features(image)[..., unit]))
    return tape.gradient(score, image)[0].numpy()


def assert_is_gradient(classifier, features, images, layer_name=None, top_n=4):
    actual = project(classifier, images, layer_name, top_n, gating="gradient")
    for n, image in enumerate(images):
        maps = [half_squares(features, image, unit) for unit in actual["units"][n]]
        scale = max(np.ptp(m) for m in maps)
        assert scale > 0
        np.testing.assert_allclose(actual["unit_maps"][n], maps, atol=1e-4 * scale)
    return actual


# --- by hand ----------------------------------------------------------------------


def identity_model(size, channels, activation=None):
    """A 1x1 convolution that copies each channel: units are the image's channels."""
    image = keras.Input((*size, channels))
    x = layers.Conv2D(channels, 1, activation=activation, name="conv")(image)
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    kernel = np.eye(channels)[None, None]
    model.get_layer("conv").set_weights([kernel, np.zeros(channels)])
    return model


# Unit 0 is 1 everywhere: sum 4, maximum 1. Unit 1 has one 3: sum 3, maximum 3. Unit 2
# is [[0, 0], [-1, 2]]: sum 1, maximum 2.
UNITS = np.float32([[[[1, 3, 0], [1, 0, 0]], [[1, 0, -1], [1, 0, 2]]]])


@pytest.mark.parametrize(
    ("rank", "units"), [("sum", [0, 1, 2]), ("max", [1, 2, 0])], ids=["sum", "max"]
)
def test_rank_golden(rank, units):
    actual = project(identity_model((2, 2), 3), UNITS, top_n=3, rank=rank)
    assert actual["units"].tolist() == [units]
    fewer = project(identity_model((2, 2), 3), UNITS, top_n=1, rank=rank)
    assert fewer["units"].tolist() == [units[:1]]


def test_response_and_dominant_unit_golden():
    """Each unit comes back in its own channel; nothing is rectified here.

    The largest of the channels at each pixel: 3 (unit 1), 1 (unit 0), 1 (unit 0), 2
    (unit 2). By the maximum of their maps the order is 1, 2, 0, so those are the
    positions 0, 2, 2 and 1.
    """
    model = identity_model((2, 2), 3)
    actual = project(model, UNITS, top_n=3, rank="max", gating="linear")

    for position, unit in enumerate([1, 2, 0]):
        own = np.zeros((2, 2, 3))
        own[..., unit] = UNITS[0, ..., unit]
        np.testing.assert_array_equal(actual["unit_maps"][0, position], own)
    assert actual["response"][0].tolist() == [[3, 1], [1, 2]]
    assert actual["dominant_unit"][0].tolist() == [[0, 2], [2, 1]]
    # Both of units 1 and 2: 3, 0, max(0, -1) and 2; the second only where it is more.
    two = project(model, UNITS, top_n=2, rank="max", gating="linear")
    assert two["response"][0].tolist() == [[3, 0], [0, 2]]
    assert two["dominant_unit"][0].tolist() == [[0, 0], [0, 1]]


def test_combine_sum_golden():
    """1 + 3 + 0, 1, 1 - 1, 1 + 2; the dominant unit is that of the maximum."""
    model = identity_model((2, 2), 3)
    for unit_maps in (True, False):
        actual = project(
            model, UNITS, top_n=3, gating="linear", combine="sum", unit_maps=unit_maps
        )
        assert actual["response"][0].tolist() == [[4, 1], [0, 3]]
        assert actual["dominant_unit"][0].tolist() == [[1, 0], [0, 2]]


def test_peak_golden():
    """Of two places with the maximum 3 the first, row by row."""
    image = np.float32([[[[0], [3]], [[3], [1]]]])
    model = identity_model((2, 2), 1)
    actual = project(model, image, top_n=1, seed="peak", gating="linear")
    assert actual["response"][0].tolist() == [[0, 3], [0, 0]]
    whole = project(model, image, top_n=1, seed="map", gating="linear")
    assert whole["response"][0].tolist() == [[0, 3], [3, 1]]


def test_two_layers_golden():
    """A pool between two 1x1 convolutions, 2 and -3, and a bias of 1 that stays away.

    2x - 1 of [[1, 2, 5, 0], [0, 3, 4, 0]] is [[1, 3, 9, -1], [-1, 5, 7, -1]], its
    ReLU's 2x2 pool [5, 9] at (1, 1) and (0, 2), the unit -3 * [5, 9] + 20 = [5, -7].
    Linear: [5, -7] * -3 * 2 = [-30, 42] at their switches. Deconvnet: the unit goes
    through no rectifier before its kernel, then ReLU([-15, 21]) * 2 = [0, 42]; guided
    the same, for both places are positive. Nearest: 42 all over the second window.
    """
    image = keras.Input((2, 4, 1))
    x = layers.Conv2D(1, 1, activation="relu", name="first")(image)
    x = layers.Conv2D(1, 1, name="second")(layers.MaxPooling2D(2)(x))
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    for name, kernel, bias in (("first", 2, -1), ("second", -3, 20)):
        weights = [np.full((1, 1, 1, 1), kernel), np.full(1, bias)]
        model.get_layer(name).set_weights(weights)
    pixels = np.float32([[1, 2, 5, 0], [0, 3, 4, 0]])[None, ..., None]

    def response(gating, unpooling="switches"):
        options = {"gating": gating, "unpooling": unpooling}
        return project(model, pixels, "second", 1, **options)["response"][0].tolist()

    assert response("linear") == [[0, 0, 42, 0], [0, -30, 0, 0]]
    assert response("deconvnet") == [[0, 0, 42, 0], [0] * 4]
    assert response("deconvnet", "nearest") == [[0, 0, 42, 42]] * 2
    # Guided by what the ReLU got: it was positive at 9 and 7 only.
    assert response("guided", "nearest") == [[0, 0, 42, 0]] * 2


# --- second roads -----------------------------------------------------------------


def test_gradient_of_a_flat_model_and_of_each_of_its_layers(flat_model, images):
    for name in ("relu3", "conv3", "bn2", "pool1"):
        features = keras.Model(flat_model.inputs[0], flat_model.get_layer(name).output)
        assert_is_gradient(flat_model, features, images[:3], name)


@pytest.mark.parametrize("base", ["nested_model", "functional_nested_model"])
def test_gradient_of_a_nested_model(base, images, request):
    model = request.getfixturevalue(base)

    def features(x):
        return model.get_layer("backbone")(
            model.get_layer("rescaling")(x), training=False
        )

    assert_is_gradient(model, features, images[1:3])


def test_gradient_at_an_inner_layer_of_a_nested_model(nested_model, images):
    backbone = nested_model.get_layer("backbone")
    inner = keras.Model(backbone.inputs[0], backbone.get_layer("relu2").output)

    def features(x):
        return inner(2 * x - 0.5, training=False)

    assert_is_gradient(nested_model, features, images[1:3], "backbone/relu2")


@pytest.mark.parametrize("build", [hrcam.build_shallow_net, hrcam.build_deeper_net])
def test_gradient_of_the_networks_of_the_paper(build, he_scale):
    """33 x 37 pixels: each pool drops a row or a column somewhere."""
    model = he_scale(build((33, 37, 1), 4))
    features = keras.Model(model.inputs[0], model.get_layer("gap").input)
    assert_is_gradient(model, features, noise(2, 33, 37, 1), top_n=3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ResNet50", "VGG19", "DenseNet121", "MobileNetV2"])
def test_gradient_of_large_networks(name, he_scale):
    build = getattr(keras.applications, name)
    model = he_scale(build(include_top=False, weights=None, input_shape=(37, 45, 3)))
    assert_is_gradient(
        model, model, noise(1, 37, 45, 3) - 0.5, model.layers[-1].name, top_n=3
    )


@tf.custom_gradient
def zeiler_relu(x):
    return tf.nn.relu(x), tf.nn.relu


@tf.custom_gradient
def guided_relu(x):
    return tf.nn.relu(x), lambda dy: tf.nn.relu(dy) * tf.cast(x > 0, dy.dtype)


RELUS = {"deconvnet": zeiler_relu, "guided": guided_relu, "gradient": tf.nn.relu}


@pytest.fixture
def chain(he_scale):
    """Convolution, ReLU and pool by turns, fused or not, on 13 x 18 pixels."""
    image = keras.Input((13, 18, 3))
    x = layers.Conv2D(5, 3, padding="same", activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D(2)(x)
    x = layers.ReLU()(layers.Conv2D(6, 3, name="conv2")(x))
    x = layers.MaxPooling2D(2)(x)
    x = layers.Conv2D(7, 2, padding="same", activation="relu", name="conv3")(x)
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    return he_scale(keras.Model(image, x), seed=4)


def literal_chain(model, relu):
    """The chain in TensorFlow's own operations."""
    weights = [w.numpy() for w in model.weights[:6]]

    def features(x):
        for number, padding in enumerate(("SAME", "VALID", "SAME")):
            if number:
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            kernel, bias = weights[2 * number : 2 * number + 2]
            x = relu(tf.nn.conv2d(x, kernel, 1, padding) + bias)
        return x

    return features


@pytest.mark.parametrize("gating", RELUS)
def test_gatings_are_relus_with_another_derivative(gating, chain):
    images = noise(2, 13, 18, 3) - 0.5
    features = literal_chain(chain, RELUS[gating])

    actual = project(chain, images, top_n=5, gating=gating)

    for n, image in enumerate(images):
        maps = [half_squares(features, image, unit) for unit in actual["units"][n]]
        scale = np.ptp(maps)
        assert scale > 0
        np.testing.assert_allclose(actual["unit_maps"][n], maps, atol=1e-5 * scale)


def test_peak_is_the_gradient_of_half_the_maximum_squared(chain):
    images = noise(2, 13, 18, 3) - 0.5
    features = literal_chain(chain, zeiler_relu)

    actual = project(chain, images, top_n=5, seed="peak", gating="deconvnet")

    for n, image in enumerate(images):
        for position, unit in enumerate(actual["units"][n]):

            def peak(x, unit=unit):
                z = features(x)[0, ..., unit]
                row, column = np.unravel_index(np.argmax(z), z.shape)
                return z[row, column][None]

            expected = half_squares(peak, image, 0)
            made = actual["unit_maps"][n, position]
            np.testing.assert_allclose(made, expected, atol=1e-5 * np.ptp(made))


def test_units_are_the_strongest_by_their_maps(flat_model, images):
    features = keras.Model(flat_model.inputs[0], flat_model.get_layer("relu3").output)
    maps = features(images).numpy()
    for rank, strength in (("sum", maps.sum((1, 2))), ("max", maps.max((1, 2)))):
        expected = np.argsort(-strength, axis=1, kind="stable")[:, :6]
        actual = project(flat_model, images, top_n=6, rank=rank)["units"]
        np.testing.assert_array_equal(actual, expected)
    assert len(np.unique(expected, axis=0)) > 1


# --- invariants -------------------------------------------------------------------


def test_shapes_and_types_are_the_documented_ones(chain):
    result = hrcam.attentive_response_maps(chain, noise(3, 13, 18, 3), top_n=4)
    kinds = {name: (value.shape, value.dtype) for name, value in result.items()}
    assert kinds == {
        "units": ((3, 4), np.int32),
        "unit_maps": ((3, 4, 13, 18, 3), np.float32),
        "response": ((3, 13, 18), np.float32),
        "dominant_unit": ((3, 13, 18), np.int32),
    }


def test_response_is_the_maximum_over_units_and_channels(chain):
    actual = project(chain, noise(2, 13, 18, 3) - 0.5, top_n=6, gating="linear")
    by_unit = actual["unit_maps"].max(axis=-1)
    np.testing.assert_array_equal(actual["response"], by_unit.max(axis=1))
    chosen = np.take_along_axis(by_unit, actual["dominant_unit"][:, None], axis=1)
    np.testing.assert_array_equal(chosen[:, 0], actual["response"])
    assert len(np.unique(actual["dominant_unit"])) > 2


@pytest.mark.parametrize("top_n", [5, 6])
def test_neither_chunks_nor_leaving_the_maps_out_change_anything(chain, top_n):
    """6 are all the units, of which none is blank; each counts once in a sum."""
    images = noise(2, 13, 18, 3) - 0.5
    whole = project(chain, images, "conv2", top_n, gating="linear", chunk=99)
    maps = whole["unit_maps"]
    scale = np.ptp(maps)
    assert (np.ptp(maps, axis=(2, 3, 4)) > 0.01 * scale).all()
    for chunk in (1, 4):
        for combine in ("max", "sum"):
            options = {"gating": "linear", "chunk": chunk, "combine": combine}
            folded = project(chain, images, "conv2", top_n, unit_maps=False, **options)
            assert sorted(folded) == ["dominant_unit", "response", "units"]
            expected = maps.max((1, 4)) if combine == "max" else maps.sum((1, 4))
            np.testing.assert_allclose(
                folded["response"], expected, atol=1e-5 * scale, err_msg=str(options)
            )
            np.testing.assert_array_equal(folded["units"], whole["units"])
            np.testing.assert_array_equal(
                folded["dominant_unit"], whole["dominant_unit"]
            )
        parts = project(chain, images, "conv2", top_n, gating="linear", chunk=chunk)
        np.testing.assert_allclose(parts["unit_maps"], maps, atol=1e-6 * scale)
        np.testing.assert_array_equal(parts["dominant_unit"], whole["dominant_unit"])


def test_batches_are_single_images(flat_model, images):
    """Compiled and batched against layer by layer, one image at a time."""
    batches = [
        hrcam.attentive_response_maps(flat_model, images[:3], top_n=5, batch_size=size)
        for size in (8, 2)
    ]
    for n in range(3):
        alone = project(flat_model, images[n : n + 1], top_n=5)
        for together in batches:
            for name, value in alone.items():
                np.testing.assert_allclose(
                    together[name][n], value[0], atol=1e-5, err_msg=name
                )
    assert not np.allclose(batches[0]["response"][0], batches[0]["response"][1])


PRESETS = {
    "paper": {"gating": "deconvnet", "unpooling": "switches"} | PAPER,
    "authors_code": {
        "gating": "guided",
        "unpooling": "nearest",
        "seed": "peak",
        "rank": "sum",
        "combine": "sum",
    },
}


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_its_options_and_explicit_options_win(preset, chain):
    other = PRESETS["paper" if preset == "authors_code" else "authors_code"]
    images = noise(1, 13, 18, 3) - 0.5
    chosen = project(chain, images, top_n=4, preset=preset)
    overridden = project(chain, images, top_n=4, preset=preset, **other)
    for actual, options in ((chosen, PRESETS[preset]), (overridden, other)):
        expected = project(chain, images, top_n=4, **options)
        for name, value in expected.items():
            np.testing.assert_array_equal(actual[name], value, err_msg=name)
    assert not np.allclose(chosen["response"], overridden["response"])


def test_the_paper_is_the_default(chain):
    images = noise(1, 13, 18, 3) - 0.5
    np.testing.assert_array_equal(
        project(chain, images, top_n=4)["response"],
        project(chain, images, top_n=4, **PRESETS["paper"])["response"],
    )


def test_images_of_any_size(backbone, he_scale):
    """One classifier, two sizes: each is what a classifier of that size gives."""
    x = layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.inputs[0], layers.Dense(2, "softmax")(x))
    for size in ((16, 16), (13, 18)):
        image = keras.Input((*size, 1))
        fixed = keras.Model(image, backbone(image, training=False))
        images = noise(2, *size, 1)
        actual = hrcam.attentive_response_maps(model, images, top_n=3)
        expected = project(fixed, images, "backbone/relu3", top_n=3)
        for name, value in expected.items():
            np.testing.assert_allclose(actual[name], value, atol=1e-5)
        sized = project(model, images, top_n=3, image_size=size)
        np.testing.assert_array_equal(sized["response"], expected["response"])
    with pytest.raises(ValueError, match=r"`image_size` is needed.*any size"):
        hrcam.build_deconv_model(model, top_n=3)


@pytest.mark.parametrize("gating", ["deconvnet", "gradient"])
def test_mixed_precision(gating, he_scale):
    maps = {}
    for policy in ("float32", "mixed_float16"):
        image = x = keras.Input((12, 14, 1))
        for filters, name in ((4, "a"), (6, "b")):
            x = layers.Conv2D(filters, 3, padding="same", dtype=policy, name=name)(x)
            x = layers.BatchNormalization(dtype=policy)(x)
            x = layers.Activation("swish" if filters == 6 else "relu", dtype=policy)(x)
            x = layers.MaxPooling2D(2, dtype=policy)(x)
        x = layers.GlobalAveragePooling2D(dtype=policy)(x)
        x = layers.Dense(2, "softmax", dtype="float32")(x)
        model = he_scale(keras.Model(image, x))
        names = [layer.name for layer in model.layers]
        unit_layer = names[names.index("b") + 2]
        images = noise(2, 12, 14, 1)
        maps[policy] = project(model, images, unit_layer, 6, gating=gating)
    half, single = maps["mixed_float16"], maps["float32"]
    assert half["unit_maps"].dtype == half["response"].dtype == np.float32
    assert np.isfinite(half["unit_maps"]).all()
    scale = np.ptp(single["response"])
    assert scale > 0
    np.testing.assert_allclose(half["response"], single["response"], atol=0.02 * scale)
