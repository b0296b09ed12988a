"""All scores of several methods' maps against one set of masks, and their table.

The scores are those of `hrcam.metrics`: the paper's sensitivity and specificity at
fixed thresholds of the min-max normalised map (Shinde et al. 2021, figure 3), and
scores that need no threshold.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from hrcam import metrics
from hrcam.normalize import min_max_normalize

THRESHOLDS = (0.3, 0.5, 0.8)


class MapScores(NamedTuple):
    """Scores of one method, one row an image; NaN where a score is undefined.

    Attributes:
        sensitivity: `(images, thresholds)`, of the normalised map.
        specificity: `(images, thresholds)`, of the normalised map.
        pixel_auc: `(images,)`, and so the rest.
        pixel_average_precision: Base value: the share of the mask in the image.
        best_iou: The largest over all thresholds.
        pointing_game: Whether the maximum lies inside.
        energy_inside: Share of the positive part of the raw map inside.
    """

    sensitivity: np.ndarray
    specificity: np.ndarray
    pixel_auc: np.ndarray
    pixel_average_precision: np.ndarray
    best_iou: np.ndarray
    pointing_game: np.ndarray
    energy_inside: np.ndarray


def score_maps(
    maps: Mapping[str, np.ndarray],
    masks: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict[str, MapScores]:
    """Scores every method's maps against the same masks.

    Args:
        maps: Method -> raw maps `(images, height, width)`.
        masks: `(images, height, width)` bool.
        thresholds: In [0, 1], for sensitivity and specificity.

    Returns:
        Method -> scores.

    Raises:
        ValueError: If shapes differ, or a map holds NaN.
    """
    return {method: _score(raw, masks, thresholds) for method, raw in maps.items()}


def _score(raw: np.ndarray, masks: np.ndarray, thresholds: Sequence[float]):
    sensitivity, specificity = metrics.sensitivity_specificity(
        min_max_normalize(raw), masks, thresholds
    )
    return MapScores(
        sensitivity,
        specificity,
        metrics.pixel_auc(raw, masks),
        metrics.pixel_average_precision(raw, masks),
        metrics.best_iou(raw, masks),
        metrics.pointing_game(raw, masks),
        metrics.energy_inside(raw, masks),
    )


def score_rows(
    scores: Mapping[str, MapScores], thresholds: Sequence[float] = THRESHOLDS
) -> list[dict[str, float | str]]:
    """Sums the scores up: a row a method; NaN left out.

    Medians over images of sensitivity and specificity, as in the paper, and means of
    the others.

    Args:
        scores: From `score_maps`.
        thresholds: Those that it was given.

    Returns:
        A list of dicts with `method`, the columns, `images`, the number of images
        whose mask is neither empty nor full, and `blank`, the number of maps without
        a positive value, which "energy inside" leaves out.
    """
    rows = []
    for method, score in scores.items():
        row: dict[str, float | str] = {"method": method}
        for name in ("sensitivity", "specificity"):
            values = getattr(score, name)
            for column, threshold in enumerate(thresholds):
                row[f"{name} {threshold:g}"] = _summary(np.median, values[:, column])
        for name in MapScores._fields[2:]:
            row[name.replace("_", " ")] = _summary(np.mean, getattr(score, name))
        row["images"] = int(np.isfinite(score.pixel_auc).sum())
        row["blank"] = int(np.isnan(score.energy_inside).sum())
        rows.append(row)
    return rows


def _summary(statistic, values: np.ndarray) -> float:
    values = values[~np.isnan(values)]
    return float(statistic(values)) if len(values) else float("nan")


def markdown_table(rows: Sequence[Mapping[str, float | str]]) -> str:
    """Writes rows as a Markdown table; numbers with three decimals."""
    columns = list(rows[0])
    lines = [columns, ["---"] * len(columns)]
    lines += [[_cell(row[column]) for column in columns] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: float | str) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
