"""Labels, class weights and callbacks that both trainings share.

Labels are classes `(n,)`, of which an image has one; or, for a multi-label model
(several sigmoid units), 0 or 1 for each unit, `(n, K)`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from hrcam.graph import check_graph, final_activation
from hrcam.views import output_names


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


def is_multi_label(model: keras.Model) -> bool:
    """Tells whether a model of one output ends in several sigmoid units."""
    return model.outputs[0].shape[-1] > 1 and final_activation(model) == "sigmoid"


def as_labels(labels: Any, model: keras.Model) -> np.ndarray:
    """Labels as the model's last layer wants them; see `as_classes`, `as_multi_hot`."""
    if is_multi_label(model):
        return as_multi_hot(labels, model.outputs[0].shape[-1])
    return as_classes(labels)


def as_multi_hot(labels: Any, units: int) -> np.ndarray:
    """Labels as integers 0 or 1, `(n, units)`.

    Raises:
        ValueError: If they are anything else.
    """
    labels = np.asarray(labels)
    shaped = labels.ndim == 2 and labels.shape[1] == units
    if not shaped or not np.isin(labels, (0, 1)).all():
        raise ValueError(
            f"Labels of a multi-label head must be 0 or 1, shape (n, {units}): one "
            f"column a sigmoid unit. Received: shape {labels.shape}, dtype "
            f"{labels.dtype}, first {labels[:3].tolist()}. For classes of which an "
            'image has one: `build_hrcam_model(..., activation="softmax")`.'
        )
    return labels.astype("int64")


def as_classes(labels: Any) -> np.ndarray:
    """Labels as integer classes `(n,)`; one-hot rows and `(n, 1)` are understood.

    Raises:
        ValueError: If they are neither whole numbers nor one-hot.
    """
    labels = np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    several = ""
    if labels.ndim == 2 and np.isin(labels, (0, 1)).all():
        if (labels.sum(axis=1) == 1).all():
            return labels.argmax(axis=1)
        several = (
            " For images with several labels or none, the model needs a sigmoid unit "
            'for each: `build_hrcam_model(..., activation="sigmoid")`.'
        )
    whole = labels.ndim == 1 and np.array_equal(labels, labels.astype("int64"))
    if not whole or (labels < 0).any():
        raise ValueError(
            "Labels must be whole numbers from 0, shape (n,), or one-hot rows. "
            f"Received: shape {labels.shape}, dtype {labels.dtype}, "
            f"first {labels[:3].tolist()}.{several}"
        )
    return labels.astype("int64")


def check_probabilities(model: keras.Model) -> None:
    """Raises a ValueError unless the one output is of exclusive classes in [0, 1]."""
    check_ending(model, ("softmax", "sigmoid"))
    if is_multi_label(model):
        raise ValueError(
            "The classifier must have exclusive classes: softmax, or one sigmoid unit. "
            f"Received: {model.name!r}, a multi-label model with "
            f"{model.outputs[0].shape[-1]} sigmoid units. Train it with Keras itself, "
            '`model.compile("adam", "binary_crossentropy")` and `model.fit`; score it '
            "with scikit-learn, `roc_auc_score(labels, model.predict(images), "
            "average=None)`."
        )


def check_ending(model: keras.Model, activations: Sequence[str]) -> None:
    """Raises a ValueError unless the one output went through such an activation."""
    check_one_output(model)
    activation = final_activation(model)
    if activation not in activations:
        several = model.outputs[0].shape[-1] > 1
        layer = "Softmax()" if several else 'Activation("sigmoid")'
        raise ValueError(
            f"The classifier must end in {' or '.join(activations)}. Received: "
            f"{model.name!r}, which ends in {activation or 'another layer'}. For "
            "probabilities of logits: "
            f"`keras.Model(base.input, keras.layers.{layer}(base.output))`."
        )


def check_one_output(model: keras.Model) -> None:
    """Raises a ValueError unless the model has one output."""
    check_graph(model)
    if len(model.outputs) != 1:
        raise ValueError(
            f"The classifier must have one output. Received: {model.name!r} with "
            f"{output_names(model)}. Make a model of the one that counts: "
            '`keras.Model(base.input, base.get_layer("name").output)`.'
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
