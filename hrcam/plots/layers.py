"""Which layers an HR-CAM head leans on: weights, shares of the score, parts of a map.

Reference:
    Shinde et al. (2021), figure 6, https://doi.org/10.7717/peerj-cs.622
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.figure import Figure

from hrcam.plots._checks import check_sheet
from hrcam.plots._results import check_images
from hrcam.plots._rows import add_rows, draw_inputs
from hrcam.plots.boxes import METHOD_COLORS, _box_style
from hrcam.plots.sheet import (
    BAR_GUTTER,
    GAP,
    TICK_SIZE,
    TITLE,
    _draw_bar,
    _outline,
)

BLUE, ORANGE = METHOD_COLORS[:2]
LAYER_HEIGHT, PANEL_WIDTH = 0.6, 3.2  # inches a layer; inches a panel
LINE = 24  # characters of a layer's name that fit above a map, at TICK_SIZE
SHEET_ROW_GAP = 0.34  # inches; the mean of a map stands in it
GOLDEN = 0.6180339887  # steps of it spread points evenly, the same at each call


def layer_weight_plots(weights: Mapping[str, Any]) -> Figure:
    """Draws how the head's weights are distributed, a row a layer.

    Every weight is a point. Boxes span the quartiles, the black line is the median,
    whiskers reach the last weight within 1.5 quartile distances.

    Args:
        weights: What `hrcam.layer_analysis.head_weights` returned: layer -> `w`,
            float `(channels,)`, and `scaled`, the same shape, or `None` for all.

    Returns:
        The figure: the panel of w and, where there are `scaled` weights, that of w
        times the standard deviation of its feature, which alone compares layers.

    Raises:
        TypeError: If `weights` is not a dict.
        ValueError: If there is no layer, or weights are not finite numbers
            `(channels,)`.

    Example:
        >>> weights = hrcam.layer_analysis.head_weights(model, 1, pooled.vectors)
        >>> layer_weight_plots(weights).savefig("weights.png", dpi=150)
    """
    columns = _checked_weights(weights)
    labels = [
        f"{_broken(name)}\n{len(layer.w)} map{'s' * (len(layer.w) > 1)}"
        for name, layer in weights.items()
    ]
    figure, panels = _layer_panels(labels, len(columns))
    for panel, (title, values) in zip(panels, columns.items(), strict=True):
        panel.set_xlabel(title)
        for place, row in enumerate(values):
            _draw_points_and_box(panel, place, row)
    return figure


def layer_share_bars(shares: Any) -> Figure:
    """Draws what each layer adds to the score, and its shares, a row a layer.

    Args:
        shares: What `hrcam.layer_analysis.logit_shares` returned: `layers`,
            `contributions` `(n, layers)`, `mean`, `absolute_share` and
            `covariance_share` `(layers,)`.

    Returns:
        The figure. Left: the mean contribution as a bar, its quartiles over the
        images as a black line, in units of the logit. Right: the share of the score
        (absolute contributions) and of its variance over the images (signed; it sums
        to 1). A share that is NaN has no bar.
    """
    figure, (parts, portions) = _layer_panels(list(map(_broken, shares.layers)), 2)
    places = np.arange(len(shares.layers))
    parts.barh(places, shares.mean, 0.6, **_box_style(BLUE))
    low, high = np.quantile(shares.contributions, (0.25, 0.75), axis=0)
    parts.hlines(places, low, high, color="black", linewidth=1.5)
    parts.set_xlabel("contribution to the logit\n(mean; line: quartiles)")
    for shift, label, values, color in (
        (-0.17, "of the logit (absolute)", shares.absolute_share, BLUE),
        (0.17, "of its variance over images", shares.covariance_share, ORANGE),
    ):
        portions.barh(places + shift, values, 0.3, label=label, **_box_style(color))
    portions.set_xlabel("share")
    figure.legend(
        *portions.get_legend_handles_labels(),
        loc="outside lower right",
        ncols=2,
        frameon=False,
        fontsize=TICK_SIZE,
    )
    return figure


def layer_sheet(
    images: np.ndarray,
    maps: np.ndarray,
    layers: Sequence[str],
    masks: np.ndarray | None = None,
    *,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draws each image (a row), its map's part of each layer, and their sum.

    The parts add up, so a row has one colour scale: zero is white, positive red,
    negative blue, and the deepest colour is the row's largest absolute value. Below a
    map is its mean over the pixels, the layer's contribution to the score.

    Args:
        images: `(n, height, width, channels)` in [0, 1]. Three channels are shown as
            RGB, any other count as the mean of the channels.
        maps: `(n, layers, height, width)`, raw, as `hr_cam(..., per_layer=True)`
            returned them.
        layers: Their names, as `pooled_layers(model)` returned them.
        masks: Bool `(n, height, width)`, outlined on all panels of the row.
        titles: One text an image, wrapped and drawn left of its row.

    Returns:
        The figure; save it with `figure.savefig(path, dpi=150)`.

    Raises:
        TypeError: If `titles` is one string.
        ValueError: If a shape differs, images leave [0, 1], maps have NaN or infinite
            values, masks are not bool, or there is not one title an image.

    Example:
        >>> maps = hrcam.hr_cam(model, images, 1, per_layer=True)
        >>> figure = layer_sheet(images, maps, hrcam.pooled_layers(model))
    """
    images, maps, masks = _checked_sheet(images, maps, layers, masks, titles)
    gutters = (*[GAP] * (len(layers) + 1), BAR_GUTTER)
    figure = Figure(layout="none")  # whatever the user's settings say
    panels = add_rows(
        figure, images.shape, len(images), gutters, titles, gap=SHEET_ROW_GAP
    )
    draw_inputs(panels[:, 0], images, titles)
    for panel, name in zip(panels[0, 1:], [*layers, "sum of the layers"], strict=True):
        _write_name(panel, name)
    for row, values in zip(panels[:, 1:], maps, strict=True):
        _draw_parts(row, np.concatenate([values, values.sum(axis=0)[None]]))
    for row, mask in zip(panels, [] if masks is None else masks, strict=False):
        for panel in row if mask.any() else ():
            _outline(panel, mask)
    return figure


def _layer_panels(labels: list[str], count: int) -> tuple[Figure, np.ndarray]:
    """Adds `count` panels side by side, a row a label, with a line at zero."""
    longest = max(len(line) for label in labels for line in label.splitlines())
    size = 0.5 + 0.085 * longest + PANEL_WIDTH * count, 1 + LAYER_HEIGHT * len(labels)
    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, wspace=0.02)
    panels = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    panels[0].set_yticks(range(len(labels)), labels, parse_math=False)
    panels[0].set_ylim(len(labels) - 0.5, -0.5)  # the shallowest at the top
    for panel in panels:
        panel.axvline(0, color="0.5", linewidth=0.8, zorder=0.9)
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=TICK_SIZE)
        panel.use_sticky_edges = False  # a bar does not end at the frame
    for panel in panels[1:]:
        panel.tick_params(axis="y", length=0)
    return figure, panels


def _draw_points_and_box(panel: Axes, place: int, values: np.ndarray) -> None:
    """Draws one layer's values; `Axes.boxplot` would import pyplot."""
    heights = place + 0.7 * ((np.arange(len(values)) * GOLDEN + 0.5) % 1 - 0.5)
    (stats,) = boxplot_stats(values)
    beyond = (values < stats["whislo"]) | (values > stats["whishi"])
    crowd = max(0.15, min(0.8, 40 / len(values)))  # so that many do not hide the box
    for chosen, alpha in ((~beyond, crowd), (beyond, 0.8)):
        style = {"color": BLUE, "alpha": alpha, "markersize": 4, "markeredgewidth": 0}
        panel.plot(values[chosen], heights[chosen], ".", **style)
    edge = {"color": "0.2", "linewidth": 1, "zorder": 2.1}
    panel.hlines(place, stats["whislo"], stats["q1"], **edge)
    panel.hlines(place, stats["q3"], stats["whishi"], **edge)
    box = {"facecolor": "none", "edgecolor": "0.2", "zorder": 2.1}
    panel.barh(place, stats["iqr"], 0.4, stats["q1"], **box)
    ends = place - 0.2, place + 0.2
    panel.vlines(stats["med"], *ends, color="black", linewidth=2, zorder=2.2)


def _draw_parts(row: np.ndarray, maps: np.ndarray) -> None:
    """Draws one image's parts and their sum in one colour scale."""
    limit = float(np.abs(maps).max()) or 1.0  # all zero: white
    for panel, values in zip(row, maps, strict=True):
        panel.imshow(values, cmap="RdBu_r", vmin=-limit, vmax=limit)
        mean = f"{values.mean() + 0.0:.3g}".replace("-", "\N{MINUS SIGN}")
        panel.set_xlabel(f"mean {mean}", fontsize=TICK_SIZE, labelpad=3)
    _draw_bar(row[-1], row[-1], -limit, limit, "RdBu_r")


def _write_name(panel: Axes, name: str) -> None:
    """Writes a layer's name above a panel, in two lines and smaller if it is long."""
    text = _broken(name)
    longest = max(map(len, text.splitlines()))
    size = TICK_SIZE * min(1, LINE / longest)
    panel.set_title(text, pad=3, **TITLE | {"fontsize": size})


def _broken(name: str) -> str:
    """A name longer than a line in two, parted where a word ends nearest the middle."""
    ends = [match.end() for match in re.finditer(r"[/_ ](?=.)", name)]
    if len(name) <= LINE or not ends:
        return name
    middle = min(ends, key=lambda end: abs(2 * end - len(name)))
    return f"{name[:middle]}\n{name[middle:]}"


def _checked_weights(weights: Mapping[str, Any]) -> dict[str, list[np.ndarray]]:
    source = "Pass what `hrcam.layer_analysis.head_weights` returned."
    if not isinstance(weights, Mapping):
        raise TypeError(
            "`weights` must be a dict of layer to weights. "
            f"Received: {type(weights).__name__}. {source}"
        )
    if not weights:
        raise ValueError(f"`weights` must have a layer. Received: none. {source}")
    kinds = {"weight w": "w"}
    if all(layer.scaled is not None for layer in weights.values()):
        kinds["w \N{MULTIPLICATION SIGN} standard deviation of its feature"] = "scaled"
    for name, layer in weights.items():
        shapes = [np.shape(getattr(layer, kind)) for kind in kinds.values()]
        fits = len(shapes[0]) == 1 and 0 not in shapes[0] and len(set(shapes)) == 1
        if not (
            fits and all(np.isfinite(getattr(layer, k)).all() for k in kinds.values())
        ):
            raise ValueError(
                f"`weights[{name!r}]` must be finite numbers of shape (channels,). "
                f"Received: shapes {shapes}, or NaN or infinity in them. {source}"
            )
    return {
        title: [np.asarray(getattr(layer, kind), float) for layer in weights.values()]
        for title, kind in kinds.items()
    }


def _checked_sheet(
    images: np.ndarray,
    maps: np.ndarray,
    layers: Sequence[str],
    masks: np.ndarray | None,
    titles: Sequence[str] | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    images, maps = check_images(images, titles), np.asarray(maps, float)
    n, height, width, _ = images.shape
    expected = (n, len(layers), height, width)
    if maps.shape != expected or not len(layers):
        raise ValueError(
            "`maps` must have shape (n, layers, height, width) as the images and the "
            f"{len(layers)} `layers` have it, here {expected}. Received: {maps.shape}. "
            "Pass `hr_cam(model, images, class_index, per_layer=True)` and "
            "`pooled_layers(model)`."
        )
    by_layer = dict(zip(layers, np.moveaxis(maps, 1, 0), strict=True))
    _, _, masks = check_sheet(images, by_layer, masks)
    return images, maps, masks
