"""Heads: one global average pooling and dense layer, and the HR-CAM head.

HR-CAM freezes a trained CNN, average-pools the maps of several layers to one value a
map, concatenates the N values and trains one dense layer on them. Its weights are
those of the maps in Eq. 3.

Reference:
    Shinde et al. (2021), "Predictive and discriminative localization of pathology
    using high resolution class activation maps with CNNs", section "HR-CAMs",
    PeerJ Computer Science 7:e622, https://doi.org/10.7717/peerj-cs.622
"""

from collections.abc import Sequence

import keras
from keras import layers

from hrcam.graph import (
    Call,
    final_activation,
    layer_outputs,
    walk,
)
from hrcam.layer_selection import feature_layers


def build_gap_classifier(
    backbone: keras.Model, num_classes: int = 2, name: str | None = None
) -> keras.Model:
    """Puts global average pooling and a dense layer on a backbone.

    Args:
        backbone: A functional model with an output of shape
            `(batch, height, width, channels)`.
        num_classes: Units of `"predictions"`: softmax, or one sigmoid unit when 1.
        name: Name of the model.

    Returns:
        A functional model on the input of `backbone`, image ->
        `(batch, num_classes)` probabilities in float32.

    Raises:
        ValueError: If the backbone's output is not 4-D, or `num_classes` below 1.
    """
    features = backbone.outputs[0]
    if len(backbone.outputs) != 1 or len(features.shape) != 4:
        raise ValueError(
            "`backbone` must have one output of shape (batch, height, width, channels)."
            f" Received: {[tuple(t.shape) for t in backbone.outputs]}"
        )
    pooled = layers.GlobalAveragePooling2D(name="gap", dtype="float32")(features)
    return keras.Model(
        _single(backbone.inputs), _predictions(pooled, num_classes), name=name
    )


def build_hrcam_model(
    base_model: keras.Model,
    layer_names: Sequence[str] | None = None,
    num_classes: int | None = None,
) -> keras.Model:
    """Builds the classifier whose weights make the HR-CAM.

    The feature maps of each layer are average-pooled to one value a map (Eq. 2), the
    values are concatenated in the order of `layer_names`, and one dense layer maps
    them to class probabilities. Only that layer can be trained.

    Args:
        base_model: A trained functional or Sequential classifier, nested or not. It
            is frozen in place, batch normalization statistics included.
        layer_names: Layers with 4-D outputs, shallow to deep; inner layers of nested
            models as `"outer/inner"`. `None`: those of `feature_layers(base_model)`.
        num_classes: Number of classes; 1 gives one sigmoid unit. `None`: that of
            the base model.

    Returns:
        An uncompiled functional model, image -> `(batch, num_classes)` float32
        probabilities, with the layers `"gap_vector"` `(batch, N)` and
        `"predictions"`, whose kernel is `(N, num_classes)`, N being the number of
        all feature maps. Train it with `fit_hrcam_head`.

    Raises:
        TypeError: If the layers of `base_model` cannot be reached.
        ValueError: If a layer is missing, named twice, or its output is not 4-D; or
            if the class count cannot be read from the base model.

    Example:
        >>> model = build_hrcam_model(build_resnet50(weights="imagenet"))
        >>> model.get_layer("gap_vector").output.shape
        (None, 3904)
    """
    names = list(feature_layers(base_model) if layer_names is None else layer_names)
    if not names or len(set(names)) != len(names):
        raise ValueError(
            "`layer_names` must name at least one layer, and none twice. "
            f"Received: {names}"
        )
    if num_classes is None:
        num_classes = _class_count(base_model)
        _refuse_multi_label(base_model, num_classes)
    outputs = layer_outputs(base_model, names)
    not_4d = {
        name: tuple(output.shape)
        for name, output in zip(names, outputs, strict=True)
        if len(output.shape) != 4
    }
    if not_4d:
        raise ValueError(
            "`layer_names` must name layers with outputs of shape "
            f"(batch, height, width, channels). Received: {not_4d}"
        )
    pooled = [
        layers.GlobalAveragePooling2D(name=f"gap_{number}", dtype="float32")(output)
        for number, output in enumerate(outputs, start=1)
    ]
    vector = layers.Concatenate(name="gap_vector", dtype="float32")(pooled)
    predictions = _predictions(vector, num_classes)
    base_model.trainable = False
    return keras.Model(
        _single(base_model.inputs), predictions, name=f"{base_model.name}_hrcam"
    )


def pooled_layers(model: keras.Model) -> list[str]:
    """Names the layers that an HR-CAM model pools, in the order of its head.

    Read from the model's graph, so it also holds for a model opened from disk.

    Args:
        model: A model from `build_hrcam_model`.

    Returns:
        Paths of the feature layers.

    Raises:
        ValueError: If `model` has no HR-CAM head.
    """
    return [path for path, _ in _head_inputs(model)]


def pooled_channels(model: keras.Model) -> list[int]:
    """Counts the feature maps of each pooled layer; see `pooled_layers`."""
    return [channels for _, channels in _head_inputs(model)]


def _head_inputs(model: keras.Model) -> list[tuple[str, int]]:
    """Path and channel count of each layer under `"gap_vector"`."""
    calls, _, _ = walk(model)
    makers = {number: call for call in calls for number in call.outputs}
    vector = next((call for call in calls if call.path == "gap_vector"), None)
    pools: list[Call] = [makers[n] for n in vector.inputs] if vector else []
    if not pools or any("gap_" not in pool.path for pool in pools):
        raise ValueError(
            "`model` must come from `build_hrcam_model`. Received: "
            f"{model.name!r}, which has no HR-CAM head; its last layers are "
            f"{[call.path for call in calls][-3:]}. For a model with one global "
            "average pooling, use `hrcam.cam`; for any other, `hrcam.grad_cam`."
        )
    return [(makers[pool.inputs[0]].path, pool.shapes[0][-1]) for pool in pools]


def _class_count(base_model: keras.Model) -> int:
    shapes = [tuple(output.shape) for output in base_model.outputs]
    if len(shapes) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            "`num_classes` must be given where the base model's output is not one "
            f"(batch, classes). Received: outputs {shapes}"
        )
    return shapes[0][1]


def _refuse_multi_label(base_model: keras.Model, num_classes: int) -> None:
    if num_classes > 1 and final_activation(base_model) == "sigmoid":
        raise ValueError(
            "`num_classes` must be given for a base model with several sigmoid units: "
            "the HR-CAM head tells exclusive classes apart (softmax), or one class "
            f"from the rest (num_classes=1). Received: {num_classes} sigmoid units"
        )


def _predictions(vector: keras.KerasTensor, num_classes: int) -> keras.KerasTensor:
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1. Received: {num_classes}")
    return layers.Dense(
        num_classes,
        activation="sigmoid" if num_classes == 1 else "softmax",
        name="predictions",
        dtype="float32",
    )(vector)


def _single(tensors: list[keras.KerasTensor]):
    """A lone tensor out of its list, so that a plain array fits the model's input."""
    return tensors[0] if len(tensors) == 1 else tensors
