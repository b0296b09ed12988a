"""Weights by layer, and the share of each layer in the score."""

from typing import NamedTuple

import keras
import numpy as np

from hrcam._images import check_images
from hrcam.layer_analysis._head import (
    by_layer,
    check_class,
    checked_vectors,
    contributions_of,
    pool,
    read_head,
)


class LayerWeights(NamedTuple):
    """A head's weights of one layer's feature maps.

    Attributes:
        w: `(channels,)` float64.
        scaled: `(channels,)` float64, w times the standard deviation of the pooled
            feature, in units of the logit; `None` without vectors.
    """

    w: np.ndarray
    scaled: np.ndarray | None


class LogitShares(NamedTuple):
    """The score of one class, before softmax or sigmoid, split over the layers.

    Attributes:
        layers: Their paths, in the order of the head.
        contributions: `(n, layers)` float64; with the bias they add up to the logit.
        bias: Of the class.
        logit: `(n,)` float64.
    """

    layers: tuple[str, ...]
    contributions: np.ndarray
    bias: float
    logit: np.ndarray

    @property
    def mean(self) -> np.ndarray:
        """Mean contribution over the images, signed, `(layers,)`."""
        return self.contributions.mean(axis=0)

    @property
    def absolute_share(self) -> np.ndarray:
        """Mean over images of |C_l| / sum_k |C_k|, `(layers,)`; sums to 1.

        Images to which no layer contributes are left out; NaN where that is all.
        """
        sizes = np.abs(self.contributions)
        sizes = sizes[sizes.any(axis=1)]
        if not len(sizes):
            return np.full(len(self.layers), np.nan)
        return (sizes / sizes.sum(axis=1, keepdims=True)).mean(axis=0)

    @property
    def covariance_share(self) -> np.ndarray:
        """cov(C_l, logit) / var(logit) over the images, `(layers,)`; sums to 1.

        NaN where all images have the same logit (but for rounding).
        """
        rounding = 1e-12 * np.abs(self.contributions).sum(axis=1).max()
        if np.ptp(self.logit) <= rounding:
            return np.full(len(self.layers), np.nan)
        logit = self.logit - self.logit.mean()
        return (self.contributions - self.mean).T @ logit / (logit @ logit)


def head_weights(
    model: keras.Model, class_index: int, vectors: np.ndarray | None = None
) -> dict[str, LayerWeights]:
    """Returns the head's weights of one class by layer.

    Args:
        model: A trained model from `build_hrcam_model`.
        class_index: In [0, classes). One sigmoid unit: 1 is +w, 0 is -w.
        vectors: `(n, N)` pooled features, from `pool_features`, whose standard
            deviations scale the weights.

    Returns:
        Layer -> weights, in the order of the head.

    Raises:
        ValueError: If `model` has no HR-CAM head, or class or vectors do not fit.

    Example:
        >>> pooled = pool_features(model, images, labels)
        >>> weights = head_weights(model, 1, pooled.vectors)
        >>> {layer: np.median(np.abs(part.scaled)) for layer, part in weights.items()}
    """
    head = read_head(model)
    check_class(head, class_index)
    parts: list = [None] * len(head.layers)
    if vectors is not None:
        parts = by_layer(head, checked_vectors(head, vectors))
    weights = {}
    for name, kernel, part in zip(head.layers, head.kernels, parts, strict=True):
        w = kernel[:, class_index].copy()
        scaled = None if part is None else w * part.std(axis=0, dtype=np.float64)
        weights[name] = LayerWeights(w, scaled)
    return weights


def logit_shares(
    model: keras.Model, x: np.ndarray, class_index: int, *, batch_size: int = 32
) -> LogitShares:
    """Splits the score of one class over the layers, for each image.

    Args:
        model: A trained model from `build_hrcam_model`.
        x: `(n, N)` pooled features, from `pool_features`; or images
            `(n, height, width, channels)`, preprocessed as for training.
        class_index: In [0, classes).
        batch_size: Images at a time.

    Returns:
        The contributions, and the shares made of them.

    Raises:
        ValueError: If `model` has no HR-CAM head, or class, vectors or images do not
            fit.
    """
    head = read_head(model)
    check_class(head, class_index)
    if np.ndim(x) == 4:
        x = pool(model, check_images(model, x), batch_size)
    contributions = contributions_of(head, checked_vectors(head, x))[..., class_index]
    bias = float(head.bias[class_index])
    return LogitShares(
        head.layers, contributions, bias, contributions.sum(axis=1) + bias
    )
