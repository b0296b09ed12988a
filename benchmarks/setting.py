"""The models, images and passes that every benchmark shares."""

import warnings
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from hrcam import (
    build_deeper_net,
    build_hrcam_model,
    build_resnet50,
    build_vgg19,
    pooled_layers,
)

BUILDERS = {"ResNet50": build_resnet50, "VGG19": build_vgg19}
GREY_BUILDERS = {"deeper_net": build_deeper_net}  # images of one channel
CLASSES = 8

# Random weights often leave a map without a positive value, which hrcam warns of.
warnings.filterwarnings("ignore", message=".*has no positive value.*")


def build(name: str, size: int) -> keras.Model:
    """A classifier with He-scaled random weights, so that no value dies or overflows.

    A Grad-CAM of Keras' own initial weights is about 0, and its batch normalization
    is the identity.
    """
    builder = (BUILDERS | GREY_BUILDERS)[name]
    model = builder((size, size, 1 if name in GREY_BUILDERS else 3), CLASSES)
    random = np.random.default_rng(0)
    for weight in model.weights:
        shape = tuple(weight.shape)
        if weight.name == "kernel":
            deviation = np.sqrt(2 / np.prod(shape[:-1]))
            weight.assign(random.normal(0, deviation, shape))
        elif weight.name in ("gamma", "moving_variance"):
            weight.assign(random.uniform(0.4, 0.8, shape))
        elif weight.name in ("beta", "moving_mean"):
            weight.assign(random.normal(0, 0.1, shape))
    return model


def images(batch: int, size: int, channels: int = 3) -> np.ndarray:
    """Random images `(batch, size, size, channels)`, float32 in [0, 1]."""
    return np.random.default_rng(1).random((batch, size, size, channels), "float32")


def compiled_forward(model: keras.Model, batch: int) -> Callable:
    """The plain forward pass, numpy -> numpy, as fast as TensorFlow offers it.

    One graph, traced once for exactly this batch; no Keras loop around it. Of a model
    with a dict of outputs it returns a dict.
    """
    signature = [tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32)]
    run = tf.function(
        lambda x: model(x, training=False), input_signature=signature, autograph=False
    )
    return lambda x: keras.tree.map_structure(
        lambda made: made.numpy(), run(ops.convert_to_tensor(x))
    )


def compiled_literal(model: keras.Model, batch: int) -> Callable:
    """HR-CAM as Eq. 3 reads: each of the N feature maps is resized, then weighed.

    Compiled too, and one layer at a time, so its memory is bounded by the layer with
    most maps and not by all N of them.
    """
    tapped = [model.get_layer(name).output for name in pooled_layers(model)]
    features = keras.Model(model.inputs[0], tapped)
    kernel = model.get_layer("predictions").kernel
    height, width = model.input_shape[1:3]

    def literal(x, class_index):
        weights, start, whole = kernel[:, class_index], 0, 0.0
        for maps in features(x, training=False):
            part = weights[start : start + maps.shape[-1]]
            start += maps.shape[-1]
            large = ops.image.resize(maps, (height, width), interpolation="bilinear")
            whole += ops.sum(large * part, axis=-1)
        return whole

    signature = [
        tf.TensorSpec((batch, *model.input_shape[1:]), tf.float32),
        tf.TensorSpec((), tf.int32),
    ]
    run = tf.function(literal, input_signature=signature, autograph=False)
    return lambda x, class_index: run(ops.convert_to_tensor(x), class_index).numpy()


def hrcam_of(base: keras.Model) -> keras.Model:
    """The HR-CAM model on `base`, its head with random weights."""
    model = build_hrcam_model(base)
    kernel = model.get_layer("predictions").kernel
    values = np.random.default_rng(2).normal(0, kernel.shape[0] ** -0.5, kernel.shape)
    kernel.assign(values)
    return model
