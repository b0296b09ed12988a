"""What a builder returns, saved as `.keras` and opened in safe mode: equal numbers.

Of the flat, nested and Sequential models of conftest see test_heads (HR-CAM models),
test_deconv_model and test_saving.
"""

import keras
import numpy as np
import pytest
from keras import layers
from literal import in_policy, random_head

import hrcam
from hrcam.heads import build_gap_classifier

# Random heads argue against some class of some image.
pytestmark = pytest.mark.filterwarnings("ignore:The .*cam map has no positive value")


def reopened(model, tmp_path):
    """The model from its file, opened as in a session of its own."""
    model.save(tmp_path / "model.keras")
    keras.backend.clear_session()
    opened = hrcam.load_model(tmp_path / "model.keras")
    assert not {id(w) for w in opened.weights} & {id(w) for w in model.weights}
    return opened


def assert_same(opened, model, images, function):
    expected = model.predict_on_batch(images)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the images do differ
    np.testing.assert_array_equal(opened.predict_on_batch(images), expected)
    heatmaps = function(model, images, 1)
    assert np.ptp(heatmaps) > 1e-3
    np.testing.assert_array_equal(function(opened, images, 1), heatmaps)


def draw(size, channels):
    rng = np.random.default_rng(0)
    return rng.uniform(size=(3, size, size, channels)).astype("float32")


SMALL = {
    "small_net": lambda: hrcam.build_small_net((16, 16, 1), 3, filters=(4, 6)),
    "shallow_net": lambda: hrcam.build_shallow_net((16, 16, 1), 3),
    "deeper_net": lambda: hrcam.build_deeper_net((16, 16, 1), 3),
    "one_unit": lambda: hrcam.build_small_net((16, 16, 1), 1, filters=(4, 6)),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_networks(name, he_scale, tmp_path):
    model = he_scale(SMALL[name]())
    opened = reopened(model, tmp_path)

    assert_same(opened, model, draw(16, 1), hrcam.cam)
    assert hrcam.feature_layers(opened) == hrcam.feature_layers(model)


@pytest.mark.parametrize("build", [hrcam.build_resnet50, hrcam.build_vgg19])
def test_large_networks(build, tmp_path):
    """80 to 100 MB on disk each; VGG-16 is left out, as VGG-19 is built by its code.

    The preprocessing is in the graph, as operations without a layer.
    """
    keras.utils.set_random_seed(0)
    model = build((32, 32, 3), 3, preprocessing="caffe")
    images = 255 * draw(32, 3)[:2]
    expected, heatmaps = model.predict_on_batch(images), hrcam.cam(model, images, 1)

    opened = reopened(model, tmp_path)

    np.testing.assert_array_equal(opened.predict_on_batch(images), expected)
    assert np.abs(heatmaps[0] - heatmaps[1]).max() > 1e-6 * np.abs(heatmaps).max() > 0
    np.testing.assert_array_equal(hrcam.cam(opened, images, 1), heatmaps)


def test_gap_classifier(backbone, images, he_scale, tmp_path):
    """With any image size, which the file keeps."""
    model = he_scale(build_gap_classifier(backbone, 3))

    opened = reopened(model, tmp_path)

    assert opened.input_shape == (None, None, None, 1)
    assert_same(opened, model, images, hrcam.cam)


def multi_label(flat):
    x = layers.Dense(4, "sigmoid", name="labels")(flat.get_layer("gap").output)
    return keras.Model(flat.input, x), {}


def several_outputs(flat):
    size = layers.Dense(1, name="size")(flat.get_layer("gap").output)
    model = keras.Model(flat.input, {"class": flat.output, "diameter": size})
    return model, {"output": "class"}


def mixed_float16(flat):
    return in_policy(flat, "mixed_float16"), {}


def mixed_bfloat16(flat):
    return in_policy(flat, "mixed_bfloat16"), {}


@pytest.mark.parametrize(
    "kind", [multi_label, several_outputs, mixed_float16, mixed_bfloat16]
)
def test_hrcam_model(kind, flat_model, images, tmp_path):
    base_model, options = kind(flat_model)
    model = hrcam.build_hrcam_model(base_model, **options)
    random_head(model)

    opened = reopened(model, tmp_path)

    assert hrcam.pooled_layers(opened) == hrcam.pooled_layers(model)
    same = [layer.compute_dtype for layer in model.layers]
    assert [layer.compute_dtype for layer in opened.layers] == same
    assert opened.get_layer("predictions").get_config()["activation"] == (
        "sigmoid" if kind is multi_label else "softmax"
    )
    assert_same(opened, model, images, hrcam.hr_cam)


@pytest.mark.parametrize("kind", [several_outputs, mixed_float16])
def test_deconv_model(kind, flat_model, images, tmp_path):
    model = hrcam.build_deconv_model(kind(flat_model)[0], top_n=2)

    opened = reopened(model, tmp_path)

    expected = model.predict_on_batch(images)
    assert np.ptp(expected["response"]) > 1e-3
    for name, value in opened.predict_on_batch(images).items():
        np.testing.assert_array_equal(value, expected[name])


def test_a_model_of_several_outputs_and_inputs(images, he_scale, tmp_path):
    """A user's own, whose outputs and inputs keep their names."""
    image, age = keras.Input((16, 16, 1), name="image"), keras.Input((1,), name="age")
    x = layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    ill = layers.Dense(1, "sigmoid", name="ill")(layers.Concatenate()([x, age]))
    kind = layers.Dense(3, "softmax", name="kind")(x)
    model = he_scale(keras.Model({"image": image, "age": age}, [ill, kind]))

    opened = reopened(model, tmp_path)

    inputs = {"image": images, "age": np.arange(6.0)[:, None]}
    for output in ("ill", "kind"):
        np.testing.assert_array_equal(
            hrcam.grad_cam(opened, inputs, 1, output=output, relu=False),
            hrcam.grad_cam(model, inputs, 1, output=output, relu=False),
        )
