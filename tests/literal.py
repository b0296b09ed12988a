"""The maps as their equations are printed, in plain numpy and TensorFlow.

The second road of the tests: of `hrcam` nothing is used here.
"""

import keras
import numpy as np
import tensorflow as tf

RELUS = ["relu1", "relu2", "relu3"]  # the feature layers of the models of conftest
SPLITS = [4, 10]  # of their 4 + 6 + 8 maps


def feature_maps(flat, images):
    outputs = [flat.get_layer(name).output for name in RELUS]
    return [np.array(f) for f in keras.Model(flat.input, outputs)(images)]


def resized(maps, size=(16, 16)):
    return tf.image.resize(np.asarray(maps)[..., None], size).numpy()[..., 0]


def literal_cam(maps, kernel, class_index):
    return resized(np.einsum("bhwk,k->bhw", maps, kernel[:, class_index]))


def gradient(maps, score):
    """The derivative of the sum of `score(maps)` by the maps."""
    maps = tf.constant(maps)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        total = tf.reduce_sum(score(maps))
    return tape.gradient(total, maps).numpy()


def literal_grad_cam(maps, score):
    weights = gradient(maps, score).mean((1, 2), keepdims=True)
    return resized(np.maximum((weights * maps).sum(-1), 0))


def literal_layer_cam(maps, score):
    weighted = np.maximum(gradient(maps, score), 0) * maps
    return resized(np.maximum(weighted.sum(-1), 0))


def pooled_score(kernel, class_index):
    return lambda maps: tf.reduce_mean(maps, (1, 2)) @ kernel[:, class_index, None]


def literal_hr_cam(features, kernel, class_index):
    parts = np.split(kernel[:, class_index], SPLITS)
    return np.stack(
        [resized(f @ w) for f, w in zip(features, parts, strict=True)], axis=1
    )


def random_head(model):
    """Gives an HR-CAM model's dense layer weights of the same size everywhere."""
    rng, dense = np.random.default_rng(1), model.get_layer("predictions")
    dense.set_weights([rng.normal(size=w.shape) for w in dense.get_weights()])
    return dense.get_weights()


def in_policy(model, policy):
    """The same layers and weights, computing in another format."""

    def clone(layer):
        return type(layer).from_config(layer.get_config() | {"dtype": policy})

    same = keras.models.clone_model(model, clone_function=clone)
    same.set_weights(model.get_weights())
    return same


def assert_close(actual, expected, tolerance=1e-5):
    assert actual.dtype == "float32"
    scale = np.abs(expected).max()
    assert scale > 1e-3
    np.testing.assert_allclose(actual, expected, atol=tolerance * scale)
