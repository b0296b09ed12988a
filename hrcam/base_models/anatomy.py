"""The anatomy networks: which part of the body does a radiograph show?

The paper compares a shallow network, a deeper one, and the deeper one trained on
augmented images, on 224x224 grey radiographs of 24 classes (ImageCLEF 2009). Its
figure of the layers cannot be read, so the layers here are our own: the shallow
network has three 3x3 convolutions, the deeper one ten in five blocks. All have batch
normalization, which the paper does not mention, and end in global average pooling
and one dense layer.

Reference:
    Kumar, Menkovski, Taylor, Wong (2018), "Understanding anatomy classification
    through attentive response maps", ISBI, https://arxiv.org/abs/1611.06284
"""

import keras
from keras import layers

from hrcam.base_models._blocks import convolution_block
from hrcam.heads import build_gap_classifier

SHALLOW_BLOCKS = ((16,), (32,), (64,))
DEEPER_BLOCKS = ((16, 16), (32, 32), (64, 64), (128, 128), (256, 256))


def build_shallow_net(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 1),
    num_classes: int = 24,
) -> keras.Model:
    """Builds the shallow anatomy network: 3 convolutions, 23,000 weights.

    Args:
        input_shape: `(height, width, channels)`; at least 4x4 pixels.
        num_classes: Units of `"predictions"`: softmax, or one sigmoid unit when 1.

    Returns:
        A functional model, image -> `(batch, num_classes)` probabilities. Its last
        convolution is `block3`, with 64 units at a quarter of the image's size.

    Raises:
        ValueError: If `input_shape` is too small, or `num_classes` is below 1.
    """
    return _build(input_shape, num_classes, SHALLOW_BLOCKS, name="shallow_net")


def build_deeper_net(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 1),
    num_classes: int = 24,
) -> keras.Model:
    """Builds the deeper anatomy network: 10 convolutions, 1.2 million weights.

    Args:
        input_shape: `(height, width, channels)`; at least 16x16 pixels.
        num_classes: Units of `"predictions"`: softmax, or one sigmoid unit when 1.

    Returns:
        A functional model, image -> `(batch, num_classes)` probabilities. Its last
        convolution is `block5_conv2`, with 256 units at a 16th of the image's size.

    Raises:
        ValueError: If `input_shape` is too small, or `num_classes` is below 1.
    """
    return _build(input_shape, num_classes, DEEPER_BLOCKS, name="deeper_net")


def _build(input_shape, num_classes, blocks, name: str) -> keras.Model:
    smallest = 2 ** (len(blocks) - 1)
    if any(side is not None and side < smallest for side in input_shape[:2]):
        raise ValueError(
            f"`input_shape` of {name} must be at least ({smallest}, {smallest}, "
            f"channels), or its pools leave no pixel. Received: {tuple(input_shape)}"
        )
    image = x = keras.Input(input_shape, name="image")
    for block, filters in enumerate(blocks, start=1):
        if block > 1:
            x = layers.MaxPooling2D(2, name=f"block{block - 1}_pool")(x)
        for number, width in enumerate(filters, start=1):
            x = convolution_block(x, width, f"block{block}", number)
    return build_gap_classifier(keras.Model(image, x), num_classes, name=name)
