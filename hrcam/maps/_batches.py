"""The door of every map function: checks, batches, and a warning for blank maps."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops


def check_images(model: keras.Model, images: Any, first: int = 0) -> np.ndarray:
    """Returns the images as float32 `(batch, height, width, channels)`.

    Args:
        model: The model whose input they must fit.
        images: Array or tensor.
        first: Number of the first image in the data set, for the error.

    Raises:
        ValueError: If they do not fit the model's input, or hold NaN or infinity.
    """
    if len(model.inputs) != 1:
        raise ValueError(
            f"`model` must have one input. Received: {model.name!r} with "
            f"{len(model.inputs)}."
        )
    expected = tuple(model.inputs[0].shape)
    images = np.asarray(images)
    if images.dtype.kind not in "fiub":
        raise ValueError(f"`images` must be numbers. Received: dtype {images.dtype}")
    if images.ndim != len(expected) or any(
        want not in (None, got)
        for want, got in zip(expected, images.shape, strict=True)
    ):
        raise ValueError(
            "`images` must have the shape of the model's input "
            f"{('batch', *expected[1:])}. Received: {images.shape}."
            + _shape_hint(images, expected)
        )
    if len(images) == 0:
        raise ValueError(f"`images` must not be empty. Received: {images.shape}")
    bad = ~np.isfinite(images).all(axis=(1, 2, 3))
    if bad.any():
        raise ValueError(
            "`images` must be finite. Received: NaN or infinity in the images "
            f"{(np.flatnonzero(bad)[:10] + first).tolist()} "
            f"({bad.sum()} of {len(images)})."
        )
    return images.astype("float32", copy=False)


def _shape_hint(images: np.ndarray, expected: tuple[int | None, ...]) -> str:
    if images.ndim == 3 and images.shape[-1] == expected[-1]:
        return " For one image, use `images[None]`."
    if images.ndim == 3 and expected[-1] == 1:
        return " Add the channel axis: `images[..., None]`."
    if images.ndim == 4 and images.shape[-1] != expected[-1]:
        return f" The model wants {expected[-1]} channels, not {images.shape[-1]}."
    if images.ndim == 4:
        return " Resize the images to the model's input size first."
    return ""


def check_class_index(
    class_index: int | Sequence[int] | np.ndarray | None, batch: int, classes: int
) -> np.ndarray:
    """Returns one class an image, int32 `(batch,)`; -1 stands for the predicted one.

    Raises:
        ValueError: If it is no integer, not one an image, or not in [0, classes).
    """
    if class_index is None:
        return np.full(batch, -1, "int32")
    index = np.asarray(class_index)
    if index.dtype.kind not in "iu" or index.shape not in ((), (batch,)):
        raise ValueError(
            f"`class_index` must be an int, one int for each of {batch} images, or "
            f"None for the predicted class. Received: {class_index!r}"
        )
    outside = (index < 0) | (index >= classes)
    if outside.any():
        raise ValueError(
            f"`class_index` must be in [0, {classes}), the classes of the model. "
            f"Received: {np.unique(index[outside]).tolist()}"
        )
    return np.broadcast_to(index, (batch,)).astype("int32")


def compute_maps(
    method: str,
    function: Callable,
    images: np.ndarray,
    class_index: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    """Runs `function` over batches and warns of maps without a positive value.

    Args:
        method: Name of the method, for the warning.
        function: `(images, class_index) -> (maps, classes)`; maps
            `(batch, height, width)` or `(batch, layers, height, width)`.
        images: Checked images.
        class_index: Checked classes.
        batch_size: Images at a time.

    Returns:
        The maps of all images, float32.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")
    maps, classes = [], []
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        made, chosen = function(
            ops.convert_to_tensor(images[part]),
            ops.convert_to_tensor(class_index[part]),
        )
        maps.append(ops.convert_to_numpy(made))
        classes.append(ops.convert_to_numpy(chosen))
    result = np.concatenate(maps)
    _warn_of_blank_maps(method, result, np.concatenate(classes))
    return result


def _warn_of_blank_maps(method: str, maps: np.ndarray, classes: np.ndarray) -> None:
    whole = maps.sum(axis=1) if maps.ndim == 4 else maps
    blank = np.flatnonzero(~(whole.max(axis=(1, 2)) > 0))
    if len(blank):
        named = ", ".join(f"image {i} (class {classes[i]})" for i in blank[:10])
        rest = f" and {len(blank) - 10} more" if len(blank) > 10 else ""
        warnings.warn(
            f"The {method} map has no positive value for {named}{rest}: nothing in the "
            "image argues for that class. A picture or min-max of it shows the least "
            "negative place, not evidence.",
            stacklevel=4,
        )
