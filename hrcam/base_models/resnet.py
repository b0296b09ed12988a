"""ResNet-50 with a global average pooling head.

He et al. (2016), https://doi.org/10.1109/CVPR.2016.90; layers and their names are
those of `keras.applications.ResNet50`.
"""

from pathlib import Path

import keras

from hrcam.base_models._applications import build_from_application


def build_resnet50(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    num_classes: int = 2,
    weights: str | Path | None = None,
    *,
    preprocessing: str | None = None,
) -> keras.Model:
    """Builds a ResNet-50 classifier.

    Args:
        input_shape: `(height, width, channels)`; height and width may be `None`.
        num_classes: Units of `"predictions"`: softmax, or one sigmoid unit when 1.
        weights: `None` (random start), `"imagenet"` (downloaded by Keras), or a path
            to `.npz` (`layer/kernel`, ...), `.h5` or `.keras`. A partial file loads
            what it has; what was not loaded is logged. Where the channel count is
            not that of the weights, each input channel gets the first kernel summed
            over its inputs, divided by the number of channels: without
            `preprocessing`, a grey image gives what the same image three times gives
            the RGB network.
        preprocessing: `None`: the images come as `keras.applications` wants them
            (`resnet50.preprocess_input`). `"caffe"`: layers in front do that, and
            the images come in [0, 1], RGB. With other than 3 channels the mean of
            the three ImageNet means is subtracted.

    Returns:
        A functional model, image -> `(batch, num_classes)` probabilities.

    Raises:
        ValueError: If an argument is out of range, or a weight has another shape.
        FileNotFoundError: If `weights` names no file.
    """
    return build_from_application(
        keras.applications.ResNet50,
        "resnet50",
        input_shape,
        num_classes,
        weights,
        preprocessing,
    )
