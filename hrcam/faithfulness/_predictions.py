"""Class probabilities, and the check of what both kinds of scores are given."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from hrcam._backend import predict_batch
from hrcam._images import check_images
from hrcam.graph import final_activation
from hrcam.maps._batches import check_class_index


def predictions(
    model: keras.Model,
    images: np.ndarray,
    batch_size: int,
    factors: np.ndarray | None = None,
) -> np.ndarray:
    """Class probabilities `(n, classes)` of the images, times factors `(n, h, w)`."""
    found = []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        factor = 1 if factors is None else factors[part, ..., None]
        found.append(probabilities(model, images[part] * factor))
    return np.concatenate(found)


def probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Float64 `(batch, classes)`, two of them for one sigmoid unit."""
    output = predict_batch(model, images).astype("float64")
    return np.hstack([1 - output, output]) if output.shape[1] == 1 else output


def check_arguments(
    model: keras.Model,
    images: Any,
    maps: Any,
    class_index: int | Sequence[int] | np.ndarray | None,
    batch_size: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images, maps and classes `(n,)` that fit the model and each other."""
    images = check_images(model, images)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")
    outputs = [tuple(output.shape) for output in model.outputs]
    one = len(outputs) == 1 and len(outputs[0]) == 2
    activation = final_activation(model) if one else outputs
    if activation not in ("softmax", "sigmoid"):
        raise ValueError(
            "`model` must have one output (batch, classes) after softmax or sigmoid: "
            "the scores are of probabilities. Received: "
            f"{model.name!r}, which ends in {activation!r}."
        )
    maps = np.asarray(maps)
    if maps.dtype.kind not in "biuf" or maps.shape != images.shape[:3]:
        raise ValueError(
            "`maps` must be real numbers of the images' shape (n, height, width), here "
            f"{images.shape[:3]}. Received: {maps.dtype} of shape {maps.shape}."
        )
    broken = np.flatnonzero(~np.isfinite(maps).all(axis=(1, 2)))
    if len(broken):
        raise ValueError(
            "`maps` must be finite. Received: NaN or infinity in the maps "
            f"{broken[:10].tolist()} ({len(broken)} of {len(maps)})."
        )
    classes = max(2, outputs[0][1])
    return images, maps, check_class_index(class_index, len(images), classes)
