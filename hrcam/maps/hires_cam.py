"""HiResCAM: features times derivatives, pixel by pixel.

Grad-CAM averages the derivative over the pixels before it weighs the features, and so
may mark places that the score does not use. HiResCAM leaves the average out:

    L^c = sum_k dS^c / dA^k * A^k        (at each pixel of the layer)

Where one dense layer follows the feature maps directly, the map sums to the score less
its bias; after global average pooling it is CAM over the number of pixels, as is
Grad-CAM without its rectifier.

Choices: no rectifier, since the sum above holds for the signed map (`relu=True` for
the positive part, as pictures show it). The score is the one before softmax or
sigmoid; the layer is the last feature layer (after its activation); bilinear
upsampling with half-pixel centres. One sigmoid unit: class 0 is the negative score.

Reference:
    Draelos and Carin (2020), "Use HiResCAM instead of Grad-CAM for faithful
    explanations of convolutional neural networks", https://arxiv.org/abs/2011.08891
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


def hires_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_name: str | None = None,
    *,
    relu: bool = False,
    output: str | None = None,
    image_input: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes HiResCAM maps.

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
        Float32 `(batch, height, width)`, raw and signed (unless `relu`), in units of
        the class score.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If the layer is unknown or its output not 4-D, or if images or
            class do not fit.

    Example:
        >>> heatmaps = hires_cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    names = one_layer(model, layer_name)
    prepared = prepare(model, images, class_index, names, _draw, relu=relu)
    return compute_maps("hires_cam", *prepared, batch_size)


def _draw(
    features: list[Any], gradients: list[Any], size: tuple[int, int], relu: bool
) -> Any:
    own_size = ops.sum(ops.cast(features[0], "float32") * gradients[0], axis=-1)
    return upsample(ops.relu(own_size) if relu else own_size, size)
