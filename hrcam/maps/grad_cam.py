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
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam.maps._batches import compute_maps
from hrcam.maps._feature_sum import upsample, weighted_feature_maps
from hrcam.maps._gradients import map_function, one_layer, prepare
from hrcam.views import view


def grad_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_name: str | None = None,
    *,
    relu: bool = True,
    output: str | None = None,
    image_input: str | None = None,
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
        output: Name of the output to explain, if the model has several.
        image_input: Name of the image that the map lies on, if the model has several;
            `images` is a dict then, input name -> array.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)`, raw, in units of the class score: not
        negative with `relu`, signed without.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If the layer is unknown or its output not 4-D, or if images or
            class do not fit.

    Example:
        >>> heatmaps = grad_cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    names = one_layer(model, layer_name)
    prepared = prepare(model, images, class_index, names, _draw, relu=relu)
    return compute_maps("grad_cam", *prepared, batch_size)


def grad_cam_function(
    model: keras.Model, size: tuple[int, int], layer_name: str | None = None
) -> Callable:
    """The function of tensors that `grad_cam` compiles, and `hrcam.serving` exports.

    Returns:
        (images, class_index or -1) -> (maps, classes, scores before softmax).
    """
    draw = partial(_draw, size=size, relu=True)
    return map_function(model, one_layer(model, layer_name), draw)


def _draw(
    features: list[Any], gradients: list[Any], size: tuple[int, int], relu: bool
) -> Any:
    own_size = grad_cam_at_own_size(features[0], gradients[0])
    return upsample(ops.relu(own_size) if relu else own_size, size)


def grad_cam_at_own_size(features: Any, gradient: Any) -> Any:
    """The signed map of one layer, `(batch, height_l, width_l)`."""
    return weighted_feature_maps([features], ops.mean(gradient, axis=(1, 2)))[0]
