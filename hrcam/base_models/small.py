"""A small network that trains in seconds on a laptop; for the demo and examples."""

import keras
from keras import layers

from hrcam.base_models._blocks import convolution_block
from hrcam.heads import build_gap_classifier


def build_small_net(
    input_shape: tuple[int | None, int | None, int] = (64, 64, 1),
    num_classes: int = 2,
    filters: tuple[int, ...] = (16, 32, 64, 64),
) -> keras.Model:
    """Builds a plain CNN: convolution, batch norm, ReLU and max-pool a block.

    Args:
        input_shape: `(height, width, channels)`.
        num_classes: Units of `"predictions"`: softmax, or one sigmoid unit when 1.
        filters: Filters of each block; a max-pool lies between two blocks.

    Returns:
        A functional model, image -> `(batch, num_classes)` probabilities, whose
        feature layers are `block1_relu`, `block2_relu`, ...

    Raises:
        ValueError: If `num_classes` is less than 1.
    """
    image = keras.Input(input_shape, name="image")
    x = image
    for number, width in enumerate(filters, start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"block{number - 1}_pool")(x)
        x = convolution_block(x, width, name=f"block{number}")
    return build_gap_classifier(keras.Model(image, x), num_classes, name="small_net")
