"""Raw heat maps to [0, 1]: `(map - min) / (max - min)`, each map by itself.

The paper's thresholds (0.3, 0.5, 0.8) are thresholds of such maps. Division by the
maximum alone would give other pixels: [.4, .5, .9] is [0, .2, 1] here.
"""

import numpy as np


def min_max_normalize(maps: np.ndarray) -> np.ndarray:
    """Scales each map to [0, 1].

    Args:
        maps: Array of shape `(..., height, width)`; raw, any real dtype. Every
            `(height, width)` slice is one map. Not changed.

    Returns:
        float32 array of the same shape: 0 at each map's minimum and 1 at its
        maximum. A constant map, which points nowhere, becomes 0.

    Raises:
        ValueError: If the array has no height and width, is not of real numbers,
            or if a map holds NaN or an infinite value.

    Example:
        >>> min_max_normalize(np.array([[0.4, 0.5, 0.9]]))
        array([[0. , 0.2, 1. ]], dtype=float32)
    """
    maps = np.asarray(maps)
    if maps.ndim < 2 or 0 in maps.shape[-2:] or maps.dtype.kind not in "biuf":
        raise ValueError(
            "`maps` must be real numbers of shape (..., height, width). "
            f"Received: {maps.dtype} of shape {maps.shape}"
        )
    low, high = maps.min(axis=(-2, -1)), maps.max(axis=(-2, -1))
    broken = np.argwhere(~(np.isfinite(low) & np.isfinite(high)))
    if len(broken):
        raise ValueError(
            "Every value of `maps` must be finite; look for overflow (float16) or a "
            "0/0 in the model. Received: NaN or infinity in "
            f"{_named(broken)} of shape {maps.shape}"
        )
    normalized = np.empty(maps.shape, np.float32)
    for index in np.ndindex(maps.shape[:-2]):  # float64 one map at a time: memory
        normalized[index] = _normalized(maps[index].astype(np.float64))
    return normalized


def _normalized(one_map: np.ndarray) -> np.ndarray:
    low, high = one_map.min(), one_map.max()
    if low == high:
        return np.zeros_like(one_map)
    if high / 2 - low / 2 > np.finfo(np.float64).max / 2:  # the range overflows
        one_map, low, high = one_map / 2, low / 2, high / 2
    return (one_map - low) / (high - low)


def _named(broken: np.ndarray) -> str:
    if broken.shape[1] == 0:
        return "the map"
    first = [tuple(index.tolist()) for index in broken[:5]]
    names = [index[0] if len(index) == 1 else index for index in first]
    return f"{len(broken)} maps, first at {names},"
