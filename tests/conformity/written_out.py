"""The methods in NumPy, at the layer's own size, with what peers change as arguments.

Without such arguments they are hrcam's maps, which is tested. Features and gradients
are `(n, rows, columns, channels)`, maps `(n, rows, columns)`.
"""

from collections.abc import Callable

import cv2
import numpy as np
from scipy import ndimage

SPACE = (1, 2)


def half_pixel(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, pixels are areas: OpenCV's way."""
    return np.stack([cv2.resize(m, size[::-1]) for m in np.float64(maps)])


def aligned(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear, the corner pixels' centres stay in the corners: SciPy's `zoom`."""
    factors = np.divide(size, maps.shape[1:])
    return ndimage.zoom(np.float64(maps), (1, *factors), order=1)


def cubic(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bicubic as TensorFlow has it (Keys' kernel, a = -0.5, edges renormalised)."""
    return np.einsum(
        "ri,nij,cj->nrc",
        _cubic_weights(maps.shape[1], size[0]),
        maps,
        _cubic_weights(maps.shape[2], size[1]),
    )


def _cubic_weights(old: int, new: int) -> np.ndarray:
    centres = (np.arange(new)[:, None] + 0.5) * old / new - 0.5
    d = np.abs(centres - np.arange(old))
    near = 1.5 * d**3 - 2.5 * d**2 + 1
    far = -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
    weights = np.where(d < 1, near, np.where(d < 2, far, 0))
    return weights / weights.sum(axis=1, keepdims=True)


def nearest(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Blocks, for whole factors."""
    rows, columns = np.floor_divide(size, maps.shape[1:])
    return maps.repeat(rows, axis=1).repeat(columns, axis=2)


def min_max(maps: np.ndarray, epsilon: float) -> np.ndarray:
    """To [0, 1], with `epsilon` added to the range."""
    maps = maps - maps.min(axis=SPACE, keepdims=True)
    return maps / (maps.max(axis=SPACE, keepdims=True) + epsilon)


def rectified(maps: np.ndarray) -> np.ndarray:
    return np.maximum(maps, 0)


def softmax(scores: np.ndarray, where: np.ndarray | bool = True) -> np.ndarray:
    """Over the last axis, of those with `where`; 0 for the others."""
    powers = np.exp(scores - scores.max(axis=-1, keepdims=True)) * where
    return powers / powers.sum(axis=-1, keepdims=True)


def grad_cam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Signed."""
    return (features * gradient.mean(axis=SPACE, keepdims=True)).sum(axis=-1)


def hires_cam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Signed."""
    return (features * gradient).sum(axis=-1)


def layer_cam(features: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    return rectified((features * rectified(gradient)).sum(axis=-1))


def alpha(
    features: np.ndarray,
    gradient: np.ndarray,
    total: Callable = np.sum,
    epsilon: float = 0,
) -> np.ndarray:
    """Grad-CAM++'s share of each pixel, g^2 / (2 g^2 + g^3 sum A + epsilon)."""
    denominator = (
        2 * gradient**2
        + gradient**3 * total(features, axis=SPACE, keepdims=True)
        + epsilon
    )
    return np.divide(
        gradient**2, denominator, np.zeros_like(gradient), where=denominator != 0
    )


def grad_cam_plus_plus(
    features: np.ndarray, gradient: np.ndarray, shares: np.ndarray | None = None
) -> np.ndarray:
    """With other shares than `alpha` where given."""
    shares = alpha(features, gradient) if shares is None else shares
    weights = (shares * rectified(gradient)).sum(axis=SPACE, keepdims=True)
    return rectified((features * weights).sum(axis=-1))


def score_cam(
    features: np.ndarray,
    images: np.ndarray,
    score: Callable,
    resize: Callable = half_pixel,
    scale_first: bool = False,
    weigh: Callable = softmax,
) -> np.ndarray:
    """Score-CAM.

    Args:
        features: Of the layer.
        images: The images.
        score: Images -> one score of each, `(n,)`.
        resize: How the masks are resized.
        scale_first: Whether they are scaled to [0, 1] before they are resized.
        weigh: `(scores, has_range)`, both `(n, channels)` -> weights.
    """
    size = images.shape[1:3]
    masks = np.moveaxis(features, -1, 0)
    if scale_first:
        masks = np.stack([resize(_scaled(m), size) for m in masks])
    else:
        masks = np.stack([_scaled(resize(m, size)) for m in masks])
    scores = np.stack([score(images * mask[..., None]) for mask in masks], axis=-1)
    weights = weigh(scores, np.ptp(features, axis=SPACE) > 0)
    return rectified((features * weights[:, None, None]).sum(axis=-1))


def _scaled(maps: np.ndarray) -> np.ndarray:
    maps = maps - maps.min(axis=SPACE, keepdims=True)
    largest = maps.max(axis=SPACE, keepdims=True)
    return np.divide(maps, largest, np.zeros_like(maps), where=largest > 0)
