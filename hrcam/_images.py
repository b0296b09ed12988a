"""The check of images at the door of every function that runs a model on them."""

from typing import Any

import keras
import numpy as np


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
    return check_array(tuple(model.inputs[0].shape), images, first)


def check_inputs(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    """Returns the inputs of a view of a model, the images first, as float32.

    Args:
        model: The model that `views.view` made, or one of one input.
        inputs: An array, or a list with one for each input.

    Raises:
        ValueError: If one does not fit, holds NaN or infinity, or they are not of one
            length.
    """
    first, *others = inputs if isinstance(inputs, list) else [inputs]
    images = check_array(tuple(model.inputs[0].shape), first)
    checked = [images]
    for tensor, other in zip(model.inputs[1:], others, strict=True):
        other = np.asarray(other)
        wanted = tuple(tensor.shape)
        fits = other.ndim == len(wanted) and len(other) == len(images)
        if not fits or other.shape[1:] != tuple(
            g if w is None else w
            for w, g in zip(wanted[1:], other.shape[1:], strict=True)
        ):
            raise ValueError(
                f"The input {tensor.name!r} must be of shape "
                f"{(len(images), *wanted[1:])}. Received: {other.shape}"
            )
        if other.dtype.kind not in "fiub" or not np.isfinite(other).all():
            raise ValueError(
                f"The input {tensor.name!r} must be finite numbers. Received: "
                f"dtype {other.dtype}, with NaN, infinity or no numbers."
            )
        checked.append(other.astype(keras.backend.standardize_dtype(tensor.dtype)))
    return checked


def check_array(
    expected: tuple[int | None, ...], images: Any, first: int = 0
) -> np.ndarray:
    """Returns images as float32; `expected` is the shape of the model's input.

    See `check_images` for the errors.
    """
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


def image_shape(model: keras.Model, image_size: Any) -> tuple[int, int, int]:
    """Returns the (height, width, channels) of the images that a model is given.

    Args:
        model: Takes one image.
        image_size: Side or (height, width), where the model takes any size.

    Raises:
        ValueError: If the model takes another kind of input, or the size does not fit
            or is not known.
    """
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise ValueError(
            "`model` must have one input, (batch, height, width, channels). Received: "
            f"{[tuple(tensor.shape) for tensor in model.inputs]}"
        )
    *size, channels = model.inputs[0].shape[1:]
    if image_size is None and None in size:
        raise ValueError(
            "`image_size` is needed, since the model takes images of any size. "
            f"Received: None, and the input {model.inputs[0].shape}."
        )
    if isinstance(image_size, int):
        image_size = (image_size, image_size)
    image_size = tuple(size if image_size is None else image_size)
    fits = len(image_size) == 2 and all(
        own in (None, given) for own, given in zip(size, image_size, strict=True)
    )
    if not fits:
        raise ValueError(
            f"`image_size` must fit the model's input {model.inputs[0].shape}. "
            f"Received: {image_size}"
        )
    return (*image_size, channels)


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
