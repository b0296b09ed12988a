"""Writes a study to a folder: tables, tests against one method, pictures."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track

from hrcam import plots
from hrcam.evaluation import THRESHOLDS, markdown_table, score_rows
from hrcam.statistics import compare, summarize
from hrcam.study import ImageScores, Study
from hrcam.study.run import quiet_maps
from hrcam.sweep import ThresholdCounts, threshold_curve

NUM_DRAWN = 6  # methods in the sheet of pictures
TESTS_NOTE = (
    "Mean difference over images (reference - method), its bootstrap interval over "
    "groups, and two-sided p of the paired t-test and of Wilcoxon's signed-rank test, "
    "each corrected by Holm over the methods of a table."
)


def write_study(
    directory: str | Path,
    study: Study,
    results: Mapping[str, ImageScores],
    reference: str | None = None,
    *,
    drawn: Sequence[str] | None = None,
    facts: Mapping[str, Any] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> str:
    """Writes what came out of `hrcam.study.score_study`.

    * `scores.md`, `.csv`, `.json`: a row a method, and the facts; `summary.csv`: each
      method's scores with quartiles, bootstrap intervals and what was left out, why;
    * `tests.md`, `.csv`: every method against the reference, score by score;
    * `per_image.csv`: every score of every image, by row number;
    * `boxes.png` (figure 3), `curves.png` (ROC and precision-recall, of the methods
      that mapped all images);
    * `sheet.png`: the two images on which the reference does best by pixel average
      precision, the two in the middle and the two worst.

    Args:
        directory: Where to write; made where it does not exist.
        study: What was compared.
        results: Title -> scores, from `score_study`.
        reference: The method that the others are tested against; `None`: the first.
        drawn: The methods in the sheet; `None`: the first six.
        facts: What made the numbers (seed, size, accuracy, ...), written beside them.
        seed: Of the bootstrap.
        progress: Whether to show bars.

    Returns:
        The table of scores in Markdown.

    Raises:
        ValueError: If the reference or a method drawn is not among the results.
    """
    reference = next(iter(results)) if reference is None else reference
    drawn = list(results)[:NUM_DRAWN] if drawn is None else list(drawn)
    unknown = {reference, *drawn} - set(results)
    if unknown:
        raise ValueError(
            f"`reference` and `drawn` must be among {list(results)}. "
            f"Received: {sorted(unknown)}"
        )
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    table = _write_scores(directory, results, dict(facts or {}))
    _write_csv(
        directory / "summary.csv", _summary_rows(results, study.groups, seed, progress)
    )
    _write_csv(directory / "per_image.csv", _image_rows(results, study.class_index))
    if len(results) > 1:
        _write_tests(directory, results, reference, study.groups, seed, progress)
    boxes = {
        title: (result.scores.sensitivity, result.scores.specificity)
        for title, result in results.items()
    }
    plots.score_box_plots(boxes, THRESHOLDS).savefig(directory / "boxes.png", dpi=150)
    curves = {
        title: threshold_curve(ThresholdCounts(*result[1:5]))
        for title, result in results.items()
        if result.mapped.all()  # curves of the same images
    }
    plots.threshold_curves(curves).savefig(directory / "curves.png", dpi=150)
    _draw_sheet(directory / "sheet.png", study, results[reference], reference, drawn)
    return table


def _write_scores(directory: Path, results, facts: dict[str, Any]) -> str:
    rows = score_rows({title: result.scores for title, result in results.items()})
    for row, result in zip(rows, results.values(), strict=True):
        row["blank"] = int(result.blank.sum())
        for name, values in result.further.items():
            row[name] = float(np.nanmean(values)) if not _all_nan(values) else np.nan
    table = markdown_table(rows)
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    Path(directory, "scores.md").write_text("\n".join([table, "", *lines, ""]))
    facts = {name: _plain(value) for name, value in facts.items()}
    record = json.dumps({"facts": facts, "scores": rows}, indent=2)
    Path(directory, "scores.json").write_text(record + "\n")
    _write_csv(Path(directory, "scores.csv"), rows)
    return table


def _summary_rows(results, groups, seed, progress) -> list[dict[str, Any]]:
    rows = []
    for title, result in track(
        results.items(), "Intervals", len(results), disable=not progress
    ):
        for score, values in result.columns().items():
            summary = summarize(values, groups, reasons=result.reasons(), seed=seed)
            left_out = "; ".join(f"{n} {why}" for why, n in summary.left_out.items())
            numbers = summary._asdict() | {"left_out": left_out}
            rows.append({"method": title, "score": score} | numbers)
    return rows


def _image_rows(results, class_index) -> list[dict[str, Any]]:
    rows = []
    for title, result in results.items():
        columns = result.columns()
        reasons = result.reasons()
        for row, index in enumerate(class_index):
            scores = {name: values[row] for name, values in columns.items()}
            fixed = {"image": row, "class": int(index), "method": title}
            rows.append(fixed | scores | {"undefined because": reasons[row]})
    return rows


def _write_tests(
    directory: Path, results, reference: str, groups, seed, progress
) -> None:
    columns = {title: result.columns() for title, result in results.items()}
    rows, text = [], [f"{TESTS_NOTE} Reference: {reference}.", ""]
    for score in track(columns[reference], "Tests", disable=not progress):
        scores = {title: column[score] for title, column in columns.items()}
        compared = compare(scores, reference, groups, seed=seed)
        rows += [{"score": score} | c._asdict() for c in compared]
        shown = [
            {
                "method": c.method,
                "images": c.images,
                f"{reference} - method": c.mean_difference,
                "95 % interval": f"{c.low:.3f} to {c.high:.3f}",
                "t-test": _p_value(c.t_p_holm),
                "Wilcoxon": _p_value(c.wilcoxon_p_holm),
            }
            for c in compared
        ]
        text += [f"## {score}", "", markdown_table(shown), ""]
    Path(directory, "tests.md").write_text("\n".join(text))
    _write_csv(directory / "tests.csv", rows)


def _p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def _draw_sheet(file: Path, study: Study, result, reference: str, drawn) -> None:
    """Draws the best, the middle and the worst images of the reference."""
    precision = result.scores.pixel_average_precision
    order = np.argsort(-precision, kind="stable")
    order = order[~np.isnan(precision[order])]
    if not len(order):
        return
    middle = len(order) // 2
    places = dict.fromkeys(  # in order, none twice
        int(order[i])
        for i in (0, 1, middle - 1, middle, -2, -1)
        if -len(order) <= i < len(order)
    )
    rows = np.array([*places])
    images, masks = study.load(rows)
    classes = np.asarray(study.class_index)[rows]
    maps = {title: quiet_maps(study.methods[title], images, classes) for title in drawn}
    titles = [f"{reference} AP {precision[r]:.2f}\nimage {r}" for r in rows]
    sheet = plots.comparison_sheet(images, maps, masks, row_titles=titles)
    sheet.savefig(file, dpi=150)


def _write_csv(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _all_nan(values: np.ndarray) -> bool:
    return bool(np.isnan(values).all())


def _plain(value: Any) -> Any:
    """Values that JSON knows; others as text."""
    try:
        json.dumps(value)
    except TypeError:
        return str(value)
    return value
