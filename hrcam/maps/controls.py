"""Maps that know nothing of the model: what any method has to beat.

* `centre_prior`: 1 at the centre, falling with the distance from it, because findings
  tend to be in the middle of the picture:
  `exp(-(u^2 + v^2) / 2 s^2)`, u and v from -1 to 1 over the image, s = 0.5.
* `image_darkness`: one minus the mean of the channels, because lesions of the skin
  are dark.
* `edge_magnitude`: the magnitude of Sobel's gradient, because maps that go back to the
  pixels tend to show the image's edges whatever the network has learned.
* `random_smooth`: noise smoothed to blobs of about the size that the maps of a last
  layer have. What it scores is chance, for a map that looks like one.

They take the arguments of a map function and look only at the images. They are our
choice, they are not in the papers of the maps; edges as a control are in Adebayo et
al. (2018), https://arxiv.org/abs/1810.03292
"""

import hashlib
from typing import Any

import numpy as np
from scipy import ndimage

from hrcam.normalize import min_max_normalize

_SPREAD = 0.5  # of half the image's side
_BLOB = 1 / 14  # of the side: half a pixel of a last layer of 7 x 7


def centre_prior(model: Any, images: np.ndarray, class_index: Any = None) -> np.ndarray:
    """Returns the same bump in the middle of every image.

    Args:
        model: Not used.
        images: `(batch, height, width, channels)`; only the shape is used.
        class_index: Not used.

    Returns:
        Float32 `(batch, height, width)` in (0, 1].
    """
    batch, height, width = np.shape(images)[:3]
    v = (np.arange(height) + 0.5) / height * 2 - 1
    u = (np.arange(width) + 0.5) / width * 2 - 1
    bump = np.exp(-(v[:, None] ** 2 + u**2) / (2 * _SPREAD**2))
    return np.repeat(bump[None].astype("float32"), batch, axis=0)


def image_darkness(
    model: Any, images: np.ndarray, class_index: Any = None
) -> np.ndarray:
    """Returns one minus the mean over the channels of each image.

    Args:
        model: Not used.
        images: `(batch, height, width, channels)` in [0, 1].
        class_index: Not used.

    Returns:
        Float32 `(batch, height, width)` in [0, 1].
    """
    return (1 - np.mean(images, axis=-1)).astype("float32")


def edge_magnitude(
    model: Any, images: np.ndarray, class_index: Any = None
) -> np.ndarray:
    """Returns the length of the brightness gradient of each image, by Sobel's kernel.

    Args:
        model: Not used.
        images: `(batch, height, width, channels)`; the channels are averaged.
        class_index: Not used.

    Returns:
        Float32 `(batch, height, width)`, at least 0; 4 beside a straight edge from 0
        to 1. The image goes on mirrored beyond its border.
    """
    grey = np.mean(images, axis=-1, dtype="float32")
    # Image by image: on a stack, `sobel` would smooth from one image to the next.
    return np.stack([np.hypot(ndimage.sobel(g, 0), ndimage.sobel(g, 1)) for g in grey])


def random_smooth(
    model: Any, images: np.ndarray, class_index: Any = None, *, seed: int = 0
) -> np.ndarray:
    """Returns Gaussian noise under a Gaussian filter, another map for each image.

    The noise is drawn from the seed and the image's own content, so a map does not
    depend on how the images are batched or ordered; equal images get equal maps.

    Args:
        model: Not used.
        images: `(batch, height, width, channels)`.
        class_index: Not used.
        seed: At least 0; another one makes other maps.

    Returns:
        Float32 `(batch, height, width)`, each map from 0 to 1.
    """
    return np.stack([_smooth_noise(image, seed) for image in np.asarray(images)])


def _smooth_noise(image: np.ndarray, seed: int) -> np.ndarray:
    content = np.ascontiguousarray(image, "float32").tobytes()
    digest = int.from_bytes(hashlib.sha256(content).digest(), "little")
    noise = np.random.default_rng([seed, digest]).normal(size=image.shape[:2])
    smooth = ndimage.gaussian_filter(noise, [_BLOB * side for side in noise.shape])
    return min_max_normalize(smooth)
