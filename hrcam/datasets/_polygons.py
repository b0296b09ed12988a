"""Outlines of findings as mask files: read from COCO JSON, drawn with OpenCV."""

import json
import os
from pathlib import Path

import cv2
import numpy as np

FINE = 8  # steps a pixel in which areas are measured
# Start of frame: the JPEG segments that hold the size (C4, C8 and CC are others).
SIZE_MARKERS = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}


def read_coco(path: Path) -> dict[str, list[np.ndarray]]:
    """Reads the polygons of a COCO JSON.

    Returns:
        By file name, polygons `(points, 2)` float: x / width and y / height, in
        [0, 1] inside the image. An image without a polygon has an empty list.

    Raises:
        ValueError: If the file is not COCO with polygons (run lengths are not read).
    """
    try:
        coco = json.loads(path.read_text(encoding="utf-8"))
        images = {image["id"]: image for image in coco["images"]}
        polygons = {image["file_name"]: [] for image in coco["images"]}
        for annotation in coco["annotations"]:
            image = images[annotation["image_id"]]
            for ring in annotation["segmentation"]:
                polygons[image["file_name"]].append(_relative(ring, image))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} must be COCO JSON: `images` with id, file_name, width, height; "
            "`annotations` with image_id and `segmentation`, lists x, y, x, y, ... "
            f"of 3 points or more. Received: {type(error).__name__}: {error}"
        ) from error
    return polygons


def _relative(ring: list[float], image: dict) -> np.ndarray:
    points = np.array(ring, float).reshape(-1, 2)
    size = np.array([image["width"], image["height"]], float)
    name = image["file_name"]
    if not (np.isfinite(size).all() and size.min() > 0):
        raise ValueError(f"size {size.tolist()} of {name}")
    points = points / size
    if len(points) < 3 or not np.isfinite(points).all():
        raise ValueError(f"polygon {ring} of {name}")
    if (points.max(axis=0) < 0).any() or (points.min(axis=0) > 1).any():
        raise ValueError(f"polygon {ring} outside of {name}")
    return points


def draw_polygons(polygons: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """Fills polygons: a pixel is inside when half of its area or more is.

    A polygon too thin or small for that marks every pixel that its outline touches.

    Args:
        polygons: `(points, 2)` x and y in [0, 1], from the image's edge to its edge.
        size: Height and width in pixels.

    Returns:
        uint8 `(height, width)`, 0 or 255.
    """
    mask = np.zeros(size, np.uint8)
    for points in polygons:
        points = np.clip(points, 0, 1) * size[::-1]  # in pixels, from the corner
        low = np.floor(points.min(axis=0)).astype(int)
        low = np.minimum(low, np.array(size[::-1]) - 1)  # all on the far edge
        high = np.maximum(np.ceil(points.max(axis=0)).astype(int), low + 1)
        part = mask[low[1] : high[1], low[0] : high[0]]
        level = _share_inside(points - low, part.shape)
        part[level >= (128 if level.max() >= 128 else 1)] = 255
    return mask


def _share_inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns how much of each pixel (height, width) a polygon covers, 0 to 255."""
    fine = np.zeros((size[0] * FINE, size[1] * FINE), np.uint8)
    # OpenCV counts from the middle of a pixel. It fills the outline as well, which
    # lies half inside.
    points = np.clip(np.rint(points * FINE - 0.5), 0, np.array(fine.shape[::-1]) - 1)
    cv2.fillPoly(fine, [points.astype(np.int32)], 255)
    cv2.polylines(fine, [points.astype(np.int32)], True, 128)
    return cv2.resize(fine, size[::-1], interpolation=cv2.INTER_AREA)


def write_mask(path: Path, mask: np.ndarray) -> None:
    """Writes a PNG under another name first: a mask file is there whole or not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(cv2.imencode(".png", mask)[1].tobytes())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def jpeg_size(path: Path) -> tuple[int, int] | None:
    """Returns height and width by a JPEG's header; `None` if it has none."""
    with path.open("rb") as file:
        if file.read(2) != b"\xff\xd8":
            return None
        while len(head := file.read(4)) == 4 and head[0] == 0xFF:
            if head[1] in SIZE_MARKERS:
                sides = file.read(5)  # the precision, height, width
                height, width = (
                    int.from_bytes(sides[i : i + 2], "big") for i in (1, 3)
                )
                return (height, width) if height and width else None
            # Before a marker any number of FF may stand.
            is_fill = head[1] == 0xFF
            file.seek(-3 if is_fill else int.from_bytes(head[2:], "big") - 2, 1)
    return None
