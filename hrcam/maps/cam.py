"""Class activation maps (CAM) of a model with global average pooling.

The class score is a weighted sum of averaged feature maps, so the same weighted sum
of the maps themselves shows which places it came from:

    M_c(x, y) = sum_k w_k^c * f_k(x, y)

Choices: no bias, no rectifier; bilinear upsampling with half-pixel centres. One
sigmoid unit: class 1 is +w, class 0 is -w.

Reference:
    Zhou et al. (2016), "Learning deep features for discriminative localization",
    CVPR, https://doi.org/10.1109/CVPR.2016.319
"""

import itertools
from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once
from hrcam._images import check_images
from hrcam.graph import tap
from hrcam.maps._batches import check_class_index, compute_maps
from hrcam.maps._classifier import (
    chosen_class,
    class_count,
    class_scores,
    class_weights,
    find_classifier,
)
from hrcam.maps._feature_sum import upsample, weighted_feature_maps
from hrcam.views import view

# Layers between pooling and the dense layer that do nothing when not training.
_INACTIVE = ("Dropout", "Identity", "Flatten", "GaussianNoise", "Concatenate")


def cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    *,
    output: str | None = None,
    image_input: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes class activation maps.

    Args:
        model: A trained model that ends in global average pooling and one dense
            layer; nested or not.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        output: Name of the output to explain, if the model has several.
        image_input: Name of the image that the map lies on, if the model has several;
            `images` is a dict then, input name -> array.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)`, raw and signed, in units of the class score
        before softmax.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If `model` has another head, or if images or class do not fit.

    Example:
        >>> heatmaps = cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    dense, _ = _gap_head(model)
    images = check_images(model, images)
    classes = check_class_index(class_index, len(images), class_count(dense))
    function = compiled_once(
        model, "cam", lambda: cam_function(model, images.shape[1:3]), images.shape[1:]
    )
    return compute_maps("cam", function, [images], classes, batch_size)


def cam_function(model: keras.Model, size: tuple[int, int]) -> Callable:
    """The function of tensors that `cam` compiles, and `hrcam.serving` exports.

    Returns:
        (images, class_index or -1) -> (maps, classes, scores before softmax).
    """
    dense, name = _gap_head(model)
    feature_model = tap(model, [name])

    def compute(images, class_index):
        features = [*feature_model(images, training=False).values()]
        kernel, _ = class_weights(dense)
        pooled = ops.mean(ops.cast(features[0], "float32"), axis=(1, 2))
        scores = class_scores(pooled, dense)
        chosen = chosen_class(scores, class_index)
        weights = ops.take(ops.transpose(kernel), chosen, axis=0)
        maps = weighted_feature_maps(features, weights)[0]
        return upsample(maps, size), chosen, scores

    return compute


def _gap_head(model: keras.Model) -> tuple[keras.layers.Dense, str]:
    """The dense layer, and the path of the layer whose maps are pooled for it."""
    dense, feeder = find_classifier(model)
    for pool, features in itertools.pairwise(feeder):
        kind = type(pool.operation).__name__
        if kind == "GlobalAveragePooling2D":
            return dense, features.path
        if kind not in _INACTIVE:
            break
    raise ValueError(
        "`model` must end in GlobalAveragePooling2D and one Dense layer: only then are "
        "the dense layer's weights those of feature maps. Received: "
        f"{model.name!r}, whose Dense layer follows "
        f"{[call.path for call in feeder[:3]]}. Use `hrcam.grad_cam` for any head, or "
        "`hrcam.hr_cam` on the model from `hrcam.build_hrcam_model`."
    )
