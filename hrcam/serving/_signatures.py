"""The signatures of an exported model: functions of tensors, traced once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from hrcam.deconvnet import build_deconv_model
from hrcam.layer_selection import describe_layers, feature_layers
from hrcam.maps.prediction import MAP_FUNCTIONS, probabilities_of_scores
from hrcam.serving._bytes import decoder


class Exported:
    """What is written: signatures, and the variables that they read.

    Attributes:
        signatures: Name -> concrete function.
        classes: How many classes the model tells apart.
    """

    def __init__(self, signatures, models, classes):
        self.signatures = signatures
        self.classes = classes
        self._module = tf.Module()
        self._module.variables_read = _tf_variables(models)

    def save(self, folder: Path) -> None:
        """Writes `saved_model.pb` and `variables/`."""
        tf.saved_model.save(self._module, str(folder), signatures=self.signatures)

    def described(self) -> dict[str, dict[str, dict[str, str]]]:
        """Shape and type of every input and output, by signature."""
        return {
            name: {
                "inputs": {
                    spec.name: _spec_text(spec)
                    for spec in function.structured_input_signature[0]
                },
                "outputs": {
                    key: _spec_text(spec)
                    for key, spec in function.structured_outputs.items()
                },
            }
            for name, function in self.signatures.items()
        }


def build(
    model: keras.Model,
    classifier: keras.Model,
    methods: tuple[str, ...],
    shape: tuple[int, int, int],
    preprocess: Callable | float | None,
    top_n: int,
    max_pixels: int,
) -> Exported:
    """Traces the signatures; see `export_saved_model` for the arguments."""
    size, models = shape[:2], [model, classifier]
    explain = MAP_FUNCTIONS[methods[0]](model, size)
    to_probabilities = probabilities_of_scores(model)
    classes = max(2, model.outputs[0].shape[-1])
    image = tf.TensorSpec((None, *shape), tf.float32, "image")
    class_index = tf.TensorSpec((None,), tf.int32, "class_index")

    def predict(image):
        predicted = tf.fill([tf.shape(image)[0]], -1)
        heatmap, chosen, scores = explain(image, predicted)
        return {
            "probabilities": to_probabilities(scores),
            "class_index": chosen,
            "heatmap": heatmap,
        }

    signatures = {
        "serving_default": _traced(predict, image),
        "explain": _traced(_checked(explain, classes), image, class_index),
    }
    if shape[2] in (1, 3):  # files have no other number of channels
        decode = decoder(shape, preprocess, max_pixels)
        image_bytes = tf.TensorSpec((None,), tf.string, "image_bytes")
        signatures["predict_bytes"] = _traced(
            lambda image_bytes: predict(decode(image_bytes)), image_bytes
        )
    of_classifier = max(2, classifier.outputs[0].shape[-1])
    for name in [name for name in methods if name in ("cam", "grad_cam")]:
        drawn = _checked(MAP_FUNCTIONS[name](classifier, size), of_classifier)
        signatures[name] = _traced(drawn, image, class_index)
    if "attentive_response" in methods:
        way_back = _attentive_response(classifier, size, top_n)
        models.append(way_back)
        signatures["attentive_response"] = _traced(
            lambda image: way_back(image, training=False), image
        )
    return Exported(signatures, models, classes)


def _checked(explain: Callable, classes: int) -> Callable:
    """The map alone, of a class that is checked in the graph."""
    message = f"class_index must be in [0, {classes}), or -1 for the predicted class"

    def heatmap(image, class_index):
        is_class = (class_index >= -1) & (class_index < classes)
        known = tf.debugging.Assert(tf.reduce_all(is_class), [message])
        one_each = tf.debugging.assert_equal(
            tf.shape(class_index)[0],
            tf.shape(image)[0],
            "class_index must be one for each image",
        )
        with tf.control_dependencies([known, one_each]):
            return {"heatmap": explain(image, tf.identity(class_index))[0]}

    return heatmap


def _traced(function: Callable, *specs: tf.TensorSpec) -> Any:
    def checked(*inputs):  # a loaded function does not look at the sizes of its inputs
        pairs = zip(inputs, specs, strict=True)
        return function(*(tf.ensure_shape(x, spec.shape) for x, spec in pairs))

    compiled = tf.function(checked, input_signature=specs, autograph=False)
    return compiled.get_concrete_function()


def _attentive_response(
    classifier: keras.Model, size: tuple[int, int], top_n: int
) -> keras.Model:
    last = feature_layers(classifier)[-1]
    (layer,) = [x for x in describe_layers(classifier) if x.name == last]
    way_back = build_deconv_model(
        classifier,
        top_n=min(top_n, layer.channels),
        unit_maps=False,
        image_size=size,
    )
    outputs = {name: way_back.output[name] for name in ("units", "response")}
    return keras.Model(way_back.inputs[0], outputs)


def _tf_variables(models: list[keras.Model]) -> list[tf.Variable]:
    found = {id(v): v.value for model in models for v in model.variables}
    return list(found.values())


def _spec_text(spec: tf.TensorSpec) -> str:
    shape = ", ".join("b" if n is None else str(n) for n in spec.shape)
    return f"{spec.dtype.name} ({shape})"
