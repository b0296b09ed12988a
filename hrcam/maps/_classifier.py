"""The dense layer that makes a model's class scores, and the scores themselves."""

from typing import Any, NamedTuple

import keras
from keras import ops

from hrcam.graph import Call, activation_name, changes_nothing, walk

# Layers between the last dense layer and the output that leave the order of scores.
_AFTER_DENSE = ("Softmax", "Activation", "Dropout", "Identity", "Sigmoid")


class Classifier(NamedTuple):
    """The last dense layer of a model.

    Attributes:
        dense: The layer; its kernel is `(features, classes)`.
        feeder: Calls from the one that feeds the dense layer back to the image,
            as far as each has one input.
    """

    dense: keras.layers.Dense
    feeder: list[Call]


def find_classifier(model: keras.Model) -> Classifier:
    """Finds the dense layer whose outputs are the class scores of `model`.

    Raises:
        ValueError: If the model has several outputs, or ends in another layer.
    """
    calls, _, outputs = walk(model)
    makers = {number: call for call in calls for number in call.outputs}
    if len(outputs) != 1:
        raise ValueError(
            "`model` must have one output. Received: "
            f"{model.name!r} with {len(outputs)}. Make a model of the one that counts: "
            "`keras.Model(model.inputs, model.outputs[i])`."
        )
    number, activated = outputs[0], False
    while number in makers and type(makers[number].operation).__name__ in _AFTER_DENSE:
        activated = activated or not changes_nothing(makers[number].operation)
        number = makers[number].inputs[0]
    call = makers.get(number)
    if call is None or not isinstance(call.operation, keras.layers.Dense):
        kind = type(call.operation).__name__ if call else "Input"
        raise ValueError(
            "`model` must end in a Dense layer (before its softmax or sigmoid), whose "
            f"outputs are the class scores. Received: {model.name!r}, which ends in "
            f"a layer of type {kind}."
        )
    if activated and activation_name(call.operation) != "linear":
        raise ValueError(
            "The last Dense layer of `model` must be linear where an activation "
            f"follows it. Received: {model.name!r}, whose Dense has "
            f"{activation_name(call.operation)!r} before its last activation."
        )
    if len(call.shapes[0]) != 2:
        raise ValueError(
            "The last Dense layer of `model` must give (batch, classes): flatten its "
            f"input first. Received: {model.name!r} with {call.shapes[0]}"
        )
    feeder = []
    while len(call.inputs) == 1 and call.inputs[0] in makers:
        call = makers[call.inputs[0]]
        feeder.append(call)
    if not feeder:
        raise ValueError(
            "`model` must have a layer before its last Dense layer. "
            f"Received: {model.name!r}"
        )
    dense = makers[number].operation
    return Classifier(dense, feeder)


def class_count(dense: keras.layers.Dense) -> int:
    """Number of classes: a single sigmoid unit tells two classes apart."""
    return 2 if dense.units == 1 else dense.units


def class_weights(dense: keras.layers.Dense, contrast: bool = False) -> tuple[Any, Any]:
    """Kernel `(features, classes)` and bias `(classes,)` of the scores, in float32.

    The one column `w` of a sigmoid unit becomes two: `-w` for class 0, `+w` for
    class 1. With `contrast` each class has the mean of the others taken off.
    """
    kernel = ops.cast(dense.kernel, "float32")
    if dense.bias is None:
        bias = ops.zeros((dense.units,))
    else:
        bias = ops.cast(dense.bias, "float32")
    if dense.units == 1:
        kernel = ops.concatenate([-kernel, kernel], axis=1)
        bias = ops.concatenate([-bias, bias], axis=0)
    if contrast:
        classes = kernel.shape[1]
        others = (ops.sum(kernel, axis=1, keepdims=True) - kernel) / (classes - 1)
        kernel = kernel - others
    return kernel, bias


def class_scores(vector: Any, dense: keras.layers.Dense) -> Any:
    """Scores before softmax or sigmoid, `(batch, classes)` in float32."""
    kernel, bias = class_weights(dense)
    return ops.matmul(ops.cast(vector, "float32"), kernel) + bias


def chosen_class(scores: Any, class_index: Any) -> Any:
    """The given class of each image; the predicted one where -1 is given."""
    # Of whole numbers: the argmax of floats looks for -0.0 by an operation that
    # OpenVINO does not know. The first of equal scores is chosen.
    is_largest = ops.equal(scores, ops.max(scores, axis=-1, keepdims=True))
    predicted = ops.argmax(ops.cast(is_largest, "int32"), axis=-1)
    return ops.where(class_index < 0, ops.cast(predicted, "int32"), class_index)
