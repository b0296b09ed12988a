"""One output and one image of models that have more: whose map it is, on what it lies.

The second road to a Grad-CAM: the model's own layers behind the feature maps, under a
tape (see `literal`).
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from literal import (
    assert_close,
    literal_cam,
    literal_grad_cam,
    literal_layer_cam,
    pooled_score,
    random_head,
    resized,
)

import hrcam
from hrcam.views import input_names, output_names, view

# Random heads argue against some class of some image.
pytestmark = pytest.mark.filterwarnings("ignore:The .*cam map has no positive value")


def branch(image, name, filters=4):
    """Two resolutions: feature layers `name1`, `name2`."""
    x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"{name}1")
    x = layers.MaxPooling2D(2, name=f"{name}_pool")(x(image))
    options = {"padding": "same", "activation": "relu", "name": f"{name}2"}
    return layers.Conv2D(filters, 3, **options)(x)


def pooled(x, name):
    return layers.GlobalAveragePooling2D(name=f"{name}_gap")(x)


def model_of(inputs, outputs, seed, he_scale):
    return he_scale(keras.Model(inputs, outputs), seed)


def maps_of(model, name, inputs):
    """The feature maps of a layer; `inputs` a dict where there are several."""
    return np.array(keras.Model(model.input, model.get_layer(name).output)(inputs))


# ---------------------------------------------------------------------- several outputs


@pytest.fixture(params=["list", "dict"])
def two_outputs(request, he_scale):
    """A dense head of 3 on the deep maps, a sigmoid unit on the shallow ones."""
    image = keras.Input((16, 16, 1), name="image")
    deep = branch(image, "conv")
    shallow = keras.Model(image, deep).get_layer("conv1").output
    kind = layers.Dense(3, "softmax", name="kind")(pooled(deep, "deep"))
    ill = layers.Dense(1, "sigmoid", name="ill")(pooled(shallow, "shallow"))
    outputs = [kind, ill] if request.param == "list" else {"kind": kind, "ill": ill}
    return model_of(image, outputs, 2508, he_scale)


def test_each_output_has_its_own_map(two_outputs, images):
    """`kind` pools conv2, `ill` pools conv1 and has one unit: class 0 is -w."""
    kind = two_outputs.get_layer("kind").get_weights()[0]
    unit = two_outputs.get_layer("ill").get_weights()[0]
    ill = np.concatenate([-unit, unit], axis=1)
    deep = maps_of(two_outputs, "conv2", images)
    shallow = maps_of(two_outputs, "conv1", images)

    def both(method, *arguments):
        return [
            method(two_outputs, images, *arguments, output=name)
            for name in ("kind", "ill")
        ]

    of_kind, of_ill = both(hrcam.cam, 1)
    assert_close(of_kind, literal_cam(deep, kind, 1))
    assert_close(of_ill, literal_cam(shallow, ill, 1))
    of_kind = hrcam.grad_cam(two_outputs, images, 2, output="kind")
    assert_close(of_kind, literal_grad_cam(deep, pooled_score(kind, 2)))
    of_ill = hrcam.grad_cam(two_outputs, images, 1, "conv1", output="ill")
    assert_close(of_ill, literal_grad_cam(shallow, pooled_score(ill, 1)))


def test_predicted_class_is_that_of_the_output(two_outputs, images):
    names = output_names(two_outputs)
    probabilities = two_outputs.predict_on_batch(images)
    if isinstance(probabilities, list):
        probabilities = dict(zip(names, probabilities, strict=True))
    of_kind = probabilities["kind"].argmax(axis=1)
    of_ill = (probabilities["ill"][:, 0] > 0.5).astype(int)
    assert len(set(of_kind)) > 1
    assert (of_kind != of_ill).any()

    for name, classes in (("kind", of_kind), ("ill", of_ill)):
        np.testing.assert_array_equal(
            hrcam.cam(two_outputs, images, output=name),
            hrcam.cam(two_outputs, images, classes, output=name),
        )


def test_hr_cam_head_of_each_output(two_outputs, images):
    """Both heads pool all layers; classes and activation are the output's."""
    shallow, deep = (maps_of(two_outputs, f"conv{n}", images) for n in (1, 2))
    for name, units, activation in (("kind", 3, "softmax"), ("ill", 1, "sigmoid")):
        model = hrcam.build_hrcam_model(two_outputs, output=name)
        dense = model.get_layer("predictions")
        assert (dense.units, dense.activation.__name__) == (units, activation)
        kernel, _ = random_head(model)
        expected = resized(shallow @ kernel[:4, -1]) + resized(deep @ kernel[4:, -1])
        last = max(units, 2) - 1
        assert_close(hrcam.hr_cam(model, images, last), expected)


def test_output_must_be_named(two_outputs, images):
    for function in (hrcam.cam, hrcam.grad_cam, hrcam.score_cam):
        with pytest.raises(ValueError, match=r"`output` must name.*'kind' \(None, 3\)"):
            function(two_outputs, images, 0)
        with pytest.raises(ValueError, match=r"one output.*'kinds'; its outputs are"):
            function(two_outputs, images, 0, output="kinds")


def test_attentive_response_asks_for_no_output(two_outputs, images):
    """It is of the layer's units, not of a class."""
    one = view(two_outputs, images, "kind")[0]

    result = hrcam.attentive_response_maps(two_outputs, images, top_n=2)

    expected = hrcam.attentive_response_maps(one, images, top_n=2)
    assert_close(result["response"], expected["response"])


# ----------------------------------------------------------------------- several inputs


@pytest.fixture
def clinical(he_scale):
    """Image and 2 clinical values, joined before a hidden layer with a rectifier."""
    image = keras.Input((16, 16, 1), name="image")
    values = keras.Input((2,), name="values")
    features = pooled(branch(image, "conv"), "image")
    joined = layers.Concatenate(name="joined")([values, features])
    hidden = layers.Dense(8, "relu", name="hidden")(joined)
    classes = layers.Dense(3, "softmax", name="classes")(hidden)
    return model_of([values, image], classes, 8, he_scale)


@pytest.fixture
def patients(images):
    values = np.random.default_rng(2).normal(size=(6, 2)).astype("float32")
    return {"image": images, "values": values}


def clinical_score(model, values, class_index):
    """(maps of conv2) -> score, with the clinical values of each image."""

    def score(maps):
        joined = tf.concat([values, tf.reduce_mean(maps, (1, 2))], axis=1)
        last = model.get_layer("classes")
        hidden = model.get_layer("hidden")(joined)
        return (hidden @ last.kernel + last.bias)[:, class_index]

    return score


@pytest.mark.parametrize("batch_size", [32, 4])
def test_gradient_maps_see_the_clinical_values(clinical, patients, batch_size):
    """In batches of 4 and 2 each image keeps its own values."""
    maps = maps_of(clinical, "conv2", patients)
    score = clinical_score(clinical, patients["values"], 1)
    options = {"batch_size": batch_size}

    grad_cam = hrcam.grad_cam(clinical, patients, 1, **options)

    assert_close(grad_cam, literal_grad_cam(maps, score))
    layer_cam = hrcam.layer_cam(clinical, patients, 1, **options)
    assert_close(layer_cam, literal_layer_cam(maps, score))
    others = patients | {"values": patients["values"][::-1]}
    changed = hrcam.grad_cam(clinical, others, 1, **options)
    assert np.abs(changed - grad_cam).max() > 0.01 * np.abs(grad_cam).max()


def test_predicted_class_with_clinical_values(clinical, patients):
    predicted = clinical.predict_on_batch(patients).argmax(axis=1)
    assert len(set(predicted)) > 1

    np.testing.assert_array_equal(
        hrcam.grad_cam(clinical, patients),
        hrcam.grad_cam(clinical, patients, predicted),
    )


def test_hr_cam_uses_the_image_alone(clinical, patients):
    model = hrcam.build_hrcam_model(clinical)
    kernel, _ = random_head(model)

    heatmaps = hrcam.hr_cam(model, patients["image"], 1)

    assert [tensor.name for tensor in model.inputs] == ["image"]
    shallow, deep = (maps_of(clinical, f"conv{n}", patients) for n in (1, 2))
    expected = resized(shallow @ kernel[:4, 1]) + resized(deep @ kernel[4:, 1])
    assert_close(heatmaps, expected)


def test_attentive_response_uses_the_image_alone(clinical, patients):
    image = clinical.inputs[1]
    alone = keras.Model(image, clinical.get_layer("conv2").output)
    expected = hrcam.attentive_response_maps(alone, patients["image"], top_n=2)

    for given in (patients, patients["image"]):
        result = hrcam.attentive_response_maps(clinical, given, top_n=2)
        assert_close(result["response"], expected["response"])


def test_cam_says_why_not(clinical, patients):
    with pytest.raises(ValueError, match=r"GlobalAveragePooling2D and one.*grad_cam"):
        hrcam.cam(clinical, patients, 1)


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (lambda p: p["image"], TypeError, r"a dict with the inputs \['image', 'valu"),
        (lambda p: {"image": p["image"]}, ValueError, r"without \['values'\]"),
        (lambda p: p | {"values": p["values"][:3]}, ValueError, r"\(6, 2\).*\(3, 2\)"),
        (lambda p: p | {"values": p["values"][:, :1]}, ValueError, r"\(6, 1\)"),
        (lambda p: p | {"values": p["values"] * np.nan}, ValueError, "finite numbers"),
        (lambda p: p | {"image": p["image"][0]}, ValueError, r"`images` must have the"),
    ],
    ids=["array", "missing", "rows", "columns", "nan", "image"],
)
def test_bad_inputs(clinical, patients, change, error, reason):
    with pytest.raises(error, match=reason):
        hrcam.grad_cam(clinical, change(patients), 1)


@pytest.fixture
def breasts(he_scale):
    """Two views, a branch of their own each, joined before the last dense layer."""
    views = [keras.Input((16, 16, 1), name=name) for name in ("left", "right")]
    maps = [branch(views[0], "left_conv"), branch(views[1], "right_conv")]
    joined = layers.Concatenate()([pooled(m, f"of{n}") for n, m in enumerate(maps)])
    classes = layers.Dense(3, "softmax", name="classes")(joined)
    return model_of(views, classes, 6, he_scale)


@pytest.mark.parametrize(("side", "rows"), [("left", (0, 4)), ("right", (4, 8))])
def test_a_branch_chosen_by_name(breasts, images, side, rows):
    """A branch's maps, weighed by its own rows of the last kernel over 8 x 8 pixels."""
    inputs = {"left": images, "right": images[::-1]}
    maps = maps_of(breasts, f"{side}_conv2", inputs)
    kernel = breasts.get_layer("classes").get_weights()[0][slice(*rows)]

    heatmaps = hrcam.grad_cam(breasts, inputs, 1, image_input=side, relu=False)

    assert_close(heatmaps, literal_cam(maps, kernel, 1) / 64)
    model = hrcam.build_hrcam_model(breasts, image_input=side)
    assert hrcam.pooled_layers(model) == [f"{side}_conv1", f"{side}_conv2"]
    head, _ = random_head(model)
    shallow = maps_of(breasts, f"{side}_conv1", inputs)
    expected = resized(shallow @ head[:4, 2]) + resized(maps @ head[4:, 2])
    assert_close(hrcam.hr_cam(model, inputs[side], 2), expected)


def test_attentive_response_of_a_branch(breasts, images):
    right = breasts.get_layer("right_conv2").output
    alone = keras.Model(breasts.inputs[1], right)
    options = {"top_n": 2, "image_input": "right"}

    result = hrcam.attentive_response_maps(breasts, {"right": images}, **options)

    expected = hrcam.attentive_response_maps(alone, images, top_n=2)
    assert_close(result["response"], expected["response"])


def test_a_branch_must_be_named(breasts, images):
    inputs = {"left": images, "right": images}
    with pytest.raises(ValueError, match=r"GlobalAveragePooling2D and one.*grad_cam"):
        hrcam.cam(breasts, inputs, 1, image_input="left")
    with pytest.raises(ValueError, match=r"`image_input` must name.*'left' \(None, 16"):
        hrcam.grad_cam(breasts, inputs, 1)
    with pytest.raises(ValueError, match=r"`image_input` must name.*'left' \(None, 16"):
        hrcam.build_hrcam_model(breasts)
    with pytest.raises(ValueError, match=r"one input of the model. Received: 'top'"):
        hrcam.grad_cam(breasts, inputs, 1, image_input="top")
    with pytest.raises(ValueError, match=r"\['right'\]. Choose among \['left_conv1'"):
        hrcam.build_hrcam_model(breasts, ["right_conv1"], image_input="left")


def test_early_fusion(images, he_scale):
    """No layer is of one image alone: HR-CAM is refused, Grad-CAM needs a layer."""
    views = [keras.Input((16, 16, 1), name=name) for name in ("before", "after")]
    maps = branch(layers.Concatenate()(views), "conv")
    classes = layers.Dense(3, "softmax")(pooled(maps, "image"))
    model = model_of(views, classes, 1, he_scale)
    inputs = {"before": images[::-1], "after": images}

    for attempt in (
        lambda: hrcam.build_hrcam_model(model, image_input="after"),
        lambda: hrcam.grad_cam(model, inputs, 1, image_input="after"),
        lambda: hrcam.build_hrcam_model(model, ["conv1"], image_input="after"),
        lambda: hrcam.attentive_response_maps(model, inputs, image_input="after"),
    ):
        with pytest.raises(ValueError, match=r"alone: they follow a layer that joins"):
            attempt()
    heatmaps = hrcam.grad_cam(model, inputs, 1, "conv2", image_input="after")
    score = pooled_score(model.layers[-1].get_weights()[0], 1)
    assert_close(heatmaps, literal_grad_cam(maps_of(model, "conv2", inputs), score))


def test_inputs_that_an_output_does_not_need_are_left_out(images, he_scale):
    """Of two outputs `seen` is of the image alone; it takes a plain array."""
    image, values = keras.Input((16, 16, 1), name="image"), keras.Input((2,))
    features = pooled(branch(image, "conv"), "image")
    seen = layers.Dense(3, "softmax", name="seen")(features)
    known = layers.Dense(3, "softmax", name="known")(values)
    model = model_of([image, values], [known, seen], 4, he_scale)
    maps = np.array(keras.Model(image, model.get_layer("conv2").output)(images))
    kernel = model.get_layer("seen").get_weights()[0]

    heatmaps = hrcam.cam(model, images, 1, output="seen")

    assert_close(heatmaps, literal_cam(maps, kernel, 1))


SHAPES = {"scan": (4, 4, 1), "age": (1,)}


def test_names_of_a_dict_of_inputs():
    inputs = {n: keras.Input(s, name=n) for n, s in SHAPES.items()}
    model = keras.Model(inputs, layers.Dense(2)(inputs["age"]))

    assert input_names(model) == ["age", "scan"]  # sorted, as keras flattens them
    assert [tuple(t.shape) for t in model.inputs] == [(None, 1), (None, 4, 4, 1)]


def test_a_model_of_one_is_its_own_view(flat_model, two_outputs, images):
    assert view(flat_model, images) == (flat_model, images)
    assert view(two_outputs, images, "ill")[0] is view(two_outputs, images, "ill")[0]
    assert view(two_outputs, images, "ill")[0] is not view(two_outputs, images, "kind")
