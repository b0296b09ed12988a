"""Writes a comparison of methods to a folder: sheet, box plots, table.

With `cli`, the only module that reaches for `plots`.
"""

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


def write_response(
    directory: str | Path,
    name: str,
    image: np.ndarray,
    result: Mapping[str, np.ndarray],
    *,
    title: str | None = None,
    units: int = 9,
) -> list[Path]:
    """Writes the attentive response map of one image: raw, and as pictures.

    Args:
        directory: Where to write; made where it does not exist.
        name: How the names of the files start.
        image: `(height, width, channels)` in [0, 1].
        result: That image's part of what `hrcam.attentive_response_maps` returns:
            `units` `(n,)`, `unit_maps` `(n, height, width, channels)`, `response`
            and `dominant_unit` `(height, width)`.
        title: Beside the image, in the pictures.
        units: How many single maps to draw, at most those there are.

    Returns:
        The files: `<name>_response.npz` with `units`, `response` and `dominant_unit`
        as they are, `<name>_response.png` and `<name>_units.png`.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    raw = directory / f"{name}_response.npz"
    kept = ("units", "response", "dominant_unit")
    np.savez_compressed(raw, **{key: result[key] for key in kept})
    one = {key: value[None] for key, value in result.items()}
    titles = None if title is None else [title]
    sheet = plots.response_sheet(image[None], one, titles=titles)
    shown = min(units, len(result["units"]))
    single = plots.unit_sheet(image[None], one, units=shown, titles=titles)
    files = [raw]
    for what, figure in (("response", sheet), ("units", single)):
        files.append(directory / f"{name}_{what}.png")
        figure.savefig(files[-1], dpi=150)
    return files


def claim_directory(directory: str | Path, settings: Mapping[str, Any]) -> None:
    """Notes what a folder's results are made with, and refuses other settings.

    A study that was stopped goes on in its folder; with other settings it would mix
    two studies, and test on images that the first has trained on.

    Args:
        directory: The folder; made where it does not exist.
        settings: What the results depend on, such as parsed arguments.

    Raises:
        FileExistsError: If the folder holds results of other settings.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    note = directory / "settings.json"
    text = json.dumps({k: str(v) for k, v in settings.items()}, indent=2) + "\n"
    if note.exists() and note.read_text() != text:
        raise FileExistsError(
            f"{directory} holds a study with other settings (see settings.json there). "
            "Name another folder with --out, or delete this one."
        )
    note.write_text(text)


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
