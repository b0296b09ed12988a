"""Score-CAM: feature maps weighed by what is left of the score where they are active.

Each feature map A^k, upsampled and scaled to [0, 1], masks the image; the class score
of the masked image, by the whole network, is the map's weight. No derivative is taken:

    H^k = N(upsample(A^k)),  N(m) = (m - min m) / (max m - min m)
    alpha_k^c = softmax over k of S^c(X * H^k) - S^c(X_b)
    L^c = ReLU(sum_k alpha_k^c A^k)

Choices:

* S is the score before softmax or sigmoid; libraries differ, see docs/conformity.md.
* The baseline X_b is left out: it is the same for all k, and softmax does not see
  what is common.
* A map without range (a dead unit, a constant) points at no place: weight 0, and it
  is left out of the softmax.
* The layer is the last feature layer (after its activation); rectified at its own
  size; bilinear upsampling with half-pixel centres.
* One image costs one forward pass a map, and one more. `max_channels` takes only the
  maps of the largest standard deviation over the pixels, chosen for each image: a
  known short cut, not in the paper.

Reference:
    Wang et al. (2020), "Score-CAM: score-weighted visual explanations for
    convolutional neural networks", CVPR workshops, https://arxiv.org/abs/1910.01279
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once, map_in_turn
from hrcam._images import check_inputs
from hrcam.maps._batches import check_class_index, compute_maps
from hrcam.maps._classifier import (
    chosen_class,
    class_count,
    class_scores,
    find_classifier,
)
from hrcam.maps._feature_sum import upsample, weighted_feature_maps
from hrcam.maps._gradients import one_layer, tap_layers
from hrcam.views import view

_LEFT_OUT = -1e30  # as a score: exp of it is 0


def score_cam(
    model: keras.Model,
    images: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    layer_name: str | None = None,
    *,
    relu: bool = True,
    max_channels: int | None = None,
    output: str | None = None,
    image_input: str | None = None,
    batch_size: int = 32,
) -> np.ndarray:
    """Computes Score-CAM maps.

    Args:
        model: A trained model that ends in a dense layer; nested or not.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        class_index: The class to explain, in [0, classes): one for all images or one
            each; `None` is each image's predicted class.
        layer_name: The layer whose maps mask the image (`"outer/inner"` inside a
            nested model); `None` is the last of `feature_layers(model)`.
        relu: Whether to set negative values to zero before upsampling; after a ReLU
            layer there are none, because no weight is negative.
        max_channels: How many feature maps to take at most; `None` takes all. The
            time grows with it.
        output: Name of the output to explain, if the model has several.
        image_input: Name of the image that the map lies on, if the model has several;
            `images` is a dict then, input name -> array.
        batch_size: Images at a time, of which one mask each is in memory; it bounds
            the memory, not the result.

    Returns:
        Float32 `(batch, height, width)`, raw, a weighted mean of feature maps: not
        negative with `relu`.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If the layer is unknown or its output not 4-D, or if images,
            class or `max_channels` do not fit.

    Example:
        >>> heatmaps = score_cam(model, images, class_index=1, max_channels=64)
        >>> heatmaps.shape == images.shape[:3]
        True
    """
    model, images = view(model, images, output, image_input)
    if max_channels is not None and max_channels < 1:
        raise ValueError(
            f"`max_channels` must be at least 1, or None for all. "
            f"Received: {max_channels}"
        )
    dense, feeder = find_classifier(model)
    names = (one_layer(model, layer_name)[0], feeder[0].path)
    inputs = check_inputs(model, images)
    classes = check_class_index(class_index, len(inputs[0]), class_count(dense))
    function = compiled_once(
        model,
        ("score_cam", names[0], relu, max_channels),
        lambda: _build(
            tap_layers(model, names[:1], names[1]), names, dense, relu, max_channels
        ),
        inputs[0].shape[1:],
        others=inputs[1:],
    )
    return compute_maps("score_cam", function, inputs, classes, batch_size)


def _build(
    tapped: keras.Model,
    names: tuple[str, str],
    dense: keras.layers.Dense,
    relu: bool,
    max_channels: int | None,
) -> Callable:
    name, dense_input = names

    def compute(images, class_index, *others):
        def forward(images):
            return tapped([images, *others] if others else images, training=False)

        size = tuple(images.shape[1:3])
        outputs = forward(images)
        class_score = class_scores(outputs[dense_input], dense)
        chosen = chosen_class(class_score, class_index)
        features = _widest(ops.cast(outputs[name], "float32"), max_channels)

        def masked_score(number):
            mask = _mask(ops.take(features, number, axis=-1), size)
            masked = forward(images * mask[..., None])
            scores = class_scores(masked[dense_input], dense)
            picked = ops.one_hot(chosen, scores.shape[-1], dtype=scores.dtype)
            return ops.sum(scores * picked, axis=-1)

        like = keras.KerasTensor((None,), "float32")
        scores = map_in_turn(masked_score, features.shape[-1], like)
        weights = _weights(ops.transpose(scores), features)
        own_size = weighted_feature_maps([features], weights)[0]
        drawn = ops.relu(own_size) if relu else own_size
        return upsample(drawn, size), chosen, class_score

    return compute


def _widest(features: Any, count: int | None) -> Any:
    """The `count` feature maps of each image with the largest standard deviation."""
    if count is None or count >= features.shape[-1]:
        return features
    _, numbers = ops.top_k(ops.std(features, axis=(1, 2)), count)
    return ops.take_along_axis(features, numbers[:, None, None, :], axis=-1)


def _mask(feature: Any, size: tuple[int, int]) -> Any:
    mask = upsample(feature, size)
    mask = mask - ops.min(mask, axis=(1, 2), keepdims=True)
    return ops.divide_no_nan(mask, ops.max(mask, axis=(1, 2), keepdims=True))


def _weights(scores: Any, features: Any) -> Any:
    """Softmax over the feature maps with a range; 0 for the others."""
    has_range = ops.max(features, axis=(1, 2)) > ops.min(features, axis=(1, 2))
    scores = ops.where(has_range, scores, _LEFT_OUT)
    # Not `ops.softmax`: it warns of a single map, which is a fair choice here.
    shares = ops.exp(scores - ops.max(scores, axis=-1, keepdims=True))
    shares = shares * ops.cast(has_range, shares.dtype)
    return ops.divide_no_nan(shares, ops.sum(shares, axis=-1, keepdims=True))
