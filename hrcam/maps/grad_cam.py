"""Gradient-weighted class activation maps (Grad-CAM).

The weight of a feature map is the mean of the derivative of the class score by it:

    alpha_k^c = 1/Z sum_ij dy^c / dA^k_ij                  (Eq. 1)
    L^c = ReLU(sum_k alpha_k^c A^k)                        (Eq. 2)

`y^c` is the score before softmax or sigmoid, taken from the last dense layer's input,
kernel and bias in float32. The rectifier is at the layer's own size, before
upsampling, as in the paper; `relu=False` leaves the sign.

Choices: the layer is the last feature layer (after its activation); bilinear
upsampling with half-pixel centres. One sigmoid unit: class 0 is the negative score.

Reference:
    Selvaraju et al. (2017), "Grad-CAM: visual explanations from deep networks via
    gradient-based localization", ICCV, https://doi.org/10.1109/ICCV.2017.74
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once, gradient_by_features
from hrcam._images import check_images
from hrcam.graph import tap
from hrcam.layer_selection import feature_layers
from hrcam.maps._batches import check_class_index, compute_maps
from hrcam.maps._classifier import (
    chosen_class,
    class_count,
    class_scores,
    find_classifier,
)
from hrcam.maps._feature_sum import upsample, weighted_feature_maps


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_name: str | None = None,
    *,
    relu: bool = True,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes gradient-weighted class activation maps.

    Args:
        model: A trained model that ends in a dense layer; frozen, nested or not.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        layer_name: The layer whose maps are weighed (`"outer/inner"` inside a nested
            model); `None` is the last of `feature_layers(model)`.
        relu: Whether to set negative values to zero before upsampling.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)`, raw, in units of the class score: not
        negative with `relu`, signed without.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If the layer is unknown or its output not 4-D, if the score does
            not depend on it, or if images or class do not fit.

    Example:
        >>> heatmaps = grad_cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    dense, feeder = find_classifier(model)
    name = feature_layers(model)[-1] if layer_name is None else layer_name
    images = check_images(model, images)
    classes = check_class_index(class_index, len(images), class_count(dense))
    function = compiled_once(
        model,
        ("grad_cam", name, relu),
        lambda: _build(
            _checked_tap(model, name, feeder[0].path),
            (name, feeder[0].path),
            dense,
            images.shape[1:3],
            relu,
        ),
        images.shape[1:],
    )
    return compute_maps("grad_cam", function, images, classes, batch_size)


def _checked_tap(model: keras.Model, name: str, dense_input: str) -> keras.Model:
    both = tap(model, [*{name, dense_input}])
    shape = tuple(both.output[name].shape)
    if len(shape) != 4:
        raise ValueError(
            "`layer_name` must name a layer with an output of shape (batch, height, "
            f"width, channels). Received: {name!r} with {shape}"
        )
    return both


def _build(
    both: keras.Model,
    names: tuple[str, str],
    dense: keras.layers.Dense,
    size: tuple[int, int],
    relu: bool,
) -> Callable:
    name, dense_input = names

    def compute(images, class_index):
        chosen = []

        def score(images):
            outputs = both(images, training=False)
            features, vector = outputs[name], outputs[dense_input]
            scores = class_scores(vector, dense)
            chosen.append(chosen_class(scores, class_index))
            picked = ops.one_hot(chosen[0], scores.shape[-1], dtype=scores.dtype)
            # The mean of the derivative over Z pixels is what counts: in float16 the
            # derivatives themselves, 1/Z of it, would underflow.
            pixels = ops.cast(ops.prod(ops.shape(features)[1:3]), scores.dtype)
            return features, ops.sum(scores * picked) * pixels

        features, gradient = gradient_by_features(score, images)
        if gradient is None:
            raise ValueError(
                f"The class score must depend on the layer {name!r}; "
                "it does not. Choose a layer between the image and the last Dense."
            )
        pixels = ops.cast(ops.prod(ops.shape(features)[1:3]), "float32")
        weights = ops.mean(ops.cast(gradient, "float32"), axis=(1, 2)) / pixels
        own_size = weighted_feature_maps([features], weights)[0]
        own_size = ops.relu(own_size) if relu else own_size
        return upsample(own_size, size), chosen[0]

    return compute
