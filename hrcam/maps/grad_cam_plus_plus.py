"""Grad-CAM++: Grad-CAM whose weights count the pixels that argue for the class.

Grad-CAM's weight is the plain mean of the derivative over the pixels, so an object
that covers few pixels of a map counts little. Grad-CAM++ takes a weighted sum of the
positive derivatives, with g^k_ij = dS^c / dA^k_ij:

    w_k^c = sum_ij alpha_ij^kc ReLU(g^k_ij)
    alpha_ij^kc = (g^k_ij)^2 / (2 (g^k_ij)^2 + sum_ab A^k_ab (g^k_ij)^3)
    L^c = ReLU(sum_k w_k^c A^k)

The paper's class score is Y = exp(S), S the score before softmax or sigmoid, and the
network after A is taken as linear by pieces; then the second and third derivatives of
Y are exp(S) g^2 and exp(S) g^3. exp(S) falls out of alpha, and multiplies all weights
of an image: it is left out, because it overflows and changes no map but by one factor.

Choices:

* Only g > 0 counts, so alpha is computed as 1 / (2 + g sum A), with no 0/0; where
  the denominator is 0 all the same (features below 0, before an activation), alpha
  is 0; near 0 it is huge, so take a layer after its activation. After a ReLU the
  denominator is at least 2.
* The layer is the last feature layer (after its activation); rectified at its own
  size; bilinear upsampling with half-pixel centres. One sigmoid unit: class 0 is the
  negative score.

Reference:
    Chattopadhay et al. (2018), "Grad-CAM++: generalized gradient-based visual
    explanations for deep convolutional networks", WACV,
    https://doi.org/10.1109/WACV.2018.00097
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam.maps._batches import compute_maps
from hrcam.maps._feature_sum import upsample, weighted_feature_maps
from hrcam.maps._gradients import one_layer, prepare
from hrcam.views import view


def grad_cam_plus_plus(
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
    """Computes Grad-CAM++ maps.

    Args:
        model: A trained model that ends in a dense layer; frozen, nested or not.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        layer_name: The layer whose maps are weighed (`"outer/inner"` inside a nested
            model); `None` is the last of `feature_layers(model)`.
        relu: Whether to set negative values to zero before upsampling; after a ReLU
            layer there are none, because no weight is negative.
        output: Name of the output to explain, if the model has several.
        image_input: Name of the image that the map lies on, if the model has several;
            `images` is a dict then, input name -> array.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)`, raw: not negative with `relu`.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If the layer is unknown or its output not 4-D, or if images or
            class do not fit.

    Example:
        >>> heatmaps = grad_cam_plus_plus(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    names = one_layer(model, layer_name)
    prepared = prepare(model, images, class_index, names, _draw, relu=relu)
    return compute_maps("grad_cam_plus_plus", *prepared, batch_size)


def _draw(
    features: list[Any], gradients: list[Any], size: tuple[int, int], relu: bool
) -> Any:
    own_size = plus_plus_at_own_size(features[0], gradients[0])
    return upsample(ops.relu(own_size) if relu else own_size, size)


def plus_plus_at_own_size(features: Any, gradient: Any) -> Any:
    """The map of one layer before the rectifier, `(batch, height_l, width_l)`."""
    features = ops.cast(features, "float32")
    total = ops.sum(features, axis=(1, 2), keepdims=True)
    alpha = ops.divide_no_nan(1.0, 2.0 + gradient * total)
    weights = ops.sum(alpha * ops.relu(gradient), axis=(1, 2))
    return weighted_feature_maps([features], weights)[0]
