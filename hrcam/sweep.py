"""Threshold sweeps: ROC and precision-recall curves over a set of maps.

At each threshold t of the min-max normalised maps the pixels with `map >= t` are
found, as in `hrcam.metrics.sensitivity_specificity`; of an image's M mask pixels P are
found, of its N others F. Per image: sensitivity P / M, false positive rate F / N
(1 - specificity), precision P / (P + F). The curves are the means of these over
images at each threshold, so that a large finding weighs as much as a small one; the
threshold means the same in every image, as in the paper's figure 3, of which the curve
is the continuation. It is not the curve of all pixels of all images in one bag.

Left open and chosen here: all three curves are of the images whose mask is neither
empty nor full, where the rates are defined. An image in which nothing is found
(a constant map, above threshold 0) has no precision at that threshold: it is left
out of that mean and counted; its sensitivity is 0. Chance is a map that ignores the
mask: on the diagonal of the ROC curve, and with a precision of the mask's share of
pixels.

Counts are integers an image, from one histogram of its pixels, so that chunks of a
large set can be counted one by one:
`counts = ThresholdCounts(*map(np.concatenate, zip(*chunks)))`.

Reference:
    Averaging ROC curves at the thresholds: Fawcett (2006), section 8.2,
    doi:10.1016/j.patrec.2005.10.010.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from hrcam.metrics import checked

SWEEP = np.linspace(0, 1, 101)


class ThresholdCounts(NamedTuple):
    """Pixels found, int64, one row an image.

    Attributes:
        found_inside: `(images, thresholds)`, of the mask's pixels.
        found_outside: `(images, thresholds)`, of the other pixels.
        inside: `(images,)`, the mask's pixels.
        outside: `(images,)`, the other pixels.
    """

    found_inside: np.ndarray
    found_outside: np.ndarray
    inside: np.ndarray
    outside: np.ndarray


class ThresholdCurve(NamedTuple):
    """Means over images at each threshold; arrays are `(thresholds,)`.

    Attributes:
        thresholds: In rising order.
        sensitivity: Also called recall.
        false_positive_rate: 1 - specificity.
        precision: NaN where nothing is found in any image.
        nothing_found: How many images the precision leaves out.
        chance: The mean share of the mask's pixels, the precision of chance.
        images: How many the means are of.
        left_out: How many more have an empty or full mask.
    """

    thresholds: np.ndarray
    sensitivity: np.ndarray
    false_positive_rate: np.ndarray
    precision: np.ndarray
    nothing_found: np.ndarray
    chance: float
    images: int
    left_out: int


def threshold_counts(
    maps: np.ndarray, masks: np.ndarray, thresholds: Sequence[float] = SWEEP
) -> ThresholdCounts:
    """Counts the pixels that reach each threshold.

    Args:
        maps: `(images, height, width)`, normalised to [0, 1].
        masks: The same shape, bool or 0/1.
        thresholds: In rising order; a pixel counts as found when `map >= threshold`,
            compared in the map's own precision.

    Returns:
        `ThresholdCounts`, whose quotients are exactly the numbers of
        `hrcam.metrics.sensitivity_specificity`.

    Raises:
        ValueError: If a map leaves [0, 1] or holds NaN, if the shapes differ, if a
            mask is not 0/1, or if the thresholds do not rise within [0, 1].
    """
    maps, masks = checked(maps, masks)
    if maps.size and (maps.min() < 0 or maps.max() > 1):
        raise ValueError(
            "`maps` must be in [0, 1], or the thresholds mean nothing. Received: "
            f"values from {maps.min():.3g} to {maps.max():.3g}. "
            "Use `hrcam.min_max_normalize` first."
        )
    limits = _checked_thresholds(thresholds).astype(maps.dtype)
    pairs = zip(maps, masks, strict=True)
    counts = np.array([_count(*pair, limits) for pair in pairs], np.int64)
    counts = counts.reshape(len(maps), 2, len(limits) + 1)
    # The first column has no threshold: every pixel.
    return ThresholdCounts(
        counts[:, 1, 1:], counts[:, 0, 1:], counts[:, 1, 0], counts[:, 0, 0]
    )


def threshold_curve(
    counts: ThresholdCounts, thresholds: Sequence[float] = SWEEP
) -> ThresholdCurve:
    """Averages the counts of images to the points of a ROC and a precision curve.

    Args:
        counts: From `threshold_counts`.
        thresholds: Those that it was given.

    Returns:
        A `ThresholdCurve`; all NaN if every mask is empty or full.

    Raises:
        ValueError: If the counts are not of that many thresholds.

    Example:
        >>> counts = threshold_counts(hrcam.min_max_normalize(maps), masks)
        >>> curve = threshold_curve(counts)
        >>> figure = hrcam.plots.threshold_curves({"HR-CAM": curve})
    """
    thresholds = _checked_thresholds(thresholds)
    if counts.found_inside.shape[1:] != thresholds.shape:
        raise ValueError(
            "`counts` must have one column a threshold. Received: "
            f"{counts.found_inside.shape[1:]} columns, {len(thresholds)} thresholds. "
            "Pass those that `threshold_counts` was given."
        )
    used = (counts.inside > 0) & (counts.outside > 0)
    hits, misses, inside, outside = (array[used] for array in counts)
    found = hits + misses
    with np.errstate(invalid="ignore"):  # 0/0 where nothing is found is left out
        precision = _mean(hits / found)
    return ThresholdCurve(
        thresholds,
        _mean(hits / inside[:, None]),
        _mean(misses / outside[:, None]),
        precision,
        np.count_nonzero(found == 0, axis=0),
        float(_mean((inside / (inside + outside))[:, None])[0]),
        int(used.sum()),
        int((~used).sum()),
    )


def _count(one_map: np.ndarray, mask: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Pixels that reach at least 0, 1, ... limits, outside and inside the mask."""
    reached = np.searchsorted(limits, one_map.ravel(), side="right")
    size = len(limits) + 1
    exactly = np.bincount(reached + size * mask.ravel(), minlength=2 * size)
    return exactly.reshape(2, size)[:, ::-1].cumsum(axis=1)[:, ::-1]


def _mean(rates: np.ndarray) -> np.ndarray:
    """Mean of each column; NaN left out, or all NaN."""
    defined = ~np.isnan(rates)
    with np.errstate(invalid="ignore"):  # 0/0 of a column without a number
        return np.where(defined, rates, 0).sum(axis=0) / defined.sum(axis=0)


def _checked_thresholds(thresholds: Sequence[float]) -> np.ndarray:
    limits = np.asarray(thresholds, np.float64)
    if limits.ndim != 1 or not len(limits) or not (np.diff(limits) > 0).all():
        raise ValueError(f"`thresholds` must rise. Received: {thresholds}")
    if not (limits[0] >= 0 and limits[-1] <= 1):
        raise ValueError(f"`thresholds` must be in [0, 1]. Received: {thresholds}")
    return limits
