"""Insertion and deletion: the class probability against the share of pixels shown.

Pixels in descending order of the raw map are put into a baseline (insertion), or are
replaced by it (deletion). With p_c(k) the probability of the class after a share k,

    score = integral from 0 to 1 of p_c(k) dk,  by trapezoids,

high for insertion and low for deletion where the map names what the network needs.

Choices, and what is done here:

* The baseline is the same for both: `"blur"` is the image under a Gaussian whose
  standard deviation is 1/20 of the mean of height and width (11 pixels at 224; edges
  mirrored); `"mean"` fills each channel with its mean over the image. The paper inserts
  into a blurred image and deletes to a constant.
* Equal values are taken in random order, drawn from the seed and the number of the
  image: the same for all methods, for insertion and deletion. In the order of rows a
  blank map would be scored as a scan from the top.
* Steps are of equal numbers of pixels, to one pixel where these do not divide evenly.
  Only the order of the map's values matters, not their size.

Reference:
    Petsiuk, Das, Saenko (2018), "RISE: randomized input sampling for explanation of
    black-box models", BMVC, https://arxiv.org/abs/1806.07421
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import keras
import numpy as np
from rich.progress import track
from scipy.integrate import trapezoid
from scipy.ndimage import gaussian_filter

from hrcam.faithfulness._predictions import (
    check_arguments,
    predictions,
    probabilities,
)

BLUR = 1 / 20  # standard deviation, of the mean of height and width


class Curves(NamedTuple):
    """Class probabilities while pixels are inserted or deleted, all float64.

    Attributes:
        fractions: `(s,)` from 0 to 1: share of the pixels inserted or deleted.
        insertion: `(n, s)` in [0, 1]; first that of the baseline, last of the image.
        deletion: `(n, s)` in [0, 1]; first that of the image, last of the baseline.
        insertion_auc: `(n,)` in [0, 1]; higher is better.
        deletion_auc: `(n,)` in [0, 1]; lower is better.
    """

    fractions: np.ndarray
    insertion: np.ndarray
    deletion: np.ndarray
    insertion_auc: np.ndarray
    deletion_auc: np.ndarray


def insertion_deletion(
    model: keras.Model,
    images: np.ndarray,
    maps: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    *,
    baseline: str = "blur",
    steps: int = 50,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = False,
) -> Curves:
    """Inserts and deletes pixels in the order of maps, and follows the probability.

    Args:
        model: A trained classifier of one softmax or sigmoid output.
        images: `(n, height, width, channels)`, preprocessed as for training.
        maps: Real numbers `(n, height, width)`, raw; only their order counts.
        class_index: The class, in [0, classes): one for all images or one each; `None`
            is each image's predicted class.
        baseline: `"blur"` or `"mean"`; see the module.
        steps: In how many steps all pixels are inserted, at most their number.
        batch_size: Changed copies of an image at a time; it bounds the memory, not
            the result.
        seed: Of the order of pixels with equal values.
        progress: Whether to show a progress bar.

    Returns:
        The curves of each image, of `steps + 1` points, and the areas under them.

    Raises:
        ValueError: If images, maps or class do not fit, the output is neither softmax
            nor sigmoid, or an option is out of range.

    Example:
        >>> maps = hrcam.grad_cam(model, images, 1)
        >>> curves = insertion_deletion(model, images, maps, 1)
        >>> curves.insertion_auc.mean(), curves.deletion_auc.mean()
    """
    images, maps, classes = check_arguments(
        model, images, maps, class_index, batch_size
    )
    pixels = maps[0].size
    _check_options(baseline, steps, pixels)
    if class_index is None:
        classes = predictions(model, images, batch_size).argmax(axis=1)
    counts = np.round(np.linspace(0, pixels, steps + 1)).astype(int)
    curves = np.empty((2, len(images), len(counts)))
    for i in track(range(len(images)), "Inserting", disable=not progress):
        ranks = _ranks(maps[i], np.random.default_rng([seed, i]))
        ground = BASELINES[baseline](images[i])
        for curve, top, below in (
            (curves[0], images[i], ground),
            (curves[1], ground, images[i]),
        ):
            laid = _laid_over(top, below, ranks, counts, batch_size)
            found = [probabilities(model, copies)[:, classes[i]] for copies in laid]
            curve[i] = np.concatenate(found)
    fractions = counts / pixels
    return Curves(fractions, *curves, *trapezoid(curves, fractions))


def _blurred(image: np.ndarray) -> np.ndarray:
    sigma = BLUR * (image.shape[0] + image.shape[1]) / 2
    return gaussian_filter(image, (sigma, sigma, 0))


def _channel_means(image: np.ndarray) -> np.ndarray:
    return np.broadcast_to(image.mean(axis=(0, 1), dtype="float64"), image.shape)


BASELINES = {"blur": _blurred, "mean": _channel_means}


def _ranks(one_map: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Place of each pixel in descending order, 0 to pixels - 1; ties at random."""
    values = one_map.ravel().astype("float64")
    order = np.lexsort((rng.permutation(values.size), -values))
    ranks = np.empty(values.size, int)
    ranks[order] = np.arange(values.size)
    return ranks.reshape(one_map.shape)


def _laid_over(
    top: np.ndarray,
    below: np.ndarray,
    ranks: np.ndarray,
    counts: np.ndarray,
    batch_size: int,
) -> Iterator[np.ndarray]:
    """Yields batches of copies: the first `count` pixels of `top` over `below`."""
    for start in range(0, len(counts), batch_size):
        laid = ranks < counts[start : start + batch_size, None, None]
        yield np.where(laid[..., None], top, below)


def _check_options(baseline: str, steps: int, pixels: int) -> None:
    if baseline not in BASELINES:
        raise ValueError(
            f"`baseline` must be one of {tuple(BASELINES)}. Received: {baseline!r}"
        )
    if not 1 <= steps <= pixels:
        raise ValueError(
            f"`steps` must be from 1 to {pixels}, the pixels of an image. "
            f"Received: {steps}"
        )
