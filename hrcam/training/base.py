"""Training and scoring of a base model."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hrcam._backend import checked_data_set, predict_batch
from hrcam._images import check_images
from hrcam.classification import classification_scores
from hrcam.training._devices import check_shares, scope_of
from hrcam.training._shared import (
    EpochBar,
    as_classes,
    check_classes,
    check_probabilities,
    labelled_batches,
    loss_weights,
    stop_early,
)


def fit_base_model(
    model: keras.Model,
    x: Any,
    y: Any = None,
    validation_data: Any = None,
    epochs: int = 10,
    batch_size: int = 32,
    *,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 1e-4,
    class_weight: Mapping[int, float] | str | None = None,
    directory: str | Path | None = None,
    monitor: str | None = None,
    early_stopping: int | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Trains a classifier with Adam and cross-entropy; the best epoch is kept.

    With `directory` a run that was stopped goes on at the epoch after the last whole
    one (the order of the images differs from an unbroken run's). It holds
    `best.keras`, `log.csv` (a line an epoch) and, while unfinished, `backup`.

    Args:
        model: A classifier that ends in softmax or one sigmoid unit; it is compiled
            anew and trained in place.
        x: Images `(n, height, width, channels)`, or a `tf.data.Dataset` of
            (images, labels) batches, augmented or not.
        y: Classes `(n,)` or one-hot; `None` with a data set.
        validation_data: `(x, y)` or a data set, to choose the best epoch by.
        epochs: Passes over the data.
        batch_size: Images at a time, for arrays.
        learning_rate: Of Adam: a number or a Keras schedule.
        class_weight: Class -> weight of its loss, or `"balanced"` (arrays only).
        directory: Where to keep the best epoch and the state; `None` keeps neither.
        monitor: The quantity that is lowest in the best epoch; `None` is `val_loss`,
            or `loss` without validation data.
        early_stopping: Epochs without improvement to wait for.
        callbacks: Further Keras callbacks, called after this function's own.
        verbose: As in `keras.Model.fit`, or `"epochs"`: one bar over all epochs.

    Returns:
        The training history of the epochs run in this call; the model has the best
        epoch's weights where `directory` is given.

    Raises:
        ValueError: If labels do not fit the model or the images, or the model ends in
            logits or is multi-label.
        FileExistsError: If `directory` holds a finished run.
    """
    check_probabilities(model)
    units = model.output_shape[-1]
    if y is None:
        x = checked_data_set(x, units)
    else:
        x = check_images(model, x)
        y = as_classes(y)
        check_classes(y, units)
        if len(x) != len(y):
            raise ValueError(
                "`x` and `y` must be of the same length. "
                f"Received: {len(x)} images and {len(y)} labels"
            )
    if y is None and class_weight == "balanced":
        raise ValueError(
            "`class_weight='balanced'` needs the labels as `y`. Received: a data set; "
            "give a dict, class -> weight."
        )
    if validation_data is not None and isinstance(validation_data, (tuple, list)):
        held_out, classes = validation_data
        validation_data = (check_images(model, held_out), as_classes(classes))
        check_classes(validation_data[1], units)
    elif validation_data is not None:
        validation_data = checked_data_set(validation_data, units)
    loss = "binary_crossentropy" if units == 1 else "sparse_categorical_crossentropy"
    check_shares(model, x, validation_data, batch_size)
    with scope_of(model):
        model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    monitor = monitor or ("loss" if validation_data is None else "val_loss")
    own = stop_early(early_stopping, monitor)
    if verbose == "epochs":
        own.append(EpochBar(epochs))
    if directory is not None:
        own += _keep(Path(directory), monitor)
    history = model.fit(
        x,
        y,
        validation_data=validation_data,
        epochs=epochs,
        batch_size=None if y is None else batch_size,
        class_weight=loss_weights(y, class_weight),
        callbacks=[*own, *callbacks],
        shuffle=y is not None,  # a data set shuffles itself
        verbose=0 if verbose == "epochs" else verbose,
    )
    if directory is not None:
        model.load_weights(Path(directory, "best.keras"))
        Path(directory, "finished").touch()
    return history


def _keep(directory: Path, monitor: str) -> list[keras.callbacks.Callback]:
    """Callbacks that keep the best epoch, a log, and the state to go on from."""
    if Path(directory, "finished").exists():
        raise FileExistsError(
            f"`directory` must not hold a finished run. Received: {directory}. Open "
            f"its best epoch with `hrcam.load_model('{directory / 'best.keras'}')`, "
            "or name another directory."
        )
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / "log.csv"
    return [
        keras.callbacks.ModelCheckpoint(
            directory / "best.keras",
            monitor,
            mode="min",
            save_best_only=True,
            initial_value_threshold=_best_so_far(log, monitor),
        ),
        keras.callbacks.CSVLogger(log, append=True),
        keras.callbacks.BackupAndRestore(directory / "backup"),
    ]


def _best_so_far(log: Path, monitor: str) -> float | None:
    """The lowest value of the epochs before the stop, or None."""
    if not log.exists():
        return None
    with log.open(newline="") as file:
        values = [row[monitor] for row in csv.DictReader(file) if row.get(monitor)]
    return min(map(float, values), default=None)


def evaluate_classifier(
    model: keras.Model, x: Any, y: Any = None, batch_size: int = 32
) -> dict[str, float | str]:
    """Scores a classifier as the paper's tables do.

    Args:
        model: A classifier with one output, softmax or one sigmoid unit.
        x: Images `(n, height, width, channels)`, or a `tf.data.Dataset` of
            (images, labels) batches.
        y: Classes `(n,)` or one-hot; `None` with a data set.
        batch_size: Images at a time, for arrays.

    Returns:
        `accuracy`, `balanced_accuracy`, `f1_micro`, `f1_macro`, `auc` and, where that
        is NaN, the reason as `auc_reason`; see
        `hrcam.classification.classification_scores`.

    Raises:
        ValueError: If labels do not fit the model or the images, or the model ends in
            logits or is multi-label.
    """
    check_probabilities(model)
    labels, probabilities = [], []
    for images, classes in labelled_batches(x, y, batch_size):
        labels.append(as_classes(classes))
        images = check_images(model, images, first=sum(map(len, labels[:-1])))
        probabilities.append(predict_batch(model, images))
    labels = np.concatenate(labels)
    check_classes(labels, model.output_shape[-1])
    return classification_scores(labels, np.concatenate(probabilities))
