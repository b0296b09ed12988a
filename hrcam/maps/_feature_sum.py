"""The weighted sum of feature maps that CAM, Grad-CAM and HR-CAM share."""

from collections.abc import Sequence
from typing import Any

from keras import ops


def weighted_feature_maps(features: Sequence[Any], weights: Any) -> list[Any]:
    """Sums each layer's feature maps at their own size, one weight a map and image.

    Bilinear resizing is linear, so a layer's maps are summed first and the one
    resulting map is resized: the result of resizing all maps, as Eq. 3 is written,
    at a fraction of its time and memory.

    Args:
        features: Tensors `(batch, height_l, width_l, channels_l)`, one a layer.
        weights: Tensor `(batch, N)`, N the sum of all `channels_l`, in their order.

    Returns:
        Tensors `(batch, height_l, width_l)` in float32.

    Raises:
        ValueError: If there is not one weight for each feature map.
    """
    channels = [feature.shape[-1] for feature in features]
    if weights.shape[-1] != sum(channels):
        raise ValueError(
            f"Expected {sum(channels)} weights, one a feature map ({channels} by "
            f"layer). Received: {weights.shape[-1]}"
        )
    maps, start = [], 0
    for feature, count in zip(features, channels, strict=True):
        part = weights[:, start : start + count]
        maps.append(ops.einsum("bhwc,bc->bhw", ops.cast(feature, "float32"), part))
        start += count
    return maps


def upsample(maps: Any, size: tuple[int, int]) -> Any:
    """Resizes maps `(batch, h, w)` to `size`: bilinear with half-pixel centres."""
    resized = ops.image.resize(maps[..., None], size, interpolation="bilinear")
    return resized[..., 0]
