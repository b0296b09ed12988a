"""Writes a comparison of methods to a folder: sheet, box plots, table."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrcam import plots
from hrcam.evaluation import (
    THRESHOLDS,
    MapScores,
    markdown_table,
    score_maps,
    score_rows,
)


def write_comparison(
    directory: str | Path,
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    masks: np.ndarray,
    *,
    drawn: Sequence[str] | None = None,
    row_titles: Sequence[str] | None = None,
    num_rows: int = 6,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Scores the maps and writes `sheet.png`, `boxes.png` and `scores.*`.

    Args:
        directory: Where to write; made where it does not exist.
        images: `(n, height, width, channels)` in [0, 1].
        maps: Method -> raw maps `(n, height, width)`.
        masks: `(n, height, width)` bool.
        drawn: The methods in the pictures; `None` draws all.
        row_titles: A title an image.
        num_rows: How many images, from the first on, the sheet shows.
        facts: What made the numbers (seed, size, accuracy, ...), written beside them.

    Returns:
        The table of scores in Markdown, as in `scores.md`.

    Raises:
        ValueError: If shapes differ, or a map holds NaN.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    drawn = list(maps) if drawn is None else list(drawn)
    first = slice(0, num_rows)
    sheet = plots.comparison_sheet(
        images[first],
        {name: maps[name][first] for name in drawn},
        masks[first],
        row_titles=None if row_titles is None else list(row_titles)[first],
    )
    sheet.savefig(directory / "sheet.png", dpi=150)
    scores = score_maps(maps, masks)
    boxes = {
        name: (scores[name].sensitivity, scores[name].specificity) for name in drawn
    }
    plots.score_box_plots(boxes, THRESHOLDS).savefig(directory / "boxes.png", dpi=150)
    return _write_scores(directory, scores, dict(facts or {}))


def _write_scores(
    directory: Path, scores: Mapping[str, MapScores], facts: dict[str, Any]
) -> str:
    rows = score_rows(scores)
    table = markdown_table(rows)
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    Path(directory, "scores.md").write_text("\n".join([table, "", *lines, ""]))
    record = json.dumps({"facts": facts, "scores": rows}, indent=2)
    Path(directory, "scores.json").write_text(record + "\n")
    with Path(directory, "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table
