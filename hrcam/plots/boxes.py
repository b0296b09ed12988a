"""Scores of methods as box plots, one box a method and threshold.

Up to 8 methods have a colour each and stand side by side at each threshold, as in the
paper's figure 3. More would be too many colours to tell apart: they become rows, named
at the left, and each threshold has a panel.
"""

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
ROW_HEIGHT, ROW_PANEL_WIDTH = 0.2, 2.4  # inches a method; inches a threshold


def score_box_plots(
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    thresholds: Sequence[float] = (0.3, 0.5, 0.8),
) -> Figure:
    """Draws sensitivity and specificity of methods, one box a method and threshold.

    Boxes span the quartiles, the black line is the median, whiskers reach the last
    score within 1.5 quartile distances, dots are the scores beyond. NaN (undefined)
    scores are left out of their box and counted: under the axis if all boxes of a
    panel have the same count, else at each box as defined/all.

    Args:
        scores: Method name to `(sensitivity, specificity)`, each an array of shape
            `(n, len(thresholds))` in [0, 1] or NaN, as
            `hrcam.metrics.sensitivity_specificity` returns.
        thresholds: What the scores' columns stand for.

    Returns:
        The figure. Up to 8 methods: the panels "sensitivity" and "specificity", a group
        of upright boxes a threshold, the legend below. More: two rows of panels, one
        panel a threshold, with a line a method, in the order of the dict.

    Raises:
        TypeError: If `scores` is not a dict.
        ValueError: If there is no method, or if scores have another shape or leave
            [0, 1].

    Reference:
        Shinde et al. (2021), figure 3, https://doi.org/10.7717/peerj-cs.622
    """
    thresholds = np.atleast_1d(thresholds)
    scores = _check_scores(scores, len(thresholds))
    draw = _draw_groups if len(scores) <= len(METHOD_COLORS) else _draw_rows
    return draw(scores, thresholds)


def _draw_groups(
    scores: Mapping[str, list[np.ndarray]], thresholds: np.ndarray
) -> Figure:
    """Draws a group of upright boxes a threshold, one colour a method."""
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


def _draw_rows(
    scores: Mapping[str, list[np.ndarray]], thresholds: np.ndarray
) -> Figure:
    """Draws a panel a score and threshold, in it a lying box a method."""
    names = 0.08 * max(map(len, scores))  # inches
    width = names + 0.4 + ROW_PANEL_WIDTH * len(thresholds)
    height = 2 * (0.9 + ROW_HEIGHT * len(scores))
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.06, wspace=0.02, hspace=0.03)
    panels = figure.subplots(2, len(thresholds), sharey=True, squeeze=False)
    for index, score in enumerate(("sensitivity", "specificity")):
        for column, threshold in enumerate(thresholds):
            panel = panels[index, column]
            panel.set_title(f"{score} at {threshold:g}", fontsize=10)
            _draw_lying_boxes(
                panel, [pair[index][:, column] for pair in scores.values()]
            )
    panels[0, 0].set_yticks(range(len(scores)), scores, parse_math=False)
    panels[0, 0].set_ylim(len(scores) - 0.4, -0.6)  # the first method on top
    return figure


def _draw_lying_boxes(panel: Axes, scores: list[np.ndarray]) -> None:
    """Draws one panel's boxes, a line each, with their counts."""
    counts = []
    for y, values in enumerate(scores):
        defined = values[~np.isnan(values)]
        counts.append((y, len(defined), len(values)))
        if len(defined):
            _draw_box(panel, y, 0.65, defined, METHOD_COLORS[0], lying=True)
    panel.set(xlim=(-0.03, 1.03), xticks=(0, 0.5, 1))
    panel.grid(axis="x", color="0.9")
    panel.grid(axis="y", color="0.95")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    _write_counts(panel, counts, lying=True)


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
    panel: Axes,
    x: float,
    width: float,
    values: np.ndarray,
    color: str,
    *,
    lying: bool = False,
) -> None:
    """Draws one box; `Axes.boxplot` would import pyplot and choose a backend."""
    along, across, bar = panel.vlines, panel.hlines, panel.bar
    if lying:
        along, across, bar = panel.hlines, panel.vlines, panel.barh
    (stats,) = boxplot_stats(values)
    style = _box_style(color)
    edge = {"color": style["edgecolor"], "linewidth": 1}
    along(x, stats["whislo"], stats["whishi"], **edge)
    bar(x, stats["iqr"], width, stats["q1"], zorder=2.1, **style)
    ends = x - width / 2, x + width / 2
    across(stats["med"], *ends, color="black", linewidth=2, zorder=2.2)
    places = np.full(len(stats["fliers"]), x), stats["fliers"]
    panel.plot(*(places[::-1] if lying else places), ".", color=color, markersize=3)


def _box_style(color: str) -> dict[str, Any]:
    face = tuple(0.4 + 0.6 * channel for channel in to_rgb(color))
    edge = tuple(0.75 * channel for channel in to_rgb(color))
    return {"facecolor": face, "edgecolor": edge}


def _write_counts(
    panel: Axes, counts: list[tuple[float, int, int]], *, lying: bool = False
) -> None:
    """Says under the axis how many scores a box has, or at each if they differ."""
    heading = "" if lying else "threshold\n"
    _, defined, total = counts[0]
    if len({count[1:] for count in counts}) == 1:
        undefined = f" of {total}; {total - defined} undefined"
        text = f"n = {defined}{undefined if defined < total else ''}"
        panel.set_xlabel(f"{heading}{text}")
        return
    place = "beside" if lying else "above"
    panel.set_xlabel(f"{heading}n {place} each box: defined / all")
    upright = {"rotation": 90, "ha": "center", "va": "bottom"}
    for x, defined, total in counts:
        panel.annotate(
            f"{defined}/{total}",
            (1, x) if lying else (x, 1),
            (3, 0) if lying else (0, 3),
            xycoords=panel.get_yaxis_transform()
            if lying
            else panel.get_xaxis_transform(),
            textcoords="offset points",
            fontsize=COUNT_SIZE,
            **({"va": "center"} if lying else upright),
        )


def _check_scores(
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]], num_thresholds: int
) -> dict[str, list[np.ndarray]]:
    check_methods("scores", scores)
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
