"""Training of the HR-CAM head on features that are pooled once.

With the network frozen, the head sees nothing but the pooled vectors. So one pass
over the images gives all that its training needs: the vectors go through the same
`fit`, with the same loss and optimizer, and the weights are written into the model.

Reference:
    Shinde et al. (2021), section "HR-CAMs", https://doi.org/10.7717/peerj-cs.622
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np

from hrcam.heads import pooled_channels
from hrcam.training._devices import one_device
from hrcam.training._shared import (
    EpochBar,
    as_labels,
    check_classes,
    is_multi_label,
    loss_weights,
    stop_early,
)
from hrcam.training.pooling import PooledFeatures, pool_features, predicted_classes


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
    one pass over the images. A multi-label head (K > 1 sigmoid units) has the binary
    cross-entropy, mean over its units, and its accuracy is the share of right labels.
    Random layers of the network (dropout) act in `fit` but not here; that is logged.

    Args:
        model: A model from `build_hrcam_model`; only `"predictions"` is changed.
        x: Images `(n, height, width, channels)`, a `tf.data.Dataset` of (images,
            labels) batches, or what `pool_features` returned for this model.
        y: Classes `(n,)` or one-hot `(n, classes)`; 0 or 1 for each unit `(n, K)` of a
            multi-label head. `None` unless x is an array.
        validation_data: `(x, y)`, a data set or pooled features, to be scored after
            each epoch.
        epochs: Passes over the pooled vectors.
        batch_size: Images, and then vectors, at a time.
        learning_rate: Of Adam.
        class_weight: Class -> weight of its loss, or `"balanced"` (inverse counts);
            not for a multi-label head.
        early_stopping: Epochs without a better validation loss (training loss
            without validation data) to wait for; the best weights are kept.
        standardize: Train on vectors of zero mean and unit variance, and fold both
            into the kernel and bias, so that the model and Eq. 3 stay as they are. The
            head then starts at zero: the weights of a random start, divided by a small
            deviation, would stay in the map as noise. Deviations below a hundredth of
            their mean are raised to that. Without it, the head starts from its weights.
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
        predict the same class, or the share of equal labels; `val_...` of the
        validation data.

    Raises:
        ValueError: If `model` has no HR-CAM head, if labels or `base_model` do not fit
            it or the images, or if a feature is NaN.

    Example:
        >>> history = fit_hrcam_head(model, images, labels, epochs=10)
    """
    channels = sum(pooled_channels(model))
    _check_weights(model, class_weight)
    dense = model.get_layer("predictions")
    options = {"batch_size": batch_size, "base_model": base_model, "verbose": verbose}
    train, held_out = x, validation_data
    if isinstance(x, PooledFeatures):
        _refuse_ignored(y=y, augment=augment, base_model=base_model, copies=copies)
    else:
        train = pool_features(model, x, y, augment=augment, copies=copies, **options)
    if held_out is not None and not isinstance(held_out, PooledFeatures):
        held_out = pool_features(model, *_x_and_y(held_out), **options)
    for part in (train, held_out):
        if part is not None:
            _check_pooled(part, channels, model)
    mean, scale = _standardization(train.vectors, standardize)
    with one_device():  # so small that sharing it out would take longer
        head = _vector_model(dense, train.vectors.shape[1], l2, learning_rate)
        start = [w * (not standardize) for w in dense.get_weights()]
        head.get_layer("predictions").set_weights(start)
        history = head.fit(
            (train.vectors - mean) / scale,
            train.labels,
            validation_data=held_out
            and ((held_out.vectors - mean) / scale, held_out.labels),
            epochs=epochs,
            batch_size=batch_size,
            class_weight=loss_weights(train.labels, class_weight),
            callbacks=[
                *stop_early(early_stopping, "val_loss" if held_out else "loss"),
                *([EpochBar(epochs)] if verbose else []),
            ],
            shuffle=shuffle,
            verbose=0,
        )
    _write_back(head.get_layer("predictions"), dense, mean, scale)
    history.report = _report(dense, train, held_out)
    if verbose:
        print("HR-CAM head:", *(f"{k} {v:.3f}" for k, v in history.report.items()))
    return history


def _refuse_ignored(copies: int, **others: Any) -> None:
    given = [name for name, value in others.items() if value is not None]
    given += ["copies"] if copies != 1 else []
    if given:
        raise ValueError(
            "With pooled features as `x`, give these to `pool_features` instead. "
            f"Received: {given}"
        )


def _check_weights(model: keras.Model, class_weight: Any) -> None:
    if class_weight is not None and is_multi_label(model):
        raise ValueError(
            "`class_weight` must be None for a multi-label head, whose images are of "
            f"several classes. Received: {class_weight!r}. Repeat the images of rare "
            "labels, or compile `model` with a weighted loss of your own and call its "
            "`fit`, which trains the head alone."
        )


def _check_pooled(pooled: PooledFeatures, channels: int, model: keras.Model) -> None:
    units = model.outputs[0].shape[-1]
    check_classes(as_labels(pooled.labels, model), units)
    shape = (len(pooled.vectors), *([units] if is_multi_label(model) else []))
    shapes = [array.shape for array in pooled[1:] if array is not None]
    if any(given != shape for given in shapes):
        raise ValueError(
            f"Labels and base classes of pooled features must be of shape {shape}. "
            f"Received: {shapes}. Pool them with this very model."
        )
    if pooled.vectors.shape[1] != channels:
        raise ValueError(
            f"Pooled features must have {channels} columns, the feature maps that the "
            f"model pools. Received: {pooled.vectors.shape[1]}. Pool them with this "
            "very model."
        )


def _standardization(
    vectors: np.ndarray, standardize: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each feature; 0 and 1 where it is not to be changed."""
    size = vectors.shape[1]
    if not standardize:
        return np.zeros(size, "float32"), np.ones(size, "float32")
    mean, scale = vectors.mean(0, dtype="float64"), vectors.std(0, dtype="float64")
    scale = np.maximum(scale, 0.01 * scale.mean() or 1.0)  # hardly varying features
    return mean.astype("float32"), scale.astype("float32")


def _vector_model(
    dense: keras.layers.Dense, channels: int, l2: float, learning_rate: float
) -> keras.Model:
    """The head alone, on vectors, compiled, with weights of its own."""
    vector = keras.Input((channels,), name="vector")
    copy = keras.layers.Dense(
        dense.units,
        activation=dense.activation,
        kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        name="predictions",
        dtype="float32",
    )
    head = keras.Model(vector, copy(vector))
    loss, accuracy = "sparse_categorical_crossentropy", "accuracy"
    if dense.activation is keras.activations.sigmoid:
        # By the name "accuracy" alone Keras would compare the highest of several units.
        loss, accuracy = "binary_crossentropy", keras.metrics.BinaryAccuracy("accuracy")
    head.compile(keras.optimizers.Adam(learning_rate), loss, metrics=[accuracy])
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


def _report(
    dense: keras.layers.Dense, train: PooledFeatures, held_out: PooledFeatures | None
) -> dict[str, float]:
    report = {}
    for prefix, part in (("", train), ("val_", held_out)):
        if part is None:
            continue
        outputs = keras.ops.convert_to_numpy(dense(part.vectors))
        predicted = predicted_classes(outputs, multi_label=part.labels.ndim == 2)
        report[f"{prefix}accuracy"] = float((predicted == part.labels).mean())
        if part.base_classes is not None:
            same = predicted == part.base_classes
            report[f"{prefix}agreement"] = float(same.mean())
    return report


def _x_and_y(data: Any) -> tuple[Any, Any]:
    if not isinstance(data, (tuple, list)):
        return data, None
    if len(data) != 2:
        raise ValueError(
            "`validation_data` must be (x, y) or a data set. "
            f"Received: {len(data)} parts"
        )
    return tuple(data)
