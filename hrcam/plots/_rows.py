"""Rows of panels with gutters of different widths, and panels with nothing to show."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hrcam.plots.sheet import (
    GAP,
    MARGIN,
    PANEL,
    TICK_SIZE,
    TITLE,
    _show_image,
    _text_size,
    _tick_labels,
    _wrap,
)

TITLE_HEIGHT = 0.26  # inches above a panel: one line and its padding


def add_rows(
    figure: Figure,
    shape: tuple[int, ...],
    num_rows: int,
    gutters: Sequence[float],
    titles: Sequence[str] | None,
    *,
    gap: float,
    min_height: float = 0.0,
) -> np.ndarray:
    """Sizes the figure and adds axes, all lengths in inches.

    Args:
        figure: An empty figure.
        shape: The images' `(n, height, width, channels)`, for the aspect.
        num_rows: Rows of panels, at least 1.
        gutters: Width free at the right of each column.
        titles: What the left margin must hold, or `None`.
        gap: Height free between two rows.
        min_height: The least height of a row; a lower panel is centred in it.

    Returns:
        Object array of axes, of shape `(num_rows, len(gutters))`.
    """
    height, width = shape[1:3]
    panel_width = PANEL * max(1, 0.4 * width / height)
    panel_height = panel_width * height / width
    titles_width, titles_height = _text_size(figure, titles or [])
    row_height = max(panel_height, min_height, titles_height)
    inset = (row_height - panel_height) / 2
    left = MARGIN + (titles_width + GAP if titles else 0)
    top = MARGIN + max(TITLE_HEIGHT - inset, 0)
    x = left + np.arange(len(gutters)) * panel_width + np.cumsum([0, *gutters[:-1]])
    y = top + np.arange(num_rows) * (row_height + gap) + inset
    full = (
        x[-1] + panel_width + gutters[-1],
        y[-1] + panel_height + inset + gap / 2 + GAP,
    )
    figure.set_size_inches(full)
    size = panel_width / full[0], panel_height / full[1]
    panels = [
        figure.add_axes(
            (x0 / full[0], 1 - (y0 + panel_height) / full[1], *size),
            xticks=[],
            yticks=[],
        )
        for y0 in y
        for x0 in x
    ]
    return np.reshape(panels, (num_rows, len(gutters)))


def draw_inputs(
    panels: Sequence[Axes], images: np.ndarray, titles: Sequence[str] | None
) -> None:
    """Draws the images, "input" above the first and their titles at their left."""
    panels[0].set_title("input", pad=5, **TITLE)
    shown = images if images.shape[-1] == 3 else images.mean(axis=-1)
    for panel, image in zip(panels, shown, strict=True):
        _show_image(panel, image)
    for panel, title in zip(panels, titles or [], strict=False):
        panel.set_ylabel(_wrap(title), rotation=0, ha="right", va="center", **TITLE)


def is_blank(values: np.ndarray) -> bool:
    """Whether a map is nowhere positive, or constant but for float32 rounding."""
    low, high = values.min(), values.max()
    return bool(high <= 0 or high - low <= 8 * np.finfo(np.float32).eps * high)


def draw_blank(panel: Axes, values: np.ndarray) -> None:
    """Says why a map is blank, and its raw range."""
    low, high = float(values.min()), float(values.max())
    reason = "constant" if high > 0 else "no positive response"
    if high > 0 or low == high:
        text = f"{high + 0.0:.3g}".replace("-", "\N{MINUS SIGN}")  # + 0.0: no "-0"
    else:
        text = " to ".join(_tick_labels([low, high]))
    style = {"ha": "center", "transform": panel.transAxes}
    panel.text(0.5, 0.5, reason, va="bottom", fontsize=9, **style)
    panel.text(0.5, 0.45, text, va="top", fontsize=TICK_SIZE, **style)
    panel.spines[:].set_color("0.7")
