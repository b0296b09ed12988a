"""What the scores of a test set say: averages, their uncertainty, paired tests.

A score is one number an image, NaN where it is undefined; NaN is left out and counted.

Intervals are percentile bootstrap intervals: draw as many groups (patients, lesions)
as there are, with replacement, each with all of its images; take the mean or median
of the images drawn; repeat; cut (1 - confidence) / 2 off either end. Images of one
patient resemble each other, so drawing images would make the interval too short.

Methods are compared on the differences d = reference - method of the images where
both are defined: by the paired t-test, as in Shinde et al. (2021), and by Wilcoxon's
signed-rank test, which does not take d for normally distributed. Both take d for
independent. Of m p-values in rising order, Holm's k-th is the largest of
(m - j + 1) p_j, j = 1 ... k, at most 1: the chance of any false alarm among m tests
stays below the level.

Left open by the paper and chosen here: two-sided tests; differences of zero are left
out of Wilcoxon's ranks, as he did; no interval from fewer than two groups, whose
spread nothing tells.

Reference:
    Shinde et al. (2021), doi:10.7717/peerj-cs.622, figure 3. Wilcoxon (1945),
    doi:10.2307/3001968. Holm (1979), Scandinavian Journal of Statistics 6(2), 65-70.
    Whole clusters, with replacement: Field and Welsh (2007),
    doi:10.1111/j.1467-9868.2007.00593.x.
"""

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from scipy import stats

from hrcam._bootstrap import check_bootstrap, checked_groups, in_order, intervals


class Summary(NamedTuple):
    """One method's scores in numbers; all NaN where no score is defined.

    Attributes:
        images: How many have a score; the numbers below are theirs.
        left_out: Reason -> how many images have none.
        groups: Of the images that have a score.
        mean: And so `median`, `lower_quartile`, `upper_quartile`.
        mean_low: `mean_low` to `mean_high` is the mean's interval; NaN below 2 groups.
        median_low: `median_low` to `median_high` is the median's.
    """

    images: int
    left_out: dict[str, int]
    groups: int
    mean: float
    median: float
    lower_quartile: float
    upper_quartile: float
    mean_low: float
    mean_high: float
    median_low: float
    median_high: float


class Comparison(NamedTuple):
    """A method against the reference; positive where the reference is higher.

    Attributes:
        method: Its name.
        reference: The other's name.
        images: Those where both have a score.
        left_out: Those where one or both have none.
        groups: Of the images compared; what the tests count with `by_group`.
        mean_difference: Mean over images of reference - method.
        low: Of its interval; NaN below 2 groups.
        high: Of its interval.
        t: Of the paired t-test.
        t_p: Two-sided; NaN below 2 pairs, or if all differences are 0.
        t_p_holm: The same after Holm, over the methods of the call.
        wilcoxon: The smaller sum of ranks, of the rises or of the falls.
        wilcoxon_p: Two-sided; NaN where `t_p` is.
        wilcoxon_p_holm: The same after Holm, over the methods of the call.
    """

    method: str
    reference: str
    images: int
    left_out: int
    groups: int
    mean_difference: float
    low: float
    high: float
    t: float
    t_p: float
    t_p_holm: float
    wilcoxon: float
    wilcoxon_p: float
    wilcoxon_p_holm: float


def summarize(
    scores: np.ndarray,
    groups: np.ndarray | None = None,
    *,
    reasons: np.ndarray | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Summary:
    """Sums the scores of one method up, with bootstrap intervals over groups.

    Args:
        scores: `(images,)`, NaN where undefined.
        groups: `(images,)` str or int, the patient or lesion; `None`: every image is
            its own.
        reasons: `(images,)` str, why a score is NaN (read there only); `None`:
            "undefined".
        confidence: Of the intervals, in (0, 1).
        resamples: How often groups are drawn.
        seed: The same seed gives the same intervals.

    Returns:
        A `Summary`. It does not depend on the order of the images.

    Raises:
        ValueError: If the shapes do not fit, a score is infinite, a group is neither
            str nor int, or an option is out of range.

    Example:
        >>> summary = summarize(metrics.pixel_auc(maps, masks), table.groups)
        >>> summary.median, summary.median_low, summary.median_high
    """
    scores = _checked_scores("scores", scores)
    groups = checked_groups(groups, len(scores))
    check_bootstrap(confidence, resamples)
    undefined = np.isnan(scores)
    left_out = _count_reasons(reasons, undefined)
    scores, groups = in_order(scores, groups, ~undefined)
    if not len(scores):
        return Summary(0, left_out, 0, *[np.nan] * 8)
    ends = intervals(scores, groups, confidence, resamples, seed).ravel().tolist()
    lower, middle, upper = np.quantile(scores, (0.25, 0.5, 0.75)).tolist()
    numbers = (float(scores.mean()), middle, lower, upper, *ends)
    return Summary(len(scores), left_out, int(groups.max()) + 1, *numbers)


def compare(
    scores: Mapping[str, np.ndarray],
    reference: str,
    groups: np.ndarray | None = None,
    *,
    by_group: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> list[Comparison]:
    """Compares every method with the reference, image by image.

    The paper tests over images. Images of one patient are not independent, so that
    p-values over images are too small where patients have several: report those of
    `by_group=True`, or the interval, which draws whole groups either way.

    Args:
        scores: Method -> `(images,)`, NaN where undefined; the same images in the
            same order.
        reference: The method that the others are compared with.
        groups: `(images,)` str or int, the patient or lesion; `None`: every image is
            its own.
        by_group: Test the means over each group, not the images.
        confidence: Of the intervals, in (0, 1).
        resamples: How often groups are drawn.
        seed: The same seed gives the same intervals.

    Returns:
        One `Comparison` a method, in the order of `scores`, without the reference.
        It does not depend on the order of the images.

    Raises:
        TypeError: If `scores` is not a dict.
        ValueError: If there is no other method, if the shapes do not fit, a score is
            infinite, a group is neither str nor int, or an option is out of range.

    Example:
        >>> scores = {"HR-CAM": hr_cam_auc, "CAM": cam_auc}
        >>> compare(scores, "HR-CAM", table.groups, by_group=True)
    """
    scores = _checked_methods(scores, reference)
    if by_group and groups is None:
        raise ValueError(
            "`by_group` must have `groups`. Received: groups=None. Pass `table.groups`."
        )
    groups = checked_groups(groups, len(scores[reference]))
    check_bootstrap(confidence, resamples)
    rows = []
    for method in scores:
        if method == reference:
            continue
        differences = scores[reference] - scores[method]
        paired = ~np.isnan(differences)
        pairs = in_order(differences, groups, paired)
        low, high = intervals(*pairs, confidence, resamples, seed)[0].tolist()
        t, t_p, wilcoxon, wilcoxon_p = _paired_tests(
            _group_means(*pairs) if by_group else pairs[0]
        )
        rows.append(
            Comparison(
                method=method,
                reference=reference,
                images=int(paired.sum()),
                left_out=int((~paired).sum()),
                groups=len(np.unique(pairs[1])),
                mean_difference=float(pairs[0].mean()) if paired.any() else np.nan,
                low=low,
                high=high,
                t=t,
                t_p=t_p,
                t_p_holm=np.nan,
                wilcoxon=wilcoxon,
                wilcoxon_p=wilcoxon_p,
                wilcoxon_p_holm=np.nan,
            )
        )
    t_p = holm([row.t_p for row in rows]).tolist()
    wilcoxon_p = holm([row.wilcoxon_p for row in rows]).tolist()
    return [
        row._replace(t_p_holm=p, wilcoxon_p_holm=q)
        for row, p, q in zip(rows, t_p, wilcoxon_p, strict=True)
    ]


def holm(p_values: np.ndarray) -> np.ndarray:
    """Corrects p-values for their number, by Holm's step-down method.

    Args:
        p_values: `(tests,)` in [0, 1]; NaN is not a test: it stays NaN and does not
            count.

    Returns:
        `(tests,)` float64, in the order given; none below its p-value.

    Raises:
        ValueError: If a p-value is not in [0, 1].
    """
    p_values = np.asarray(p_values, np.float64)
    if p_values.ndim != 1 or ((p_values < 0) | (p_values > 1)).any():
        raise ValueError(
            "`p_values` must be (tests,) numbers in [0, 1], or NaN. "
            f"Received: {p_values}"
        )
    order = np.argsort(p_values)[: np.count_nonzero(~np.isnan(p_values))]  # NaN last
    steps = np.arange(len(order), 0, -1) * p_values[order]
    corrected = np.full(len(p_values), np.nan)
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps))
    return corrected


def _group_means(differences: np.ndarray, groups: np.ndarray) -> np.ndarray:
    return np.bincount(groups, differences) / np.bincount(groups)


def _paired_tests(differences: np.ndarray) -> tuple[float, float, float, float]:
    """Returns t, its p, Wilcoxon's smaller rank sum, its p."""
    if len(differences) < 2 or not differences.any():
        return (np.nan,) * 4
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # equal differences: t is infinite, p is 0
        t = stats.ttest_1samp(differences, 0)
        wilcoxon = stats.wilcoxon(differences[differences != 0])
    return tuple(float(n) for result in (t, wilcoxon) for n in result[:2])


def _count_reasons(reasons: np.ndarray | None, undefined: np.ndarray) -> dict[str, int]:
    if reasons is None:
        reasons = np.full(len(undefined), "undefined")
    reasons = np.asarray(reasons)
    if reasons.shape != undefined.shape:
        raise ValueError(
            f"`reasons` must have one text a score, {undefined.shape}. "
            f'Received: {reasons.shape}. Use "" where a score is defined.'
        )
    texts = [str(reason) or "undefined" for reason in reasons[undefined]]
    return dict(sorted(Counter(texts).items()))


def _checked_methods(
    scores: Mapping[str, np.ndarray], reference: str
) -> dict[str, np.ndarray]:
    if not isinstance(scores, Mapping):
        raise TypeError(
            "`scores` must be a dict of method name to scores. Received: "
            f'{type(scores).__name__}. Name the methods: `{{"HR-CAM": ...}}`.'
        )
    if reference not in scores or len(scores) < 2:
        raise ValueError(
            "`scores` must have the reference and another method. Received: "
            f"reference {reference!r}, scores of {list(scores)}"
        )
    checked = {
        name: _checked_scores(f"scores[{name!r}]", s) for name, s in scores.items()
    }
    counts = {name: len(values) for name, values in checked.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(
            "All `scores` must be of the same images, in the same order. Received: "
            f"{counts} images. Use NaN where a method has no score."
        )
    return checked


def _checked_scores(name: str, scores: np.ndarray) -> np.ndarray:
    scores = np.asarray(scores)
    if scores.ndim != 1 or scores.dtype.kind not in "biuf" or np.isinf(scores).any():
        raise ValueError(
            f"`{name}` must be (images,) finite numbers, or NaN where undefined. "
            f"Received: {scores.dtype} of shape {scores.shape}. "
            "One threshold of several: `sensitivity[:, 0]`."
        )
    return scores.astype(np.float64)
