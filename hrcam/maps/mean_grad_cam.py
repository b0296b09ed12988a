"""Grad-CAM of several layers, averaged with the same weight for each.

What a multi-layer map is without any training: HR-CAM learns how much each layer's
features count, this gives every layer the same say. If HR-CAM is no better, its
training brought nothing.

    M = 1/L sum_l upsample(M_l / max(M_l)),  M_l the Grad-CAM of layer l

Choices (all ours, there is no paper): each layer's map is rectified and taken over
its maximum, at its own size, because raw Grad-CAM maps of different layers differ by
orders of magnitude and the largest alone would be seen; a layer whose map is blank
counts as 0. Bilinear upsampling with half-pixel centres; the layers are
`feature_layers(model)`. One sigmoid unit: class 0 is the negative score.

Reference:
    Of Grad-CAM: Selvaraju et al. (2017), ICCV, https://doi.org/10.1109/ICCV.2017.74
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam.maps._batches import compute_maps
from hrcam.maps._feature_sum import upsample
from hrcam.maps._gradients import over_maximum, prepare, several_layers
from hrcam.maps.grad_cam import grad_cam_at_own_size
from hrcam.views import view


def mean_grad_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_names: Sequence[str] | None = None,
    *,
    output: str | None = None,
    image_input: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes the mean of the Grad-CAM maps of several layers.

    Args:
        model: A trained model that ends in a dense layer; frozen, nested or not.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        layer_names: The layers (`"outer/inner"` inside a nested model); `None` are
            those of `feature_layers(model)`.
        output: Name of the output to explain, if the model has several.
        image_input: Name of the image that the map lies on, if the model has several;
            `images` is a dict then, input name -> array.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)` in [0, 1].

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If a layer is unknown or its output not 4-D, or if images or
            class do not fit.

    Example:
        >>> heatmaps = mean_grad_cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    names = several_layers(model, layer_names)
    prepared = prepare(model, images, class_index, names, _draw)
    return compute_maps("mean_grad_cam", *prepared, batch_size)


def _draw(features: list[Any], gradients: list[Any], size: tuple[int, int]) -> Any:
    maps = [
        over_maximum(ops.relu(grad_cam_at_own_size(*pair)))
        for pair in zip(features, gradients, strict=True)
    ]
    return ops.mean(ops.stack([upsample(m, size) for m in maps]), axis=0)
