"""Golden values are worked out by hand; the working is in each test."""

import gc
import warnings
import weakref

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import hrcam
from hrcam.graph import tap
from hrcam.maps._feature_sum import upsample, weighted_feature_maps
from hrcam.maps.controls import centre_prior, image_darkness

BASES = ["flat_model", "nested_model", "functional_nested_model"]
METHODS = {"cam": hrcam.cam, "grad_cam": hrcam.grad_cam, "hr_cam": hrcam.hr_cam}

# Random heads argue against some class of some image: the warning is tested alone.
pytestmark = pytest.mark.filterwarnings("ignore:The .*cam map has no positive value")


@pytest.fixture(params=BASES)
def base_model(request):
    return request.getfixturevalue(request.param)


def hrcam_of(base_model, layer_names=None):
    """An HR-CAM model whose head has random weights, of the same size everywhere."""
    model = hrcam.build_hrcam_model(base_model, layer_names)
    rng = np.random.default_rng(1)
    dense = model.get_layer("predictions")
    dense.set_weights([rng.normal(size=w.shape) for w in dense.get_weights()])
    return model


def pooled_vectors(model, images):
    """The head's input, by Keras itself."""
    trunk = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
    return ops.convert_to_numpy(trunk(images))


def literal_hr_cam(model, images, class_index):
    """Eq. 3 as it is printed: every channel resized alone, then weighed."""
    names = hrcam.pooled_layers(model)
    features = tap(model, names)(images)
    kernel = model.get_layer("predictions").get_weights()[0]
    channels = [
        features[name][..., k]
        for name in names
        for k in range(features[name].shape[-1])
    ]
    assert len(channels) == len(kernel)
    total = np.zeros(images.shape[:3])
    for channel, weight in zip(channels, kernel[:, class_index], strict=True):
        resized = tf.image.resize(channel[..., None], images.shape[1:3])
        total += weight * resized.numpy()[..., 0]
    return total


# --- the weighted sum -------------------------------------------------------------


def test_weighted_feature_maps_golden():
    fine = np.zeros((1, 4, 4, 1), "float32")
    fine[0, 3, 3, 0] = 4.0
    coarse = np.array([[0.0, 1.0], [0.0, 1.0]], "float32").reshape(1, 2, 2, 1)
    maps = weighted_feature_maps([fine, coarse], np.float32([[0.5, 4.0]]))
    actual = sum(upsample(m, (4, 4)) for m in maps)

    # Half-pixel bilinear, 2 -> 4: samples at -0.25, 0.25, 0.75, 1.25, clamped to the
    # edge, so a row [0, 1] becomes [0, 0.25, 0.75, 1]; times 4: [0, 1, 3, 4].
    # The fine layer adds 0.5 * 4 = 2 in the last corner.
    expected = [[0, 1, 3, 4], [0, 1, 3, 4], [0, 1, 3, 4], [0, 1, 3, 6]]
    np.testing.assert_allclose(actual[0], expected, atol=1e-6)


def test_weighted_feature_maps_has_its_own_weights_for_each_image():
    features = np.ones((2, 1, 1, 2), "float32")
    maps = weighted_feature_maps([features], np.float32([[1, 2], [3, 5]]))
    np.testing.assert_array_equal(ops.convert_to_numpy(maps[0])[:, 0, 0], [3, 8])


def test_weighted_feature_maps_counts_its_weights():
    with pytest.raises(ValueError, match=r"Expected 3 weights.*\[3\].*Received: 2"):
        weighted_feature_maps([np.ones((1, 2, 2, 3))], np.ones((1, 2)))


# --- HR-CAM -----------------------------------------------------------------------


def test_hr_cam_is_eq_3_read_literally(base_model, images):
    model = hrcam_of(base_model)
    literal = literal_hr_cam(model, images, class_index=2)

    actual = hrcam.hr_cam(model, images, class_index=2)

    assert actual.dtype == np.float32
    np.testing.assert_allclose(actual, literal, atol=1e-4 * np.ptp(literal))


@pytest.mark.parametrize("build", [hrcam.build_resnet50, hrcam.build_vgg19])
def test_hr_cam_is_eq_3_on_the_networks_of_the_paper(build, he_scale):
    model = hrcam_of(he_scale(build((32, 32, 3), 2)))
    images = np.random.default_rng(0).uniform(size=(1, 32, 32, 3)).astype("float32")
    literal = literal_hr_cam(model, images, class_index=1)

    actual = hrcam.hr_cam(model, images, class_index=1)

    np.testing.assert_allclose(actual, literal, atol=1e-4 * np.ptp(literal))


def test_mean_of_hr_cam_is_the_score_less_its_bias(flat_model, images):
    model = hrcam_of(flat_model)
    kernel, _ = model.get_layer("predictions").get_weights()
    scores = pooled_vectors(model, images) @ kernel
    for class_index in range(3):
        maps = hrcam.hr_cam(model, images, class_index)
        np.testing.assert_allclose(
            maps.mean(axis=(1, 2)), scores[:, class_index], rtol=1e-4, atol=1e-5
        )


def test_per_layer_maps_add_up_to_the_map(base_model, images):
    model = hrcam_of(base_model)
    whole = hrcam.hr_cam(model, images, 0)
    parts = hrcam.hr_cam(model, images, 0, per_layer=True)

    assert parts.shape == (6, 3, 16, 16)
    np.testing.assert_allclose(parts.sum(axis=1), whole, atol=1e-5 * np.ptp(whole))


def test_per_layer_maps_are_the_layers_own(flat_model, images):
    """The first layer's part is at full resolution: Eq. 3 without any resizing."""
    model = hrcam_of(flat_model)
    kernel = model.get_layer("predictions").get_weights()[0]
    features = ops.convert_to_numpy(tap(flat_model, ["relu1"])(images)["relu1"])

    parts = hrcam.hr_cam(model, images, 1, per_layer=True)

    np.testing.assert_allclose(parts[:, 0], features @ kernel[:4, 1], atol=1e-4)


def test_hr_cam_of_the_last_layer_alone_is_cam(base_model, images):
    last = hrcam.feature_layers(base_model)[-1]
    model = hrcam_of(base_model, [last])
    base_dense = base_model.get_layer("predictions")
    model.get_layer("predictions").set_weights(base_dense.get_weights())

    for class_index in range(3):
        np.testing.assert_allclose(
            hrcam.hr_cam(model, images, class_index),
            hrcam.cam(base_model, images, class_index),
            atol=1e-5,
        )
        np.testing.assert_allclose(
            hrcam.cam(model, images, class_index),
            hrcam.cam(base_model, images, class_index),
            atol=1e-5,
        )


def test_last_layers_part_is_grad_cam_times_its_pixels(flat_model, images):
    """The last layer reaches the score through the head alone: dy/dA = w / (H W).

    Not so the others, whose derivative goes through the layers after them as well.
    """
    model = hrcam_of(flat_model)
    expected = 16 * hrcam.grad_cam(model, images, 2, "relu3", relu=False)

    actual = hrcam.hr_cam(model, images, 2, per_layer=True)[:, 2]

    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.ptp(expected))


def test_contrast_takes_off_the_mean_of_the_others(flat_model, images):
    model = hrcam_of(flat_model)
    maps = [hrcam.hr_cam(model, images, c) for c in range(3)]

    actual = hrcam.hr_cam(model, images, 0, contrast=True)

    np.testing.assert_allclose(actual, maps[0] - (maps[1] + maps[2]) / 2, atol=1e-4)


def test_relu_of_hr_cam_is_of_the_whole_map(flat_model, images):
    model = hrcam_of(flat_model)
    maps = hrcam.hr_cam(model, images, 1)
    assert (maps < 0).any()
    np.testing.assert_allclose(
        hrcam.hr_cam(model, images, 1, relu=True), np.maximum(maps, 0), atol=1e-6
    )
    with pytest.raises(ValueError, match="per_layer=True and relu=True"):
        hrcam.hr_cam(model, images, 1, relu=True, per_layer=True)


def test_layers_are_read_in_the_order_of_the_head(flat_model, images):
    model = hrcam_of(flat_model, ["relu3", "relu1"])
    literal = literal_hr_cam(model, images, 0)
    np.testing.assert_allclose(hrcam.hr_cam(model, images, 0), literal, atol=1e-4)


def test_hr_cam_of_a_model_from_disk_is_the_same(base_model, images, tmp_path):
    model = hrcam_of(base_model)
    model.save(tmp_path / "model.keras")
    opened = hrcam.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        hrcam.hr_cam(opened, images, 1), hrcam.hr_cam(model, images, 1)
    )


# --- CAM --------------------------------------------------------------------------


def test_cam_golden():
    """One image [[1, 2], [3, 4]]; two 1x1 kernels 1 and -1, bias 0 and 3, then ReLU.

    Maps f1 = [[1, 2], [3, 4]], f2 = relu(3 - x) = [[2, 1], [0, 0]]. Class 1 has the
    weights 10 and 100: [[10 + 200, 20 + 100], [30, 40]].
    """
    image = keras.Input((2, 2, 1))
    x = layers.Conv2D(2, 1, activation="relu", name="conv")(image)
    x = layers.Dense(2, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(image, x)
    model.get_layer("conv").set_weights([np.array([[[[1, -1]]]]), np.array([0, 3])])
    model.layers[-1].set_weights([np.array([[1, 10], [1, 100]]), np.array([7, 7])])

    actual = hrcam.cam(model, np.array([[[[1], [2]], [[3], [4]]]]), 1)

    np.testing.assert_allclose(actual[0], [[210, 120], [30, 40]])


def test_mean_of_cam_is_the_score_less_its_bias(base_model, images):
    """Second road: the logit from Keras' own probabilities.

    log p_a - log p_b = score_a - score_b, whatever softmax adds.
    """
    probabilities = base_model.predict(images, verbose=0)
    bias = base_model.get_layer("predictions").get_weights()[1]
    means = [hrcam.cam(base_model, images, c).mean(axis=(1, 2)) for c in range(3)]

    actual = means[2] + bias[2] - means[0] - bias[0]

    expected = np.log(probabilities[:, 2]) - np.log(probabilities[:, 0])
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-4)


def test_cam_needs_global_average_pooling(images):
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(2, 3, name="conv")(image)
    x = layers.Dense(2, "softmax")(layers.Flatten(name="flat")(x))
    model = keras.Model(image, x, name="flattened")
    with pytest.raises(
        ValueError, match=r"GlobalAveragePooling2D.*'flattened'.*'flat'"
    ):
        hrcam.cam(model, images, 0)
    hrcam.grad_cam(model, images, 0)  # as the error advises


def test_cam_of_a_model_with_several_layers_names_hr_cam(flat_model, images):
    with pytest.raises(ValueError, match=r"`hrcam.hr_cam`"):
        hrcam.cam(hrcam_of(flat_model), images, 0)


def test_hr_cam_needs_its_head(flat_model, images):
    with pytest.raises(ValueError, match=r"`build_hrcam_model`.*'flat'.*`hrcam.cam`"):
        hrcam.hr_cam(flat_model, images, 0)


# --- Grad-CAM ---------------------------------------------------------------------


def one_convolution_model():
    """4x4 -> two 3x3 valid kernels of ones, biases -50, -75 -> ReLU -> one score.

    The dense layer sees the first map's four pixels, then the second's: +1 for the
    first five, -1 for the last three.
    """
    image = keras.Input((4, 4, 1))
    x = layers.Conv2D(2, 3, name="conv")(image)
    x = layers.ReLU(name="relu")(x)
    x = layers.Flatten()(layers.Permute((3, 1, 2))(x))
    model = keras.Model(image, layers.Dense(1, "sigmoid")(x))
    model.get_layer("conv").set_weights([np.ones((3, 3, 1, 2)), np.array([-50, -75])])
    kernel = np.array([1, 1, 1, 1, 1, -1, -1, -1])[:, None]
    model.layers[-1].set_weights([kernel, np.zeros(1)])
    return model


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # Maps [[0, 4], [31, 40]] and [[0, 0], [6, 15]]; mean derivatives 4/4 = 1 and
        # (1 - 3)/4 = -0.5.
        ("relu", [[0, 4], [28, 32.5]]),
        # Maps [[-5, 4], [31, 40]] and [[-30, -21], [6, 15]]; the ReLU passes 3 pixels
        # of the first (weight 3/4) and the last two of the second (-2/4).
        ("conv", [[11.25, 13.5], [20.25, 22.5]]),
    ],
)
def test_grad_cam_golden(name, expected):
    image = np.arange(16.0).reshape(1, 4, 4, 1)

    actual = hrcam.grad_cam(one_convolution_model(), image, 1, name, relu=False)

    expected = upsample(np.float32(expected)[None], (4, 4))
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    negative = hrcam.grad_cam(one_convolution_model(), image, 0, name, relu=False)
    np.testing.assert_allclose(negative, -expected, atol=1e-4)


@pytest.mark.parametrize("position", [0, 1, 2])
def test_grad_cam_is_that_of_a_gradient_tape(flat_model, images, position):
    """Second road: the network cut in two by hand, batch norm in inference mode."""
    name = hrcam.feature_layers(flat_model)[position]
    names = [layer.name for layer in flat_model.layers]
    after = flat_model.layers[names.index(name) + 1 : -1]
    features = tap(flat_model, [name])(images)[name]
    with tf.GradientTape() as tape:
        tape.watch(features)
        x = features
        for layer in after:
            x = layer(x, training=False)
        dense = flat_model.layers[-1]
        scores = x @ dense.kernel + dense.bias
        score = tf.reduce_sum(scores[:, 1])
    alpha = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
    signed = tf.reduce_sum(alpha * features, axis=-1)

    for relu, own_size in ((False, signed), (True, tf.nn.relu(signed))):
        expected = upsample(own_size, (16, 16))
        actual = hrcam.grad_cam(flat_model, images, 1, name, relu=relu)
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_grad_cam_of_the_last_layer_is_cam_over_its_pixels(base_model, images):
    """dy/dA = w / (H W) at every pixel: Grad-CAM of a GAP model is CAM / 16."""
    base_model.trainable = False
    np.testing.assert_allclose(
        hrcam.grad_cam(base_model, images, 2, relu=False) * 16,
        hrcam.cam(base_model, images, 2),
        atol=1e-4,
    )


def test_grad_cam_of_a_softmax_saturates_nothing(flat_model, images):
    """A bias on all classes moves softmax's input, not the derivative of the score."""
    before = hrcam.grad_cam(flat_model, images, 0)
    kernel, bias = flat_model.layers[-1].get_weights()
    flat_model.layers[-1].set_weights([kernel, bias + np.array([1000, 0, 0])])
    np.testing.assert_allclose(hrcam.grad_cam(flat_model, images, 0), before, atol=1e-6)
    assert before.max() > 0


def test_rectified_before_upsampling(flat_model, images):
    """Rectifying after it would cut the slopes from positive to negative pixels."""
    signed = hrcam.grad_cam(flat_model, images, 0, relu=False)
    rectified = hrcam.grad_cam(flat_model, images, 0)
    assert (rectified >= 0).all()
    assert np.abs(rectified - np.maximum(signed, 0)).max() > 1e-3 * np.ptp(signed)


def test_grad_cam_unknown_layer_lists_the_known_ones(flat_model, images):
    with pytest.raises(ValueError, match=r"Received: \['conv9'\].*'conv1', 'bn1'"):
        hrcam.grad_cam(flat_model, images, 0, "conv9")


def test_grad_cam_layer_without_feature_maps(flat_model, images):
    with pytest.raises(ValueError, match=r"Received: 'gap' with \(None, 8\)"):
        hrcam.grad_cam(flat_model, images, 0, "gap")


# --- what all three share -----------------------------------------------------------


@pytest.fixture(params=METHODS)
def method(request, flat_model):
    """A method bound to a model that it fits."""
    model = hrcam_of(flat_model) if request.param == "hr_cam" else flat_model
    return lambda *args, **options: METHODS[request.param](model, *args, **options)


def test_each_image_has_its_own_class(method, images):
    classes = np.array([0, 1, 2, 2, 1, 0])
    together = method(images, classes)
    for i, class_index in enumerate(classes):
        alone = method(images[i : i + 1], int(class_index))
        np.testing.assert_allclose(together[i], alone[0], atol=1e-5)
    assert np.abs(method(images, 0) - method(images, 1)).max() > 1e-3


@pytest.mark.parametrize("name", METHODS)
def test_no_class_is_the_predicted_class(name, flat_model, images):
    model = hrcam_of(flat_model) if name == "hr_cam" else flat_model
    predicted = model.predict(images, verbose=0).argmax(axis=1)
    assert len(set(predicted)) > 1
    np.testing.assert_allclose(
        METHODS[name](model, images), METHODS[name](model, images, predicted), atol=1e-6
    )


def test_batches_do_not_change_the_maps(method, images):
    whole = method(images, 1)
    for batch_size in (1, 4):
        parts = method(images, 1, batch_size=batch_size)
        np.testing.assert_allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_traced_once(name, flat_model, images, monkeypatch):
    """Not again for another class, a shorter batch, or after training on."""
    model = hrcam_of(flat_model) if name == "hr_cam" else flat_model
    traced = []
    module = __import__(f"hrcam.maps.{name}", fromlist=["upsample"])
    original = module.upsample
    monkeypatch.setattr(
        module, "upsample", lambda *args: traced.append(1) or original(*args)
    )
    METHODS[name](model, images, 0)
    first = len(traced)
    METHODS[name](model, images[:4], 1)
    METHODS[name](model, images, [0, 1, 2, 0, 1, 2], batch_size=4)
    assert len(traced) == first > 0


def test_maps_follow_the_weights(flat_model, images):
    """The compiled function reads the kernel at each call."""
    model = hrcam_of(flat_model)
    before = hrcam.hr_cam(model, images, 0)
    dense = model.get_layer("predictions")
    dense.set_weights([2 * w for w in dense.get_weights()])
    np.testing.assert_allclose(hrcam.hr_cam(model, images, 0), 2 * before, atol=1e-4)


def test_models_are_not_kept_alive(he_scale, images):
    image = keras.Input((16, 16, 1))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(2, 3, name="conv")(image))
    base_model = he_scale(keras.Model(image, layers.Dense(2, "softmax")(x)))
    model = hrcam_of(base_model)
    for found in (hrcam.cam(base_model, images), hrcam.grad_cam(base_model, images)):
        assert found.shape == (6, 16, 16)
    hrcam.hr_cam(model, images)
    dead = [weakref.ref(base_model), weakref.ref(model)]
    del base_model, model
    gc.collect()
    assert [ref() for ref in dead] == [None, None]


def test_batch_norm_and_dropout_are_in_inference_mode(nested_model, images):
    """Alone or among others, twice or once: the same map; no statistic moves."""
    statistics = [w.numpy() for w in nested_model.weights]
    together = hrcam.grad_cam(nested_model, images, 1, relu=False)
    again = hrcam.grad_cam(nested_model, images, 1, relu=False, batch_size=1)
    np.testing.assert_allclose(together, again, atol=1e-5)
    for before, after in zip(statistics, nested_model.weights, strict=True):
        np.testing.assert_array_equal(before, after.numpy())


def test_sigmoid_unit_tells_two_classes_apart(sigmoid_model, images):
    for method, model in (
        (hrcam.cam, sigmoid_model),
        (hrcam.hr_cam, hrcam_of(sigmoid_model)),
    ):
        np.testing.assert_allclose(
            method(model, images, 0), -method(model, images, 1), atol=1e-6
        )
        likely = model.predict(images, verbose=0)[:, 0] > 0.5
        np.testing.assert_allclose(
            method(model, images), method(model, images, likely.astype(int)), atol=1e-6
        )
    _, bias = sigmoid_model.get_layer("predictions").get_weights()
    score = hrcam.cam(sigmoid_model, images, 1).mean(axis=(1, 2)) + bias
    probability = sigmoid_model.predict(images, verbose=0)[:, 0]
    np.testing.assert_allclose(1 / (1 + np.exp(-score)), probability, rtol=1e-4)


def test_contrast_of_a_sigmoid_unit_doubles_it(sigmoid_model, images):
    model = hrcam_of(sigmoid_model)
    np.testing.assert_allclose(
        hrcam.hr_cam(model, images, 1, contrast=True),
        2 * hrcam.hr_cam(model, images, 1),
        atol=1e-5,
    )


def test_blank_map_warns_of_image_and_class(flat_model, images):
    kernel, bias = flat_model.layers[-1].get_weights()
    kernel[:, 1] = -1  # nothing argues for class 1
    flat_model.layers[-1].set_weights([kernel, bias])
    with pytest.warns(UserWarning, match=r"grad_cam map .* image 1 \(class 1\)"):
        maps = hrcam.grad_cam(flat_model, images[:3], [0, 1, 0])
    assert (maps[1] == 0).all()
    with pytest.warns(UserWarning, match=r"cam map .* image 0 \(class 1\)"):
        hrcam.cam(flat_model, images[:1], 1)
    model = hrcam_of(flat_model)
    dense = model.get_layer("predictions")
    dense.set_weights([-np.abs(w) for w in dense.get_weights()])
    with pytest.warns(UserWarning, match=r"hr_cam map .*image 2 \(class 0\)"):
        hrcam.hr_cam(model, images[:3], 0, per_layer=True)


def test_a_map_with_evidence_does_not_warn(flat_model, images):
    kernel, bias = flat_model.layers[-1].get_weights()
    flat_model.layers[-1].set_weights([np.abs(kernel), bias])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hrcam.cam(flat_model, images, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda x: x[0],
            r"Received: \(16, 16, 1\). For one image, use `images\[None\]`",
        ),
        (lambda x: x[..., 0], r"Add the channel axis: `images\[\.\.\., None\]`"),
        (lambda x: np.repeat(x, 3, -1), "wants 1 channels, not 3"),
        (lambda x: x[:, :8, :8], r"\(6, 8, 8, 1\). Resize the images"),
        (lambda x: x[:0], "must not be empty"),
        (lambda x: np.where(x == x[3], np.nan, x), r"NaN or infinity.*\[3\]"),
        (lambda x: np.where(x == x[2], np.inf, x), r"NaN or infinity.*\[2\]"),
        (lambda x: x.astype(str), "must be numbers.*dtype <U"),
    ],
)
def test_bad_images(method, images, change, message):
    with pytest.raises(ValueError, match=message):
        method(change(images), 0)


@pytest.mark.parametrize(
    ("class_index", "message"),
    [
        (3, r"in \[0, 3\).*Received: \[3\]"),
        (-1, r"in \[0, 3\).*Received: \[-1\]"),
        ([0, 1], "one int for each of 6 images"),
        (1.0, "must be an int"),
        (True, "must be an int"),
        ([0, 1, 2, 0, 1, 7], r"Received: \[7\]"),
    ],
)
def test_bad_class(method, images, class_index, message):
    with pytest.raises(ValueError, match=message):
        method(images, class_index)


def test_bad_batch_size(method, images):
    with pytest.raises(ValueError, match=r"at least 1\. Received: 0"):
        method(images, 0, batch_size=0)


def test_integers_and_tensors_are_images_too(method, images):
    levels = (images * 255).astype("uint8")
    expected = method(levels.astype("float32"), 0)
    np.testing.assert_array_equal(method(levels, 0), expected)
    np.testing.assert_array_equal(method(tf.constant(levels), 0), expected)


def test_model_that_does_not_end_in_a_dense_layer(backbone, images):
    with pytest.raises(ValueError, match=r"end in a Dense layer.*type ReLU"):
        hrcam.grad_cam(backbone, images, 0)


def test_dense_layer_on_pixels_is_refused(flat_model, images):
    """Its scores are (batch, 1, 1, classes): one class an image would mix images."""
    x = layers.GlobalAveragePooling2D(keepdims=True)(
        flat_model.get_layer("relu3").output
    )
    model = keras.Model(flat_model.input, layers.Dense(2, "softmax")(x))
    with pytest.raises(ValueError, match=r"\(batch, classes\): flatten its input"):
        hrcam.grad_cam(model, images, [0, 1, 0, 1, 0, 1])


def test_gap_with_kept_dimensions(flat_model, images):
    x = layers.GlobalAveragePooling2D(keepdims=True)(
        flat_model.get_layer("relu3").output
    )
    x = layers.Flatten()(x)
    head = layers.Dense(3, "softmax")
    model = keras.Model(flat_model.input, head(x))
    head.set_weights(flat_model.get_layer("predictions").get_weights())
    np.testing.assert_allclose(
        hrcam.cam(model, images, 1), hrcam.cam(flat_model, images, 1), atol=1e-6
    )


def test_half_precision_gradients_do_not_underflow(he_scale):
    """float16 ends at 6e-8; the derivative by one of 128 x 128 pixels is below it."""
    maps = {}
    for policy in ("float32", "mixed_float16"):
        image = keras.Input((128, 128, 1))
        x = layers.Conv2D(2, 3, padding="same", name="conv", dtype=policy)(image)
        x = layers.ReLU(name="relu", dtype=policy)(x)
        x = layers.GlobalAveragePooling2D(dtype=policy)(x)
        dense = layers.Dense(2, "softmax", dtype="float32")(x)
        model = he_scale(keras.Model(image, dense))
        model.layers[-1].set_weights([np.full((2, 2), 1e-3), np.zeros(2)])
        images = np.random.default_rng(0).uniform(size=(2, 128, 128, 1))
        maps[policy] = hrcam.grad_cam(model, images, 1, "relu", relu=False)
    scale = np.abs(maps["float32"]).max()
    assert scale > 0
    np.testing.assert_allclose(
        maps["mixed_float16"], maps["float32"], atol=0.01 * scale
    )


def test_model_with_two_outputs(flat_model, images):
    both = keras.Model(flat_model.inputs[0], [flat_model.outputs[0]] * 2)
    with pytest.raises(ValueError, match="`output` must name the output"):
        hrcam.grad_cam(both, images, 0)


def test_subclassed_model_says_what_to_do(images):
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(TypeError, match="functional"):
        hrcam.cam(Subclassed(), images, 0)


def test_logits_output_gives_the_same_maps(flat_model, images):
    """A linear last layer, or softmax as a layer of its own, changes nothing."""
    image = flat_model.inputs[0]
    dense = flat_model.get_layer("predictions")
    linear = layers.Dense(3, name="linear")
    scores = linear(dense.input)
    linear.set_weights(dense.get_weights())
    for output in (scores, layers.Softmax()(scores)):
        other = keras.Model(image, output)
        for method in (hrcam.cam, hrcam.grad_cam):
            np.testing.assert_allclose(
                method(other, images, 1), method(flat_model, images, 1), atol=1e-6
            )


# --- controls -----------------------------------------------------------------------


def test_centre_prior_golden():
    """s = 0.5, pixels of a 2x2 image at u, v = +-0.5: exp(-(0.25 + 0.25) / 0.5)."""
    maps = centre_prior(None, np.zeros((3, 2, 2, 1)))
    np.testing.assert_allclose(maps, np.full((3, 2, 2), np.exp(-1)), rtol=1e-6)
    wide = centre_prior(None, np.zeros((1, 9, 21, 1)))[0]
    assert np.unravel_index(wide.argmax(), wide.shape) == (4, 10)


def test_image_darkness_golden():
    images = np.array([[[[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]]]])
    np.testing.assert_allclose(image_darkness(None, images), [[[0.5, 0.0]]])


def test_another_last_layer_of_a_sequential(images):
    """A compiled map belongs to the outputs that the model had."""
    layer = keras.layers
    model = keras.Sequential(
        [
            keras.Input((16, 16, 1)),
            layer.Conv2D(4, 3, activation="relu", name="conv"),
            layer.GlobalAveragePooling2D(),
            layer.Dense(2, "softmax", name="two"),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # blank maps
        before = hrcam.cam(model, images, 0)
        model.pop()
        model.add(layer.Dense(3, "softmax", name="three"))

        maps = hrcam.cam(model, images, 2)

    features = model.get_layer("conv")(images)
    kernel = keras.ops.convert_to_numpy(model.get_layer("three").kernel)
    own_size = (keras.ops.convert_to_numpy(features) * kernel[:, 2]).sum(axis=-1)
    expected = [
        cv2.resize(one, (16, 16), interpolation=cv2.INTER_LINEAR) for one in own_size
    ]
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert not np.allclose(maps, before)


def test_activation_between_the_scores_and_the_softmax(images):
    """Scores are the input of the softmax, which is not what this Dense computes."""
    image = keras.Input((16, 16, 1))
    x = keras.layers.Conv2D(4, 3)(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(2, "relu", name="scores")(x)
    model = keras.Model(image, keras.layers.Softmax()(x))
    with pytest.raises(ValueError, match=r"must be linear.*'relu'"):
        hrcam.grad_cam(model, images, 0)
