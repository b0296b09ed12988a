"""The frame of a dermoscopic image: its dark corners and its border."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def frame_mask(
    images: np.ndarray, *, threshold: float = 0.15, border: float = 0.03
) -> np.ndarray:
    """Finds the frame of a dermoscopic image: dark corners and a border. A heuristic.

    Pixels darker than the threshold (the mean of the channels) that hang together
    with the image's border, by one of their four sides, and a band along the border.
    The default threshold was chosen by eye on 14 images of ISIC 2017 with dark
    corners: it leaves out the half-shadow, where a higher one ran into dark lesions.
    Whatever is dark and reaches the border counts: a lesion, a hair, a radiograph's
    background. Draw the mask over your images before you believe a number.

    Args:
        images: `(images, height, width, channels)` in [0, 1].
        threshold: Brightness below which a pixel is dark, in [0, 1].
        border: Width of the band, a share of each side in [0, 0.5), rounded to
            pixels; 0 for dark corners only.

    Returns:
        bool `(images, height, width)`.

    Raises:
        ValueError: If the shape is another, images leave [0, 1] or an option its
            range.
    """
    images = _checked_images(images)
    if not (0 <= threshold <= 1 and 0 <= border < 0.5):
        raise ValueError(
            "`threshold` must be in [0, 1] and `border` in [0, 0.5). Received: "
            f"{threshold} and {border}"
        )
    dark = images.mean(axis=-1) < threshold
    sides = _band(dark.shape, (1, 1))
    cross = ndimage.generate_binary_structure(2, 1)[None]  # never across images
    corners = ndimage.binary_propagation(dark & sides, cross, mask=dark)
    return corners | _band(dark.shape, [round(border * n) for n in dark.shape[1:]])


def _band(shape: tuple[int, ...], widths: Sequence[int]) -> np.ndarray:
    """True along the border, so many rows and columns wide."""
    rows, columns = widths
    band = np.ones(shape, bool)
    band[:, rows : shape[1] - rows, columns : shape[2] - columns] = False
    return band


def _checked_images(images: np.ndarray) -> np.ndarray:
    images = np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "`images` must have shape (images, height, width, channels), none of them "
            f"0. Received: {images.shape}. One image is `image[None]`."
        )
    if not (images.min() >= 0 and images.max() <= 1):  # NaN fails as well
        raise ValueError(
            "`images` must be in [0, 1]. Received: values from "
            f"{images.min():.3g} to {images.max():.3g}. Divide 8-bit images by 255."
        )
    return images
