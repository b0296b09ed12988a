"""Pooled features of a whole data set, computed once and streamed."""

import functools
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from hrcam._backend import compiled_once, predict_batch
from hrcam._images import check_images
from hrcam.graph import final_activation, walk
from hrcam.heads import pooled_layers
from hrcam.training._shared import (
    as_labels,
    check_ending,
    check_one_output,
    is_multi_label,
    labelled_batches,
)
from hrcam.views import input_names

_LOG = logging.getLogger("hrcam")
_RANDOM_WORDS = ("Dropout", "Noise", "Random", "DropPath")


class PooledFeatures(NamedTuple):
    """What the head sees of a data set; row i of each is image i.

    Attributes:
        vectors: `(n, N)` float32 pooled feature maps.
        labels: `(n,)` int64 classes; `(n, K)` 0 or 1 for a head of K > 1 sigmoid
            units.
        base_classes: What the base model predicts, int64 and shaped as `labels`: the
            class of the highest output, or 1 for each unit of probability >= 0.5
            (logit >= 0); or `None`.
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

    `fit_hrcam_head` does this itself; with the result at hand, heads with other
    settings are trained without another pass.

    Args:
        model: A model from `build_hrcam_model`.
        x: Images or a data set, as in `fit_hrcam_head`.
        y: Labels of images, as in `fit_hrcam_head`.
        batch_size: Images at a time.
        augment: Images -> images.
        copies: How often the images are pooled.
        base_model: The model whose predicted classes are noted, too. It has one output
            of as many units, and ends in softmax, sigmoid or logits.
        verbose: Whether to show progress.

    Returns:
        The pooled features, one row an image and copy.

    Raises:
        ValueError: If `model` has no HR-CAM head, labels, images or `base_model` do not
            fit it, or a feature is NaN.
    """
    pooled_layers(model)
    _log_random_layers(model)
    joined = False
    if base_model is not None:
        _check_base(model, base_model)
        joined = _share_a_graph(model, base_model)
        threshold = 0.0 if final_activation(base_model) == "linear" else 0.5
    steps = _number_of_batches(x, batch_size, copies)
    bar = keras.utils.Progbar(steps, unit_name="batch") if verbose else None
    vectors, labels, predicted = [], [], []
    seen = 0
    for step, (images, classes) in enumerate(
        labelled_batches(x, y, batch_size, copies), start=1
    ):
        images = images if augment is None else augment(images)
        images = keras.ops.convert_to_tensor(check_images(model, images, first=seen))
        vector, outputs = _forward(model, base_model, joined, images)
        _check_finite(vector, seen)
        vectors.append(vector)
        labels.append(as_labels(classes, model))
        if base_model is not None:
            predicted.append(
                predicted_classes(outputs, is_multi_label(model), threshold)
            )
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


def predicted_classes(
    outputs: np.ndarray, multi_label: bool = False, threshold: float = 0.5
) -> np.ndarray:
    """Predicted classes `(n,)` of outputs `(n, classes)`; 0/1 of each if `multi_label`.

    Args:
        outputs: Probabilities or logits; the highest counts.
        multi_label: Whether each unit is predicted by itself.
        threshold: What an output must reach where there is one unit, or each is
            predicted by itself.
    """
    if not multi_label and outputs.shape[-1] > 1:
        return outputs.argmax(axis=-1)
    found = (outputs >= threshold).astype("int64")
    return found if multi_label else found[..., 0]


def _log_random_layers(model: keras.Model) -> None:
    for call in walk(model)[0]:
        kind = type(call.operation).__name__
        if any(word in kind for word in _RANDOM_WORDS):
            _LOG.warning(
                "%s (%s) is random in training; pooled once, its inference form is "
                "used, which `fit` on the whole model would not do.",
                call.path,
                kind,
            )
            return


def _forward(
    model: keras.Model, base_model: keras.Model | None, joined: bool, images: Any
) -> tuple[np.ndarray, np.ndarray | None]:
    """Pooled vectors, and the base model's output: in one pass where `joined`."""

    def build():
        outputs = [model.get_layer("gap_vector").output]
        outputs += [base_model.outputs[0]] if joined else []
        return functools.partial(keras.Model(model.inputs[0], outputs), training=False)

    key = ("pool", base_model.outputs[0] if joined else None)
    variables = [*model.variables, *(base_model.variables if joined else [])]
    unique = {id(variable): variable for variable in variables}
    run = compiled_once(
        model,
        key,
        build,
        images.shape[1:],
        with_class=False,
        variables=list(unique.values()),
    )
    outputs = run(images)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    vector, *rest = [keras.ops.convert_to_numpy(output) for output in outputs]
    if base_model is None:
        return vector, None
    return vector, rest[0] if joined else predict_batch(base_model, images)


def _check_base(model: keras.Model, base_model: keras.Model) -> None:
    if base_model.outputs[0].shape[-1] == 1 or is_multi_label(model):
        check_ending(base_model, ("softmax", "sigmoid", "linear"))  # for the threshold
    else:
        check_one_output(base_model)
    if len(base_model.inputs) != 1:
        raise ValueError(
            "`base_model` must have one input, the image. Received: "
            f"{base_model.name!r} with {input_names(base_model)}. Leave it out, and "
            "compare with its own predictions."
        )
    shapes = [tuple(network.outputs[0].shape[1:]) for network in (model, base_model)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            "`base_model` must have the classes of `model`, or agreement means "
            f"nothing. Received: outputs of shape (batch, ...) with {shapes[1]} for "
            f"{shapes[0]}"
        )


def _share_a_graph(model: keras.Model, base_model: keras.Model) -> bool:
    """Whether one model can have both outputs: no nested model was wrapped anew."""
    trunk = keras.Model(model.inputs[0], model.get_layer("gap_vector").output)
    if base_model.inputs[0] is not model.inputs[0]:
        return False
    own = {operation.name: operation for operation in trunk.operations}
    base = keras.Model(base_model.inputs[0], base_model.outputs[0]).operations
    return all(own.get(operation.name, operation) is operation for operation in base)


def _number_of_batches(x: Any, batch_size: int, copies: int) -> int | None:
    if not hasattr(x, "element_spec"):
        return copies * -(-len(x) // batch_size)
    known = int(x.cardinality())
    return copies * known if known >= 0 else None


def _check_finite(vectors: np.ndarray, seen: int) -> None:
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise ValueError(
            "The pooled features must be finite. Received: NaN or infinity for the "
            f"images {(bad[:10] + seen).tolist()}. Look for NaN in those images or in "
            "the base model's weights."
        )
