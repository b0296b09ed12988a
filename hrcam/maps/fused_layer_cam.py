"""LayerCAM of several layers, fused to one map.

Each layer's LayerCAM map M_l (see `hrcam.maps.layer_cam`) is taken over its maximum.
Most values of shallow layers are far below theirs, so those layers are lifted:

    M_l <- tanh(gamma * M_l / max(M_l)),  gamma = 2        (shallow layers)
    M_l <- M_l / max(M_l)                                  (deep layers)
    M = max_l upsample(M_l)                                (at each pixel)

Choices:

* The paper lifts its shallow stages; that these are all layers but the last two given
  is our reading (three of the five of a VGG-16). With one or two layers none is.
  Lifting all layers would not change the order of the pixels: tanh is monotone.
* Maximum and tanh are taken at the layer's own size, then bilinear upsampling with
  half-pixel centres. The layers are `feature_layers(model)`.
* A layer whose map is blank adds nothing.

Reference:
    Jiang et al. (2021), "LayerCAM: exploring hierarchical class activation maps for
    localization", IEEE Transactions on Image Processing 30,
    https://doi.org/10.1109/TIP.2021.3089943
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam.maps._batches import compute_maps
from hrcam.maps._feature_sum import upsample
from hrcam.maps._gradients import over_maximum, prepare, several_layers
from hrcam.maps.layer_cam import layer_cam_at_own_size
from hrcam.views import view

_DEEP = 2  # layers at the end that are not lifted


def fused_layer_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_names: Sequence[str] | None = None,
    *,
    gamma: float = 2.0,
    output: str | None = None,
    image_input: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes LayerCAM maps of several layers and fuses them.

    Args:
        model: A trained model that ends in a dense layer; frozen, nested or not.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        layer_names: The layers, shallow to deep (`"outer/inner"` inside a nested
            model); `None` are those of `feature_layers(model)`.
        gamma: How much the shallow layers are lifted, above 0.
        output: Name of the output to explain, if the model has several.
        image_input: Name of the image that the map lies on, if the model has several;
            `images` is a dict then, input name -> array.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)` in [0, 1].

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If a layer is unknown or its output not 4-D, or if `gamma`,
            images or class do not fit.

    Example:
        >>> heatmaps = fused_layer_cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    if not gamma > 0:
        raise ValueError(f"`gamma` must be above 0. Received: {gamma}")
    names = several_layers(model, layer_names)
    prepared = prepare(model, images, class_index, names, _draw, gamma=gamma)
    return compute_maps("fused_layer_cam", *prepared, batch_size)


def _draw(
    features: list[Any], gradients: list[Any], size: tuple[int, int], gamma: float
) -> Any:
    maps = [
        over_maximum(layer_cam_at_own_size(*pair))
        for pair in zip(features, gradients, strict=True)
    ]
    shallow = maps[:-_DEEP]
    lifted = [ops.tanh(gamma * m) for m in shallow] + maps[len(shallow) :]
    return ops.max(ops.stack([upsample(m, size) for m in lifted]), axis=0)
