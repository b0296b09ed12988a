"""Writes which images' maps lie where they should not: tables and the worst ones."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hrcam import plots
from hrcam.evaluation import markdown_table
from hrcam.shortcuts import ShortcutTable, shortcut_table


def write_shortcuts(
    directory: str | Path,
    images: np.ndarray,
    maps: np.ndarray,
    labels: Sequence[int] | Sequence[str] | np.ndarray,
    regions: Mapping[str, np.ndarray],
    *,
    method: str,
    expected: str | None = "mask",
    rank_by: str | None = None,
    ids: Sequence[Any] | None = None,
    class_names: Sequence[str] | None = None,
    num_worst: int = 8,
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Writes `shortcuts.csv`, `shortcuts.md` and `worst.png`, the worst first.

    Args:
        directory: Where to write; made where it does not exist.
        images: `(n, height, width, channels)` in [0, 1].
        maps: One method's raw maps `(n, height, width)`.
        labels: A class an image, true or predicted; say in `facts` which.
        regions: One to five, name -> bool `(n, height, width)`; may overlap.
        method: What made the maps, such as `"Grad-CAM of the predicted class"`.
        expected: As for `hrcam.shortcuts.shortcut_table`, and so the next three.
        rank_by: The region that decides the order.
        ids: What to call the images, in every file; row numbers unless given.
        class_names: Names by integer label.
        num_worst: How many images are listed in the Markdown and drawn, at least 1.
        facts: What made the maps (data, network, seed, ...), written beside them.

    Returns:
        The text of `shortcuts.md`.

    Raises:
        TypeError: If `regions` is not a dict.
        ValueError: If shapes differ, a map holds NaN, `num_worst` is below 1, or an
            option is not as for `hrcam.shortcuts.shortcut_table`.
    """
    if num_worst < 1:
        raise ValueError(f"`num_worst` must be at least 1. Received: {num_worst}")
    table = shortcut_table(
        maps,
        labels,
        regions,
        expected=expected,
        rank_by=rank_by,
        ids=ids,
        class_names=class_names,
    )
    worst = table.order[:num_worst]
    figure = plots.shortcut_sheet(
        np.asarray(images)[worst],
        np.asarray(maps)[worst],
        {name: np.asarray(region)[worst] for name, region in regions.items()},
        method=method,
        titles=[_title(row, table.rank_by) for row in table.rows[:num_worst]],
    )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    figure.savefig(directory / "worst.png", dpi=150)
    with Path(directory, "shortcuts.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table.rows[0]))
        writer.writeheader()
        writer.writerows(table.rows)
    text = _text(table, method, num_worst, dict(facts or {}))
    Path(directory, "shortcuts.md").write_text(text)
    return text


def _title(row: Mapping[str, Any], region: str) -> str:
    return (
        f"{row['image']}: {row['class']}\n{region} {row[f'{region} share']:.2f}\n"
        f"its area {row[f'{region} area']:.2f}"
    )


def _text(table: ShortcutTable, method: str, num_worst: int, facts: dict) -> str:
    undefined, unranked = (
        sum(row[key] for row in table.classes) for key in ("undefined", "no region")
    )
    worst = table.rows[:num_worst]
    lines = [
        f"# Where the maps lie: {method}",
        "",
        "Share: of a map's positive part, on the region. Area: of the image's pixels. "
        "Enrichment: share / area; 1 is what a map has that knows nothing of the "
        "region. Regions may overlap.",
        "",
        f'Sorted by the share on "{table.rank_by}", the largest first. Last, and not '
        f"in the medians, come {unranked} of {len(table.rows)} images where that "
        f"region is empty or the whole image, and {undefined} whose map has no "
        "positive pixel (shares undefined, nan).",
        "",
        f'## Classes: share on "{table.rank_by}"',
        "",
        markdown_table(table.classes),
        "",
        f"## The first {len(worst)} images",
        "",
        markdown_table(worst),
        "",
        *(f"- {name}: {value}" for name, value in facts.items()),
    ]
    return "\n".join(lines).rstrip() + "\n"
