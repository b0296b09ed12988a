"""Labels, class weights and callbacks that both trainings share."""

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from hrcam.graph import final_activation


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
    if len(batch[1].shape) == 0:
        raise ValueError(
            "A data set must give batches. Received: single images; use "
            "`dataset.batch(32)`."
        )
    return tuple(batch)


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


def check_probabilities(model: keras.Model) -> None:
    """Raises a ValueError unless the model's one output is softmax or sigmoid."""
    if len(model.outputs) != 1:
        raise ValueError(
            f"The classifier must have one output. Received: {len(model.outputs)}"
        )
    activation = final_activation(model)
    if activation not in ("softmax", "sigmoid"):
        raise ValueError(
            "The classifier must end in softmax or sigmoid, so that its outputs are "
            f"probabilities. Received: {model.name!r}, which ends in "
            f"{activation or 'no activation'}. Append `keras.layers.Softmax()`."
        )


def check_classes(labels: np.ndarray, units: int) -> None:
    """Raises a ValueError where a label is none of the model's classes."""
    classes = 2 if units == 1 else units
    outside = np.unique(labels[labels >= classes])
    if len(outside):
        raise ValueError(
            f"Labels must be in [0, {classes}), the classes of the model. "
            f"Received: {outside[:10].tolist()}"
        )


def loss_weights(
    labels: np.ndarray, class_weight: Mapping[int, float] | str | None
) -> dict[int, float] | None:
    """The weight of each class in the loss; `"balanced"`: n / (classes * count)."""
    if class_weight == "balanced":
        classes = np.unique(labels)
        weights = compute_class_weight("balanced", classes=classes, y=labels)
        return dict(zip(classes.tolist(), weights.tolist(), strict=True))
    if isinstance(class_weight, str):
        raise ValueError(
            "`class_weight` must be a dict, 'balanced' or None. "
            f"Received: {class_weight!r}"
        )
    return class_weight and dict(class_weight)


def stop_early(patience: int | None, monitor: str) -> list[keras.callbacks.Callback]:
    """The callback for so many epochs of patience, best weights restored; or none."""
    if patience is None:
        return []
    return [
        keras.callbacks.EarlyStopping(
            monitor, mode="min", patience=patience, restore_best_weights=True
        )
    ]


class EpochBar(keras.callbacks.Callback):
    """One progress bar over the epochs: a line an epoch would be fifty lines."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs, self.done = epochs, 0
        self.bar = keras.utils.Progbar(
            epochs, unit_name="epoch", stateful_metrics=["loss", "val_loss"]
        )

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        shown = {k: v for k, v in (logs or {}).items() if k.endswith("loss")}
        self.done = epoch + 1
        self.bar.update(self.done, shown.items())

    def on_train_end(self, logs: Mapping | None = None) -> None:
        if self.done < self.epochs:
            print()  # stopped early, in the middle of the bar's line
