"""Times Grad-CAM of tf-keras-vis and Xplique beside hrcam's, and compares the maps.

Runs in an environment of its own (README.md). All get the same network, the layer
that hrcam takes by default, the same class and the same images, and are built
beforehand. hrcam finds the class score behind the softmax itself; the peers get a
copy of the network without its softmax, as their documentation asks.
"""

import argparse
from collections.abc import Callable

import keras
import numpy as np
import setting
import tensorflow as tf
from paired import paired_times, report, versions

from hrcam import feature_layers, grad_cam, min_max_normalize

CLASS = 1


def main() -> None:
    """Times what runs, and says of the rest why it did not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    base = setting.build("ResNet50", args.size)
    x = setting.images(args.batch, args.size)
    layer = feature_layers(base)[-1]
    logits = keras.models.clone_model(base)
    logits.set_weights(base.get_weights())
    logits.get_layer("predictions").activation = keras.activations.linear
    own_size = _own_size(logits, layer, x)

    ways = {"hrcam `grad_cam`": lambda: grad_cam(base, x, CLASS)}
    failed = {}
    for name, prepare in PEERS.items():
        try:
            way = prepare(logits, layer, x)
            way()
            ways[name] = way
        except Exception as error:  # whatever stops a peer is part of the report
            failed[name] = f"did not run: {type(error).__name__}: {error}"
    resized = {
        "hrcam `grad_cam`": _resize(own_size, args.size, "bilinear"),
        "tf-keras-vis `Gradcam`": _zoom(own_size, args.size),
        "Xplique `GradCAM`": _resize(own_size, args.size, "bicubic"),
    }
    forward = setting.compiled_forward(base, args.batch)
    ours = grad_cam(base, x, CLASS)
    maps = {name: np.reshape(way(), ours.shape) for name, way in ways.items()}
    report(
        {
            "size": args.size,
            "batch": args.batch,
            "layer": layer,
            "versions": versions(
                "tensorflow", "keras", "numpy", "tf-keras-vis", "xplique"
            ),
            **paired_times(lambda: forward(x), ways, args.rounds),
            "did_not_run": failed,
            "differences": {
                name: {
                    "same_resizing": _relative(made, resized[name]),
                    "as_returned": _relative(made, ours),
                    "min_max": _relative(
                        min_max_normalize(made), min_max_normalize(ours)
                    ),
                }
                for name, made in maps.items()
            },
        }
    )


def _tf_keras_vis(model: keras.Model, layer: str, x: np.ndarray) -> Callable:
    """Raw maps: by default it takes a convolution, and min-maxes each map."""
    from tf_keras_vis.gradcam import Gradcam
    from tf_keras_vis.utils.scores import CategoricalScore

    explain, score = Gradcam(model), CategoricalScore(CLASS)
    return lambda: explain(
        score,
        x,
        penultimate_layer=layer,
        seek_penultimate_conv_layer=False,
        normalize_cam=False,
    )


def _xplique(model: keras.Model, layer: str, x: np.ndarray) -> Callable:
    """Raw maps `(batch, height, width, 1)`; it wants one-hot targets."""
    from xplique.attributions import GradCAM

    explain = GradCAM(model, conv_layer=layer)
    targets = np.eye(setting.CLASSES, dtype="float32")[np.full(len(x), CLASS)]
    return lambda: explain(x, targets).numpy()


def _own_size(model: keras.Model, layer: str, x: np.ndarray) -> np.ndarray:
    """Grad-CAM at the layer's own size, written out, to hold all three against."""
    both = keras.Model(model.inputs[0], [model.get_layer(layer).output, model.output])
    images = tf.convert_to_tensor(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        features, scores = both(images, training=False)
        score = tf.reduce_sum(scores[:, CLASS])
    weights = tf.reduce_mean(tape.gradient(score, features), (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(features * weights, -1)).numpy()


def _resize(maps: np.ndarray, size: int, method: str) -> np.ndarray:
    return tf.image.resize(maps[..., None], (size, size), method)[..., 0].numpy()


def _zoom(maps: np.ndarray, size: int) -> np.ndarray:
    """Bilinear with aligned corners, as tf-keras-vis resizes."""
    from scipy.ndimage import zoom

    return zoom(maps, (1, size / maps.shape[1], size / maps.shape[2]), order=1)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, as a share of the largest value."""
    return float(np.abs(a - b).max() / np.abs(b).max())


PEERS = {"tf-keras-vis `Gradcam`": _tf_keras_vis, "Xplique `GradCAM`": _xplique}

if __name__ == "__main__":
    main()
