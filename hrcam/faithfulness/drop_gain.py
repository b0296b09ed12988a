"""Drop, increase and gain of the class probability when images are masked by maps.

With y the probability of the class for the image, o that for the image times its
min-max normalised map, of each image

    drop = max(0, y - o) / y,    gain = max(0, o - y) / (1 - y),

and an increase is o > y. Averages over images are the average drop (low is good), the
increase in confidence and the average gain (high is good). Read them together: a map
that is 1 nearly everywhere drops nothing.

Choices, and what is done here:

* The raw map is normalised as it is: where it has negative values, 0 becomes grey. For
  rectified maps, as in the paper, give `np.maximum(maps, 0)`.
* A map that is blank (no positive value) or constant names no pixel: its drop and gain
  are NaN, left out of averages and counted.

Reference:
    Chattopadhay et al. (2018), "Grad-CAM++", WACV,
    https://doi.org/10.1109/WACV.2018.00097; the gain: Zhang et al. (2024), "Opti-CAM:
    optimizing saliency maps for interpretability", Computer Vision and Image
    Understanding, https://arxiv.org/abs/2301.07002
"""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import numpy as np

from hrcam.faithfulness._predictions import check_arguments, predictions
from hrcam.normalize import min_max_normalize


class DropGain(NamedTuple):
    """What the image times its map does to the class probability, by image.

    Attributes:
        probability: Float64 `(n,)`, of the image.
        masked_probability: Float64 `(n,)`, of the image times its map; NaN where the
            map is blank, and so the drop and gain.
        drop: Float64 `(n,)` in [0, 1]; lower is better.
        increase: Bool `(n,)`, whether the probability rose; `False` for blank maps.
        gain: Float64 `(n,)` in [0, 1]; higher is better.
    """

    probability: np.ndarray
    masked_probability: np.ndarray
    drop: np.ndarray
    increase: np.ndarray
    gain: np.ndarray

    def summary(self) -> dict[str, float]:
        """Averages over the images whose map is not blank.

        Returns:
            `average drop`, `increase in confidence` (a share) and `average gain`, in
            [0, 1], NaN if all maps are blank; and `blank`, how many are.
        """
        scored = ~np.isnan(self.masked_probability)
        columns = {
            "average drop": self.drop,
            "increase in confidence": self.increase,
            "average gain": self.gain,
        }
        means = {
            name: float(values[scored].mean()) if scored.any() else float("nan")
            for name, values in columns.items()
        }
        return means | {"blank": int((~scored).sum())}


def average_drop_gain(
    model: keras.Model,
    images: np.ndarray,
    maps: np.ndarray,
    class_index: int | Sequence[int] | np.ndarray | None = None,
    *,
    batch_size: int = 32,
) -> DropGain:
    """Multiplies images by their maps and compares the class probabilities.

    Args:
        model: A trained classifier of one softmax or sigmoid output.
        images: `(n, height, width, channels)`, preprocessed as for training; a pixel
            that its map leaves out becomes 0, so 0 must be nothing special: black, or
            the mean of the data.
        maps: Real numbers `(n, height, width)`, raw; min-max normalised here.
        class_index: As in `insertion_deletion`.
        batch_size: Images at a time.

    Returns:
        Probabilities, drop, increase and gain, `(n,)` each; `.summary()` averages.

    Raises:
        ValueError: If images, maps or class do not fit, or the output is neither
            softmax nor sigmoid.

    Example:
        >>> average_drop_gain(model, images, maps, 1).summary()["average drop"]
    """
    images, maps, classes = check_arguments(
        model, images, maps, class_index, batch_size
    )
    whole = predictions(model, images, batch_size)
    if class_index is None:
        classes = whole.argmax(axis=1)
    masked = predictions(model, images, batch_size, min_max_normalize(maps))
    every = np.arange(len(images))
    before, after = whole[every, classes], masked[every, classes]
    low, high = maps.min(axis=(1, 2)), maps.max(axis=(1, 2))
    after[(high <= 0) | (low == high)] = np.nan
    # Where y is 0 nothing can drop, where it is 1 nothing can rise: 0 / 1.
    drop = np.maximum(0, before - after) / np.where(before > 0, before, 1)
    gain = np.maximum(0, after - before) / np.where(before < 1, 1 - before, 1)
    return DropGain(before, after, drop, after > before, gain)
