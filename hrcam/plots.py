"""Figures: maps beside the images they explain, and scores as box plots.

The only module that imports matplotlib. It builds `matplotlib.figure.Figure`
directly and never imports pyplot, so the user's backend, open figures and
settings stay as they are: `figure.savefig("sheet.png", dpi=150)`.

A map is drawn in its own units: colours span its raw range, which the colour bar
states (with a tick at zero for a signed map). Nothing is rectified or normalised.
"""

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import boxplot_stats
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

SCALES = ("image", "shared")
# Okabe and Ito (2008), told apart by colour-blind readers; black left to the median.
METHOD_COLORS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#D55E00", "#F0E442", "#999999"),
)

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
    images, maps, masks = _check_sheet(images, maps, masks)
    _check_options(len(images), row_titles, scale, alpha, colormap)
    figure = Figure(layout="none")  # whatever the user's settings say
    names = ["input", *maps]
    panels = _add_panels(figure, images.shape, names, row_titles)
    _write_titles(panels, names, row_titles)
    grey = images.mean(axis=-1)
    style = {"cmap": colormap, "alpha": alpha}
    for column, values in enumerate(maps.values(), start=1):
        _draw_maps(panels[:, column], grey, values, scale, style)
    for panel, image in zip(
        panels[:, 0], images if images.shape[-1] == 3 else grey, strict=True
    ):
        _show_image(panel, image)
    for row, mask in zip(panels, [] if masks is None else masks, strict=False):
        for panel in row:
            if panel.images and mask.any():  # a constant map has no image
                _outline(panel, mask)
    return figure


def score_box_plots(
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    thresholds: Sequence[float] = (0.3, 0.5, 0.8),
) -> Figure:
    """Draws sensitivity and specificity of methods, one box a method and threshold.

    Boxes span the quartiles, the black line is the median, whiskers reach the last
    score within 1.5 quartile distances, dots are the scores beyond. NaN (undefined)
    scores are left out of their box and counted: under the axis if all boxes
    have the same count, else above each box as defined/all.

    Args:
        scores: Method name to `(sensitivity, specificity)`, each an array of shape
            `(n, len(thresholds))` in [0, 1] or NaN, as
            `hrcam.metrics.sensitivity_specificity` returns. At most 8 methods.
        thresholds: What the scores' columns stand for; one group of boxes each.

    Returns:
        The figure: the panels "sensitivity" and "specificity", the legend below.

    Raises:
        TypeError: If `scores` is not a dict.
        ValueError: If there is no method or more than 8, or if scores have another
            shape or leave [0, 1].

    Reference:
        Shinde et al. (2021), figure 3, https://doi.org/10.7717/peerj-cs.622
    """
    thresholds = np.atleast_1d(thresholds)
    scores = _check_scores(scores, len(thresholds))
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
        for row in rows:
            if high - low <= rounding:
                _draw_blank(panels[row], maps[row].flat[0])
                continue
            _show_image(panels[row], grey[row])
            panels[row].imshow(maps[row], vmin=low, vmax=high, **style)
        if high - low > rounding:
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
    panel: Axes, x: float, width: float, values: np.ndarray, color: str
) -> None:
    """Draws one box; `Axes.boxplot` would import pyplot and choose a backend."""
    (stats,) = boxplot_stats(values)
    style = _box_style(color)
    edge = {"color": style["edgecolor"], "linewidth": 1}
    panel.vlines(x, stats["whislo"], stats["whishi"], **edge)
    panel.bar(x, stats["iqr"], width, stats["q1"], zorder=2.1, **style)
    ends = x - width / 2, x + width / 2
    panel.hlines(stats["med"], *ends, color="black", linewidth=2, zorder=2.2)
    fliers = stats["fliers"]
    panel.plot(np.full(len(fliers), x), fliers, ".", color=color, markersize=3)


def _box_style(color: str) -> dict[str, Any]:
    face = tuple(0.4 + 0.6 * channel for channel in to_rgb(color))
    edge = tuple(0.75 * channel for channel in to_rgb(color))
    return {"facecolor": face, "edgecolor": edge}


def _write_counts(panel: Axes, counts: list[tuple[float, int, int]]) -> None:
    """Says under the axis how many scores a box has, or above each if they differ."""
    _, defined, total = counts[0]
    if len({count[1:] for count in counts}) == 1:
        undefined = f" of {total}; {total - defined} undefined"
        text = f"n = {defined}{undefined if defined < total else ''}"
        panel.set_xlabel(f"threshold\n{text}")
        return
    panel.set_xlabel("threshold\nn above each box: defined / all")
    for x, defined, total in counts:
        panel.annotate(
            f"{defined}/{total}",
            (x, 1),
            (0, 3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=TICK_SIZE,
        )


def _check_sheet(
    images: np.ndarray, maps: Mapping[str, np.ndarray], masks: np.ndarray | None
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    images = np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "`images` must have shape (n, height, width, channels), none of them 0. "
            f"Received: {images.shape}. One image is `image[None]`."
        )
    if not (images.min() >= 0 and images.max() <= 1):  # also False for NaN
        raise ValueError(
            "`images` must be in [0, 1]. "
            f"Received: values from {images.min():.3g} to {images.max():.3g}. "
            "Divide 8-bit images by 255."
        )
    _check_methods("maps", maps)
    maps = {name: np.asarray(values, float) for name, values in maps.items()}
    for name, values in maps.items():
        _check_shape(f"maps[{name!r}]", values, images)
        if not np.isfinite(values).all():
            rows = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2))).tolist()
            raise ValueError(
                f"`maps[{name!r}]` must be finite. Received: NaN or infinite values "
                f"in rows {rows}. Leave these images out, or mend their maps."
            )
    if masks is not None:
        masks = np.asarray(masks)
        _check_shape("masks", masks, images)
        if masks.dtype != bool:
            raise ValueError(
                f"`masks` must be bool. Received: {masks.dtype}. Use `masks > 0`."
            )
    return images.astype(np.float32), maps, masks


def _check_shape(name: str, values: np.ndarray, images: np.ndarray) -> None:
    if values.shape != images.shape[:3]:
        raise ValueError(
            f"`{name}` must have the images' shape (n, height, width), here "
            f"{images.shape[:3]}. Received: {values.shape}. Resize to the images' "
            "size first, and pass one for each image."
        )


def _check_methods(name: str, methods: Mapping) -> None:
    if not isinstance(methods, Mapping):
        raise TypeError(
            f"`{name}` must be a dict of method name to arrays. Received: "
            f'{type(methods).__name__}. Name the method: `{{"HR-CAM": ...}}`.'
        )
    if not methods:
        raise ValueError(
            f"`{name}` must have at least one method. Received: an empty dict. "
            'Add one: `{"HR-CAM": ...}`.'
        )


def _check_options(
    n: int,
    row_titles: Sequence[str] | None,
    scale: str,
    alpha: float,
    colormap: str | Colormap,
) -> None:
    if isinstance(row_titles, str):
        raise TypeError(
            "`row_titles` must be a list of strings, one an image. "
            f"Received: the string {row_titles!r}. Put it in a list."
        )
    if row_titles is not None and len(row_titles) != n:
        raise ValueError(
            f"`row_titles` must have one title for each of the {n} images. "
            f'Received: {len(row_titles)}. Use "" for a row without a title.'
        )
    if scale not in SCALES:
        raise ValueError(f"`scale` must be one of {SCALES}. Received: {scale!r}")
    if not 0 < alpha <= 1:
        raise ValueError(f"`alpha` must be in (0, 1]. Received: {alpha}")
    if isinstance(colormap, str) and colormap not in matplotlib.colormaps:
        raise ValueError(
            "`colormap` must be a matplotlib colour map, such as 'inferno', 'viridis' "
            f"or 'gray' (all: `list(matplotlib.colormaps)`). Received: {colormap!r}"
        )


def _check_scores(
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]], num_thresholds: int
) -> dict[str, list[np.ndarray]]:
    _check_methods("scores", scores)
    if len(scores) > len(METHOD_COLORS):
        raise ValueError(
            f"`scores` must have at most {len(METHOD_COLORS)} methods, for as many "
            f"colours. Received: {len(scores)}. Draw several figures."
        )
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
