"""Pooled features of a whole data set, computed once and streamed."""

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np

from hrcam.graph import walk

_LOG = logging.getLogger("hrcam")
_RANDOM_WORDS = ("Dropout", "Noise", "Random", "DropPath")


class PooledFeatures(NamedTuple):
    """What the head sees of a data set; row i of each is image i.

    Attributes:
        vectors: `(n, N)` float32 pooled feature maps.
        labels: `(n,)` int64 classes.
        base_classes: `(n,)` int64 classes that the base model predicts, or `None`.
    """

    vectors: np.ndarray
    labels: np.ndarray
    base_classes: np.ndarray | None


def pool_features(
    model: keras.Model,
    x: Any,
    y: Any = None,
    *,
    batch_size: int = 32,
    augment: Callable | None = None,
    copies: int = 1,
    base_model: keras.Model | None = None,
    verbose: bool = True,
) -> PooledFeatures:
    """Runs every image once through the frozen part of an HR-CAM model.

    See `fit_hrcam_head` for the arguments and errors.
    """
    trunk = _trunk(model, base_model)
    steps = _number_of_batches(x, batch_size, copies)
    bar = keras.utils.Progbar(steps, unit_name="batch") if verbose else None
    vectors, labels, predicted = [], [], []
    seen = 0
    for step, (images, classes) in enumerate(
        labelled_batches(x, y, batch_size, copies), start=1
    ):
        images = images if augment is None else augment(images)
        outputs = trunk.predict_on_batch(images)
        _check_finite(outputs["vector"], seen)
        vectors.append(outputs["vector"])
        labels.append(as_classes(classes))
        if base_model is not None:
            base = outputs.get("base")
            base = base_model.predict_on_batch(images) if base is None else base
            predicted.append(predicted_classes(base))
        seen += len(labels[-1])
        if bar:
            bar.update(step)
    if not vectors:
        raise ValueError("`x` must hold at least one image. Received: none")
    return PooledFeatures(
        np.concatenate(vectors),
        np.concatenate(labels),
        np.concatenate(predicted) if predicted else None,
    )


def predicted_classes(probabilities: np.ndarray) -> np.ndarray:
    """Most probable classes `(n,)` of `(n, classes)`, or of one sigmoid unit."""
    if probabilities.shape[-1] == 1:
        return (probabilities[..., 0] > 0.5).astype("int64")
    return probabilities.argmax(axis=-1)


def as_classes(labels: Any) -> np.ndarray:
    """Labels as integer classes `(n,)`; one-hot rows and `(n, 1)` are understood.

    Raises:
        ValueError: If they are neither whole numbers nor one-hot.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2:
        one_hot = np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()
        if one_hot:
            return labels.argmax(axis=1)
    whole = labels.ndim == 1 and np.array_equal(labels, labels.astype("int64"))
    if not whole or (labels < 0).any():
        raise ValueError(
            "Labels must be whole numbers from 0, shape (n,), or one-hot rows. "
            f"Received: shape {labels.shape}, dtype {labels.dtype}, "
            f"first {labels[:3].tolist()}"
        )
    return labels.astype("int64")


def _trunk(model: keras.Model, base_model: keras.Model | None) -> keras.Model:
    """Image -> pooled vector, and the base model's output where it costs no pass."""
    vector = model.get_layer("gap_vector")
    for call in walk(model)[0]:
        kind = type(call.operation).__name__
        if any(word in kind for word in _RANDOM_WORDS):
            _LOG.warning(
                "%s (%s) is random in training; pooled once, its inference form is "
                "used, which `fit` on the whole model would not do.",
                call.path,
                kind,
            )
            break
    outputs = {"vector": vector.output}
    if base_model is not None and base_model.inputs[0] is model.inputs[0]:
        outputs["base"] = base_model.outputs[0]
    return keras.Model(model.inputs[0], outputs)


def labelled_batches(
    x: Any, y: Any, batch_size: int, copies: int = 1
) -> Iterator[tuple[Any, Any]]:
    """Yields (images, labels), the whole set `copies` times."""
    if y is not None:
        x = np.asarray(x)
        y = np.asarray(y)
        if len(x) != len(y):
            raise ValueError(
                "`x` and `y` must be of the same length. "
                f"Received: {len(x)} images and {len(y)} labels"
            )
    for _ in range(copies):
        if y is None:
            yield from (_pair(batch) for batch in x)
        else:
            for start in range(0, len(x), batch_size):
                part = slice(start, start + batch_size)
                yield x[part], y[part]


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        size = len(batch) if isinstance(batch, (tuple, list)) else 1
        raise ValueError(
            "A data set must give (images, labels) batches; for arrays, give `y`. "
            f"Received: elements of {size} parts"
        )
    return tuple(batch)


def _number_of_batches(x: Any, batch_size: int, copies: int) -> int | None:
    if isinstance(x, np.ndarray):
        return copies * -(-len(x) // batch_size)
    try:
        return copies * len(x)
    except TypeError:
        return None


def _check_finite(vectors: np.ndarray, seen: int) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            "The pooled features must be finite. Received: NaN or infinity for the "
            f"images {(bad[:10] + seen).tolist()}. Look for NaN in those images or in "
            "the base model's weights."
        )
