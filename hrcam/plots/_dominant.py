"""The map of dominant units, each in its colour, and their legend."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from hrcam.plots.sheet import TICK_SIZE

LEGEND_GUTTER, LEGEND_HEIGHT = 1.25, 1.7  # inches
GROUND = "0.15"  # of the dominant units: where nothing responds
# Okabe and Ito (2008), told apart by colour-blind readers; on the dark ground a pale
# green takes the place of their black, and their blue is lighter.
UNIT_COLORS = (
    *("#E69F00", "#56B4E9", "#009E73", "#F0E442"),
    *("#D55E00", "#CC79A7", "#4C7BFF", "#AAF0B4"),
)
OTHERS_COLOR = "0.6"
LEGEND_STYLE = {
    "title": "unit (share)",
    "loc": "center left",
    "bbox_to_anchor": (1, 0.5),
    "fontsize": TICK_SIZE,
    "title_fontsize": TICK_SIZE,
    "alignment": "left",
    "frameon": False,
    "handlelength": 1,
    "handleheight": 1,
    "handletextpad": 0.5,
    "labelspacing": 0.3,
    "borderpad": 0,
    "borderaxespad": 0.5,
}


def draw_units(
    panel: Axes,
    channels: np.ndarray,
    dominant: np.ndarray,
    strength: np.ndarray,
    opacity: np.ndarray,
    known: dict[int, str],
) -> None:
    """Draws one image's dominant units and lists those with the largest shares.

    Args:
        panel: Where to; the legend stands at its right.
        channels: Channel numbers, `(n,)`.
        dominant: Places in `channels`, `(height, width)`.
        strength: The positive response, `(height, width)`, in any unit.
        opacity: Of the units' colours over the ground, `(height, width)` in [0, 1].
        known: Colours by channel number in earlier rows; this row's are added.
    """
    shares = np.bincount(dominant.ravel(), strength.ravel(), len(channels))
    shares /= shares.sum()
    order = np.argsort(-shares, kind="stable")
    top = order[: len(UNIT_COLORS)]
    top = top[shares[top] > 0]
    names = _assign_colors(channels[top].tolist(), known)
    colors = np.tile(to_rgb(OTHERS_COLOR), (len(channels), 1))
    colors[top] = [to_rgb(name) for name in names]
    opacity = opacity[..., None]
    ground = np.array(to_rgb(GROUND))
    panel.imshow(opacity * colors[dominant] + (1 - opacity) * ground)
    entries = list(zip(channels[top], shares[top], names, strict=True))
    others = shares[order[len(UNIT_COLORS) :]].sum()
    if others > 0:
        entries.append(("others", others, OTHERS_COLOR))
    patches = [
        Patch(
            facecolor=color, edgecolor="0.3", linewidth=0.5, label=_label(unit, share)
        )
        for unit, share, color in entries
    ]
    panel.legend(handles=patches, **LEGEND_STYLE)


def _assign_colors(channels: list[int], known: dict[int, str]) -> list[str]:
    """Gives channels different colours, those of earlier rows where still free."""
    taken = {}
    for channel in channels:
        if channel in known and known[channel] not in taken.values():
            taken[channel] = known[channel]
    free = [color for color in UNIT_COLORS if color not in taken.values()]
    free.sort(key=list(known.values()).count)  # stable: the least used, then in order
    for channel in channels:
        if channel not in taken:
            taken[channel] = free.pop(0)
    known.update(taken | known)
    return [taken[channel] for channel in channels]


def _label(unit: int | str, share: float) -> str:
    return f"{unit} ({share:.0%})" if share >= 0.005 else f"{unit} (<1%)"
