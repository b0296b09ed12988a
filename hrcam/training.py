"""Training: the base model, and the HR-CAM head on features that are pooled once.

With the network frozen, the head sees nothing but the pooled vectors. So one pass
over the images gives all that its training needs: the vectors go through the same
`fit`, with the same loss and optimizer, and the weights are written into the model.

Reference:
    Shinde et al. (2021), section "HR-CAMs", https://doi.org/10.7717/peerj-cs.622
"""

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from hrcam._pooling import (
    PooledFeatures,
    as_classes,
    labelled_batches,
    pool_features,
    predicted_classes,
)
from hrcam.heads import pooled_layers
from hrcam.metrics import classification_scores
from hrcam.saving import load_model


def fit_hrcam_head(
    model: keras.Model,
    x: Any,
    y: Any = None,
    validation_data: Any = None,
    epochs: int = 50,
    batch_size: int = 32,
    *,
    learning_rate: float = 1e-3,
    class_weight: Mapping[int, float] | str | None = None,
    early_stopping: int | None = None,
    standardize: bool = False,
    l2: float = 0.0,
    augment: Callable | None = None,
    copies: int = 1,
    base_model: keras.Model | None = None,
    shuffle: bool = True,
    verbose: bool = True,
) -> keras.callbacks.History:
    """Trains the head of an HR-CAM model; the network below stays as it is.

    Cross-entropy and Adam, as `fit` on the frozen model: equal losses, at the cost of
    one pass over the images. Random layers of the network (dropout) act in `fit` but
    not here; that is logged.

    Args:
        model: A model from `build_hrcam_model`; only `"predictions"` is changed.
        x: Images `(n, height, width, channels)`, or a `tf.data.Dataset` of
            (images, labels) batches.
        y: Classes `(n,)` or one-hot `(n, classes)`; `None` with a data set.
        validation_data: `(x, y)` or a data set, to be scored after each epoch.
        epochs: Passes over the pooled vectors.
        batch_size: Images, and then vectors, at a time.
        learning_rate: Of Adam.
        class_weight: Class -> weight of its loss, or `"balanced"` (inverse counts).
        early_stopping: Epochs without a better validation loss (training loss
            without validation data) to wait for; the best weights are kept.
        standardize: Train on vectors of zero mean and unit variance, and fold both
            into the kernel and bias, so that the model and Eq. 3 stay as they are.
        l2: Weight decay of the kernel, added to the loss.
        augment: Images -> images, for instance a `keras.Sequential` of random layers;
            called on each batch of the training images.
        copies: How often the training images are pooled; above 1 with `augment` or a
            data set that augments.
        base_model: The model that `model` was built from: its agreement is reported.
        shuffle: Whether to shuffle the vectors before each epoch (Keras' seed).
        verbose: Whether to show progress and the report.

    Returns:
        The training history; its attribute `report` is a dict with `accuracy`, and
        `agreement` where `base_model` is given: the share of images for which both
        predict the same class; `val_...` of the validation data.

    Raises:
        ValueError: If `model` has no HR-CAM head, if labels do not fit it or the
            images, or if a feature is NaN.

    Example:
        >>> history = fit_hrcam_head(model, images, labels, epochs=10)
    """
    pooled_layers(model)
    dense = model.get_layer("predictions")
    options = {"batch_size": batch_size, "base_model": base_model, "verbose": verbose}
    augmentation = {"augment": augment, "copies": copies}
    train = pool_features(model, x, y, **options, **augmentation)
    check_classes(train.labels, dense.units)
    held_out = None
    if validation_data is not None:
        held_out = pool_features(model, *_x_and_y(validation_data), **options)
        check_classes(held_out.labels, dense.units)
    mean, scale = _standardization(train.vectors, standardize)
    head = _vector_model(dense, mean, scale, l2, learning_rate)
    history = head.fit(
        (train.vectors - mean) / scale,
        train.labels,
        validation_data=held_out
        and ((held_out.vectors - mean) / scale, held_out.labels),
        epochs=epochs,
        batch_size=batch_size,
        class_weight=_class_weight(train.labels, class_weight),
        callbacks=[
            *_stop_early(early_stopping, "val_loss" if held_out else "loss"),
            *([_EpochBar(epochs)] if verbose else []),
        ],
        shuffle=shuffle,
        verbose=0,
    )
    _write_back(head.get_layer("predictions"), dense, mean, scale)
    history.report = _report(dense, train, held_out)
    if verbose:
        print("HR-CAM head:", *(f"{k} {v:.3f}" for k, v in history.report.items()))
    return history


class _EpochBar(keras.callbacks.Callback):
    """One progress bar over the epochs: a line an epoch would be fifty lines."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.bar = keras.utils.Progbar(
            epochs, unit_name="epoch", stateful_metrics=["loss", "val_loss"]
        )

    def on_epoch_end(self, epoch: int, logs: Mapping | None = None) -> None:
        shown = {k: v for k, v in (logs or {}).items() if k.endswith("loss")}
        self.bar.update(epoch + 1, shown.items())


def check_classes(labels: np.ndarray, units: int) -> None:
    """Raises a ValueError where a label is none of the model's classes."""
    classes = 2 if units == 1 else units
    outside = np.unique(labels[labels >= classes])
    if len(outside):
        raise ValueError(
            f"Labels must be in [0, {classes}), the classes of the model. "
            f"Received: {outside[:10].tolist()}"
        )


def _standardization(
    vectors: np.ndarray, standardize: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each feature; 0 and 1 where it is not to be changed."""
    size = vectors.shape[1]
    if not standardize:
        return np.zeros(size, "float32"), np.ones(size, "float32")
    mean, scale = vectors.mean(0, dtype="float64"), vectors.std(0, dtype="float64")
    scale[scale < 1e-6 * np.abs(mean) + 1e-12] = 1.0  # a constant feature
    return mean.astype("float32"), scale.astype("float32")


def _vector_model(
    dense: keras.layers.Dense,
    mean: np.ndarray,
    scale: np.ndarray,
    l2: float,
    learning_rate: float,
) -> keras.Model:
    """The head alone, on (vectors - mean) / scale, from the weights of `dense`."""
    vector = keras.Input((len(mean),), name="vector")
    copy = keras.layers.Dense(
        dense.units,
        activation=dense.activation,
        kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        name="predictions",
        dtype="float32",
    )
    head = keras.Model(vector, copy(vector))
    kernel, bias = (keras.ops.convert_to_numpy(w) for w in (dense.kernel, dense.bias))
    copy.set_weights([kernel * scale[:, None], bias + mean @ kernel])
    loss = (
        "binary_crossentropy" if dense.units == 1 else "sparse_categorical_crossentropy"
    )
    head.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    return head


def _write_back(
    trained: keras.layers.Dense,
    dense: keras.layers.Dense,
    mean: np.ndarray,
    scale: np.ndarray,
) -> None:
    kernel, bias = (
        keras.ops.convert_to_numpy(w).astype("float64")
        for w in (trained.kernel, trained.bias)
    )
    kernel = kernel / scale[:, None]
    dense.set_weights([kernel, bias - mean @ kernel])


def _class_weight(
    labels: np.ndarray, class_weight: Mapping[int, float] | str | None
) -> dict[int, float] | None:
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


def _stop_early(patience: int | None, monitor: str) -> list[keras.callbacks.Callback]:
    if patience is None:
        return []
    return [
        keras.callbacks.EarlyStopping(
            monitor, mode="min", patience=patience, restore_best_weights=True
        )
    ]


def _report(
    dense: keras.layers.Dense, train: PooledFeatures, held_out: PooledFeatures | None
) -> dict[str, float]:
    report = {}
    for prefix, part in (("", train), ("val_", held_out)):
        if part is None:
            continue
        outputs = keras.ops.convert_to_numpy(dense(part.vectors))
        predicted = predicted_classes(outputs)
        report[f"{prefix}accuracy"] = float((predicted == part.labels).mean())
        if part.base_classes is not None:
            same = predicted == part.base_classes
            report[f"{prefix}agreement"] = float(same.mean())
    return report


def _x_and_y(data: Any) -> tuple[Any, Any]:
    return tuple(data) if isinstance(data, (tuple, list)) else (data, None)


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
    verbose: int | str = "auto",
) -> keras.callbacks.History:
    """Trains a classifier with Adam and cross-entropy; the best epoch is kept.

    With `directory` a run that was stopped goes on at the epoch after the last whole
    one (the order of the images differs from an unbroken run's). It holds
    `best.keras`, `log.csv` (a line an epoch) and, while unfinished, `backup`.

    Args:
        model: A classifier; it is compiled anew and trained in place.
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
        verbose: As in `keras.Model.fit`.

    Returns:
        The training history of the epochs run in this call; the model has the best
        epoch's weights where `directory` is given.

    Raises:
        ValueError: If labels do not fit the model or the images.
        FileExistsError: If `directory` holds a finished run.
    """
    units = model.output_shape[-1]
    if y is not None:
        y = as_classes(y)
        check_classes(y, units)
        if len(x) != len(y):
            raise ValueError(
                "`x` and `y` must be of the same length. "
                f"Received: {len(x)} images and {len(y)} labels"
            )
    elif class_weight == "balanced":
        raise ValueError(
            "`class_weight='balanced'` needs the labels as `y`. Received: a data set; "
            "give a dict, class -> weight."
        )
    if validation_data is not None and isinstance(validation_data, (tuple, list)):
        held_out, classes = validation_data
        validation_data = (held_out, as_classes(classes))
    loss = "binary_crossentropy" if units == 1 else "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(learning_rate), loss, metrics=["accuracy"])
    monitor = monitor or ("loss" if validation_data is None else "val_loss")
    callbacks = _stop_early(early_stopping, monitor)
    if directory is not None:
        callbacks += _keep(Path(directory), monitor)
    history = model.fit(
        x,
        y,
        validation_data=validation_data,
        epochs=epochs,
        batch_size=None if y is None else batch_size,
        class_weight=_class_weight(y, class_weight),
        callbacks=callbacks,
        shuffle=y is not None,  # a data set shuffles itself
        verbose=verbose,
    )
    if directory is not None:
        Path(directory, "finished").touch()
        model.set_weights(load_model(Path(directory, "best.keras")).get_weights())
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
) -> dict[str, float]:
    """Scores a classifier as the paper's tables do.

    Args:
        model: A classifier with one output of probabilities.
        x: Images `(n, height, width, channels)`, or a `tf.data.Dataset` of
            (images, labels) batches.
        y: Classes `(n,)` or one-hot; `None` with a data set.
        batch_size: Images at a time, for arrays.

    Returns:
        `accuracy`, `balanced_accuracy`, `f1_micro`, `f1_macro` and `auc`; see
        `hrcam.metrics.classification_scores`.

    Raises:
        ValueError: If labels do not fit the model or the images.
    """
    labels, probabilities = [], []
    for images, classes in labelled_batches(x, y, batch_size):
        labels.append(as_classes(classes))
        probabilities.append(model.predict_on_batch(images))
    labels = np.concatenate(labels)
    check_classes(labels, model.output_shape[-1])
    return classification_scores(labels, np.concatenate(probabilities))
