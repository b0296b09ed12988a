"""High resolution class activation maps (HR-CAM).

CAM weighs the maps of the last convolution by the weights of the dense layer that
follows their global average pooling. HR-CAM does the same with the maps of several
layers, taken before each spatial reduction, and with the weights of one dense layer
trained on all of their averages together:

    A_c = sum_i w_i^c * upsample(f_i),  i = 1 .. N        (Eq. 3)

The mean of the map over its pixels is the class score less its bias, exactly where
the upsampling is by whole factors: the map splits the score over pixels and layers.

Choices that the paper leaves open, and what is done here:

* The bias is not part of the map, and the map is not rectified.
* The map is of the class's own weights; `contrast=True` takes off the mean of the
  other classes' (what they share says nothing about the decision).
* Upsampling is bilinear with half-pixel centres. Being linear, it commutes with the
  sum, so each layer's maps are summed at their own size and one map is resized.
* One sigmoid unit: class 1 is +w, class 0 is -w.

Reference:
    Shinde et al. (2021), "Predictive and discriminative localization of pathology
    using high resolution class activation maps with CNNs", PeerJ Computer Science
    7:e622, https://doi.org/10.7717/peerj-cs.622
"""

from collections.abc import Callable, Sequence

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once
from hrcam._images import check_images
from hrcam.graph import tap
from hrcam.heads import pooled_layers
from hrcam.maps._batches import check_class_index, compute_maps
from hrcam.maps._classifier import (
    chosen_class,
    class_count,
    class_scores,
    class_weights,
)
from hrcam.maps._feature_sum import upsample, weighted_feature_maps


def hr_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    *,
    per_layer: bool = False,
    contrast: bool = False,
    relu: bool = False,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes high resolution class activation maps.

    Args:
        model: A trained model from `build_hrcam_model`.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        per_layer: Whether to return each layer's part of the map.
        contrast: Whether to take off the mean of the other classes' weights.
        relu: Whether to set the negative part of the whole map to zero.
        batch_size: Images at a time; it bounds the memory, not the result.

    Returns:
        Float32 `(batch, height, width)`, raw and signed (unless `relu`), in units of
        the class score before softmax; with `per_layer`
        `(batch, layers, height, width)`, whose sum over layers is the map.

    Raises:
        ValueError: If `model` has no HR-CAM head, or if images or class do not fit.

    Example:
        >>> heatmaps = hr_cam(model, images, class_index=1)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    pooled_layers(model)  # says so if it has none
    images = check_images(model, images)
    if per_layer and relu:
        raise ValueError(
            "`relu` is of the whole map, whose layers no longer add up to it. "
            "Received: per_layer=True and relu=True"
        )
    count = class_count(model.get_layer("predictions"))
    classes = check_class_index(class_index, len(images), count)
    options = {"per_layer": per_layer, "contrast": contrast, "relu": relu}
    function = compiled_once(
        model,
        ("hr_cam", *options.values()),
        lambda: hr_cam_function(model, images.shape[1:3], **options),
        images.shape[1:],
    )
    return compute_maps("hr_cam", function, [images], classes, batch_size)


def hr_cam_function(
    model: keras.Model,
    size: tuple[int, int],
    *,
    per_layer: bool = False,
    contrast: bool = False,
    relu: bool = False,
) -> Callable:
    """The function of tensors that `hr_cam` compiles, and `hrcam.serving` exports.

    Returns:
        (images, class_index or -1) -> (maps, classes, scores before softmax).
    """
    names = pooled_layers(model)
    dense = model.get_layer("predictions")
    features_model = tap(model, names)

    def compute(images, class_index):
        by_name = features_model(images, training=False)
        features = [by_name[name] for name in names]
        kernel, _ = class_weights(dense, contrast)
        scores = _scores(features, dense)
        chosen = chosen_class(scores, class_index)
        weights = ops.take(ops.transpose(kernel), chosen, axis=0)
        maps = [upsample(m, size) for m in weighted_feature_maps(features, weights)]
        if per_layer:
            return ops.stack(maps, axis=1), chosen, scores
        whole = sum(maps[1:], maps[0])
        return ops.relu(whole) if relu else whole, chosen, scores

    return compute


def _scores(features, dense):
    pooled = [ops.mean(ops.cast(f, "float32"), axis=(1, 2)) for f in features]
    return class_scores(ops.concatenate(pooled, axis=-1), dense)
