"""A head in float64, and what its layers add to the scores."""

import functools
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once
from hrcam.heads import pooled_channels, pooled_layers
from hrcam.maps._classifier import class_weights


class Head(NamedTuple):
    """A head in float64: a kernel `(channels, classes)` a layer, bias `(classes,)`."""

    layers: tuple[str, ...]
    kernels: list[np.ndarray]
    bias: np.ndarray
    one_unit: bool


def read_head(model: keras.Model) -> Head:
    """Reads the head of an HR-CAM model."""
    layers = tuple(pooled_layers(model))
    ends = np.cumsum(pooled_channels(model))[:-1]
    dense = model.get_layer("predictions")
    kernel, bias = (
        ops.convert_to_numpy(part).astype(np.float64) for part in class_weights(dense)
    )
    return Head(layers, np.split(kernel, ends), bias, dense.units == 1)


def by_layer(head: Head, vectors: np.ndarray) -> list[np.ndarray]:
    """Cuts `(n, N)` into `(n, channels)` a layer."""
    return np.split(vectors, np.cumsum([len(k) for k in head.kernels])[:-1], axis=1)


def contributions_of(head: Head, vectors: np.ndarray) -> np.ndarray:
    """What each layer adds to each score, `(n, layers, classes)` in float64."""
    parts = zip(by_layer(head, vectors), head.kernels, strict=True)
    return np.stack([part.astype(np.float64) @ kernel for part, kernel in parts], 1)


def pool(model: keras.Model, images: np.ndarray, batch_size: int) -> np.ndarray:
    """Pooled features `(n, N)` of checked images."""

    def build():
        pooling = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
        return functools.partial(pooling, training=False)

    key = "layer_analysis"
    run = compiled_once(model, key, build, images.shape[1:], with_class=False)
    starts = range(0, len(images), batch_size)
    batches = (ops.convert_to_tensor(images[s : s + batch_size]) for s in starts)
    return np.concatenate([ops.convert_to_numpy(run(batch)) for batch in batches])


def check_class(head: Head, class_index: int) -> None:
    """Raises an error unless it is one class of the head."""
    index, classes = np.asarray(class_index), len(head.bias)
    if index.dtype.kind not in "iu" or index.shape or not 0 <= index < classes:
        raise ValueError(
            f"`class_index` must be one int in [0, {classes}), the classes of the "
            f"model. Received: {class_index!r}"
        )


def checked_vectors(head: Head, vectors: np.ndarray) -> np.ndarray:
    """Returns pooled features that fit the head."""
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
