"""Feature maps of some layers and the class score's derivatives by them, in one pass.

What the maps made of gradients share. A method adds its own drawing: the map out of
the features and the gradients.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once
from hrcam._derivatives import gradient_by_features
from hrcam._images import check_inputs
from hrcam.graph import tap
from hrcam.layer_selection import feature_layers
from hrcam.maps._batches import check_class_index
from hrcam.maps._classifier import (
    chosen_class,
    class_count,
    class_scores,
    find_classifier,
)
from hrcam.views import input_names


def _own_layers(model: keras.Model) -> list[str]:
    """The feature layers of the image, which is the first input of a view."""
    return feature_layers(model, input_names(model)[0])


def one_layer(model: keras.Model, layer_name: str | None) -> list[str]:
    """The named layer of a view, or its last feature layer, as a list."""
    return [_own_layers(model)[-1] if layer_name is None else layer_name]


def several_layers(model: keras.Model, layer_names: Sequence[str] | None) -> list[str]:
    """The named layers of a view, or all its feature layers.

    Raises:
        ValueError: If it is no list of different names.
    """
    if layer_names is None:
        return _own_layers(model)
    names = [layer_names] if isinstance(layer_names, str) else list(layer_names)
    if isinstance(layer_names, str) or not names or len(set(names)) != len(names):
        raise ValueError(
            "`layer_names` must list at least one layer, and none twice, as in "
            f"{_own_layers(model)}. Received: {layer_names!r}"
        )
    return names


def prepare(
    model: keras.Model,
    images: Any,
    class_index: Any,
    names: list[str],
    draw: Callable,
    **options: Any,
) -> tuple[Callable, list[np.ndarray], np.ndarray]:
    """Checks what a method was given, and compiles its map function once.

    Args:
        model: The model to explain.
        images: The user's images; of several inputs a list, whose first they are.
        class_index: The user's class or classes.
        names: Paths of the layers.
        draw: A module's own function, `(features, gradients, size, **options) ->
            maps`: a tensor `(batch, height_l, width_l, channels_l)` a layer, float32
            derivatives of the score of the same shapes, the size of the map; it
            returns `(batch, height, width)`. It and the options are the key that the
            compiled function is found by.
        **options: Passed on to `draw`.

    Returns:
        The function, the inputs and the classes, as `compute_maps` takes them.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If model, layers, images or classes do not fit.
    """
    dense, _ = find_classifier(model)
    inputs = check_inputs(model, images)
    classes = check_class_index(class_index, len(inputs[0]), class_count(dense))
    size = inputs[0].shape[1:3]
    function = compiled_once(
        model,
        (draw, tuple(names), *sorted(options.items())),
        lambda: map_function(model, names, partial(draw, size=size, **options)),
        inputs[0].shape[1:],
        others=inputs[1:],
    )
    return function, inputs, classes


def tap_layers(
    model: keras.Model, names: Sequence[str], dense_input: str
) -> keras.Model:
    """A model of the layers' feature maps and of the last dense layer's input.

    Raises:
        ValueError: If a layer is unknown, or its output not 4-D.
    """
    tapped = tap(model, [*dict.fromkeys([*names, dense_input])])
    for name in names:
        shape = tuple(tapped.output[name].shape)
        if len(shape) != 4:
            raise ValueError(
                "`layer_name` must name a layer with an output of shape (batch, "
                f"height, width, channels). Received: {name!r} with {shape}"
            )
    return tapped


def map_function(model: keras.Model, names: list[str], draw: Callable) -> Callable:
    """The function of tensors of a map that is made of gradients.

    Args:
        model: The model to explain.
        names: Paths of the layers.
        draw: (features, gradients) -> maps.

    Returns:
        (images, class_index or -1, *other inputs) -> (maps, classes, scores before
        softmax).
    """
    dense, feeder = find_classifier(model)
    dense_input = feeder[0].path
    tapped = tap_layers(model, names, dense_input)

    def compute(images, class_index, *others):
        def score(images):
            outputs = tapped([images, *others] if others else images, training=False)
            features = [outputs[name] for name in names]
            scores = class_scores(outputs[dense_input], dense)
            chosen = chosen_class(scores, class_index)
            picked = ops.one_hot(chosen, scores.shape[-1], dtype=scores.dtype)
            scaled = ops.sum(scores * picked) * _fewest_pixels(features)
            return features, scaled, scores

        features, gradients, scores = gradient_by_features(score, images)
        scale = _fewest_pixels(features)
        gradients = [ops.cast(g, "float32") / scale for g in gradients]
        return draw(features, gradients), chosen_class(scores, class_index), scores

    return compute


def _fewest_pixels(features: Sequence[Any]) -> Any:
    """What the score is multiplied by, for the time of the backward pass.

    After average pooling over Z pixels a derivative is 1/Z of a weight: in float16 it
    would underflow.
    """
    pixels = [ops.prod(ops.shape(feature)[1:3]) for feature in features]
    return ops.cast(ops.min(ops.stack(pixels)), "float32")


def over_maximum(maps: Any) -> Any:
    """Rectified maps, each over its largest value; a blank one stays 0."""
    return ops.divide_no_nan(maps, ops.max(maps, axis=(1, 2), keepdims=True))
