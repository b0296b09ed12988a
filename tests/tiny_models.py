"""The tiny models of the fixtures, for tests that need one for a whole module."""

import keras
import numpy as np
from keras import layers

SIZE, CLASSES = 16, 3


def scale_weights(model, seed=0):
    """Gives kernels He scale, biases and batch-norm statistics random values."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape = tuple(variable.shape)
        draws = {
            "bias": lambda shape: rng.normal(0, 0.2, shape),
            "gamma": lambda shape: rng.uniform(0.5, 1.5, shape),
            "beta": lambda shape: rng.normal(0, 0.3, shape),
            "moving_mean": lambda shape: rng.normal(0, 0.3, shape),
            "moving_variance": lambda shape: rng.uniform(0.5, 2, shape),
        }
        if variable.name in draws:
            variable.assign(draws[variable.name](shape))
        else:
            variable.assign(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))
    return model


def make_backbone(size=None, channels=1):
    """Three resolutions, 4 + 6 + 8 maps: the feature layers are `relu1, relu2, relu3`.

    Layers: conv1, bn1, relu1, pool1, conv2, ..., relu3.
    """
    image = x = keras.Input((size, size, channels), name="backbone_image")
    for number, filters in enumerate((4, 6, 8), start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"pool{number - 1}")(x)
        x = layers.Conv2D(filters, 3, padding="same", name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    return keras.Model(image, x, name="backbone")


def make_flat_model(units, seed):
    backbone = make_backbone(SIZE)
    pooled = layers.GlobalAveragePooling2D(name="gap")(backbone.output)
    activation = "sigmoid" if units == 1 else "softmax"
    predictions = layers.Dense(units, activation, name="predictions")(pooled)
    return scale_weights(keras.Model(backbone.input, predictions, name="flat"), seed)
