"""A functional model of a subclassed one: same numbers, layers within reach."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import hrcam

# Random heads argue against some class of some image.
pytestmark = pytest.mark.filterwarnings("ignore:The .*cam map has no positive value")

RELUS = ["backbone/relu1", "backbone/relu2", "backbone/relu3"]


class Around(keras.Model):
    """A functional backbone between operations, dropout and a dense layer."""

    def __init__(self, backbone, **kwargs):
        super().__init__(name="around", **kwargs)
        self.backbone = backbone
        self.gap = layers.GlobalAveragePooling2D(name="gap")
        self.dropout = layers.Dropout(0.5, name="dropout")
        self.predictions = layers.Dense(3, "softmax", name="predictions")

    def call(self, image, training=None):
        x = self.backbone(2 * image - 0.5, training=training)
        return self.head(ops.tanh(x), training)

    def head(self, x, training=None):
        return self.predictions(self.dropout(self.gap(x), training=training))


@pytest.fixture
def around(backbone, images, he_scale):
    model = Around(backbone)
    model(images)
    return he_scale(model, seed=5)


def test_same_predictions_and_weights(around, images):
    model = hrcam.as_functional(around)

    assert isinstance(model, keras.Model)
    assert not isinstance(model, Around)
    assert model.name == "around"
    assert model.input_shape == (None, 16, 16, 1)  # of the images it was called on
    assert {id(w) for w in model.weights} == {id(w) for w in around.weights}
    expected = around.predict_on_batch(images)
    assert np.ptp(expected, axis=0).max() > 0.01
    np.testing.assert_allclose(model.predict_on_batch(images), expected, atol=1e-6)


def test_inner_layers_are_reached(around, images):
    """feature maps by hand: the backbone on the preprocessed images, cut at relu3."""
    model = hrcam.as_functional(around)
    assert hrcam.feature_layers(model)[:2] == RELUS[:2]

    heatmaps = hrcam.grad_cam(model, images, 1, RELUS[2], relu=False)

    maps = around.backbone(2 * images - 0.5)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        vector = around.gap(ops.tanh(maps))
        kernel, bias = around.predictions.get_weights()
        score = tf.reduce_sum((vector @ kernel + bias)[:, 1])
    weights = tf.reduce_mean(tape.gradient(score, maps), (1, 2), keepdims=True)
    own_size = tf.reduce_sum(weights * maps, -1, keepdims=True)
    expected = tf.image.resize(own_size, (16, 16))[..., 0]
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(heatmaps, expected, atol=1e-6)


def test_any_size_is_asked_for(around, images):
    model = hrcam.as_functional(around, (None, None, 1))

    for size in (slice(None), slice(4, 12)):
        np.testing.assert_allclose(
            model(images[:, size]), around(images[:, size]), atol=1e-6
        )


def test_training_follows_the_functional_model(around, images):
    """Dropout and batch statistics are on in training only, as in the model's own."""
    model = hrcam.as_functional(around)
    drawn = around.dropout.seed_generator.state
    before = drawn.numpy()

    trained = model(images, training=True)
    drawn.assign(before)

    np.testing.assert_allclose(trained, around(images, training=True), atol=1e-5)
    assert np.abs(trained - model(images)).max() > 0.01


def test_subclassed_model_stays_as_it_was(around, images):
    around.layers[-1].trainable = False
    around.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    expected = around.predict(images, verbose=0)
    weights, optimizer = around.get_weights(), around.optimizer
    flags = [layer.trainable for layer in around._flatten_layers()]
    names = [layer.name for layer in around._flatten_layers()]

    model = hrcam.as_functional(around)
    hrcam.grad_cam(model, images, 0)

    assert [layer.trainable for layer in around._flatten_layers()] == flags
    assert [layer.name for layer in around._flatten_layers()] == names
    assert around.optimizer is optimizer
    assert not around.jit_compile
    assert not model.compiled
    for weight, old in zip(around.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(around.predict(images, verbose=0), expected)


def test_saved_without_the_class(around, images, tmp_path):
    model = hrcam.build_hrcam_model(hrcam.as_functional(around), RELUS)
    model.save(tmp_path / "model.keras")

    opened = hrcam.load_model(tmp_path / "model.keras")

    np.testing.assert_array_equal(opened(images), model(images))
    np.testing.assert_array_equal(
        hrcam.hr_cam(opened, images, 1), hrcam.hr_cam(model, images, 1)
    )


def test_several_outputs_keep_their_names(around, images):
    class Two(Around):
        def call(self, image):
            maps = self.backbone(image)
            return {"classes": self.head(maps), "size": ops.mean(maps, (1, 2))}

    two = Two(around.backbone)
    two(images)

    model = hrcam.as_functional(two)

    assert hrcam.cam(model, images, 1, output="classes").shape == (6, 16, 16)
    for name, value in two(images).items():
        np.testing.assert_allclose(model(images)[name], value, atol=1e-6)


def test_a_functional_model_is_itself(flat_model, nested_model):
    assert hrcam.as_functional(flat_model) is flat_model
    assert hrcam.as_functional(nested_model) is nested_model


# ------------------------------------------------------------------------------ errors


class BranchesOnValues(Around):
    def call(self, image):
        if ops.mean(image) > 0:
            image = image / 2
        return self.head(self.backbone(image))


class LoopsOverImages(Around):
    def call(self, image):
        return ops.stack([self.backbone(one[None])[0] for one in image])


class UsesTensorFlow(Around):
    def call(self, image):
        return self.predictions(tf.reduce_mean(self.backbone(image), (1, 2)))


class UsesNumpy(Around):
    def call(self, image):
        return self.predictions(np.mean(self.backbone(image), (1, 2)))


class ForgetsTheImage(Around):
    def call(self, image):
        return ops.ones((2, 3))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (BranchesOnValues, "cannot be used as a boolean"),
        (LoopsOverImages, "Iterating over a symbolic KerasTensor"),
        (UsesTensorFlow, "cannot be used as input to a TensorFlow function"),
        (UsesNumpy, "cannot convert it to a NumPy array"),
        (ForgetsTheImage, "must be KerasTensors"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*`build")
def test_a_call_that_cannot_run_on_symbols(kind, reason, backbone, images):
    model = kind(backbone)
    model(images)  # values it does take

    with pytest.raises(
        TypeError, match=rf"{kind.__name__}, whose call raised .*{reason}.*`keras\.ops`"
    ):
        hrcam.as_functional(model, (16, 16, 1))


def test_weights_outside_layers(backbone, images):
    class Scaled(Around):
        def __init__(self, backbone):
            super().__init__(backbone)
            self.factor = self.add_weight(name="factor", shape=())

        def call(self, image):
            return self.head(self.factor * self.backbone(image))

    scaled = Scaled(backbone)
    scaled(images)
    with pytest.raises(
        ValueError, match=r"Scaled with \['.*factor'\] of its own: move"
    ):
        hrcam.as_functional(scaled)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, None), 16])
def test_bad_input_shape(shape, around):
    with pytest.raises(
        ValueError, match=r"\(height, width, channels\).*built with \(6, 16, 16, 1\)"
    ):
        hrcam.as_functional(around, shape)


def test_a_model_that_was_never_called(backbone):
    with pytest.raises(ValueError, match=r"`model\(images\[:1\]\)`.*Around, never"):
        hrcam.as_functional(Around(backbone), (16, 16, 1))


def test_several_inputs(backbone, images):
    class Two(Around):
        def call(self, inputs):
            return self.head(self.backbone(inputs["left"]) + inputs["right"])

    two = Two(backbone)
    two({"left": images, "right": np.ones((6, 1, 1, 8), "float32")})
    with pytest.raises(ValueError, match=r"one image.*Received: None, .*'right'"):
        hrcam.as_functional(two)


@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        (lambda: keras.Sequential([layers.Dense(2)]), r"keras\.Input"),
        (lambda: "model.keras", r"hrcam\.load_model"),
    ],
)
def test_no_subclassed_model(model, remedy):
    with pytest.raises(TypeError, match=remedy):
        hrcam.as_functional(model(), (16, 16, 1))


def test_other_functions_name_this_one(around, images):
    for function in (hrcam.cam, hrcam.grad_cam, hrcam.attentive_response_maps):
        with pytest.raises(TypeError, match=r"hrcam\.as_functional\(model, input_sh"):
            function(around, images)
    with pytest.raises(TypeError, match=r"hrcam\.as_functional\(model, input_shape\)"):
        hrcam.build_hrcam_model(around)
