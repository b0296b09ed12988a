"""Burnt-in letters: small, near saturation, much brighter than their surroundings."""

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from hrcam.regions._shapes import box, dilated

EIGHT = np.ones((3, 3), bool)  # strokes that touch by a corner are one letter
# Letters. FracAtlas' logo is 0.07 of a side, its R and L 0.02 to 0.03.
LETTER_SIDE = 0.12  # at most: tells a letter from a plate, a nail, a long bone
LETTER_AREA = 0.0003  # at least, 5 of 128 x 128 pixels: tells it from noise
LETTER_BRIGHTNESS = 0.65  # 90th percentile; a 4-pixel letter at 128 is blurred to .68
LETTER_CONTRAST = 0.5  # to its surroundings; bone and fingers reach 0.4, letters .5-.9
LETTER_SEED = 0.25  # top-hat of a pixel that may belong to a letter
TEXT_SEED, TEXT_CONTRAST = 0.15, 0.2  # instead, for fainter text: it counts
TEXT_DISTANCE = 0.08  # where it lies this near to a letter that was found
LETTER_MARGIN = 0.04  # added width; a response on a letter is blurred around it


def find_letters(image: np.ndarray) -> np.ndarray:
    """Finds the letters of one image `(height, width)`; see `burnt_in_mask`."""
    opened = ndimage.grey_opening(image, size=box(LETTER_SIDE * 0.8, image.shape))
    found = np.zeros(image.shape, bool)
    for part in _small_parts(image - opened > LETTER_SEED):
        if _stands_out(image, part, LETTER_BRIGHTNESS, LETTER_CONTRAST):
            found |= part
    if not found.any():
        return found
    near = dilated(found, 2 * TEXT_DISTANCE)
    for part in _small_parts(image - opened > TEXT_SEED):
        if near[part].all() and _stands_out(image, part, 0, TEXT_CONTRAST):
            found |= part
    return ndimage.binary_fill_holes(dilated(found, LETTER_MARGIN))


def _small_parts(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the components no larger than a letter and off the image's border."""
    parts, _ = ndimage.label(mask, EIGHT)
    for label, place in enumerate(ndimage.find_objects(parts), 1):
        sides = zip(place, mask.shape, strict=True)
        inner = all(part.start > 0 and part.stop < n for part, n in sides)
        if inner and _is_small(place, mask.shape):
            yield parts == label


def _stands_out(
    image: np.ndarray, part: np.ndarray, brightness: float, contrast: float
) -> bool:
    """Is the part that bright, beside the dark, and small at half its height too?"""
    if part.mean() < LETTER_AREA:
        return False
    around = dilated(part, 0.06) & ~dilated(part, 0.03)  # past the blurred edge
    bright, dark = np.percentile(image[part], 90), np.median(image[around])
    if bright < brightness or bright - dark < contrast:
        return False
    halves, _ = ndimage.label(image >= (bright + dark) / 2, EIGHT)
    half = halves == halves.flat[np.where(part, image, -1).argmax()]
    return _is_small(ndimage.find_objects(half.astype(np.uint8))[0], image.shape)


def _is_small(place: tuple[slice, slice], shape: tuple[int, int]) -> bool:
    sides = zip(place, shape, strict=True)
    return all(part.stop - part.start <= LETTER_SIDE * n for part, n in sides)
