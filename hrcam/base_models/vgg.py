"""VGG-16 and VGG-19 with a global average pooling head.

Simonyan and Zisserman (2015), https://arxiv.org/abs/1409.1556; layers and their
names are those of `keras.applications`. The fully connected layers of the original
are left out: CAM needs global average pooling before one dense layer.
"""

from pathlib import Path

import keras

from hrcam.base_models._applications import build_from_application


def build_vgg16(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    num_classes: int = 2,
    weights: str | Path | None = None,
    *,
    preprocessing: str | None = None,
) -> keras.Model:
    """Builds a VGG-16 classifier; see `build_resnet50` for arguments and errors."""
    return build_from_application(
        keras.applications.VGG16,
        "vgg16",
        input_shape,
        num_classes,
        weights,
        preprocessing,
    )


def build_vgg19(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    num_classes: int = 2,
    weights: str | Path | None = None,
    *,
    preprocessing: str | None = None,
) -> keras.Model:
    """Builds a VGG-19 classifier; see `build_resnet50` for arguments and errors."""
    return build_from_application(
        keras.applications.VGG19,
        "vgg19",
        input_shape,
        num_classes,
        weights,
        preprocessing,
    )
