"""One sigmoid unit, dense heads, channels, image sizes, Lambda layers and precision.

What is expected is computed by hand, see `literal`.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from literal import (
    assert_close,
    feature_maps,
    gradient,
    in_policy,
    literal_cam,
    literal_grad_cam,
    literal_hr_cam,
    literal_layer_cam,
    pooled_score,
    random_head,
    resized,
)

import hrcam

# Random heads argue against some class of some image.
pytestmark = pytest.mark.filterwarnings("ignore:The .*cam map has no positive value")


def test_one_sigmoid_unit(sigmoid_model, images):
    """Class 1 is +w, class 0 is -w; the HR-CAM head has one sigmoid unit, too."""
    features = feature_maps(sigmoid_model, images)
    unit = sigmoid_model.layers[-1].get_weights()[0]
    kernel = np.concatenate([-unit, unit], axis=1)
    model = hrcam.build_hrcam_model(sigmoid_model)
    head = random_head(model)[0]

    for c in (0, 1):
        expected = literal_cam(features[2], kernel, c)
        assert_close(hrcam.cam(sigmoid_model, images, c), expected)
        expected = literal_grad_cam(features[2], pooled_score(kernel, c))
        assert_close(hrcam.grad_cam(sigmoid_model, images, c), expected)
        expected = literal_hr_cam(features, head, 0).sum(axis=1) * (2 * c - 1)
        assert_close(hrcam.hr_cam(model, images, c), expected)


def test_flatten_and_two_dense_layers(flat_model, images):
    """A score that is no weighted sum of means: derivatives differ by place."""
    rng = np.random.default_rng(3)
    hidden, last = layers.Dense(5, "relu"), layers.Dense(3, "softmax")
    x = layers.Flatten()(flat_model.get_layer("relu3").output)
    model = keras.Model(flat_model.input, last(layers.Dropout(0.5)(hidden(x))))
    for layer in (hidden, last):
        layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])

    def score(maps):
        x = hidden(tf.reshape(maps, (len(maps), -1)))
        return (x @ last.kernel + last.bias)[:, 1]

    features = feature_maps(flat_model, images)
    maps = features[2]
    assert_close(hrcam.grad_cam(model, images, 1), literal_grad_cam(maps, score))
    assert_close(hrcam.layer_cam(model, images, 1), literal_layer_cam(maps, score))
    head = hrcam.build_hrcam_model(model)
    kernel, _ = random_head(head)
    expected = literal_hr_cam(features, kernel, 1).sum(axis=1)
    assert_close(hrcam.hr_cam(head, images, 1), expected)
    with pytest.raises(ValueError, match=r"GlobalAveragePooling2D and one.*grad_cam"):
        hrcam.cam(model, images, 1)


# ---------------------------------------------------------------------------- the input


@pytest.mark.parametrize("channels", [3, 5])
def test_channels(channels, he_scale):
    """The way back without gates is the derivative of half a unit's sum of squares."""
    model = he_scale(hrcam.build_small_net((16, 16, channels), 3, filters=(4, 6)), 3)
    names = hrcam.feature_layers(model)
    images = np.random.default_rng(0).uniform(size=(2, 16, 16, channels))
    images = images.astype("float32")
    outputs = [model.get_layer(name).output for name in names]
    trunk = keras.Model(model.input, outputs)
    shallow, deep = map(np.array, trunk(images))
    kernel = model.layers[-1].get_weights()[0]

    assert_close(hrcam.cam(model, images, 1), literal_cam(deep, kernel, 1))
    expected = literal_grad_cam(deep, pooled_score(kernel, 1))
    assert_close(hrcam.grad_cam(model, images, 1), expected)
    head = hrcam.build_hrcam_model(model)
    weights = np.split(random_head(head)[0][:, 1], [4])
    expected = resized(shallow @ weights[0]) + resized(deep @ weights[1])
    assert_close(hrcam.hr_cam(head, images, 1), expected)
    result = hrcam.attentive_response_maps(model, images, top_n=1, gating="gradient")
    for i, unit in enumerate(result["units"][:, 0]):
        expected = gradient(
            images[[i]], lambda x, unit=unit: trunk(x)[1][..., unit] ** 2 / 2
        )
        assert_close(result["unit_maps"][i], expected)
        assert_close(result["response"][[i]], expected.max(axis=-1))


def test_variable_image_size(backbone, he_scale):
    """One model, two sizes; the fixed size of the same layers is the other road."""
    x = layers.GlobalAveragePooling2D()(backbone.output)
    model = keras.Model(backbone.input, layers.Dense(3, "softmax")(x))
    he_scale(model, seed=9)
    kernel = model.layers[-1].get_weights()[0]
    head = hrcam.build_hrcam_model(model)
    _, bias = random_head(head)

    for size in ((16, 16), (24, 32)):
        images = np.random.default_rng(0).uniform(size=(2, *size, 1)).astype("float32")
        maps = np.array(backbone(images))
        own_size = np.einsum("bhwk,k->bhw", maps, kernel[:, 1])
        assert_close(hrcam.cam(model, images, 1), resized(own_size, size))
        signed = hrcam.grad_cam(model, images, 1, relu=False)
        pixels = size[0] * size[1] / 16
        assert_close(signed, resized(own_size, size) / pixels)
        means = [hrcam.hr_cam(head, images, c).mean((1, 2)) + bias[c] for c in (0, 1)]
        log_p = np.log(head.predict_on_batch(images))
        assert_close(means[1] - means[0], log_p[:, 1] - log_p[:, 0], 1e-4)
    image = keras.Input((*size, 1))
    fixed = keras.Model(image, backbone(image))
    expected = hrcam.attentive_response_maps(fixed, images, top_n=2)
    result = hrcam.attentive_response_maps(model, images, top_n=2)
    assert_close(result["response"], expected["response"])


def test_lambda_in_front(flat_model, images, tmp_path):
    """It works in memory, is refused where a file would need it, `Rescaling` helps."""
    image, steps = keras.Input((16, 16, 1)), flat_model.layers[1:]
    code = layers.Lambda(lambda x: 2 * x - 0.5, name="code")
    model = keras.Sequential([image, code, *steps])
    maps = feature_maps(flat_model, 2 * images - 0.5)[2]
    kernel = flat_model.layers[-1].get_weights()[0]

    assert_close(hrcam.cam(model, images, 1), literal_cam(maps, kernel, 1))
    expected = literal_grad_cam(maps, pooled_score(kernel, 1))
    assert_close(hrcam.grad_cam(model, images, 1), expected)
    with pytest.raises(ValueError, match=r"Lambda.*\['code'\]. Put `Rescaling`"):
        hrcam.build_hrcam_model(model)
    with pytest.raises(ValueError, match=r"'code' of type Lambda"):
        hrcam.attentive_response_maps(model, images, top_n=2)
    model.save(tmp_path / "model.keras")
    with pytest.raises(ValueError, match=r"holds a Lambda layer.*`Rescaling`"):
        hrcam.load_model(tmp_path / "model.keras")

    scaled = keras.Sequential([image, layers.Rescaling(2.0, -0.5), *steps])
    assert_close(hrcam.cam(scaled, images, 1), hrcam.cam(model, images, 1))
    hrcam.build_hrcam_model(scaled)


# ----------------------------------------------------------------------- the precision


@pytest.mark.parametrize(
    ("policy", "bits"), [("mixed_float16", 11), ("mixed_bfloat16", 8)]
)
def test_mixed_precision(policy, bits, flat_model, images):
    """Near the float32 maps by what the format rounds, and reduced in float32.

    A number of `bits` significant bits is rounded by up to 2^-bits of itself. On the
    way to the last maps there are a dozen roundings: of the image, and in each of three
    blocks of the kernel, the convolution, its sum with the bias and the normalized map.
    None is multiplied much, as each layer keeps the scale. The sums over pixels and
    maps add nothing that could be seen: HR-CAM's mean is the score as in float32.
    """
    model = in_policy(flat_model, policy)
    assert model.get_layer("relu3").compute_dtype == policy.removeprefix("mixed_")
    tolerance = 12 * 2.0**-bits
    heads = [hrcam.build_hrcam_model(m) for m in (model, flat_model)]
    (_, bias), _ = map(random_head, heads)

    for method in (hrcam.cam, hrcam.grad_cam):
        expected = method(flat_model, images, 1)
        assert_close(method(model, images, 1), expected, tolerance)
    maps = [hrcam.hr_cam(heads[0], images, c) for c in (0, 1)]
    assert_close(maps[1], hrcam.hr_cam(heads[1], images, 1), tolerance)
    # Not "switches": where two pixels of a window tie in the format, it moves.
    result, expected = (
        hrcam.attentive_response_maps(m, images, top_n=3, unpooling="nearest")
        for m in (model, flat_model)
    )
    np.testing.assert_array_equal(result["units"], expected["units"])
    assert_close(result["unit_maps"], expected["unit_maps"], tolerance)

    means = [m.mean((1, 2)) + b for m, b in zip(maps, bias, strict=False)]
    log_p = np.log(heads[0].predict_on_batch(images))
    assert_close(means[1] - means[0], log_p[:, 1] - log_p[:, 0], 1e-5)
