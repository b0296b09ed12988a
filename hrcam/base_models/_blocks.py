"""The block that the small networks are built of."""

import keras
from keras import layers


def convolution_block(
    x: keras.KerasTensor, filters: int, name: str, number: int | str = ""
) -> keras.KerasTensor:
    """Adds a 3x3 convolution, batch normalization and ReLU.

    Args:
        x: `(batch, height, width, channels)`.
        filters: Output channels.
        name: Of the block; the layers are `<name>_conv<number>`, `<name>_bn<number>`
            and `<name>_relu<number>`.
        number: Of the convolution in the block.

    Returns:
        `(batch, height, width, filters)`, at least 0.
    """
    convolve = layers.Conv2D(
        filters, 3, padding="same", use_bias=False, name=f"{name}_conv{number}"
    )
    normalize = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn{number}")
    return layers.ReLU(name=f"{name}_relu{number}")(normalize(convolve(x)))
