"""How similar are two maps of the same image?

Per image, with a and b the two maps,

* Spearman's rank correlation of a and b, and that of |a| and |b|, over all pixels:
  1 is the same order, 0 none. Maps of an empty background correlate by it alone, so
  look at a control, too: `hrcam.maps.controls.edge_magnitude`, another image's map;
* SSIM of a and b, each min-max normalised: 7x7 windows, data range 1.

NaN is the score of a map that is constant (but for rounding) or not finite; such maps
are counted.

Reference:
    Adebayo et al. (2018), "Sanity checks for saliency maps", NeurIPS,
    https://arxiv.org/abs/1810.03292
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from hrcam.normalize import min_max_normalize


class MapSimilarity(NamedTuple):
    """How similar maps are to others, by image; NaN where a map is blank.

    Attributes:
        spearman: Float64 `(..., n)` in [-1, 1], rank correlation of the raw maps.
        spearman_absolute: The same of the absolute maps.
        ssim: Float64 `(..., n)` in [-1, 1], of the min-max normalised maps.
    """

    spearman: np.ndarray
    spearman_absolute: np.ndarray
    ssim: np.ndarray

    def summary(self) -> dict[str, dict[str, list]]:
        """Sums the scores up over the images, which are the last axis.

        Returns:
            Measure -> `lower quartile`, `median`, `upper quartile` (NaN left out;
            `None` if all are) and `undefined` (how many are NaN), lists `(...)`.
        """
        pairs = zip(self._fields, self, strict=True)
        return {name: _summary(scores) for name, scores in pairs}


def map_similarity(maps: np.ndarray, reference: np.ndarray) -> MapSimilarity:
    """Compares maps with others of the same images.

    Args:
        maps: Real numbers `(..., n, height, width)`, raw.
        reference: Real numbers `(n, height, width)`, raw; at least 7x7 pixels.

    Returns:
        Rank correlations and SSIM, `(..., n)` each; see the module.

    Raises:
        ValueError: If the shapes do not fit, or maps are smaller than 7x7 pixels.
    """
    maps, reference = np.asarray(maps), np.asarray(reference)
    if reference.ndim != 3 or maps.shape[-3:] != reference.shape:
        raise ValueError(
            "`maps` must have shape (..., n, height, width) and `reference` the last "
            f"three of it. Received: {maps.shape} and {reference.shape}."
        )
    similarity = MapSimilarity(*np.empty((3, *maps.shape[:-2])))
    for index in np.ndindex(maps.shape[:-2]):
        pair = maps[index], reference[index[-1]]
        similarity.spearman[index] = _if_varied(_spearman, *pair)
        similarity.spearman_absolute[index] = _if_varied(_spearman, *np.abs(pair))
        similarity.ssim[index] = _if_varied(_ssim, *pair)
    return similarity


def checked_maps(
    maps: Any, images: np.ndarray, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    """Returns what `explain` made as an array, one map an image."""
    maps = np.asarray(maps)
    fits = maps.ndim == 3 and len(maps) == len(images) and maps.dtype.kind in "biuf"
    if not fits or (shape is not None and maps.shape != shape):
        expected = shape or (len(images), "height", "width")
        raise ValueError(
            f"`explain` must return real maps of shape {expected}, one an image. "
            f"Received: {maps.dtype} of shape {maps.shape}."
        )
    return maps


def _if_varied(score: Callable, *pair: np.ndarray) -> float:
    return score(*pair) if _varies(pair[0]) and _varies(pair[1]) else np.nan


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    return spearmanr(one, other, axis=None).statistic


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    pair = min_max_normalize(one), min_max_normalize(other)
    return structural_similarity(*pair, data_range=1.0)


def _varies(one_map: np.ndarray) -> bool:
    """Whether a map is finite, and not constant but for rounding in float32."""
    low, high = float(one_map.min()), float(one_map.max())
    rounding = 8 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    return bool(np.isfinite(high - low)) and high - low > rounding


def _summary(scores: np.ndarray) -> dict[str, list]:
    quartiles = np.full((3, *scores.shape[:-1]), None)
    for index in np.ndindex(scores.shape[:-1]):
        defined = scores[index][~np.isnan(scores[index])]
        if len(defined):
            quartiles[:, *index] = np.quantile(defined, (0.25, 0.5, 0.75))
    names = ("lower quartile", "median", "upper quartile")
    summary = dict(zip(names, quartiles.tolist(), strict=True))
    return summary | {"undefined": np.isnan(scores).sum(axis=-1).tolist()}
