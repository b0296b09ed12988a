"""Morphology in shares of an image's sides."""

import numpy as np
from scipy import ndimage


def box(share: float, shape: tuple[int, int]) -> tuple[int, int]:
    """An odd number of pixels, at least 3, along each axis."""
    return tuple(2 * max(1, round(share * n / 2)) + 1 for n in shape)


def dilated(mask: np.ndarray, share: float) -> np.ndarray:
    """Grows a mask by a share of each side in all, half of it either way."""
    return ndimage.maximum_filter(mask, box(share, mask.shape))
