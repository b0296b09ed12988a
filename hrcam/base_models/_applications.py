"""What the builders over `keras.applications` share: input, weights, head."""

from collections.abc import Callable
from pathlib import Path

import keras
from keras import layers, ops

from hrcam.base_models._weights import copy_weights, load_weights
from hrcam.heads import build_gap_classifier

# ImageNet mean of blue, green and red, as the 'caffe' weights of VGG and ResNet want.
_IMAGENET_MEAN = (103.939, 116.779, 123.68)


def build_from_application(
    application: Callable[..., keras.Model],
    name: str,
    input_shape: tuple[int | None, int | None, int],
    num_classes: int,
    weights: str | Path | None,
    preprocessing: str | None,
) -> keras.Model:
    """Builds `application` without its top, then GAP and `"predictions"`.

    See `build_resnet50` for the arguments and errors.
    """
    image = keras.Input(_checked_shape(input_shape), name="image")
    backbone = application(
        include_top=False, weights=None, input_tensor=_preprocess(image, preprocessing)
    )
    model = build_gap_classifier(backbone, num_classes, name=name)
    if weights == "imagenet":
        copy_weights(application(include_top=False, weights="imagenet"), model)
    elif weights is not None:
        load_weights(model, weights)
    return model


def _checked_shape(
    input_shape: tuple[int | None, int | None, int],
) -> tuple[int | None, int | None, int]:
    shape = tuple(input_shape)
    sizes = [side for side in shape[:2] if side is not None]
    fits = len(shape) == 3 and shape[2] is not None and shape[2] >= 1
    if not fits or any(side < 32 for side in sizes):
        raise ValueError(
            "`input_shape` must be (height, width, channels), height and width None "
            f"or at least 32, channels at least 1. Received: {input_shape}"
        )
    return shape


def _preprocess(image: keras.KerasTensor, preprocessing: str | None):
    if preprocessing is None:
        return image
    if preprocessing != "caffe":
        raise ValueError(
            f"`preprocessing` must be None or 'caffe'. Received: {preprocessing!r}"
        )
    channels = image.shape[-1]
    if channels == 3:
        offset = [-mean for mean in _IMAGENET_MEAN]
        flipped = ops.flip(image, axis=-1)
        return layers.Rescaling(255.0, offset, name="preprocessing")(flipped)
    offset = -sum(_IMAGENET_MEAN) / 3
    return layers.Rescaling(255.0, offset, name="preprocessing")(image)
