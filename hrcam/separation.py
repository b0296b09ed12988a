"""Does a map show two structures as two places, or as one?

Figure 5 of Shinde et al. (2021) says by picture that HR-CAM tells the left from the
right substantia nigra where CAM marks one region. Two measures of that, both on the
min-max normalised map m, one value an image; they are ours:

- *Separation*: with p_1 and p_2 the pixels where m is highest in each structure,
  `1 - min(m on the line from p_1 to p_2) / min(m(p_1), m(p_2))`. 0: no dip between the
  two, 1: down to the map's minimum. The line is Bresenham's, its ends included. It says
  nothing about how high the peaks are: a map that ignores both structures may dip
  between them.
- *Verdict* at a threshold: which connected components of `m >= threshold` (pixels that
  touch at a corner belong together) reach which structure.

Reference:
    Shinde et al. (2021), https://doi.org/10.7717/peerj-cs.622, figure 5;
    Bresenham (1965), https://doi.org/10.1147/sj.41.0025
"""

import numpy as np
from skimage.draw import line
from skimage.measure import label

from hrcam.normalize import min_max_normalize

VERDICTS = ("apart", "merged", "one", "none")


def separation_score(maps: np.ndarray, structures: np.ndarray) -> np.ndarray:
    """Returns how far each map falls between the peaks of two structures.

    Args:
        maps: `(images, height, width)`, raw or normalised.
        structures: The same shape, integers: 1 and 2 on the structures, 0 elsewhere.

    Returns:
        `(images,)` float64 in [0, 1]; NaN where the lower peak is the map's minimum.
        Of equal peaks in one structure the first by rows counts.

    Raises:
        ValueError: If a map is not finite, if the shapes differ, or if an image does
            not have both structures.

    Example:
        >>> separation_score([[[0.8, 0.2, 1.0, 0.0]]], [[[1, 0, 2, 0]]])
        array([0.75])
    """
    maps, structures = _checked(maps, structures)
    pairs = zip(maps, structures, strict=True)
    return np.array([_separation(m, s) for m, s in pairs], np.float64)


def structures_found(
    maps: np.ndarray, structures: np.ndarray, threshold: float = 0.5
) -> np.ndarray:
    """Returns how the thresholded map shows two structures.

    Args:
        maps: `(images, height, width)`, raw or normalised.
        structures: The same shape, integers: 1 and 2 on the structures, 0 elsewhere.
        threshold: In (0, 1], of the normalised map.

    Returns:
        `(images,)` str. `"apart"`: both are reached, and no component reaches both;
        `"merged"`: a component reaches both; `"one"`: one of them is reached;
        `"none"`.

    Raises:
        ValueError: As `separation_score`, or if the threshold is not in (0, 1].
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"`threshold` must be in (0, 1]. Received: {threshold}")
    maps, structures = _checked(maps, structures)
    pairs = zip(maps, structures, strict=True)
    return np.array([_verdict(m >= threshold, s) for m, s in pairs], "<U6")


def _checked(maps, structures) -> tuple[np.ndarray, np.ndarray]:
    maps, structures = np.asarray(maps), np.asarray(structures)
    if maps.ndim != 3 or maps.shape != structures.shape:
        raise ValueError(
            "`maps` and `structures` must be (images, height, width), both the same. "
            f"Received: {maps.shape} and {structures.shape}"
        )
    for row, image in enumerate(structures):
        if structures.dtype.kind not in "iu" or not {1, 2} <= set(np.unique(image)):
            raise ValueError(
                "`structures` must be integers with 1 and 2 in every image. Received: "
                f"{structures.dtype}, image {row} with {np.unique(image)[:5]}"
            )
    return min_max_normalize(maps), structures


def _separation(one_map: np.ndarray, structures: np.ndarray) -> float:
    peaks = [_peak(one_map, structures == number) for number in (1, 2)]
    lower = min(one_map[peak] for peak in peaks)
    if lower == 0:
        return np.nan
    rows, columns = line(*peaks[0], *peaks[1])
    return 1 - float(one_map[rows, columns].min()) / float(lower)


def _peak(one_map: np.ndarray, inside: np.ndarray) -> tuple[int, int]:
    highest = np.where(inside, one_map, -1).argmax()
    row, column = np.unravel_index(highest, one_map.shape)
    return int(row), int(column)


def _verdict(found: np.ndarray, structures: np.ndarray) -> str:
    components = label(found, connectivity=2)
    left, right = (set(components[structures == n].tolist()) - {0} for n in (1, 2))
    if left & right:
        return "merged"
    return ("none", "one", "apart")[bool(left) + bool(right)]
