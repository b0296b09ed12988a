"""The deconvolution model as a Keras model: shared weights, files, cache, errors."""

import gc
import os
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import hrcam
from hrcam.deconvnet import DeconvModel
from hrcam.deconvnet.model import build_back_projector

BASES = ["flat_model", "nested_model", "functional_nested_model"]


@pytest.fixture(params=BASES)
def base_model(request):
    return request.getfixturevalue(request.param)


def numbers(result):
    return {name: ops.convert_to_numpy(value) for name, value in result.items()}


def run(model, images):
    return numbers(model(tf.constant(images)))


def assert_equal(actual, expected, tolerance=0.0):
    assert sorted(actual) == sorted(expected)
    for name, value in expected.items():
        atol = tolerance * np.ptp(value)
        np.testing.assert_allclose(actual[name], value, rtol=0, atol=atol, err_msg=name)


def redraw(model, seed):
    """New weights of the same kinds."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(variable.numpy() * rng.uniform(0.3, 1.7, variable.shape))


# --- the classifier's own layers ---------------------------------------------------


def test_training_on_changes_the_maps(base_model, images):
    """Both the model and the compiled function read the weights at each call."""
    options = {"top_n": 4, "gating": "gradient"}
    model = hrcam.build_deconv_model(base_model, **options)
    before = hrcam.attentive_response_maps(base_model, images[:3], **options)
    assert_equal(run(model, images[:3]), before, 1e-5)

    redraw(base_model, seed=3)
    after = hrcam.attentive_response_maps(base_model, images[:3], **options)

    fresh = run(hrcam.build_deconv_model(base_model, **options), images[:3])
    assert_equal(after, fresh, 1e-5)
    assert_equal(run(model, images[:3]), fresh, 1e-6)
    change = np.abs(after["response"] - before["response"]).max()
    assert change > 0.05 * np.ptp(before["response"])


def test_the_transposed_convolutions_hold_the_kernels_of_the_classifier(flat_model):
    model = hrcam.build_deconv_model(flat_model, top_n=4)
    transposed = [
        layer
        for layer in model.projector.layers
        if isinstance(layer, keras.layers.Conv2DTranspose)
    ]
    names = [layer.name for layer in transposed]
    assert names == ["conv3_transposed", "conv2_transposed", "conv1_transposed"]
    for layer, name in zip(transposed, ("conv3", "conv2", "conv1"), strict=True):
        assert layer.kernel is flat_model.get_layer(name).kernel
    assert len(model.weights) == len(flat_model.weights) - 2  # no dense layer
    own = {id(w) for w in flat_model.weights}
    assert all(id(w) in own for w in model.weights)


def test_nothing_in_the_classifier_changes(base_model, images):
    base_model.compile("sgd", "sparse_categorical_crossentropy")
    base_model.layers[1].trainable = False
    optimizer = base_model.optimizer
    all_layers = [x for x in base_model._flatten_layers() if x is not base_model]

    def state():
        nodes = [len(x._inbound_nodes) for x in all_layers]
        return {
            "names": [x.name for x in all_layers],
            "trainable": [x.trainable for x in all_layers],
            "dtypes": [x.dtype_policy.name for x in all_layers],
            "outputs": [id(x) for x in base_model.outputs],
            "built": (base_model.compiled, base_model.optimizer is optimizer),
            "nodes": nodes if base_model.name == "flat" else None,
        }

    before, weights = state(), base_model.get_weights()
    predictions = base_model.predict_on_batch(images)

    hrcam.build_deconv_model(base_model, top_n=4)
    hrcam.attentive_response_maps(base_model, images[:2], top_n=4)

    assert state() == before
    for own, saved in zip(base_model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(own, saved)
    np.testing.assert_array_equal(base_model.predict_on_batch(images), predictions)
    base_model.fit(images, np.zeros(6), verbose=0)


def test_the_cache_does_not_keep_the_classifier_alive(he_scale, images):
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(3, 3, activation="relu", name="conv")(image)
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    classifier = he_scale(keras.Model(image, x))
    hrcam.attentive_response_maps(classifier, images[:2], top_n=2)
    model = hrcam.build_deconv_model(classifier, top_n=2)
    dead = [weakref.ref(classifier)]
    del classifier
    gc.collect()
    assert dead[0]() is None
    assert run(model, images[:2])["units"].shape == (2, 2)  # needs the layers only
    dead.append(weakref.ref(model))
    del model, image, x
    gc.collect()
    assert dead[1]() is None


def test_compiled_once_for_its_options(flat_model, images, monkeypatch):
    built = []
    module = sys.modules["hrcam.deconvnet.attentive"]
    original = module.build_deconv_model
    monkeypatch.setattr(
        module,
        "build_deconv_model",
        lambda *args, **options: built.append(1) or original(*args, **options),
    )
    first = hrcam.attentive_response_maps(flat_model, images[:3], top_n=2)
    again = hrcam.attentive_response_maps(flat_model, images[:1], top_n=2)
    assert len(built) == 1
    np.testing.assert_allclose(again["response"][0], first["response"][0], atol=1e-5)
    hrcam.attentive_response_maps(flat_model, images[:1], top_n=2, seed="peak")
    assert len(built) == 2


# --- predict, files, summary ------------------------------------------------------


def test_predict_is_the_call(flat_model, images):
    model = hrcam.build_deconv_model(flat_model, top_n=4)
    assert_equal(
        numbers(model.predict(images[:3], batch_size=2, verbose=0)),
        run(model, images[:3]),
        1e-5,
    )


@pytest.mark.parametrize(
    ("load", "options"),
    [
        (keras.models.load_model, {}),
        (hrcam.load_model, {"preset": "authors_code", "chunk": 3}),
        (hrcam.load_model, {"gating": "guided", "rank": "max"}),
    ],
    ids=["paper", "authors", "guided"],
)
def test_saved_and_loaded(load, options, base_model, images, tmp_path):
    model = hrcam.build_deconv_model(base_model, top_n=5, unit_maps=False, **options)
    model.save(tmp_path / "model.keras")
    keras.backend.clear_session()  # names start anew, as in another session

    opened = load(tmp_path / "model.keras")

    assert isinstance(opened, DeconvModel)
    assert opened.count_params() == model.count_params()
    assert len(opened.weights) == len(model.weights)
    assert not {id(w) for w in opened.weights} & {id(w) for w in model.weights}
    assert_equal(run(opened, images[:2]), run(model, images[:2]))
    assert not {"unit_maps"} & set(opened.output)


@pytest.mark.parametrize(
    "opening",
    [
        "import keras, hrcam; load = keras.models.load_model",
        "import hrcam, keras; load = keras.models.load_model",
        "import hrcam; load = hrcam.load_model",
    ],
)
def test_loaded_in_a_fresh_process(opening, nested_model, images, tmp_path):
    model = hrcam.build_deconv_model(nested_model, top_n=4)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images[:2])
    code = (
        f"{opening}\n"
        "import numpy as np\n"
        "result = load('model.keras')(np.load('images.npy'))\n"
        "np.savez('result.npz', **{k: np.array(v) for k, v in result.items()})\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(Path(hrcam.__file__).parents[1])},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "result.npz") as result:
        assert_equal(dict(result), run(model, images[:2]), 1e-6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exported_and_served(nested_model, images, tmp_path):
    model = hrcam.build_deconv_model(nested_model, top_n=4)
    model.export(tmp_path / "served", verbose=False)

    opened = tf.saved_model.load(tmp_path / "served")

    for count in (1, 3):
        assert_equal(
            numbers(opened.serve(tf.constant(images[:count]))),
            run(model, images[:count]),
            1e-5,
        )


def test_summary_shows_the_way_back(flat_model):
    lines = []
    model = hrcam.build_deconv_model(flat_model, top_n=4)
    model.summary(print_fn=lambda text, **_: lines.append(text), line_length=150)
    text = "\n".join(lines)
    for shown in ("conv3 (Conv2D)", "conv3_transposed", "pool2_unpooling"):
        assert shown in text
    assert text.count("TransposedConv2D") == 3


# --- errors -----------------------------------------------------------------------

DOORS = {
    "model": hrcam.build_deconv_model,
    "maps": hrcam.attentive_response_maps,
}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_n": 9}, r"`top_n`.*in \[1, 8\], the units.*Received: 9"),
        ({"top_n": 0}, r"`top_n`.*in \[1, 8\].*Received: 0"),
        ({"top_n": -1}, r"`top_n`.*Received: -1"),
        ({"top_n": True}, r"`top_n`.*Received: True"),
        ({"top_n": 2.0}, r"`top_n`.*Received: 2.0"),
        ({}, r"`top_n`.*in \[1, 8\].*Received: 25"),
        ({"chunk": 0}, r"`chunk`.*at least 1.*Received: 0"),
        ({"chunk": True}, r"`chunk`.*at least 1.*Received: True"),
        ({"layer_name": "gap"}, r"\(batch, height.*Received: 'gap'.*\(None, 8\)"),
        ({"layer_name": "predictions"}, r"Received: 'predictions'.*\(None, 3\)"),
        ({"layer_name": "conv9"}, r"Received: \['conv9'\].*'conv1'"),
        ({"gating": "zeiler"}, r"`gating`.*'deconvnet'.*'linear'.*Received: 'zeiler'"),
        ({"unpooling": "max"}, r"`unpooling`.*'switches', 'nearest'.*Received: 'max'"),
        ({"seed": "sum"}, r"`seed`.*'map', 'peak'.*Received: 'sum'"),
        ({"rank": "mean"}, r"`rank`.*'sum', 'max'.*Received: 'mean'"),
        ({"combine": "mean"}, r"`combine`.*'max', 'sum'.*Received: 'mean'"),
        ({"preset": "zeiler"}, r"`preset`.*'paper', 'authors_code'.*'zeiler'"),
    ],
)
@pytest.mark.parametrize("door", DOORS)
def test_bad_options(door, options, message, flat_model, images):
    options = {"top_n": 2} | options if options else options
    given = [flat_model] if door == "model" else [flat_model, images]
    with pytest.raises(ValueError, match=message):
        DOORS[door](*given, **options)


def test_whole_numbers_of_numpy_are_numbers(flat_model):
    model = hrcam.build_deconv_model(flat_model, top_n=np.int64(3))
    assert model.output["units"].shape == (None, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"Received: \(16, 16, 1\). For one image, use"),
        (lambda x: np.repeat(x, 3, -1), "wants 1 channels, not 3"),
        (lambda x: x[:, :8, :8], r"\(6, 8, 8, 1\). Resize the images"),
        (lambda x: x[:0], "must not be empty"),
        (lambda x: np.where(x == x[3], np.nan, x), r"NaN or infinity.*\[3\]"),
    ],
)
def test_bad_images(change, message, flat_model, images):
    with pytest.raises(ValueError, match=message):
        hrcam.attentive_response_maps(flat_model, change(images), top_n=2)


def test_bad_batch_size(flat_model, images):
    with pytest.raises(ValueError, match=r"`batch_size`.*at least 1. Received: 0"):
        hrcam.attentive_response_maps(flat_model, images, top_n=2, batch_size=0)


def test_a_transformer_names_the_layer_that_has_no_way_back():
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(8, 4, strides=4, name="patches")(image)
    tokens = layers.Reshape((16, 8), name="to_tokens")(x)
    tokens = layers.MultiHeadAttention(2, 4, name="attention")(tokens, tokens)
    x = layers.Reshape((4, 4, 8), name="to_map")(tokens)
    y = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, y)
    with pytest.raises(
        ValueError, match=r"'to_map' of type Reshape.*Conv2D.*earlier layer"
    ):
        hrcam.build_deconv_model(model, "to_map", top_n=2)
    hrcam.build_deconv_model(model, "patches", top_n=2)  # as the error advises


def test_attention_has_no_way_back():
    image = keras.Input((4, 4, 2))
    x = layers.MultiHeadAttention(2, 4, name="attention")(image, image)
    model = keras.Model(image, layers.Conv2D(2, 1, name="conv")(x))
    with pytest.raises(ValueError, match="'attention' of type MultiHeadAttention"):
        hrcam.build_deconv_model(model, "conv", top_n=2)


def test_two_inputs():
    images = [keras.Input((8, 8, 1), name=name) for name in ("left", "right")]
    x = layers.Conv2D(4, 3, name="conv")(layers.Concatenate()(images))
    model = keras.Model(images, x, name="two")
    with pytest.raises(ValueError, match=r"`image_input` must name.*'left'.*'right'"):
        hrcam.build_deconv_model(model, "conv", top_n=2)
    with pytest.raises(ValueError, match=r"must have a convolution"):
        hrcam.build_deconv_model(model, top_n=2, image_input="left")


def test_subclassed_model_says_what_to_do(images):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(TypeError, match="functional"):
        hrcam.build_deconv_model(Subclassed(), top_n=2)
    with pytest.raises((TypeError, ValueError), match="functional"):
        hrcam.attentive_response_maps(Subclassed(), images, top_n=2)


def test_a_blank_response_warns_of_its_image(images):
    """Of a black image nothing comes back through a convolution without a bias."""
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(2, 1, use_bias=False, activation="relu", name="conv")(image)
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model.get_layer("conv").set_weights([np.ones((1, 1, 1, 2))])
    batch = images[:4].copy()
    batch[[1, 3]] = 0
    with pytest.warns(UserWarning, match=r"no positive value for the images \[1, 3\]:"):
        result = hrcam.attentive_response_maps(model, batch, top_n=2, batch_size=2)
    assert (result["response"][[1, 3]] == 0).all()
    assert (result["response"][[0, 2]].max(axis=(1, 2)) > 0).all()


# --- what has no rule -------------------------------------------------------------


class OwnConvolution(layers.Conv2D):
    """May do anything in its `call`."""


def one_layer(layer, shape):
    image = keras.Input(shape)
    return keras.Model(image, layer(image))


@pytest.mark.parametrize(
    "layer",
    [
        layers.GroupNormalization(2, name="odd"),
        layers.Reshape((8, 2, 2), name="odd"),
        layers.Softmax(name="odd"),
        layers.Conv2DTranspose(2, 3, name="odd"),
        OwnConvolution(2, 3, name="odd"),
    ],
)
def test_a_layer_without_a_rule_is_named_with_its_type_and_those_that_have_one(layer):
    with pytest.raises(ValueError, match="layer 'odd'") as error:
        build_back_projector(one_layer(layer, (4, 4, 2)), "linear", "switches")
    message = str(error.value)
    assert f"'odd' of type {type(layer).__name__}." in message
    for known in ("Conv2D", "MaxPooling2D", "PReLU", "Flip"):
        assert f" {known}," in message
    assert "`layer_name=`" in message
    assert "hrcam.deconvnet.RULES" in message


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(2, 3, name="odd", data_format="channels_first"),
        layers.DepthwiseConv2D(3, name="odd", data_format="channels_first"),
        layers.MaxPooling2D(2, name="odd", data_format="channels_first"),
        layers.AveragePooling2D(2, name="odd", data_format="channels_first"),
        layers.ZeroPadding2D(2, name="odd", data_format="channels_first"),
        layers.Cropping2D(1, name="odd", data_format="channels_first"),
        layers.UpSampling2D(2, name="odd", data_format="channels_first"),
    ],
)
def test_channels_first_is_refused(layer):
    trunk = one_layer(layer, (4, 6, 6))
    with pytest.raises(
        ValueError, match=r"channels_last'\. Received: 'channels_first' .* 'odd'"
    ):
        build_back_projector(trunk, "linear", "switches")


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (layers.Activation("softmax", name="odd"), r"each value.*softmax .*'odd'"),
        (
            layers.Conv2D(2, 3, activation="softmax", name="odd"),
            r"each value.*softmax .*'odd'",
        ),
        (
            layers.BatchNormalization(axis=1, name="odd"),
            r"last axis.*Received: axis=1 in the layer 'odd'",
        ),
        (
            lambda x: layers.Multiply(name="odd")([x, x]),
            r"smaller gates.*\[\(4, 4, 2\), \(4, 4, 2\)\] in the layer 'odd'",
        ),
        (
            lambda x: layers.Add(name="odd")([x, layers.Conv2D(1, 1)(x)]),
            r"shape of its output.*\(4, 4, 1\)\] in the layer 'odd'",
        ),
    ],
)
def test_a_layer_whose_options_have_no_rule_is_named(function, message):
    for gating in ("deconvnet", "guided", "gradient", "linear"):
        with pytest.raises(ValueError, match=message):
            build_back_projector(one_layer(function, (4, 4, 2)), gating, "switches")
