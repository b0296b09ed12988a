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

from hrcam._backend import compiled_once, gradient_by_features
from hrcam._images import check_images
from hrcam.graph import tap
from hrcam.layer_selection import feature_layers
from hrcam.maps._batches import check_class_index
from hrcam.maps._classifier import (
    chosen_class,
    class_count,
    class_scores,
    find_classifier,
)


def one_layer(model: keras.Model, layer_name: str | None) -> list[str]:
    """The named layer, or the last feature layer, as a list."""
    return [feature_layers(model)[-1] if layer_name is None else layer_name]


def several_layers(model: keras.Model, layer_names: Sequence[str] | None) -> list[str]:
    """The named layers, or all feature layers.

    Raises:
        ValueError: If it is no list of different names.
    """
    if layer_names is None:
        return feature_layers(model)
    names = [layer_names] if isinstance(layer_names, str) else list(layer_names)
    if isinstance(layer_names, str) or not names or len(set(names)) != len(names):
        raise ValueError(
            "`layer_names` must list at least one layer, and none twice, as in "
            f"{feature_layers(model)}. Received: {layer_names!r}"
        )
    return names


def prepare(
    model: keras.Model,
    images: Any,
    class_index: Any,
    names: list[str],
    draw: Callable,
    **options: Any,
) -> tuple[Callable, np.ndarray, np.ndarray]:
    """Checks what a method was given, and compiles its map function once.

    Args:
        model: The model to explain.
        images: The user's images.
        class_index: The user's class or classes.
        names: Paths of the layers.
        draw: A module's own function, `(features, gradients, size, **options) ->
            maps`: a tensor `(batch, height_l, width_l, channels_l)` a layer, float32
            derivatives of the score of the same shapes, the size of the map; it
            returns `(batch, height, width)`. It and the options are the key that the
            compiled function is found by.
        **options: Passed on to `draw`.

    Returns:
        The function, the images and the classes, as `compute_maps` takes them.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If model, layers, images or classes do not fit.
    """
    dense, feeder = find_classifier(model)
    images = check_images(model, images)
    classes = check_class_index(class_index, len(images), class_count(dense))
    function = compiled_once(
        model,
        (draw, tuple(names), *sorted(options.items())),
        lambda: _build(
            tap_layers(model, names, feeder[0].path),
            names,
            feeder[0].path,
            dense,
            partial(draw, size=images.shape[1:3], **options),
        ),
        images.shape[1:],
    )
    return function, images, classes


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


def _build(
    tapped: keras.Model,
    names: list[str],
    dense_input: str,
    dense: keras.layers.Dense,
    draw: Callable,
) -> Callable:
    def compute(images, class_index):
        chosen, scales = [], []

        def score(images):
            outputs = tapped(images, training=False)
            features = [outputs[name] for name in names]
            scores = class_scores(outputs[dense_input], dense)
            chosen.append(chosen_class(scores, class_index))
            picked = ops.one_hot(chosen[0], scores.shape[-1], dtype=scores.dtype)
            scales.append(_fewest_pixels(features))
            return features, ops.sum(scores * picked) * scales[0]

        features, gradients = gradient_by_features(score, images)
        _check_dependence(names, gradients)
        gradients = [ops.cast(g, "float32") / scales[0] for g in gradients]
        return draw(features, gradients), chosen[0]

    return compute


def _fewest_pixels(features: Sequence[Any]) -> Any:
    """What the score is multiplied by, for the time of the backward pass.

    After average pooling over Z pixels a derivative is 1/Z of a weight: in float16 it
    would underflow.
    """
    pixels = [ops.prod(ops.shape(feature)[1:3]) for feature in features]
    return ops.cast(ops.min(ops.stack(pixels)), "float32")


def _check_dependence(names: Sequence[str], gradients: Sequence[Any]) -> None:
    for name, gradient in zip(names, gradients, strict=True):
        if gradient is None:
            raise ValueError(
                f"The class score must depend on the layer {name!r}; "
                "it does not. Choose a layer between the image and the last Dense."
            )


def over_maximum(maps: Any) -> Any:
    """Rectified maps, each over its largest value; a blank one stays 0."""
    return ops.divide_no_nan(maps, ops.max(maps, axis=(1, 2), keepdims=True))
