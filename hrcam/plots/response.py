"""Attentive response maps over the images they explain, and the units behind them.

With `R(x, k)` the back-projection of unit `k` (the largest of its channels), the
response is `max_k R(x, k)` and the dominant unit `argmax_k R(x, k)`. Both are drawn
from 0 to the image's own peak.

Reference:
    Kumar, Menkovski, Taylor and Wong (ISBI 2018), figures 3 and 4,
    https://arxiv.org/abs/1611.06284
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from hrcam.plots._dominant import LEGEND_GUTTER, LEGEND_HEIGHT, draw_units
from hrcam.plots._results import check_images, check_opacity, check_result
from hrcam.plots._rows import add_rows, draw_blank, draw_inputs, is_blank
from hrcam.plots.sheet import (
    BAR_GUTTER,
    GAP,
    ROW_GAP,
    TITLE,
    _draw_bar,
    _show_image,
)

COLUMNS = ("overlay", "response", "dominant unit")  # after the input
LEVELS = 1024  # of a colour map


def response_sheet(
    images: np.ndarray,
    result: Mapping[str, np.ndarray],
    *,
    titles: Sequence[str] | None = None,
    alpha: float = 0.7,
    fade: tuple[float, float] = (0.1, 0.5),
    smooth: float = 0.015,
) -> Figure:
    """Draws each image (a row) beside its attentive response.

    The columns: the image; the response over the grey image (the mean of the channels);
    the response alone with its raw range; each pixel in its dominant unit's colour.
    Colours of a response run from black (0 and less) to yellow (the image's own peak):
    rows are comparable in place, not in strength. Over the image, and over the dark
    ground of the units, opacity rises between two shares of the peak, `fade`. Below the
    first nothing is drawn: a maximum over many units is positive for noise, too.
    Unpooling with switches leaves single pixels, which are hard to see on a radiograph,
    so over the image and over the ground the positive response is smoothed and taken in
    shares of the smoothed peak. The response alone is as it is.

    The legend of a row has the channel numbers of the 8 units with the largest share of
    the response (the sum of the positive response where the unit is dominant, over that
    of all pixels), largest first, then all others together. A unit among the 8 of
    several rows keeps its colour unless another of that row has it; otherwise a colour
    counts for its row alone.

    A response that is nowhere positive, or constant, is drawn as words and its value.

    Args:
        images: Array of shape `(batch, height, width, channels)` in [0, 1]. Three
            channels are shown as RGB, any other count as the mean of the channels.
        result: What `hrcam.attentive_response_maps` returned for the images, of which
            are used: `"units"`, int `(batch, n)`, channel numbers; `"response"`,
            float `(batch, height, width)`, raw and signed; `"dominant_unit"`, int
            `(batch, height, width)`, places in `units` (0 to n - 1).
        titles: One text an image, wrapped and drawn left of its row.
        alpha: Largest opacity of the overlay, in (0, 1].
        fade: Shares of the peak, rising and in [0, 1], where opacity leaves 0 and where
            it is full. The response alone does not fade.
        smooth: Standard deviation of the Gaussian that smooths, as a share of the
            image's longer side; 0 does not smooth.

    Returns:
        The figure; save it with `figure.savefig(path, dpi=150)`.

    Raises:
        TypeError: If `result` is not a dict or `titles` is one string.
        ValueError: If a key is missing, a shape or type differs from the above, the
            response has NaN or infinite values, `dominant_unit` is not in [0, n),
            images leave [0, 1], or an option is out of its range.

    Example:
        >>> result = hrcam.attentive_response_maps(model, images)
        >>> response_sheet(images, result).savefig("response.png", dpi=150)
    """
    images = check_images(images, titles)
    names = ("units", "response", "dominant_unit")
    units, responses, dominant = check_result(result, names, images)
    check_opacity(alpha, fade)
    if not 0 <= smooth <= 1:
        raise ValueError(
            "`smooth` must be a share of the image's longer side, in [0, 1]. "
            f"Received: {smooth!r}"
        )
    figure = Figure(layout="none")  # whatever the user's settings say
    panels = add_rows(
        figure,
        images.shape,
        len(images),
        (GAP, GAP, BAR_GUTTER, LEGEND_GUTTER),
        titles,
        gap=ROW_GAP,
        min_height=LEGEND_HEIGHT,
    )
    draw_inputs(panels[:, 0], images, titles)
    columns = (f"overlay{', smoothed' if smooth else ''}", *COLUMNS[1:])
    for panel, name in zip(panels[0, 1:], columns, strict=True):
        panel.set_title(name, pad=5, **TITLE)
    known = {}  # the units' colours, by channel number
    for index, (_, overlay, alone, by_unit) in enumerate(panels):
        _show_image(overlay, images[index].mean(axis=-1))
        response = responses[index].astype(float)
        if is_blank(response):
            draw_blank(alone, response)
            draw_blank(by_unit, response)
            continue
        positive = response.clip(0)
        seen = gaussian_filter(positive, smooth * max(positive.shape))
        shares = seen / seen.max()  # of the peak
        opacity = np.interp(shares, fade, (0, 1))
        overlay.imshow(
            shares, cmap=_colormap(0, 1), vmin=0, vmax=1, alpha=alpha * opacity
        )
        _draw_alone(alone, response)
        draw_units(by_unit, units[index], dominant[index], positive, opacity, known)
    return figure


def _draw_alone(panel: Axes, response: np.ndarray) -> None:
    """Draws a response, and a bar of its raw range."""
    low, high = float(response.min()), float(response.max())
    panel.imshow(response, cmap=_colormap(0, high), vmin=0, vmax=high)
    _draw_bar(panel, panel, low, high, _colormap(low, high))


def _colormap(low: float, high: float) -> ListedColormap:
    """Colours of the responses from `low` to `high`, the peak: black up to 0."""
    shares = np.linspace(low / high, 1, LEVELS).clip(0)
    # "inferno" without its palest colours, which would vanish on bone.
    return ListedColormap(matplotlib.colormaps["inferno"](0.9 * shares))
