"""Writes maps: raw values, and pictures of them on their image.

Raw maps keep their values, float32, signed, at the size that the network saw. Pictures
have the size of the original image: the map is resized to it, bilinear with half-pixel
centres (by area along a side that shrinks).

The picture is a choice of ours: the map's colours, its lowest value black and its
highest yellow ("inferno"), half transparent over the grey image. A map without a range
has no colour. Where such a picture is bright the map is *highest*, which may be below
zero: the raw range belongs to it.

Every file is whole or not there (`_atomic`).
"""

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from hrcam.imaging._atomic import write_whole
from hrcam.imaging.picture import Picture

OPACITY = 0.5
ROUNDING = 8 * float(np.finfo(np.float32).eps)
MOST_IN_FLOAT32 = float(np.finfo(np.float32).max)
# Two thirds of the default's time for about as many bytes.
FAST_PNG = (
    *(cv2.IMWRITE_PNG_COMPRESSION, 3),  # first: it takes back a strategy
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_HUFFMAN_ONLY),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP),
)
MOST_IN_A_ROW = 1_000_000  # of a PNG; what libpng allows


def write_array(target: Path, heatmap: np.ndarray) -> None:
    """Writes a raw map as `.npy`."""
    data = BytesIO()
    np.save(data, np.asarray(heatmap, np.float32))
    write_whole(target, data.getvalue())


def write_arrays(target: Path, heatmaps: Mapping[str, np.ndarray]) -> None:
    """Writes raw maps as one compressed `.npz`, by the names of their methods."""
    arrays = {name: np.asarray(value, np.float32) for name, value in heatmaps.items()}
    data = BytesIO()
    np.savez_compressed(data, **arrays)
    write_whole(target, data.getvalue())


def write_tiff(target: Path, heatmap: np.ndarray) -> None:
    """Writes a raw map as TIFF of one 32-bit float a pixel."""
    data = BytesIO()  # on a full disk Pillow leaves half a file, and says nothing
    Image.fromarray(np.asarray(heatmap, np.float32)).save(data, "TIFF")
    write_whole(target, data.getvalue())


def write_overlay(target: Path, picture: Picture, heatmap: np.ndarray) -> None:
    """Writes a PNG of a map over its image, at the image's own size."""
    shown = cv2.cvtColor(overlay(picture, heatmap), cv2.COLOR_RGB2BGR)
    if max(picture.size) > MOST_IN_A_ROW:
        raise ValueError(f"no PNG has a side of more than {MOST_IN_A_ROW} pixels")
    write_whole(target, cv2.imencode(".png", shown, FAST_PNG)[1].tobytes())


def overlay(picture: Picture, heatmap: np.ndarray) -> np.ndarray:
    """Draws a map over its image.

    Args:
        picture: The image; its display window counts.
        heatmap: Raw map `(h, w)` of any size.

    Returns:
        RGB, uint8 `(height, width, 3)`, of the image's size.
    """
    grey = cv2.cvtColor(picture.display(), cv2.COLOR_RGB2GRAY)
    resized = resize_map(heatmap, picture.size)
    low, high = float(resized.min()), float(resized.max())
    if high - low <= ROUNDING * max(abs(low), abs(high)):
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    if high - low > MOST_IN_FLOAT32:
        resized = resized.astype(np.float64)
    levels = np.rint((resized - low) / (high - low) * 255)
    colours = cv2.applyColorMap(levels.astype(np.uint8), cv2.COLORMAP_INFERNO)
    grey = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    mixed = cv2.addWeighted(colours, OPACITY, grey, 1 - OPACITY, 0)
    return cv2.cvtColor(mixed, cv2.COLOR_BGR2RGB)


def resize_map(heatmap: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes a raw map `(h, w)` to (height, width), float32."""
    heatmap = np.asarray(heatmap, np.float32)
    # Two steps: OpenCV repeats pixels along a side that grows while the other shrinks.
    smaller = tuple(map(min, heatmap.shape, size))
    for step, how in ((smaller, cv2.INTER_AREA), (tuple(size), cv2.INTER_LINEAR)):
        if heatmap.shape != step:
            heatmap = cv2.resize(heatmap, step[::-1], interpolation=how)
    return heatmap
