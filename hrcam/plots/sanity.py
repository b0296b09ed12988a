"""How maps hold out against the randomisation of the network, layer by layer.

Reference:
    Adebayo et al. (2018), "Sanity checks for saliency maps", figure 4,
    https://arxiv.org/abs/1810.03292
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hrcam.plots._checks import check_methods
from hrcam.plots.boxes import METHOD_COLORS

MEASURES = {
    "spearman": "rank correlation",
    "spearman_absolute": "rank correlation of |map|",
    "ssim": "SSIM",
}
STEP_WIDTH, PANEL_HEIGHT = 0.32, 2.6  # inches a layer; inches a panel


def sanity_curves(
    results: Mapping[str, Any],
    controls: Mapping[str, Any] | None = None,
    *,
    measure: str = "spearman",
    control_name: str = "edge magnitude",
) -> Figure:
    """Draws how similar the maps stay while layer after layer is randomised.

    A line is the median over the images, its band spans the quartiles. NaN (blank
    maps) is left out; a line ends where all maps are blank. The upper panel compares
    with the maps of the trained network; its dashed line is the median similarity of
    those maps to the control, what a detector that knows no network would reach. The
    lower panel compares the maps of each step with the control.

    Args:
        results: Method name to what `hrcam.sanity.cascading_randomization` returned;
            of the same layers. At most 8 methods.
        controls: Method name to the similarity of `result.maps` to the control, from
            `hrcam.sanity.map_similarity`. `None` draws the upper panel alone.
        measure: `"spearman"`, `"spearman_absolute"` or `"ssim"`.
        control_name: What the control is, for the labels.

    Returns:
        The figure: a panel, or two with `controls`; below, the layers in the order of
        randomisation, after "trained".

    Raises:
        TypeError: If `results` or `controls` is not a dict.
        ValueError: If there is no method or more than 8, if methods differ in layers,
            controls in methods or shape, or if the measure is unknown.

    Example:
        >>> figure = sanity_curves({"guided": result}, {"guided": to_edges})
        >>> figure.savefig("curves.png", dpi=150)
    """
    layers = _checked_layers(results, measure)
    scores = {name: getattr(r.similarity, measure) for name, r in results.items()}
    panels_of = {"the trained network's map": scores}
    if controls is not None:
        panels_of[control_name] = _checked_controls(controls, scores, measure)
    width = 2.6 + STEP_WIDTH * (len(layers) + 1)
    height = 1.4 + PANEL_HEIGHT * len(panels_of)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(len(panels_of), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (name, curves) in zip(panels, panels_of.items(), strict=True):
        _draw_curves(panel, curves)
        panel.set_ylabel(f"{MEASURES[measure]} with\n{name}")
    if controls is not None:
        _draw_control_lines(panels[0], panels_of[control_name], control_name)
    panels[0].set_xlim(-0.3, len(layers) + 0.3)
    panels[-1].set_xticks(
        range(len(layers) + 1), ["trained", *layers], rotation=90, fontsize=8
    )
    panels[-1].set_xlabel("layers randomised up to")
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False
    )
    return figure


def _draw_curves(panel: Axes, curves: Mapping[str, np.ndarray]) -> None:
    """Draws a median line and a quartile band a method."""
    lowest = 0.0
    for (name, scores), color in zip(curves.items(), METHOD_COLORS, strict=False):
        low, middle, high = _quartiles(scores).T
        steps = np.arange(len(scores))
        panel.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
        style = {"color": color, "marker": "o", "markersize": 3, "label": name}
        panel.plot(steps, middle, **style)
        lowest = min([lowest, *low[~np.isnan(low)]])
    panel.axhline(0, color="0.7", linewidth=0.8, zorder=0.5)
    panel.set_ylim(max(-1.05, lowest - 0.05), 1.05)
    panel.grid(axis="y", color="0.9")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _draw_control_lines(
    panel: Axes, curves: Mapping[str, np.ndarray], control_name: str
) -> None:
    """Draws how near the trained network's maps are to the control."""
    for scores, color in zip(curves.values(), METHOD_COLORS, strict=False):
        middle = _quartiles(scores[:1])[0, 1]
        panel.axhline(middle, color=color, linestyle="--", linewidth=1)
    label = f"trained network's\nmap with\n{control_name}"
    panel.plot([], [], color="0.4", linestyle="--", linewidth=1, label=label)


def _quartiles(scores: np.ndarray) -> np.ndarray:
    """Quartiles of each row `(rows, 3)`; NaN left out, or all NaN."""
    rows = [row[~np.isnan(row)] for row in scores]
    return np.array(
        [np.quantile(r, (0.25, 0.5, 0.75)) if len(r) else [np.nan] * 3 for r in rows]
    )


def _checked_layers(results: Mapping[str, Any], measure: str) -> tuple[str, ...]:
    check_methods("results", results)
    if measure not in MEASURES:
        raise ValueError(
            f"`measure` must be one of {tuple(MEASURES)}. Received: {measure!r}"
        )
    if len(results) > len(METHOD_COLORS):
        raise ValueError(
            f"`results` must have at most {len(METHOD_COLORS)} methods, for as many "
            f"colours. Received: {len(results)}. Draw several figures."
        )
    layers = {name: tuple(result.layers) for name, result in results.items()}
    if len(set(layers.values())) > 1:
        raise ValueError(
            "All `results` must be of the same layers, in the same order. Received: "
            f"{layers}. Draw a figure for each network."
        )
    return next(iter(layers.values()))


def _checked_controls(
    controls: Mapping[str, Any], scores: Mapping[str, np.ndarray], measure: str
) -> dict[str, np.ndarray]:
    """The controls' scores, in the order of the methods."""
    check_methods("controls", controls)
    shapes = {name: values.shape[:1] for name, values in scores.items()}
    found = {name: getattr(c, measure).shape[:1] for name, c in controls.items()}
    if shapes != found:
        raise ValueError(
            "`controls` must have the methods of `results`, with a row a step: "
            f"{shapes}. Received: {found}. Compare `result.maps`, all of them."
        )
    return {name: getattr(controls[name], measure) for name in scores}
