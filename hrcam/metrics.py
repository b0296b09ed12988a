"""Scores of heat maps against masks.

Every score of a map takes `maps`, `(images, height, width)` real numbers, and
`masks` of the same shape, bool or 0/1, true on the finding; it returns one float64
an image, NaN where the score is 0/0. Average with `np.nanmean` / `np.nanmedian` and
report how many were NaN.

A threshold t finds the pixels with `map >= t`. Of the pixels found, P are mask
pixels of the mask's M: sensitivity P / M, IoU P / (found + M - P). Only
`sensitivity_specificity` (the protocol of Shinde et al. 2021, figure 3) takes fixed
thresholds and so maps in [0, 1]; the other scores go over all of a map's own values
and take raw maps. Pixels of equal value are found together, as in scikit-learn.
"""

from collections.abc import Callable, Sequence

import numpy as np


def sensitivity_specificity(
    maps: np.ndarray,
    masks: np.ndarray,
    thresholds: Sequence[float] = (0.3, 0.5, 0.8),
) -> tuple[np.ndarray, np.ndarray]:
    """Scores the pixels that reach a threshold: the paper's protocol.

    Args:
        maps: `(images, height, width)`, normalised to [0, 1].
        masks: The same shape, bool or 0/1.
        thresholds: A pixel counts as found when `map >= threshold`, compared in
            the map's own precision (float32 0.7 reaches the threshold 0.7).

    Returns:
        Sensitivity, the share of mask pixels found, and specificity, the share of
        other pixels not found; both float64 `(images, thresholds)`. NaN:
        sensitivity of an empty mask, specificity of a full one.

    Raises:
        ValueError: If a map leaves [0, 1] or holds NaN, if the shapes differ, if a
            mask is not 0/1, or if a threshold is not in [0, 1].

    Reference:
        Shinde et al. (2021), PeerJ CS 7:e622, section "Simulated data", figure 3.
    """
    maps, masks = checked(maps, masks)
    if maps.size and (maps.min() < 0 or maps.max() > 1):
        raise ValueError(
            "`maps` must be in [0, 1], or the thresholds mean nothing. Received: "
            f"values from {maps.min():.3g} to {maps.max():.3g}. "
            "Use `hrcam.min_max_normalize` first."
        )
    limits = np.atleast_1d(np.asarray(thresholds, np.float64))
    if limits.ndim != 1 or not ((limits >= 0) & (limits <= 1)).all():
        raise ValueError(f"`thresholds` must be in [0, 1]. Received: {thresholds}")
    limits = limits.astype(maps.dtype)
    counts = np.array(
        [
            [_found(one_map, mask, limit) for limit in limits]
            for one_map, mask in zip(maps, masks, strict=True)
        ]
    ).reshape(len(maps), len(limits), 2)
    inside = np.count_nonzero(masks, axis=(1, 2))[:, None]
    outside = masks[0].size - inside if len(masks) else inside
    with np.errstate(invalid="ignore"):  # 0/0 of an empty or full mask is the NaN
        return counts[..., 0] / inside, (outside - counts[..., 1]) / outside


def pixel_auc(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each map's pixels, in [0, 1]; 0.5 is chance.

    The chance that a mask pixel is higher than another pixel; equal values count
    half. NaN for an empty and for a full mask.

    Args:
        maps: `(images, height, width)`, raw or normalised.
        masks: The same shape, bool or 0/1.

    Returns:
        `(images,)`.

    Raises:
        ValueError: If a map is not finite, the shapes differ, or a mask is not 0/1.
    """
    return _score_each(_auc, maps, masks)


def pixel_average_precision(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Average precision of each map's pixels; chance is the mask's share of pixels.

    The sum over thresholds of precision times the gain in sensitivity. NaN for an
    empty mask.

    Args:
        maps: `(images, height, width)`, raw or normalised.
        masks: The same shape, bool or 0/1.

    Returns:
        `(images,)`.

    Raises:
        ValueError: If a map is not finite, the shapes differ, or a mask is not 0/1.
    """
    return _score_each(_average_precision, maps, masks)


def best_iou(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Intersection over union at each map's best threshold (all are tried).

    At least the mask's share of pixels, since the lowest threshold finds every
    pixel: an upper bound of what thresholding can give, not what a fixed threshold
    gives. NaN for an empty mask.

    Args:
        maps: `(images, height, width)`, raw or normalised.
        masks: The same shape, bool or 0/1.

    Returns:
        `(images,)`.

    Raises:
        ValueError: If a map is not finite, the shapes differ, or a mask is not 0/1.
    """
    return _score_each(_best_iou, maps, masks)


def pointing_game(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Is the map's maximum inside the mask? 1.0 or 0.0.

    With several equal maxima: the share of them inside, which is what picking one
    at random would score. So a constant map scores the mask's share of pixels and
    a saturated one gains nothing by the order of its pixels. NaN for an empty mask.

    Args:
        maps: `(images, height, width)`, raw or normalised.
        masks: The same shape, bool or 0/1.

    Returns:
        `(images,)`.

    Raises:
        ValueError: If a map is not finite, the shapes differ, or a mask is not 0/1.

    Reference:
        Zhang et al. (2018), doi:10.1007/s11263-017-1059-x; no tolerance in pixels.
    """
    return _score_each(_maximum_inside, maps, masks)


def energy_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of the map's positive part that lies inside the mask, in [0, 1].

    0 for an empty mask; NaN for a map without a positive pixel. Not invariant to
    an added constant: score raw maps, or normalised ones, and say which.

    Args:
        maps: `(images, height, width)`, raw or normalised.
        masks: The same shape, bool or 0/1.

    Returns:
        `(images,)`.

    Raises:
        ValueError: If a map is not finite, the shapes differ, or a mask is not 0/1.

    Reference:
        Wang et al. (2020), Score-CAM, arXiv:1910.01279, section 4.3.
    """
    return _score_each(_energy_inside, maps, masks)


def _score_each(score: Callable, maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Returns one score an image; image by image, so memory stays that of one."""
    maps, masks = checked(maps, masks)
    scores = [score(one_map, mask) for one_map, mask in zip(maps, masks, strict=True)]
    return np.array(scores, np.float64)


def _found(one_map: np.ndarray, mask: np.ndarray, limit: float) -> tuple[int, int]:
    """Returns how many mask pixels, and how many others, reach the limit."""
    found = one_map >= limit
    hits = np.count_nonzero(found & mask)
    return hits, np.count_nonzero(found) - hits


def _curve(one_map: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels and mask pixels found at each distinct value, high to low."""
    order = np.argsort(one_map, axis=None)[::-1]
    values = one_map.ravel()[order]
    # Equal values are found together: count at the last pixel of each run.
    ends = np.append(np.flatnonzero(values[1:] != values[:-1]), values.size - 1)
    return ends + 1, np.cumsum(mask.ravel()[order])[ends]


def _auc(one_map, mask):
    inside = np.count_nonzero(mask)
    if inside in (0, mask.size):
        return np.nan
    found, hits = _curve(one_map, mask)
    hits, misses = (np.insert(count, 0, 0) for count in (hits, found - hits))
    area = np.sum(np.diff(misses) * (hits[1:] + hits[:-1])) / 2  # trapezia, in pixels
    return area / (inside * (mask.size - inside))


def _average_precision(one_map, mask):
    if not mask.any():
        return np.nan
    found, hits = _curve(one_map, mask)
    return np.sum(np.diff(hits, prepend=0) * (hits / found)) / hits[-1]


def _best_iou(one_map, mask):
    if not mask.any():
        return np.nan
    found, hits = _curve(one_map, mask)
    return (hits / (found + hits[-1] - hits)).max()


def _maximum_inside(one_map, mask):
    return mask[one_map == one_map.max()].mean() if mask.any() else np.nan


def _energy_inside(one_map, mask):
    highest = one_map.max()
    if highest <= 0:
        return np.nan
    energy = np.maximum(one_map, 0) / np.float64(highest)  # no overflow in the sum
    return energy[mask].sum() / energy.sum()


def checked(maps: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns maps in floats and masks in bool; raises what the scores say."""
    maps, masks = np.asarray(maps), np.asarray(masks)
    if maps.ndim != 3 or maps.shape != masks.shape or 0 in maps.shape[1:]:
        raise ValueError(
            "`maps` and `masks` must have one shape (images, height, width). "
            f"Received: {maps.shape} and {masks.shape}. "
            "A single map: `maps[None]`, `masks[None]`."
        )
    if maps.dtype.kind not in "biuf":
        raise ValueError(f"`maps` must be real numbers. Received: {maps.dtype}")
    maps = maps if maps.dtype.kind == "f" else maps.astype(np.float64)
    low, high = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))  # NaN comes through both
    broken = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if broken.size:
        raise ValueError(
            "Every value of `maps` must be finite. Received: NaN or infinity in "
            f"{broken.size} maps, first at {broken[:5].tolist()}"
        )
    if masks.dtype != bool:
        if not ((masks == 0) | (masks == 1)).all():
            raise ValueError(
                "`masks` must be bool or 0/1. Received: "
                f"{masks.dtype} from {masks.min()} to {masks.max()}. "
                "Choose a cut, such as `masks > 127` for 8-bit files."
            )
        masks = masks.astype(bool)
    return maps, masks
