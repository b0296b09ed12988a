"""Maps beside outlines of the regions where they should, or should not, lie."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from hrcam.plots._checks import _check_shape, check_methods, check_sheet
from hrcam.plots._results import check_images
from hrcam.plots._rows import add_rows, draw_blank, draw_inputs, is_blank
from hrcam.plots.sheet import (
    BAR_GUTTER,
    GAP,
    ROW_GAP,
    TICK_SIZE,
    TITLE,
    _draw_bar,
    _show_image,
    _text_size,
    _wrap,
)

# Seen on grey and on "inferno", and told apart without colours by their dashes.
LINES = (
    *(("#00E5FF", "solid"), ("white", (0, (3, 1.5))), ("#7CFF4F", (0, (1, 1)))),
    *(("#FF8AE2", "solid"), ("#8FB4FF", (0, (3, 1.5)))),
)
HANDLE = 0.45  # inches: a line of the legend and the spaces around it


def shortcut_sheet(
    images: np.ndarray,
    maps: np.ndarray,
    regions: Mapping[str, np.ndarray],
    *,
    method: str = "map",
    titles: Sequence[str] | None = None,
    alpha: float = 0.5,
) -> Figure:
    """Draws each image (a row) with its regions outlined, beside its map.

    The columns: the image; the image with the outlines; the map over the grey image
    (the mean of the channels) with the outlines. Of the map its positive part is
    drawn, which is what `hrcam.shortcuts` measures: black is 0 and less, the brightest
    colour the image's own peak, which the colour bar states. A map that is nowhere
    positive, or constant, is drawn as words and its value.

    Args:
        images: `(n, height, width, channels)` in [0, 1]. Three channels are shown as
            RGB, any other count as the mean of the channels.
        maps: Raw maps `(n, height, width)`.
        regions: One to five, name -> bool `(n, height, width)`. An empty one has no
            outline.
        method: What made the maps; the title of their column.
        titles: One text an image, wrapped and drawn left of its row.
        alpha: Opacity of the maps, in (0, 1].

    Returns:
        The figure; save it with `figure.savefig(path, dpi=150)`.

    Raises:
        TypeError: If `regions` is not a dict or `titles` is one string.
        ValueError: If a shape differs from what the images ask for, images leave
            [0, 1], maps have NaN or infinite values, or regions are not bool, none or
            too many.

    Example:
        >>> figure = shortcut_sheet(images, maps, {"body": body}, method="Grad-CAM")
        >>> figure.savefig("worst.png", dpi=150)
    """
    images = check_images(images, titles)
    images, by_method, _ = check_sheet(images, {method: maps}, None)
    regions = _checked(images, regions, alpha)
    figure = Figure(layout="none")  # whatever the user's settings say
    width, _ = _text_size(figure, list(regions))
    gutters = (GAP, GAP, BAR_GUTTER + HANDLE + width)
    panels = add_rows(figure, images.shape, len(images), gutters, titles, gap=ROW_GAP)
    draw_inputs(panels[:, 0], images, titles)
    for panel, name in zip(panels[0, 1:], ("regions", method), strict=True):
        panel.set_title(_wrap(name), pad=5, **TITLE)
    for index, (_, outlined, over) in enumerate(panels):
        shown = images[index]
        _show_image(outlined, shown if shown.shape[-1] == 3 else shown.mean(axis=-1))
        _draw_map(over, shown.mean(axis=-1), by_method[method][index], alpha)
        for panel in (outlined, over):
            if panel.images:  # a blank map has none
                _outline(panel, [region[index] for region in regions.values()])
    _add_legend(panels[0, -1], list(regions))
    return figure


def _draw_map(panel: Axes, grey: np.ndarray, values: np.ndarray, alpha: float) -> None:
    if is_blank(values):
        draw_blank(panel, values)
        return
    high = float(values.max())
    _show_image(panel, grey)
    panel.imshow(values.clip(0), cmap="inferno", vmin=0, vmax=high, alpha=alpha)
    _draw_bar(panel, panel, 0.0, high, "inferno")


def _outline(panel: Axes, regions: Sequence[np.ndarray]) -> None:
    """Outlines regions in colours on black, to be seen on light and on dark."""
    limits = panel.axis()
    for region, (color, dashes) in zip(regions, LINES, strict=False):
        if region.any():
            x, y = (np.arange(-1, size + 1) for size in region.shape[::-1])
            padded = np.pad(region, 1)  # closes an outline that meets the border
            line = panel.contour(
                x, y, padded, [0.5], colors=color, linestyles=[dashes], linewidths=0.9
            )
            line.set_path_effects([withStroke(linewidth=2, foreground="black")])
    panel.axis(limits)


def _add_legend(panel: Axes, names: list[str]) -> None:
    """Names the outlines at the right of the first row's colour bar."""
    handles = [
        Line2D([], [], color=color, linestyle=dashes, linewidth=1.2, label=_wrap(name))
        for name, (color, dashes) in zip(names, LINES, strict=False)
    ]
    for handle in handles:  # white on white paper would not be seen
        handle.set_path_effects([withStroke(linewidth=3, foreground="0.2")])
    inches = panel.get_position().width * panel.figure.get_size_inches()[0]
    panel.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1 + BAR_GUTTER / inches, 1),
        fontsize=TICK_SIZE,
        frameon=False,
        handlelength=1.8,
        borderpad=0,
        borderaxespad=0,
    )


def _checked(
    images: np.ndarray, regions: Mapping[str, np.ndarray], alpha: float
) -> dict[str, np.ndarray]:
    check_methods("regions", regions)
    if len(regions) > len(LINES):
        raise ValueError(
            f"`regions` must be at most {len(LINES)}, for as many kinds of line. "
            f"Received: {len(regions)}. Draw several figures."
        )
    regions = {name: np.asarray(region) for name, region in regions.items()}
    for name, region in regions.items():
        _check_shape(f"regions[{name!r}]", region, images)
        if region.dtype != bool:
            raise ValueError(
                f"`regions[{name!r}]` must be bool. Received: {region.dtype}. "
                "Use `region > 0`."
            )
    if not 0 < alpha <= 1:
        raise ValueError(f"`alpha` must be in (0, 1]. Received: {alpha}")
    return regions
