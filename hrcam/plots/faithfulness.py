"""How the class probability follows maps: insertion and deletion curves of methods.

Reference:
    Petsiuk, Das, Saenko (2018), "RISE", figure 1, https://arxiv.org/abs/1806.07421
"""

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hrcam.plots._checks import check_methods
from hrcam.plots.boxes import METHOD_COLORS

# All colours solid, then again dashed: what differs most comes first.
STYLES = tuple(
    {"color": color, "linestyle": dashes}
    for dashes, color in product(("-", (0, (4, 1.5))), METHOD_COLORS)
)[:12]
BAND_AREA = 0.4  # opacity of all bands together: many are fainter, each one below 0.15


def insertion_deletion_curves(curves: Mapping[str, Any]) -> Figure:
    """Draws insertion and deletion curves of methods, a panel each.

    A line is the mean over the images, its band spans their quartiles. The legend has
    the mean areas under both curves, insertion (high is good) and deletion (low).

    Args:
        curves: Method name to what `hrcam.faithfulness.insertion_deletion` returned,
            of the same images. At most 12 methods.

    Returns:
        The figure: the panels "insertion" and "deletion", the legend to their right.

    Raises:
        TypeError: If `curves` is not a dict.
        ValueError: If there is no method or more than 12, or if shapes do not fit.

    Example:
        >>> figure = insertion_deletion_curves({"HR-CAM": curves, "CAM": others})
        >>> figure.savefig("faithfulness.png", dpi=150)
    """
    _check_curves(curves)
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    figure.get_layout_engine().set(wspace=0.04)
    for panel, kind in zip(
        figure.subplots(1, 2, sharey=True), ("insertion", "deletion"), strict=True
    ):
        _draw_curves(panel, curves, kind)
        panel.set_title(kind)
        done = {"insertion": "inserted", "deletion": "deleted"}[kind]
        panel.set_xlabel(f"share of pixels {done}, in the order of the map")
    first = figure.axes[0]
    count = len(next(iter(curves.values())).insertion)
    first.set_ylabel(f"class probability (mean and quartiles, n = {count})")
    figure.legend(
        *first.get_legend_handles_labels(),
        title="area: insertion / deletion",
        loc="outside right upper",
        frameon=False,
        fontsize=9,
        handlelength=2.8,
    )
    return figure


def _draw_curves(panel: Axes, curves: Mapping[str, Any], kind: str) -> None:
    """Draws a mean line and a quartile band a method."""
    opacity = min(0.15, BAND_AREA / len(curves))
    for (name, result), style in zip(curves.items(), STYLES, strict=False):
        values = np.asarray(getattr(result, kind))
        low, high = np.quantile(values, (0.25, 0.75), axis=0)
        panel.fill_between(
            result.fractions,
            low,
            high,
            color=style["color"],
            alpha=opacity,
            linewidth=0,
        )
        areas = result.insertion_auc.mean(), result.deletion_auc.mean()
        label = f"{name}: {areas[0]:.3f} / {areas[1]:.3f}"
        mean = values.mean(axis=0)
        panel.plot(result.fractions, mean, linewidth=1.6, label=label, **style)
    panel.set(xlim=(0, 1), ylim=(-0.02, 1.02))
    panel.grid(color="0.9")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _check_curves(curves: Mapping[str, Any]) -> None:
    check_methods("curves", curves)
    if len(curves) > len(STYLES):
        raise ValueError(
            f"`curves` must have at most {len(STYLES)} methods, for as many lines that "
            f"can be told apart. Received: {len(curves)}. Draw several figures."
        )
    images = len(next(iter(curves.values())).insertion)
    for name, result in curves.items():
        shapes = np.shape(result.insertion), np.shape(result.deletion)
        if images == 0 or shapes != ((images, len(result.fractions)),) * 2:
            raise ValueError(
                f"`curves[{name!r}]` must have insertion and deletion of shape "
                f"({images}, {len(result.fractions)}): the images of the first method, "
                f"and its own fractions. Received: {shapes[0]} and {shapes[1]}."
            )
