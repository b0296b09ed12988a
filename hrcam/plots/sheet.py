"""Maps beside the images they explain.

A map is drawn in its own units: colours span its raw range, which the colour bar
states (with a tick at zero for a signed map). Nothing is rectified or normalised.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from hrcam.plots._checks import check_sheet, check_style

PANEL, GAP, BAR_GUTTER, ROW_GAP, MARGIN = 1.6, 0.08, 0.85, 0.24, 0.1  # inches
TITLE = {"fontsize": 10, "parse_math": False}  # a "$" in a class name is a dollar
TITLE_CHARACTERS = 20  # a line; as wide as a panel
TICK_SIZE = 8  # points


def comparison_sheet(
    images: np.ndarray,
    maps: Mapping[str, np.ndarray],
    masks: np.ndarray | None = None,
    *,
    row_titles: Sequence[str] | None = None,
    scale: str = "image",
    alpha: float = 0.5,
    colormap: str | Colormap = "inferno",
) -> Figure:
    """Draws each image (a row) beside its map by each method (a column).

    A map lies over the grey image (the mean of the channels). A map that is constant
    to float32 precision has no range to colour: its panel is blank, with the word
    "constant" and the value.

    Args:
        images: Array of shape `(n, height, width, channels)` in [0, 1]. Three
            channels are shown as RGB, any other count as the mean of the channels.
        maps: Method name to raw maps, float, `(n, height, width)`, signed or not.
            The columns keep the order of the dict.
        masks: Bool array of shape `(n, height, width)`; outlined on the image and on
            every map that is not constant. An empty mask has no outline.
        row_titles: One text an image, wrapped and drawn left of its row.
        scale: `"image"`, each map from its own minimum to its own maximum: where
            each map is high, not how high. `"shared"`, one range and one colour bar
            a method, over all rows (a constant map among others has a colour then):
            rows are comparable, columns are not, for methods differ in their units.
        alpha: Opacity of the maps, in (0, 1]; 1 shows the map alone. The colour bar
            is opaque; over the image colours are mixed with its grey.
        colormap: Matplotlib colour map or its name. The default is perceptually
            uniform. The middle colour of a diverging one is the middle of the range,
            not zero.

    Returns:
        The figure; save it with `figure.savefig(path, dpi=150)`.

    Raises:
        TypeError: If `maps` is not a dict or `row_titles` is one string.
        ValueError: If a shape differs from what the images ask for, images leave
            [0, 1], maps have NaN or infinite values, masks are not bool, or an
            option is unknown.

    Example:
        >>> figure = comparison_sheet(images, {"HR-CAM": maps}, masks)
        >>> figure.savefig("sheet.png", dpi=150)
    """
    images, maps, masks = check_sheet(images, maps, masks)
    check_style(len(images), row_titles, scale, alpha, colormap)
    figure = Figure(layout="none")  # whatever the user's settings say
    names = ["input", *maps]
    panels = _add_panels(figure, images.shape, names, row_titles)
    _write_titles(panels, names, row_titles)
    grey = images.mean(axis=-1)
    style = {"cmap": colormap, "alpha": alpha}
    for column, values in enumerate(maps.values(), start=1):
        _draw_maps(panels[:, column], grey, values, scale, style)
    shown = images if images.shape[-1] == 3 else grey
    for panel, image in zip(panels[:, 0], shown, strict=True):
        _show_image(panel, image)
    for row, mask in zip(panels, [] if masks is None else masks, strict=False):
        for panel in row:
            if panel.images and mask.any():  # a constant map has no image
                _outline(panel, mask)
    return figure


def _add_panels(
    figure: Figure,
    shape: tuple[int, ...],
    names: list[str],
    row_titles: Sequence[str] | None,
) -> np.ndarray:
    """Sizes the figure so that every title fits, and adds `(n, len(names))` axes."""
    n, height, width, _ = shape
    panel_width = PANEL * max(1, 0.4 * width / height)  # room for the bar's ticks
    panel_height = panel_width * height / width
    _, names_height = _text_size(figure, names)
    titles_width, row_height = _text_size(figure, row_titles or [])
    row_gap = ROW_GAP + max(0, row_height - panel_height)
    left = MARGIN + (titles_width + GAP if row_titles else 0)
    top = MARGIN + max(names_height + GAP, (row_height - panel_height) / 2)
    shift = BAR_GUTTER - GAP  # the input has no colour bar: it moves to the right
    full_width = left - shift + len(names) * (panel_width + BAR_GUTTER)
    bottom = MARGIN + row_gap / 2 - GAP / 2
    full_height = top + n * (panel_height + row_gap) - row_gap + bottom
    figure.set_size_inches(full_width, full_height)
    panels = figure.subplots(
        n,
        len(names),
        squeeze=False,
        subplot_kw={"xticks": [], "yticks": []},
        gridspec_kw={
            "left": (left - shift) / full_width,
            "right": 1 - BAR_GUTTER / full_width,
            "top": 1 - top / full_height,
            "bottom": bottom / full_height,
            "wspace": BAR_GUTTER / panel_width,
            "hspace": row_gap / panel_height,
        },
    )
    for panel in panels[:, 0]:
        panel.set_position(panel.get_position().translated(shift / full_width, 0))
    return panels


def _write_titles(
    panels: np.ndarray, names: list[str], row_titles: Sequence[str] | None
) -> None:
    for panel, name in zip(panels[0], names, strict=True):
        panel.set_title(_wrap(name), pad=5, **TITLE)
    for panel, title in zip(panels[:, 0], row_titles or [], strict=False):
        panel.set_ylabel(_wrap(title), rotation=0, ha="right", va="center", **TITLE)


def _text_size(figure: Figure, texts: Sequence[str]) -> np.ndarray:
    """Inches taken by the widest and by the tallest of the wrapped texts."""
    sizes = [(0, 0)]
    for text in texts:
        artist = figure.text(0, 0, _wrap(text), **TITLE)
        sizes.append(artist.get_window_extent().size / figure.dpi)
        artist.remove()
    return np.max(sizes, axis=0)


def _wrap(text: str) -> str:
    lines = text.splitlines()
    return "\n".join("\n".join(wrap(line, TITLE_CHARACTERS)) for line in lines)


def _show_image(panel: Axes, image: np.ndarray) -> None:
    panel.imshow(image, cmap="gray", vmin=0, vmax=1)


def _draw_maps(
    panels: np.ndarray,
    grey: np.ndarray,
    maps: np.ndarray,
    scale: str,
    style: dict[str, Any],
) -> None:
    """Draws one method's column: overlays and their colour bars."""
    all_rows = np.arange(len(maps))
    for rows in all_rows[None] if scale == "shared" else all_rows[:, None]:
        low, high = float(maps[rows].min()), float(maps[rows].max())
        # Constant but for rounding, which resizing a constant map adds.
        rounding = 8 * np.finfo(np.float32).eps * max(abs(low), abs(high))
        if high - low <= rounding:
            for row in rows:
                _draw_blank(panels[row], maps[row].flat[0])
            continue
        for row in rows:
            _show_image(panels[row], grey[row])
            panels[row].imshow(maps[row], vmin=low, vmax=high, **style)
        _draw_bar(panels[rows[0]], panels[rows[-1]], low, high, style["cmap"])


def _draw_blank(panel: Axes, value: float) -> None:
    style = {"ha": "center", "va": "center", "transform": panel.transAxes, **TITLE}
    panel.text(0.5, 0.5, f"constant\n{value + 0.0:.3g}", **style)
    panel.spines[:].set_color("0.7")


def _draw_bar(
    first: Axes, last: Axes, low: float, high: float, colormap: str | Colormap
) -> None:
    """Draws a raw range beside panels `first` to `last`; ticks: ends, a zero inside."""
    box = last.get_position()
    length = (first.get_position().y1 - box.y0) / box.height
    width, height = box.size * last.figure.get_size_inches()
    axes = last.inset_axes((1 + 0.05 / width, 0, 0.08 / width, length))
    # Drawn from the range, not from the overlay, whose transparency it would take.
    bar = last.figure.colorbar(ScalarMappable(Normalize(low, high), colormap), axes)
    ticks = [low, 0.0, high] if low < 0 < high else [low, high]
    labels = _tick_labels(ticks)
    bar.set_ticks(ticks, labels=labels)
    bar.minorticks_off()
    bar.outline.set_linewidth(0.5)
    size = TICK_SIZE * min(1, 8 / max(map(len, labels)))  # eight characters fit
    axes.tick_params(labelsize=size, length=2.5, pad=2)
    # A zero near an end: the two labels give way to each other.
    bottom, *zero, top = axes.get_yticklabels()
    crowded = (high - low) * 1.2 * TICK_SIZE / 72 / (length * height)  # a text line
    if zero and -low < crowded:
        bottom.set_va("top")
        zero[0].set_va("bottom")
    elif zero and high < crowded:
        top.set_va("bottom")
        zero[0].set_va("top")


def _tick_labels(ticks: list[float]) -> list[str]:
    """Three digits, or as many as tell a hundredth of the range."""
    largest, span = np.floor(np.log10([max(map(abs, ticks)), ticks[-1] - ticks[0]]))
    digits = max(3, int(largest - span) + 2)
    labels = [f"{tick + 0.0:.{digits}g}" for tick in ticks]  # + 0.0: no "-0"
    labels = [label.replace("e-0", "e-").replace("e+0", "e") for label in labels]
    return [label.replace("-", "\N{MINUS SIGN}") for label in labels]


def _outline(panel: Axes, mask: np.ndarray) -> None:
    """Outlines a mask in white on black, to be seen on light and on dark."""
    x, y = (np.arange(-1, size + 1) for size in mask.shape[::-1])
    padded = np.pad(mask, 1)  # closes the outline of a mask that meets the border
    limits = panel.axis()
    outline = panel.contour(x, y, padded, [0.5], colors="white", linewidths=0.9)
    outline.set_path_effects([withStroke(linewidth=2.2, foreground="black")])
    panel.axis(limits)
