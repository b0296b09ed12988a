"""Scores of methods as box plots, one box a method and threshold."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from hrcam.plots._checks import check_methods

# Okabe and Ito (2008), told apart by colour-blind readers; black left to the median.
METHOD_COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#D55E00", "#F0E442", "#999999"),
)
COUNT_SIZE = 8  # points


def score_box_plots(
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    thresholds: Sequence[float] = (0.3, 0.5, 0.8),
) -> Figure:
    """Draws sensitivity and specificity of methods, one box a method and threshold.

    Boxes span the quartiles, the black line is the median, whiskers reach the last
    score within 1.5 quartile distances, dots are the scores beyond. NaN (undefined)
    scores are left out of their box and counted: under the axis if all boxes
    have the same count, else above each box as defined/all.

    Args:
        scores: Method name to `(sensitivity, specificity)`, each an array of shape
            `(n, len(thresholds))` in [0, 1] or NaN, as
            `hrcam.metrics.sensitivity_specificity` returns. At most 8 methods.
        thresholds: What the scores' columns stand for; one group of boxes each.

    Returns:
        The figure: the panels "sensitivity" and "specificity", the legend below.

    Raises:
        TypeError: If `scores` is not a dict.
        ValueError: If there is no method or more than 8, or if scores have another
            shape or leave [0, 1].

    Reference:
        Shinde et al. (2021), figure 3, https://doi.org/10.7717/peerj-cs.622
    """
    thresholds = np.atleast_1d(thresholds)
    scores = _check_scores(scores, len(thresholds))
    width = 2 * max(3.2, 0.8 + 0.24 * len(scores) * len(thresholds))
    figure = Figure(figsize=(width, 4.2), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, wspace=0.04)
    for index, panel in enumerate(figure.subplots(1, 2)):
        _draw_boxes(panel, [pair[index] for pair in scores.values()])
        panel.set_ylabel(("sensitivity", "specificity")[index])
        panel.set_xticks(range(len(thresholds)), [f"{t:g}" for t in thresholds])
    # Legend rows as even as can be, at about 9 characters an inch.
    fitting = max(1, int(9 * width) // (max(map(len, scores)) + 8))
    num_rows = -(-len(scores) // fitting)
    colors = zip(scores, METHOD_COLORS, strict=False)
    figure.legend(
        handles=[Patch(label=name, **_box_style(color)) for name, color in colors],
        loc="outside lower center",
        ncols=-(-len(scores) // num_rows),
        frameon=False,
    )
    return figure


def _draw_boxes(panel: Axes, scores: list[np.ndarray]) -> None:
    """Draws one score's boxes, grouped by threshold, with their counts."""
    step = 0.8 / len(scores)
    counts = []  # (x, defined, all) of each box
    for index, (values, color) in enumerate(zip(scores, METHOD_COLORS, strict=False)):
        for group, column in enumerate(values.T):
            defined = column[~np.isnan(column)]
            x = group + (index - (len(scores) - 1) / 2) * step
            counts.append((x, len(defined), len(column)))
            if len(defined):
                _draw_box(panel, x, 0.8 * step, defined, color)
    panel.set(ylim=(-0.03, 1.03), xlim=(-0.5, len(scores[0].T) - 0.5))
    panel.grid(axis="y", color="0.9")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    _write_counts(panel, counts)


def _draw_box(
    panel: Axes, x: float, width: float, values: np.ndarray, color: str
) -> None:
    """Draws one box; `Axes.boxplot` would import pyplot and choose a backend."""
    (stats,) = boxplot_stats(values)
    style = _box_style(color)
    edge = {"color": style["edgecolor"], "linewidth": 1}
    panel.vlines(x, stats["whislo"], stats["whishi"], **edge)
    panel.bar(x, stats["iqr"], width, stats["q1"], zorder=2.1, **style)
    ends = x - width / 2, x + width / 2
    panel.hlines(stats["med"], *ends, color="black", linewidth=2, zorder=2.2)
    fliers = stats["fliers"]
    panel.plot(np.full(len(fliers), x), fliers, ".", color=color, markersize=3)


def _box_style(color: str) -> dict[str, Any]:
    face = tuple(0.4 + 0.6 * channel for channel in to_rgb(color))
    edge = tuple(0.75 * channel for channel in to_rgb(color))
    return {"facecolor": face, "edgecolor": edge}


def _write_counts(panel: Axes, counts: list[tuple[float, int, int]]) -> None:
    """Says under the axis how many scores a box has, or above each if they differ."""
    _, defined, total = counts[0]
    if len({count[1:] for count in counts}) == 1:
        undefined = f" of {total}; {total - defined} undefined"
        text = f"n = {defined}{undefined if defined < total else ''}"
        panel.set_xlabel(f"threshold\n{text}")
        return
    panel.set_xlabel("threshold\nn above each box: defined / all")
    for x, defined, total in counts:
        panel.annotate(
            f"{defined}/{total}",
            (x, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=COUNT_SIZE,
        )


def _check_scores(
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]], num_thresholds: int
) -> dict[str, list[np.ndarray]]:
    check_methods("scores", scores)
    if len(scores) > len(METHOD_COLORS):
        raise ValueError(
            f"`scores` must have at most {len(METHOD_COLORS)} methods, for as many "
            f"colours. Received: {len(scores)}. Draw several figures."
        )
    checked = {name: [np.asarray(a, float) for a in s] for name, s in scores.items()}
    for name, pair in checked.items():
        shapes = [array.shape for array in pair]
        n = pair[0].shape[0] if pair and pair[0].ndim else 0
        if n == 0 or shapes != [(n, num_thresholds)] * 2:
            raise ValueError(
                f"`scores[{name!r}]` must be (sensitivity, specificity), each of shape "
                f"(n, {num_thresholds}): n > 0 rows, one column a threshold. Received: "
                f"shapes {shapes}. Pass what `hrcam.metrics.sensitivity_specificity` "
                "returned, and the thresholds it was given."
            )
        if any(((array < 0) | (array > 1)).any() for array in pair):
            raise ValueError(
                f"`scores[{name!r}]` must be in [0, 1], or NaN where undefined. "
                f"Received: values from {np.nanmin(pair):.3g} to "
                f"{np.nanmax(pair):.3g}. Divide percentages by 100."
            )
    return checked
