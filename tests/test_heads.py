"""The HR-CAM head: what it pools, what may be trained, and how it is saved."""

import keras
import numpy as np
import pytest
from keras import layers

from hrcam.graph import tap
from hrcam.heads import (
    build_gap_classifier,
    build_hrcam_model,
    pooled_channels,
    pooled_layers,
)
from hrcam.layer_selection import feature_layers
from hrcam.saving import load_model

RELUS = ["relu1", "relu2", "relu3"]
MODELS = ["flat_model", "nested_model", "functional_nested_model", "sigmoid_model"]


@pytest.fixture(params=MODELS)
def base_model(request):
    """Every model of conftest."""
    return request.getfixturevalue(request.param)


def prefixed(model):
    nested = "backbone" in [layer.name for layer in model.layers]
    return [f"backbone/{name}" if nested else name for name in RELUS]


def test_default_layers_and_sizes(base_model):
    classes = base_model.outputs[0].shape[-1]

    model = build_hrcam_model(base_model)

    assert pooled_layers(model) == feature_layers(base_model) == prefixed(base_model)
    assert pooled_channels(model) == [4, 6, 8]
    assert model.get_layer("gap_vector").output.shape == (None, 4 + 6 + 8)
    assert model.get_layer("predictions").kernel.shape == (18, classes)
    assert model.output.shape == (None, classes)
    assert model.name == f"{base_model.name}_hrcam"
    assert not model.compiled


def test_the_head_by_hand(base_model, images, he_scale):
    """Probabilities from the maps: mean over pixels, one after the other, W v + b."""
    model = build_hrcam_model(base_model)
    dense = model.get_layer("predictions")
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=dense.kernel.shape).astype("float32")
    bias = rng.normal(size=dense.bias.shape).astype("float32")
    dense.set_weights([kernel, bias])

    maps = tap(base_model, prefixed(base_model))(images)
    vector = np.concatenate([np.mean(m, axis=(1, 2)) for m in maps.values()], axis=1)
    logits = vector @ kernel + bias
    if logits.shape[1] == 1:
        expected = 1 / (1 + np.exp(-logits))
    else:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        expected = powers / powers.sum(axis=1, keepdims=True)

    np.testing.assert_allclose(model(images), expected, atol=1e-5)
    vectors = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
    np.testing.assert_allclose(vectors(images), vector, atol=1e-5)


def test_only_the_head_can_be_trained(base_model, images):
    model = build_hrcam_model(base_model)

    paths = [w.path for w in model.trainable_weights]
    assert paths == ["predictions/kernel", "predictions/bias"]
    assert not base_model.trainable
    assert base_model.trainable_weights == []

    classes = model.output.shape[-1]
    loss = "binary_crossentropy" if classes == 1 else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.SGD(1.0), loss)
    frozen = [w.numpy() for w in base_model.weights]
    before = model.get_layer("predictions").kernel.numpy()
    model.train_on_batch(images, np.arange(6) % max(classes, 2))

    for weight, old in zip(base_model.weights, frozen, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)  # moving statistics, too
    assert np.abs(model.get_layer("predictions").kernel.numpy() - before).max() > 1e-3


def test_the_base_model_predicts_as_before(base_model, images):
    before = base_model.predict_on_batch(images)

    build_hrcam_model(base_model)

    np.testing.assert_array_equal(base_model.predict_on_batch(images), before)


@pytest.mark.parametrize("names", [["relu2"], ["relu3", "relu1"], ["bn1", "conv3"]])
def test_given_layers_keep_their_order(flat_model, names, images, tmp_path):
    channels = {"1": 4, "2": 6, "3": 8}

    model = build_hrcam_model(flat_model, names)

    model.save(tmp_path / "model.keras")
    for same in (model, load_model(tmp_path / "model.keras")):
        assert pooled_layers(same) == names
        assert pooled_channels(same) == [channels[name[-1]] for name in names]
    maps = tap(flat_model, names)(images)
    vector = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)(images)
    np.testing.assert_allclose(
        vector,
        np.concatenate([np.mean(m, axis=(1, 2)) for m in maps.values()], axis=1),
        atol=1e-5,
    )


def test_saved_and_opened_again(base_model, images, tmp_path):
    model = build_hrcam_model(base_model)
    expected = model.predict_on_batch(images)
    assert np.ptp(expected, axis=0).max() > 0.01

    model.save(tmp_path / "model.keras")
    opened = load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(opened.predict_on_batch(images), expected)
    assert pooled_layers(opened) == pooled_layers(model)
    assert [w.path for w in opened.trainable_weights] == [
        "predictions/kernel",
        "predictions/bias",
    ]


@pytest.mark.parametrize(
    ("num_classes", "activation"), [(1, "sigmoid"), (5, "softmax")]
)
def test_given_class_count(flat_model, num_classes, activation):
    dense = build_hrcam_model(flat_model, num_classes=num_classes).layers[-1]

    assert dense.name == "predictions"
    assert dense.kernel.shape == (18, num_classes)
    assert dense.activation.__name__ == activation


def test_head_in_float32_on_a_mixed_precision_base(images):
    dtype = keras.mixed_precision.DTypePolicy("mixed_float16")
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(2, 3, name="a", dtype=dtype)(image)
    x = layers.Conv2D(3, 3, strides=2, name="b", dtype=dtype)(x)
    base_model = build_gap_classifier(keras.Model(image, x))
    assert base_model.get_layer("gap").output.dtype == "float32"

    model = build_hrcam_model(base_model)

    assert tap(model, ["b"])(images)["b"].dtype == "float16"
    assert model.get_layer("gap_vector").output.dtype == "float32"
    assert model.output.dtype == "float32"
    assert model.get_layer("predictions").kernel.dtype == "float32"
    # a mean of 1,000 in float16 sums of 14 * 14 pixels would be infinite
    model.get_layer("a").set_weights([np.full((3, 3, 1, 2), 1000.0), np.zeros(2)])
    vectors = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
    assert np.isfinite(vectors(images)[:, :2]).all()


def test_head_under_a_global_mixed_precision_policy(images):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        image = keras.Input((16, 16, 1))
        base_model = build_gap_classifier(
            keras.Model(image, layers.Conv2D(2, 3, name="a")(image))
        )
        model = build_hrcam_model(base_model)
    finally:
        keras.config.set_dtype_policy(before)

    assert model.get_layer("a").compute_dtype == "float16"
    for name in ("gap_1", "gap_vector", "predictions"):
        assert model.get_layer(name).compute_dtype == "float32"
    assert model(images).dtype == "float32"


def test_variable_image_size(backbone):
    model = build_hrcam_model(build_gap_classifier(backbone, 2))

    for size in ((16, 16), (20, 12)):
        assert model(np.ones((1, *size, 1), "float32")).shape == (1, 2)


@pytest.fixture
def twins(he_scale):
    """Two backbones side by side whose inner layers have the same names."""
    image = keras.Input((16, 16, 1))
    pooled = []
    for name in ("left", "right"):
        inner = keras.Input((16, 16, 1))
        x = layers.Conv2D(2, 3, name="conv")(inner)
        x = keras.Model(inner, x, name=name)(image)
        pooled.append(layers.GlobalAveragePooling2D()(x))
    x = layers.Concatenate()(pooled)
    model = keras.Model(image, layers.Dense(3, "softmax", name="predictions")(x))
    return he_scale(model)


def test_inner_layers_of_the_same_name(twins, images, tmp_path):
    names = ["right/conv", "left/conv"]

    model = build_hrcam_model(twins, names)

    maps = tap(twins, names)(images)
    vector = np.concatenate([np.mean(m, axis=(1, 2)) for m in maps.values()], axis=1)
    assert np.abs(vector[:, :2] - vector[:, 2:]).max() > 0.01
    vectors = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
    np.testing.assert_allclose(vectors(images), vector, atol=1e-5)
    model.save(tmp_path / "model.keras")
    opened = load_model(tmp_path / "model.keras")
    assert pooled_layers(opened) == names
    np.testing.assert_array_equal(opened(images), model(images))


# ------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layer_names": ["relu1", "relu9"]}, r"Received: \['relu9'\].*'relu1'"),
        ({"layer_names": ["relu1", "gap"]}, r"Received: \{'gap': \(None, 8\)\}"),
        ({"layer_names": ["relu1", "relu1"]}, r"none twice.*\['relu1', 'relu1'\]"),
        ({"layer_names": []}, r"at least one layer.*Received: \[\]"),
        ({"num_classes": 0}, "at least 1. Received: 0"),
    ],
)
def test_wrong_arguments_change_nothing(flat_model, options, reason):
    with pytest.raises(ValueError, match=reason):
        build_hrcam_model(flat_model, **options)
    assert flat_model.trainable


def test_several_outputs_need_a_class_count(flat_model):
    two = keras.Model(
        flat_model.input, [flat_model.output, flat_model.get_layer("gap").output]
    )

    with pytest.raises(ValueError, match=r"`output` .*\(None, 3\).*'gap' \(None, 8\)"):
        build_hrcam_model(two)
    assert build_hrcam_model(two, output="predictions").output.shape == (None, 3)
    assert build_hrcam_model(two, num_classes=4).output.shape == (None, 4)


def test_a_backbone_without_classes_needs_a_class_count(backbone):
    with pytest.raises(ValueError, match=r"`num_classes` must be given"):
        build_hrcam_model(backbone)
    assert build_hrcam_model(backbone, num_classes=2).output.shape == (None, 2)


def test_pooled_layers_of_another_model(flat_model):
    for function in (pooled_layers, pooled_channels):
        with pytest.raises(ValueError, match=r"'flat'.*hrcam\.cam.*hrcam\.grad_cam"):
            function(flat_model)


# --------------------------------------------------------------- build_gap_classifier


@pytest.mark.parametrize(("units", "activation"), [(1, "sigmoid"), (4, "softmax")])
def test_gap_classifier(backbone, images, units, activation, he_scale):
    model = he_scale(build_gap_classifier(backbone, units, name="gapped"))

    assert model.name == "gapped"
    assert [layer.name for layer in model.layers[-2:]] == ["gap", "predictions"]
    assert model.layers[-1].activation.__name__ == activation
    kernel, bias = model.layers[-1].get_weights()
    logits = np.mean(backbone(images), axis=(1, 2)) @ kernel + bias
    expected = getattr(keras.ops, activation)(logits)
    np.testing.assert_allclose(model(images), expected, atol=1e-5)


def test_gap_classifier_needs_maps(flat_model, backbone):
    with pytest.raises(ValueError, match=r"one output of shape.*\[\(None, 3\)\]"):
        build_gap_classifier(flat_model)
    with pytest.raises(ValueError, match=r"at least 1. Received: -1"):
        build_gap_classifier(backbone, -1)
