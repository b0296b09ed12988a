"""Any CNN: each kind of model gives the numbers of the flat model inside it.

Every kind is wrapped around the layers of `flat_model`, so all have its weights, and
what is asked for is computed from those by hand, see `literal`. More in test_any_input,
test_views (several outputs and inputs) and test_functional (subclassed models).
"""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import layers
from literal import (
    RELUS,
    assert_close,
    feature_maps,
    literal_cam,
    literal_grad_cam,
    literal_hr_cam,
    literal_layer_cam,
    pooled_score,
    random_head,
)

import hrcam

# Random heads argue against some class of some image.
pytestmark = pytest.mark.filterwarnings("ignore:The .*cam map has no positive value")


class Kind(NamedTuple):
    """A model around `flat_model`.

    Attributes:
        model: What is tested.
        prepare: What the layers in front of the flat model do to the images.
        factor: The slope of `prepare`.
        options: `output=`, where it is needed.
    """

    model: keras.Model
    prepare: Callable = lambda images: images
    factor: float = 1.0
    options: dict[str, str] = {}  # noqa: RUF012


def backbone_of(flat):
    return keras.Model(flat.input, flat.get_layer("relu3").output, name="backbone")


def head_of(flat, x):
    for layer in flat.layers[-2:]:  # gap, predictions
        x = layer(x)
    return x


def image_input():
    return keras.Input((16, 16, 1))


# ----------------------------------------------------------- ways to the feature maps


def flat(flat):
    return Kind(flat)


def sequential(flat):
    return Kind(keras.Sequential([image_input(), *flat.layers[1:]]))


def nested(flat):
    image = image_input()
    maps = backbone_of(flat)(image, training=False)
    return Kind(keras.Model(image, head_of(flat, maps)))


def two_levels(flat):
    inner, image = image_input(), image_input()
    middle = keras.Model(inner, backbone_of(flat)(inner), name="middle")
    maps = middle(image, training=False)
    return Kind(keras.Model(image, head_of(flat, maps)))


def backbone_in_sequential(flat):
    steps = [backbone_of(flat), flat.layers[-2], layers.Dropout(0.3), flat.layers[-1]]
    return Kind(keras.Sequential([image_input(), *steps]))


def augmentation_and_scaling_in_front(flat):
    """((2 x - 0.5) - 0.3) / sqrt(0.25): a slope of 4."""
    steps = [
        layers.RandomFlip(),
        layers.RandomRotation(0.2),
        layers.Rescaling(2.0, -0.5),
        layers.Normalization(mean=0.3, variance=0.25),
        backbone_of(flat),
        *flat.layers[-2:],
    ]
    model = keras.Sequential([image_input(), *steps])
    return Kind(model, lambda images: ((2 * images - 0.5) - 0.3) / 0.5, 4.0)


def subclassed(flat):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.scale = layers.Rescaling(2.0)
            self.backbone = backbone_of(flat)
            self.gap, self.predictions = flat.layers[-2:]

        def call(self, images):
            return self.predictions(self.gap(self.backbone(self.scale(images))))

    model = Subclassed()
    model(np.zeros((1, 16, 16, 1)))
    return Kind(hrcam.as_functional(model), lambda images: 2 * images, 2.0)


def frozen(flat):
    flat.trainable = False
    return nested(flat)


BODIES = [
    flat, sequential, nested, two_levels, backbone_in_sequential,
    augmentation_and_scaling_in_front, subclassed, frozen,
]  # fmt: skip


# --------------------------------------------------------- ways from the feature maps


def dense_like(flat, activation=None):
    pooled, dense = flat.layers[-2].output, layers.Dense(3, activation, name="scores")
    output = dense(pooled)
    dense.set_weights(flat.layers[-1].get_weights())
    return output


def logits(flat):
    return Kind(keras.Model(flat.input, dense_like(flat)))


def softmax_layer(flat):
    return Kind(keras.Model(flat.input, layers.Softmax()(dense_like(flat))))


def activation_layer(flat):
    output = layers.Activation("softmax", dtype="float32")(dense_like(flat))
    return Kind(keras.Model(flat.input, output))


def multi_label(flat):
    return Kind(keras.Model(flat.input, dense_like(flat, "sigmoid")))


def list_of_outputs(flat):
    size = layers.Dense(1, name="size")(flat.layers[-2].output)
    model = keras.Model(flat.input, [size, flat.output])
    return Kind(model, options={"output": "predictions"})


def dict_of_outputs(flat):
    size = layers.Dense(1, name="size")(flat.layers[-2].output)
    model = keras.Model(flat.input, {"class": flat.output, "diameter": size})
    return Kind(model, options={"output": "class"})


HEADS = [
    logits, softmax_layer, activation_layer, multi_label, list_of_outputs,
    dict_of_outputs,
]  # fmt: skip


# ---------------------------------------------------------------------------- the maps


@pytest.fixture(params=BODIES, ids=lambda kind: kind.__name__)
def body(request, flat_model):
    return request.param(flat_model)


@pytest.fixture(params=HEADS, ids=lambda kind: kind.__name__)
def head(request, flat_model):
    return request.param(flat_model)


def test_feature_layers_of_each_body(body):
    names = hrcam.feature_layers(body.model)

    assert [name.rpartition("/")[2] for name in names] == RELUS


def test_cam_of_each_body(body, flat_model, images):
    maps = feature_maps(flat_model, body.prepare(images))[2]
    kernel = flat_model.layers[-1].get_weights()[0]

    assert_close(hrcam.cam(body.model, images, 1), literal_cam(maps, kernel, 1))


def test_grad_cam_of_each_body(body, flat_model, images):
    maps = feature_maps(flat_model, body.prepare(images))[2]
    score = pooled_score(flat_model.layers[-1].get_weights()[0], 2)

    assert_close(hrcam.grad_cam(body.model, images, 2), literal_grad_cam(maps, score))


def test_layer_cam_of_an_inner_layer(flat_model, images):
    """Of the other gradient maps, which share its derivatives, one in one body."""
    body = two_levels(flat_model)
    maps = feature_maps(flat_model, images)[2]
    score = pooled_score(flat_model.layers[-1].get_weights()[0], 2)

    heatmaps = hrcam.layer_cam(body.model, images, 2, "middle/backbone/relu3")

    assert_close(heatmaps, literal_layer_cam(maps, score))


def test_hr_cam_of_each_body(body, flat_model, images):
    """And the mean of a class's map is its logit less its bias.

    Of the logits the model's probabilities tell the differences:
    log p_1 - log p_0 = mean of map 1 - mean of map 0 + b_1 - b_0.
    """
    features = feature_maps(flat_model, body.prepare(images))
    model = hrcam.build_hrcam_model(body.model)
    kernel, bias = random_head(model)

    by_layer = hrcam.hr_cam(model, images, 1, per_layer=True)
    whole = [hrcam.hr_cam(model, images, c) for c in (0, 1)]

    assert_close(by_layer, literal_hr_cam(features, kernel, 1))
    assert_close(whole[1], by_layer.sum(axis=1))
    means = [m.mean((1, 2)) + b for m, b in zip(whole, bias, strict=False)]
    log_p = np.log(model.predict_on_batch(images))
    assert_close(means[1] - means[0], log_p[:, 1] - log_p[:, 0], 1e-4)


@pytest.mark.parametrize(
    "kind",
    [sequential, two_levels, augmentation_and_scaling_in_front, subclassed],
    ids=lambda kind: kind.__name__,
)
def test_attentive_response_of_each_body(kind, flat_model, images):
    """The way back through `prepare` multiplies by its slope, the bias is left out."""
    body = kind(flat_model)
    expected = hrcam.attentive_response_maps(flat_model, body.prepare(images), top_n=3)

    result = hrcam.attentive_response_maps(body.model, images, top_n=3)

    np.testing.assert_array_equal(result["units"], expected["units"])
    assert_close(result["unit_maps"], body.factor * expected["unit_maps"])
    assert_close(result["response"], body.factor * expected["response"])


def test_maps_of_each_head(head, flat_model, images):
    maps = feature_maps(flat_model, images)[2]
    kernel = flat_model.layers[-1].get_weights()[0]

    cam = hrcam.cam(head.model, images, 1, **head.options)
    grad_cam = hrcam.grad_cam(head.model, images, 2, **head.options)

    assert_close(cam, literal_cam(maps, kernel, 1))
    assert_close(grad_cam, literal_grad_cam(maps, pooled_score(kernel, 2)))


def test_hr_cam_of_each_head(head, request, flat_model, images):
    model = hrcam.build_hrcam_model(head.model, **head.options)
    kernel, bias = random_head(model)
    features = feature_maps(flat_model, images)

    assert_close(
        hrcam.hr_cam(model, images, 2),
        literal_hr_cam(features, kernel, 2).sum(axis=1),
    )
    scores = np.concatenate([f.mean((1, 2)) for f in features], 1) @ kernel + bias
    several = request.node.callspec.id == "multi_label"
    odds = np.exp(scores) if not several else 1 / (1 + np.exp(-scores))
    expected = odds if several else odds / odds.sum(axis=1, keepdims=True)
    assert_close(model.predict_on_batch(images), expected)


# ----------------------------------------------------------- nothing of it is changed


def state(model, images):
    parts = model._flatten_layers()
    found = [(part.name, part.trainable, part.dtype_policy.name) for part in parts]
    return {
        "layers": found,
        "weights": [(w.path, w.numpy().tolist()) for w in model.weights],
        "config": model.get_config(),
        "optimizer": (
            id(model.optimizer),
            [v.numpy() for v in model.optimizer.variables],
        ),
        "compiled": (model.compiled, model.loss, model.jit_compile, model.run_eagerly),
        "outputs": keras.tree.map_structure(
            lambda a: a.tolist(), model.predict(images, verbose=0)
        ),
    }


@pytest.mark.parametrize(
    "kind",
    [flat, nested, augmentation_and_scaling_in_front, list_of_outputs, dict_of_outputs],
    ids=lambda kind: kind.__name__,
)
def test_the_users_model_stays_as_it_was(kind, flat_model, images):
    """All of it after the maps; after `build_hrcam_model` all but `trainable`."""
    model, _, _, options = kind(flat_model)
    flat_model.get_layer("conv1").trainable = False
    loss = [None, "mse"] if kind is list_of_outputs else "mse"
    loss = {"class": "mse"} if kind is dict_of_outputs else loss
    model.compile("adam", loss, jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    before = state(model, images)

    hrcam.feature_layers(model)
    hrcam.cam(model, images, 1, **options)
    hrcam.grad_cam(model, images, 1, **options)
    hrcam.build_deconv_model(model, top_n=2).predict_on_batch(images)
    np.testing.assert_equal(state(model, images), before)

    hrcam.hr_cam(hrcam.build_hrcam_model(model, **options), images, 1)
    after = state(model, images)
    assert not any(trainable for _, trainable, _ in after["layers"])
    for name in ("weights", "optimizer", "compiled", "outputs"):
        np.testing.assert_equal(after[name], before[name])
    assert [(n, d) for n, _, d in after["layers"]] == [
        (n, d) for n, _, d in before["layers"]
    ]
