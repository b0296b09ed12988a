"""LayerCAM: a weight for each pixel of a feature map, fit for shallow layers too.

    M^c = ReLU(sum_k ReLU(g^k) * A^k),  g^k = dS^c / dA^k    (at each pixel)

In shallow layers the derivative differs from place to place, so one weight a map, as
in Grad-CAM, mixes object and background; here each pixel has its own, and derivatives
against the class count as none.

Choices: S is the score before softmax or sigmoid; the layer is the last feature layer
(after its activation); rectified at the layer's own size, then bilinear upsampling
with half-pixel centres. One sigmoid unit: class 0 is the negative score.

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
from hrcam.maps._gradients import one_layer, prepare
from hrcam.views import view


def layer_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_name: str | None = None,
    *,
    output: str | None = None,
    image_input: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes LayerCAM maps of one layer.

    Args:
        model: A trained model that ends in a dense layer; frozen, nested or not.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        layer_name: The layer whose maps are weighed (`"outer/inner"` inside a nested
            model); `None` is the last of `feature_layers(model)`.
        output: Name of the output to explain, if the model has several.
        image_input: Name of the image that the map lies on, if the model has several;
            `images` is a dict then, input name -> array.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)`, raw, not negative, in units of the class
        score.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If the layer is unknown or its output not 4-D, or if images or
            class do not fit.

    Example:
        >>> heatmaps = layer_cam(model, images, 1, feature_layers(model)[0])
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    names = one_layer(model, layer_name)
    prepared = prepare(model, images, class_index, names, _draw)
    return compute_maps("layer_cam", *prepared, batch_size)


def _draw(features: list[Any], gradients: list[Any], size: tuple[int, int]) -> Any:
    return upsample(layer_cam_at_own_size(features[0], gradients[0]), size)


def layer_cam_at_own_size(features: Any, gradient: Any) -> Any:
    """The rectified map of one layer, `(batch, height_l, width_l)`."""
    weighted = ops.relu(gradient) * ops.cast(features, "float32")
    return ops.relu(ops.sum(weighted, axis=-1))
