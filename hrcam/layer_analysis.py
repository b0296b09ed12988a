"""Which layers an HR-CAM head leans on.

The head adds up the pooled features of its layers, so the score of a class splits
over the layers without a remainder:

    logit_c = bias_c + sum_l C_l,    C_l = sum_i w_i^c * mean(f_i),  i in layer l

and C_l is the mean over pixels of the layer's part of the map (exactly where the
upsampling is by whole factors). Four looks at it:

* The weights by layer, as in the paper's figure 6. The pooled features are not
  standardised, so a weight is small where its feature is large: w mixes scale with
  importance. `w * std(feature)` is free of the scale: what the score gains when the
  feature rises by one standard deviation over the images.
* The share of the score. Signed parts have no clean shares; ours is the mean over
  images of |C_l| / sum_k |C_k|, with the signed mean of C_l beside it.
* The share of what tells images apart: cov(C_l, logit) / var(logit) over the images,
  which sums to 1. It is negative for a layer that works against the others, and 0 for
  one that adds the same to every image, however large its share of the score.
* Leaving one layer out: the scores of the map without the layer's part, and of the
  classes without its C_l. The head is not retrained, which could make up for the
  layer: this says what this head takes from the layer, not what the layer knows. The
  accuracy also falls because the mean of C_l is missing, which moves the border
  between the classes; the AUC of two classes takes no notice of that.

Reference:
    Shinde et al. (2021), PeerJ Computer Science 7:e622, figure 6,
    https://doi.org/10.7717/peerj-cs.622
"""

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np
from keras import ops
from scipy.special import expit, softmax

from hrcam._backend import compiled_once
from hrcam._images import check_images
from hrcam.classification import classification_scores
from hrcam.evaluation import THRESHOLDS, MapScores, score_maps, score_rows
from hrcam.heads import pooled_channels, pooled_layers
from hrcam.maps import hr_cam
from hrcam.maps._classifier import class_weights

NOTHING = "nothing"  # of the row in which no layer is left out


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


class _Head(NamedTuple):
    """A head in float64: a kernel `(channels, classes)` a layer, bias `(classes,)`."""

    layers: tuple[str, ...]
    kernels: list[np.ndarray]
    bias: np.ndarray
    one_unit: bool


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
    head = _head(model)
    _check_class(head, class_index)
    parts: list = [None] * len(head.layers)
    if vectors is not None:
        parts = _by_layer(head, _checked_vectors(head, vectors))
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
    head = _head(model)
    _check_class(head, class_index)
    if np.ndim(x) == 4:
        x = _pooled(model, check_images(model, x), batch_size)
    contributions = _contributions(head, _checked_vectors(head, x))[..., class_index]
    bias = float(head.bias[class_index])
    return LogitShares(
        head.layers, contributions, bias, contributions.sum(axis=1) + bias
    )


def leave_one_layer_out(
    model: keras.Model,
    images: np.ndarray,
    masks: np.ndarray,
    class_index: int,
    *,
    vectors: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    thresholds: Sequence[float] = THRESHOLDS,
    batch_size: int = 32,
) -> list[dict[str, float | str]]:
    """Scores the maps, and the classes, without each layer's part.

    Maps without a positive value are counted (`blank`), not warned of.

    Args:
        model: A trained model from `build_hrcam_model`; it is not retrained.
        images: `(n, height, width, channels)`, preprocessed as for training.
        masks: `(n, height, width)` bool.
        class_index: The class whose maps are scored, in [0, classes).
        vectors: `(m, N)` pooled features of the images whose classes are scored; any
            data set, not only the images with masks.
        labels: `(m,)` their classes; with `vectors` or not at all.
        thresholds: In [0, 1], for sensitivity and specificity.
        batch_size: Images at a time, whose maps of all layers are in memory.

    Returns:
        A row for `"nothing"` left out and one a layer: `without`, the columns of
        `hrcam.evaluation.score_rows`, and with labels `accuracy` and
        `classification auc`, of all classes.

    Raises:
        ValueError: If `model` has no HR-CAM head, if images, masks, class, vectors or
            labels do not fit, or if only one of `vectors` and `labels` is given.
    """
    head = _head(model)
    _check_class(head, class_index)
    if (vectors is None) != (labels is None):
        raise ValueError(
            "`vectors` and `labels` must be given together, one label a vector. "
            f"Received: only `{'labels' if vectors is None else 'vectors'}`"
        )
    images, masks = check_images(model, images), np.asarray(masks)
    if masks.shape != images.shape[:3]:
        raise ValueError(
            "`masks` must have the images' shape (n, height, width), here "
            f"{images.shape[:3]}. Received: {masks.shape}"
        )
    classes = [{} for _ in (NOTHING, *head.layers)]
    if labels is not None:  # first: it is cheap, and what would fail fails now
        classes = _class_rows(head, _checked_vectors(head, vectors), labels)
    scores = _scores_without(
        model, head.layers, images, masks, class_index, thresholds, batch_size
    )
    return [
        {"without": row.pop("method"), **row, **more}
        for row, more in zip(score_rows(scores, thresholds), classes, strict=True)
    ]


def _scores_without(
    model, layers, images, masks, class_index, thresholds, batch_size
) -> dict[str, MapScores]:
    """Scores of the maps without nothing and without each layer, batch by batch."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")
    batches = []
    for start in range(0, len(images), batch_size):
        rows = slice(start, start + batch_size)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The hr_cam map has no positive value")
            parts = hr_cam(model, images[rows], class_index, per_layer=True)
        maps = {NOTHING: parts.sum(axis=1)}
        for number, layer in enumerate(layers):
            # The sum of the others: a difference would keep this layer's rounding.
            maps[layer] = np.delete(parts, number, axis=1).sum(axis=1)
        batches.append(score_maps(maps, masks[rows], thresholds))
    return {
        name: MapScores(
            *map(np.concatenate, zip(*(b[name] for b in batches), strict=True))
        )
        for name in (NOTHING, *layers)
    }


def _class_rows(head: _Head, vectors, labels) -> list[dict[str, float]]:
    """Accuracy and AUC without nothing, and without each layer's contributions."""
    parts = _contributions(head, vectors)
    logits = parts.sum(axis=1) + head.bias
    rows = []
    for left_out in (np.zeros_like(logits), *np.moveaxis(parts, 1, 0)):
        rest = logits - left_out
        scores = classification_scores(
            labels, expit(rest[:, 1]) if head.one_unit else softmax(rest, axis=1)
        )
        rows.append(
            {"accuracy": scores["accuracy"], "classification auc": scores["auc"]}
        )
    return rows


def _head(model: keras.Model) -> _Head:
    layers = tuple(pooled_layers(model))
    ends = np.cumsum(pooled_channels(model))[:-1]
    dense = model.get_layer("predictions")
    kernel, bias = (
        ops.convert_to_numpy(part).astype(np.float64) for part in class_weights(dense)
    )
    return _Head(layers, np.split(kernel, ends), bias, dense.units == 1)


def _by_layer(head: _Head, vectors: np.ndarray) -> list[np.ndarray]:
    """Cuts `(n, N)` into `(n, channels)` a layer."""
    return np.split(vectors, np.cumsum([len(k) for k in head.kernels])[:-1], axis=1)


def _contributions(head: _Head, vectors: np.ndarray) -> np.ndarray:
    """What each layer adds to each score, `(n, layers, classes)` in float64."""
    parts = zip(_by_layer(head, vectors), head.kernels, strict=True)
    return np.stack([part.astype(np.float64) @ kernel for part, kernel in parts], 1)


def _pooled(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    def build():
        pooling = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
        return functools.partial(pooling, training=False)

    key = "layer_analysis"
    run = compiled_once(model, key, build, images.shape[1:], with_class=False)
    starts = range(0, len(images), batch_size)
    batches = (ops.convert_to_tensor(images[s : s + batch_size]) for s in starts)
    return np.concatenate([ops.convert_to_numpy(run(batch)) for batch in batches])


def _check_class(head: _Head, class_index: int) -> None:
    index, classes = np.asarray(class_index), len(head.bias)
    if index.dtype.kind not in "iu" or index.shape or not 0 <= index < classes:
        raise ValueError(
            f"`class_index` must be one int in [0, {classes}), the classes of the "
            f"model. Received: {class_index!r}"
        )


def _checked_vectors(head: _Head, vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors)
    channels = [len(kernel) for kernel in head.kernels]
    if vectors.ndim != 2 or vectors.shape[1] != sum(channels) or not len(vectors):
        raise ValueError(
            f"The pooled vectors must have shape (n, {sum(channels)}), n > 0, one "
            f"column a feature map ({channels} by layer). Received: {vectors.shape}. "
            "Pass `pool_features(model, images, labels).vectors`."
        )
    if vectors.dtype.kind not in "iuf" or not np.isfinite(vectors).all():
        raise ValueError(
            f"The pooled vectors must be finite numbers. Received: {vectors.dtype}"
            + (", with NaN or infinity" if vectors.dtype.kind == "f" else "")
        )
    return vectors
