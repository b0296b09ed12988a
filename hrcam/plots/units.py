"""The back-projections of single units beside the image they were made from.

A back-projection is signed, by the first convolution's kernels: its zero is white,
positive red, negative blue. As in the response, a pixel has the largest of its
channels' values.

Reference:
    Kumar, Menkovski, Taylor and Wong (ISBI 2018), figures 5 and 6,
    https://arxiv.org/abs/1611.06284
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from hrcam.plots._results import check_images, check_result, check_units
from hrcam.plots._rows import add_rows, draw_blank, draw_inputs, is_blank
from hrcam.plots.sheet import BAR_GUTTER, GAP, TICK_SIZE, _draw_bar

ACROSS = 5  # unit maps in a line: more would be too small on a page
UNIT_ROW_GAP = 0.34  # inches; a title stands in it
LEVELS = 1024  # of a colour bar


def unit_sheet(
    images: np.ndarray,
    result: Mapping[str, np.ndarray],
    *,
    units: int = 5,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draws each image beside the maps of its strongest units.

    A map is the maximum over the channels of the unit's back-projection (one of three
    channels says so below the first image), titled with the unit's channel number.
    White is zero and the deepest colour the largest absolute value of that map, so
    maps are comparable in place, not in strength; the colour bar spans the raw range.
    A map that is nowhere positive, or constant, is drawn as words and its value.

    Args:
        images: Array of shape `(batch, height, width, channels)` in [0, 1]. Three
            channels are shown as RGB, any other count as the mean of the channels.
        result: What `hrcam.attentive_response_maps` returned for the images, of which
            are used: `"units"`, int `(batch, n)`, channel numbers, strongest first;
            `"unit_maps"`, float `(batch, n, height, width, channels)`, raw and signed.
        units: How many units to draw, 1 to n; the first of `result`. More than 5 take
            several lines an image, as even as can be: 9 are 5 and 4.
        titles: One text an image, wrapped and drawn left of its row.

    Returns:
        The figure; save it with `figure.savefig(path, dpi=150)`.

    Raises:
        TypeError: If `result` is not a dict or `titles` is one string.
        ValueError: If a key is missing, a shape or type differs from the above, maps
            have NaN or infinite values, images leave [0, 1], `units` is not in [1, n],
            or there is not one title an image.

    Example:
        >>> result = hrcam.attentive_response_maps(model, images)
        >>> unit_sheet(images, result, units=9).savefig("units.png", dpi=150)
    """
    images = check_images(images, titles)
    channels, maps = check_result(result, ("units", "unit_maps"), images)
    check_units(units, channels.shape[1])
    lines = -(-units // ACROSS)
    gutters = (GAP, *[BAR_GUTTER] * -(-units // lines))
    figure = Figure(layout="none")  # whatever the user's settings say
    panels = add_rows(
        figure, images.shape, len(images) * lines, gutters, titles, gap=UNIT_ROW_GAP
    ).reshape(len(images), lines, -1)
    draw_inputs(panels[:, 0, 0], images, titles)
    if maps.shape[-1] > 1:
        text = f"maps: largest of {maps.shape[-1]} channels"
        panels[0, 0, 0].set_xlabel(text, fontsize=TICK_SIZE)
    for panel in panels[:, 1:, 0].flat:
        panel.remove()
    for index, row in enumerate(panels[:, :, 1:].reshape(len(images), -1)):
        for panel in row[units:]:
            panel.remove()
        for place, panel in enumerate(row[:units]):
            panel.set_title(f"unit {channels[index, place]}", fontsize=9, pad=4)
            _draw_unit(panel, maps[index, place].max(axis=-1).astype(float))
    return figure


def _draw_unit(panel: Axes, values: np.ndarray) -> None:
    """Draws one signed map, white at zero, and its raw range."""
    if is_blank(values):
        draw_blank(panel, values)
        return
    low, high = float(values.min()), float(values.max())
    limit = max(-low, high)
    diverging = matplotlib.colormaps["RdBu_r"]
    panel.imshow(values, cmap=diverging, vmin=-limit, vmax=limit)
    part = diverging(0.5 + 0.5 * np.linspace(low / limit, high / limit, LEVELS))
    _draw_bar(panel, panel, low, high, ListedColormap(part))
