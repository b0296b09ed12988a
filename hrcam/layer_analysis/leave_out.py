"""Scores of maps and classes without one layer's part."""

import warnings
from collections.abc import Sequence

import keras
import numpy as np
from scipy.special import expit, softmax

from hrcam._images import check_images
from hrcam.classification import classification_scores
from hrcam.evaluation import THRESHOLDS, MapScores, score_maps, score_rows
from hrcam.layer_analysis._head import (
    Head,
    check_class,
    checked_vectors,
    contributions_of,
    read_head,
)
from hrcam.maps import hr_cam

NOTHING = "nothing"  # of the row in which no layer is left out


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
    head = read_head(model)
    check_class(head, class_index)
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
        classes = _class_rows(head, checked_vectors(head, vectors), labels)
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


def _class_rows(head: Head, vectors, labels) -> list[dict[str, float]]:
    """Accuracy and AUC without nothing, and without each layer's contributions."""
    parts = contributions_of(head, vectors)
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
