"""Methods over all thresholds: a ROC panel and a precision panel.

Both have the mean sensitivity, so that a method's markers, its points at the paper's
thresholds, can be followed from one panel to the other.

Reference:
    Shinde et al. (2021), figure 3 (the thresholds), doi:10.7717/peerj-cs.622
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from hrcam.plots._checks import check_methods
from hrcam.plots.boxes import METHOD_COLORS
from hrcam.sweep import ThresholdCurve

LINE_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1)))  # a style for each 8 methods
MARKERS = ("o", "s", "^", "D", "v")
PANEL = 4.0  # inches
CHANCE = {"color": "0.55", "linewidth": 1, "zorder": 1}


def threshold_curves(
    curves: Mapping[str, ThresholdCurve], marked: Sequence[float] = (0.3, 0.5, 0.8)
) -> Figure:
    """Draws mean sensitivity against false positive rate, and mean precision.

    A point of a line is a threshold of the normalised maps; the grey lines are chance:
    the diagonal, and the mean share of the mask's pixels.

    Args:
        curves: Method name to what `hrcam.sweep.threshold_curve` returned, of the same
            masks. At most 24 methods: 8 colours, 3 line styles.
        marked: Thresholds of the curves with a marker, at most 5.

    Returns:
        The figure: the panels "ROC" and "precision", the legend to the right in the
        order of the dict.

    Raises:
        TypeError: If `curves` is not a dict.
        ValueError: If there is no method or more than 24, if the curves differ in
            their images or chance, or if a marked threshold is not one of a curve's.

    Example:
        >>> counts = threshold_counts(hrcam.min_max_normalize(maps), masks)
        >>> figure = threshold_curves({"HR-CAM": threshold_curve(counts)})
        >>> figure.savefig("curves.png", dpi=150)
    """
    _check_curves(curves, marked)
    styles = [(color, style) for style in LINE_STYLES for color in METHOD_COLORS]
    num_lines = len(curves) + len(marked) + 2  # of the legend
    width = 2 * PANEL + 0.7 + 0.07 * max(map(len, curves))
    height = max(PANEL + 0.3, 0.3 + 0.17 * num_lines)
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
    roc, precision = figure.subplots(1, 2)
    lines = []
    for curve, (color, style) in zip(curves.values(), styles, strict=False):
        look = {"color": color, "linestyle": style, "linewidth": 1.6}
        x, y = curve.false_positive_rate, curve.sensitivity
        lines.append(_draw_curve(roc, x, y, curve.thresholds, marked, look))
        _draw_curve(precision, y, curve.precision, curve.thresholds, marked, look)
    first = next(iter(curves.values()))
    roc.plot([0, 1], [0, 1], **CHANCE)
    precision.axhline(first.chance, **CHANCE)
    _label(roc, "1 - specificity", "sensitivity")
    _label(precision, "sensitivity", "precision")
    left_out = f"; {first.left_out} left out" if first.left_out else ""
    figure.supxlabel(f"means over n = {first.images} images{left_out}", fontsize=9)
    _add_legend(figure, dict(zip(curves, lines, strict=True)), marked)
    return figure


def _draw_curve(
    panel: Axes,
    x: np.ndarray,
    y: np.ndarray,
    thresholds: np.ndarray,
    marked: Sequence[float],
    look: Mapping,
) -> Line2D:
    """Draws one line, with a marker at each of the marked thresholds."""
    (line,) = panel.plot(x, y, **look)
    for threshold, marker in zip(marked, MARKERS, strict=False):
        point = np.isclose(thresholds, threshold)
        style = {"color": look["color"], "markeredgecolor": "white", "zorder": 3}
        panel.plot(x[point], y[point], marker, markersize=6, **style)
    return line


def _label(panel: Axes, x: str, y: str) -> None:
    panel.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    panel.set_box_aspect(1)
    panel.grid(color="0.93")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _add_legend(
    figure: Figure, lines: Mapping[str, Line2D], marked: Sequence[float]
) -> None:
    points = [
        Line2D([], [], color="0.3", marker=marker, linestyle="", label=f"{t:g}")
        for t, marker in zip(marked, MARKERS, strict=False)
    ]
    heading = [Line2D([], [], linestyle="", label="threshold")] if points else []
    handles = [*lines.values(), Line2D([], [], **CHANCE), *heading, *points]
    labels = [*lines, "chance", *[line.get_label() for line in [*heading, *points]]]
    legend = figure.legend(
        handles, labels, loc="outside right upper", fontsize=8, frameon=False
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a "$" in a name is a dollar


def _check_curves(
    curves: Mapping[str, ThresholdCurve], marked: Sequence[float]
) -> None:
    check_methods("curves", curves)
    most = len(METHOD_COLORS) * len(LINE_STYLES)
    if len(curves) > most:
        raise ValueError(
            f"`curves` must have at most {most} methods, for as many colours and line "
            f"styles. Received: {len(curves)}. Draw several figures."
        )
    facts = {name: (c.images, c.left_out, c.chance) for name, c in curves.items()}
    first = next(iter(facts.values()))
    if not all(np.allclose(fact, first, equal_nan=True) for fact in facts.values()):
        raise ValueError(
            "All `curves` must be of the same masks. Received: (images, left out, "
            f"chance) of {facts}"
        )
    for name, curve in curves.items():
        lacking = [t for t in marked if not np.isclose(curve.thresholds, t).any()]
        if lacking or len(marked) > len(MARKERS):
            raise ValueError(
                f"`marked` must be at most {len(MARKERS)} thresholds of the curves. "
                f"Received: {list(marked)}, of which {lacking} are not in "
                f"`curves[{name!r}].thresholds`. Mark none: `marked=()`."
            )
