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
    calls_before,
    check_graph,
    final_activation,
    layer_outputs,
    walk,
)
from hrcam.layer_selection import feature_layers
from hrcam.views import image_place, input_names, inputs_before, output_place


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
    *,
    activation: str | None = None,
    output: str | None = None,
    image_input: str | None = None,
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
        activation: `"softmax"` for exclusive classes, `"sigmoid"` for labels of which
            an image may have several (and for one unit). `None`: sigmoid where the
            base model ends in it and has `num_classes` units, else softmax.
        output: Name of the output whose classes count, if the base model has several.
        image_input: Name of the image, if the base model has several inputs. The
            head sees this image alone: a layer that needs the others is refused.

    Returns:
        An uncompiled functional model, image -> `(batch, num_classes)` float32
        probabilities, with the layers `"gap_vector"` `(batch, N)` and
        `"predictions"`, whose kernel is `(N, num_classes)`, N being the number of
        all feature maps. Train it with `fit_hrcam_head`.

    Raises:
        TypeError: If the layers of `base_model` cannot be reached.
        ValueError: If a layer is missing, named twice, or its output is not 4-D; if
            it needs a `Lambda` layer or another input than the image; if an output
            or input must be named; or if the class count cannot be read.

    Example:
        >>> model = build_hrcam_model(build_resnet50(weights="imagenet"))
        >>> model.get_layer("gap_vector").output.shape
        (None, 3904)
    """
    check_graph(base_model)
    image = image_place(base_model, image_input)
    names = list(
        feature_layers(base_model, image_input) if layer_names is None else layer_names
    )
    if not names or len(set(names)) != len(names):
        raise ValueError(
            "`layer_names` must name at least one layer, and none twice. "
            f"Received: {names}"
        )
    num_classes, activation = _classes(base_model, num_classes, activation, output)
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
    for name in names:
        _check_origin(base_model, name, image)
    pooled = [
        layers.GlobalAveragePooling2D(name=f"gap_{number}", dtype="float32")(output)
        for number, output in enumerate(outputs, start=1)
    ]
    vector = layers.Concatenate(name="gap_vector", dtype="float32")(pooled)
    predictions = _predictions(vector, num_classes, activation)
    base_model.trainable = False
    return keras.Model(
        base_model.inputs[image], predictions, name=f"{base_model.name}_hrcam"
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


def _classes(
    base_model: keras.Model,
    num_classes: int | None,
    activation: str | None,
    output: str | None,
) -> tuple[int, str]:
    """Units and activation of the head: what is given, else the base model's."""
    if activation not in (None, "softmax", "sigmoid"):
        raise ValueError(
            f"`activation` must be 'softmax' or 'sigmoid'. Received: {activation!r}"
        )
    several = len(base_model.outputs) > 1 and output is None
    if num_classes is not None and (several or activation is not None):
        return num_classes, activation or "softmax"
    place = output_place(base_model, output)
    shape = tuple(base_model.outputs[place].shape)
    if num_classes is None and len(shape) != 2:
        raise ValueError(
            "`num_classes` must be given where the base model's output is not "
            f"(batch, classes). Received: an output of {shape}"
        )
    own = final_activation(base_model, place)
    as_base = num_classes in (None, shape[-1]) and own == "sigmoid"
    found = "sigmoid" if as_base else "softmax"
    units = shape[-1] if num_classes is None else num_classes
    return units, activation or found


def _check_origin(base_model: keras.Model, name: str, image: int) -> None:
    """Raises a ValueError where a layer needs code from a file, or another input."""
    before = calls_before(base_model, name)
    code = [c.path for c in before if isinstance(c.operation, layers.Lambda)]
    if code:
        raise ValueError(
            f"The layer {name!r} must not need a Lambda layer: a saved model with one "
            f"is not opened in Keras' safe mode. Received: {base_model.name!r}, with "
            f"{code}. Put `Rescaling`, `Normalization` or a registered layer of your "
            "own in its place, or preprocess the images before the model."
        )
    places = inputs_before(base_model, before[-1].outputs[0])
    if places != [image]:
        names = input_names(base_model)
        raise ValueError(
            f"The layer {name!r} must need no input but the image {names[image]!r}. "
            f"Received: one that needs {[names[place] for place in places]}. Choose "
            f"among {feature_layers(base_model, names[image])}."
        )


def _predictions(
    vector: keras.KerasTensor, num_classes: int, activation: str = "softmax"
) -> keras.KerasTensor:
    if num_classes < 1:
        raise ValueError(f"`num_classes` must be at least 1. Received: {num_classes}")
    return layers.Dense(
        num_classes,
        activation="sigmoid" if num_classes == 1 else activation,
        name="predictions",
        dtype="float32",
    )(vector)


def _single(tensors: list[keras.KerasTensor]):
    """A lone tensor out of its list, so that a plain array fits the model's input."""
    return tensors[0] if len(tensors) == 1 else tensors
