"""RefineCAM: the product of the Grad-CAM++ maps of several layers.

A deep layer's map is coarse and knows the class, a shallow one's is sharp and marks
much else. In their product the deep map gates the shallow one:

    M = prod_l upsample(N(M_l)),  N(m) = (m - min m) / (max m - min m)

M_l is the rectified Grad-CAM++ map of layer l (see `hrcam.maps.grad_cam_plus_plus`).
Nothing is trained.

What is from the source: Grad-CAM++ as the base, maps in [0, 1], bilinear upsampling,
the plain product. The formula was read in the authors' public code
(https://github.com/liuktc/RefineCAM), not in the paper's text. Ours: the layers are
`feature_layers(model)`, where the code takes a hand-made list; N is taken once, at
the layer's own size; the product is not stretched to [0, 1] again (that is a step of
display or scoring, `min_max_normalize`). A map without range (blank or constant)
becomes 0, and with it the product.

Reference:
    Domeniconi et al. (2026), "How to evaluate and refine your CAM",
    https://arxiv.org/abs/2605.14641
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam.maps._batches import compute_maps
from hrcam.maps._feature_sum import upsample
from hrcam.maps._gradients import over_maximum, prepare, several_layers
from hrcam.maps.grad_cam_plus_plus import plus_plus_at_own_size
from hrcam.views import view


def refine_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_names: Sequence[str] | None = None,
    *,
    output: str | None = None,
    image_input: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes RefineCAM maps.

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
        >>> heatmaps = refine_cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    names = several_layers(model, layer_names)
    prepared = prepare(model, images, class_index, names, _draw)
    return compute_maps("refine_cam", *prepared, batch_size)


def _draw(features: list[Any], gradients: list[Any], size: tuple[int, int]) -> Any:
    maps = [
        _min_max(ops.relu(plus_plus_at_own_size(*pair)))
        for pair in zip(features, gradients, strict=True)
    ]
    return ops.prod(ops.stack([upsample(m, size) for m in maps]), axis=0)


def _min_max(maps: Any) -> Any:
    return over_maximum(maps - ops.min(maps, axis=(1, 2), keepdims=True))
