"""Percentile bootstrap of whole groups (patients, lesions), of one number an image.

As many groups as there are, drawn with replacement, each with all of its images. The
resamples are counts, not copies: how often an image is drawn weighs its score.
`scipy.stats.bootstrap` draws single values only.
"""

import numpy as np

DRAWN_AT_ONCE = 2**19  # images: some 20 MB


def in_order(
    scores: np.ndarray, groups: np.ndarray | None, defined: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Defined scores in rising order, and the number 0, 1, ... of their groups."""
    scores = scores[defined]
    order = np.argsort(scores)
    if groups is None:
        return scores[order], np.arange(len(order))
    return scores[order], np.unique(groups[defined][order], return_inverse=True)[1]


def intervals(
    scores: np.ndarray, groups: np.ndarray, confidence: float, resamples: int, seed: int
) -> np.ndarray:
    """Returns low and high of the mean, then of the median: `(2, 2)`."""
    num_groups = len(np.unique(groups))
    if num_groups < 2:
        return np.full((2, 2), np.nan)
    rng = np.random.default_rng(seed)
    at_once = max(1, DRAWN_AT_ONCE // len(scores))
    drawn = []
    for start in range(0, resamples, at_once):
        shape = (min(at_once, resamples - start), num_groups)
        drawn.append(_means_and_medians(scores, groups, _draw(shape, rng)))
    tail = (1 - confidence) / 2
    return np.quantile(np.concatenate(drawn, axis=1), (tail, 1 - tail), axis=1).T


def _draw(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Returns how often each group is drawn: `(resamples, groups)`."""
    rows, num_groups = shape
    places = (
        rng.integers(num_groups, size=shape) + num_groups * np.arange(rows)[:, None]
    )
    return np.bincount(places.ravel(), minlength=places.size).reshape(shape)


def _means_and_medians(
    scores: np.ndarray, groups: np.ndarray, times: np.ndarray
) -> np.ndarray:
    """Of rising scores, each repeated as often as its group: `(2, resamples)`."""
    weights = times[:, groups]
    up_to = weights.cumsum(axis=1)
    total = up_to[:, -1]
    # The middle one of `total` repeated scores, or the middle two.
    middle = [
        (up_to > rank[:, None]).argmax(axis=1)
        for rank in ((total - 1) // 2, total // 2)
    ]
    return np.stack([weights @ scores / total, scores[middle].mean(axis=0)])


def checked_groups(groups: np.ndarray | None, num_images: int) -> np.ndarray | None:
    """Returns the groups as `(images,)` str, or raises what is wrong with them."""
    if groups is None:
        return None
    names = list(groups)
    broken = [g for g in names if not isinstance(g, str | int | np.integer) or g == ""]
    if broken or len(names) != num_images:
        raise ValueError(
            f"`groups` must have one str or int an image, {num_images} here; an image "
            "without a group is its own: give it a name of its own. Received: "
            f"{len(names)} groups, such as {(broken or names)[:3]}"
        )
    return np.array([str(name) for name in names])


def check_bootstrap(confidence: float, resamples: int) -> None:
    """Raises an error unless the options are in range."""
    if not 0 < confidence < 1:
        raise ValueError(
            f"`confidence` must be in (0, 1), such as 0.95. Received: {confidence}"
        )
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1. Received: {resamples}")
