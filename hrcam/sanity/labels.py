"""Label randomisation: do maps change when the network learned nothing true?

The same network is trained twice: on the labels, and on a random permutation of them,
which keeps the share of each class and nothing else. The maps of both are compared. A
network that learned random labels knows the training images by heart, so a map that
explains what the network knows cannot be the same; one that is shows the image.

Choices: one permutation. Both networks must fit their labels, or the check is of how
long they trained: look at their training accuracy. Two trainings on the *same* labels
from different starts also give different maps; only what the permuted labels take off
beyond that is due to the labels, so compare with `map_similarity` of such a pair.

Reference:
    Adebayo et al. (2018), "Sanity checks for saliency maps", section 4 (the data
    randomization test), NeurIPS, https://arxiv.org/abs/1810.03292
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from hrcam._images import check_images
from hrcam.sanity.similarity import MapSimilarity, checked_maps, map_similarity


class LabelRandomization(NamedTuple):
    """What `label_randomization` returns.

    Attributes:
        labels: The permuted labels `(m, ...)`, as the second network learned them.
        maps: Float32 `(2, n, height, width)`, raw: of the network trained on the true
            labels, and of the one trained on the permuted ones.
        similarity: Of the two; arrays `(n,)`.
    """

    labels: np.ndarray
    maps: np.ndarray
    similarity: MapSimilarity


def label_randomization(
    fit: Callable[[np.ndarray], keras.Model],
    labels: np.ndarray,
    explain: Callable[[keras.Model, np.ndarray], np.ndarray],
    images: np.ndarray,
    *,
    seed: int = 0,
) -> LabelRandomization:
    """Trains on true and on permuted labels, and compares the maps.

    Args:
        fit: Trains a fresh network on the training images with the labels that it is
            given, and returns it; called twice, first with the true labels.
        labels: `(m, ...)`, of the training images; their order is permuted.
        explain: Makes maps `(n, height, width)` of a model and the images. Fix the
            class in it, as in `lambda m, x: hrcam.cam(m, x, 1)`.
        images: `(n, height, width, channels)` to compare the maps on, preprocessed as
            for training; those of the training set or others.
        seed: Of the permutation.

    Returns:
        The permuted labels, the maps and their similarity.

    Raises:
        ValueError: If the labels are all the same or the permutation changes none,
            images do not fit, or `explain` returns another shape.

    Example:
        >>> def fit(labels):
        ...     model = hrcam.build_small_net((64, 64, 1), 2)
        ...     hrcam.fit_base_model(model, train_images, labels, epochs=30)
        ...     return model
        >>> result = label_randomization(fit, labels, explain, images)
        >>> np.nanmedian(result.similarity.spearman)
    """
    labels = np.asarray(labels)
    permuted = _permuted(labels, seed)
    original = _maps_after(fit, labels, explain, images)
    random = _maps_after(fit, permuted, explain, images, original.shape)
    maps = np.stack([original, random]).astype(np.float32)
    return LabelRandomization(permuted, maps, map_similarity(maps[1], maps[0]))


def _maps_after(
    fit: Callable,
    labels: np.ndarray,
    explain: Callable,
    images: Any,
    shape: tuple[int, ...] | None = None,
) -> np.ndarray:
    model = fit(labels.copy())
    images = check_images(model, images)
    return checked_maps(explain(model, images), images, shape)


def _permuted(labels: np.ndarray, seed: int) -> np.ndarray:
    permuted = np.random.default_rng(seed).permutation(labels)
    if np.array_equal(permuted, labels):
        raise ValueError(
            "`labels` must be of several classes, and the permutation must change "
            f"them. Received: {len(labels)} labels, which stay as they are with seed "
            f"{seed}. Give the labels of all training images, or another seed."
        )
    return permuted
