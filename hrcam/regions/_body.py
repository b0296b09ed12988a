"""The body part: large bright components, without bars and strips."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_li, threshold_triangle

from hrcam.regions._letters import LETTER_SIDE, find_letters
from hrcam.regions._shapes import box, dilated

LOWEST_CONTRAST = 0.05  # 1st to 99th percentile; flatter images show no body
BODY_SMOOTHING = 0.008  # Gaussian sigma; the noise goes, fingers stay
BODY_FLOOR = 0.06  # of the contrast; under it is scattered light beside a hip
THIN_WIDTH = 0.25  # fingers and toes are narrower and may be darker than the gate:
THIN_CONTRAST = 0.08  # they are found by their top-hat, in parts of the contrast
BODY_PART = 0.1  # of the largest component; smaller ones are no second limb
BODY_AREA = 0.01  # of the image
BAR_LENGTH = 0.4  # a divider or an edge of the plate: straight, this long,
BAR_WIDTH = 0.12  # not wider, unless along the border: limbs are,
BAR_BRIGHTNESS = 0.75  # this bright (of the 99.8th percentile), and beside the dark
STRIP_DEPTH = 0.1  # a bright strip along the border that does not reach deeper
STRIP_LENGTH = 0.6  # of the border; a thigh beside the border is shorter or deeper


def find_body(image: np.ndarray) -> np.ndarray:
    """Finds the body in one image `(height, width)`; see `body_mask`."""
    low, high = np.percentile(image, [1, 99])
    if high - low < LOWEST_CONTRAST:
        return np.zeros(image.shape, bool)
    opened = ndimage.grey_opening(image, size=box(LETTER_SIDE, image.shape))
    image = np.where(find_letters(image), opened, image)
    smooth = ndimage.gaussian_filter(image, [BODY_SMOOTHING * n for n in image.shape])
    bars = _bars(smooth, _gate(smooth))
    gate = _gate(smooth[~bars]) if bars.mean() < 0.7 else _gate(smooth)
    wide = ndimage.grey_opening(smooth, size=box(THIN_WIDTH, image.shape))
    thin = smooth - wide > THIN_CONTRAST * (high - low)
    body = _without_strips(((smooth > gate) | thin) & ~bars)
    body = ndimage.binary_opening(body, np.ones(box(0.02, image.shape)))
    return ndimage.binary_fill_holes(_large_parts(body))


def _gate(values: np.ndarray) -> float:
    low, high = np.percentile(values, [1, 99])
    if low == high:
        return np.inf
    gate = min(threshold_triangle(values.ravel()), threshold_li(values.ravel()))
    return max(gate, low + BODY_FLOOR * (high - low))


def _bars(smooth: np.ndarray, gate: float) -> np.ndarray:
    """Straight saturated bars beside the dark: lead dividers, edges of the plate."""
    bright = smooth > max(BAR_BRIGHTNESS * np.percentile(smooth, 99.8), gate)
    bars = np.zeros_like(bright)
    for axis, n in enumerate(smooth.shape):
        line = (1, round(BAR_LENGTH * n)) if axis else (round(BAR_LENGTH * n), 1)
        parts, _ = ndimage.label(_opened(bright, line))
        for label, place in enumerate(ndimage.find_objects(parts), 1):
            across, side = place[1 - axis], smooth.shape[1 - axis]
            at_border = across.start == 0 or across.stop == side
            if not at_border and across.stop - across.start > BAR_WIDTH * side:
                continue  # an overexposed limb
            part = parts == label
            around = dilated(part, 0.08) & ~dilated(part, 0.03)
            if around.any() and (smooth[around] <= gate).mean() > 0.5:
                bars |= dilated(part, 0.04)
    return bars


def _without_strips(body: np.ndarray) -> np.ndarray:
    """Takes off strips along a border, but not the limb that crosses one."""
    body = body.copy()
    for turn in range(4):
        view = np.rot90(body, turn)  # writes through; the border is on top
        depth = round(STRIP_DEPTH * len(view))
        strip = _opened(view[:depth], (1, round(STRIP_LENGTH * view.shape[1])))
        view[:depth] &= ~(strip & ~view[depth])
    return body


def _large_parts(body: np.ndarray) -> np.ndarray:
    parts, _ = ndimage.label(body)
    areas = np.bincount(parts.ravel(), minlength=2)[1:]
    least = max(BODY_PART * areas.max(), BODY_AREA * body.size)
    return np.isin(parts, np.flatnonzero(areas >= least) + 1)


def _opened(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Binary opening by a box, the border mirrored (not dark beyond it)."""
    return ndimage.grey_opening(mask.astype(np.uint8), size=size) > 0
