"""Networks and images, and the maps that each peer makes of them in its own Python.

And exported models, which other runtimes run.
"""

import functools
import json
import os
import subprocess
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest
from keras import layers

import hrcam

SIZE, CLASSES = (32, 24), 3  # not square: height and width swapped would show
LAYERS = ("relu1", "relu2", "conv3", "relu3")
SEEDS = {"unstrided": 139, "pooled": 78, "dense": 131}  # images of two classes each
PYTHONS = {
    "tf_keras_vis": "HRCAM_PEERS_PYTHON",
    "xplique": "HRCAM_PEERS_PYTHON",
    "captum": "HRCAM_TORCH_PYTHON",
    "pytorch_grad_cam": "HRCAM_TORCH_PYTHON",
    "torchcam": "HRCAM_TORCH_PYTHON",
    "tensorflow_serving": "HRCAM_SERVING_PYTHON",
    "openvino": "HRCAM_SERVING_PYTHON",
}
PEERS = Path(__file__).parent / "peers"


def make_network(kind):
    """Conv, batch norm, ReLU, three times; `kind` says what is between and behind.

    `"unstrided"`: nothing, and global average pooling: every layer has the size of the
    image. `"pooled"`: max pooling, and global average pooling. `"dense"`: max pooling,
    and two dense layers on the flattened maps.
    """
    image = x = keras.Input((*SIZE, 3))
    for number, filters in enumerate((4, 6, 8), start=1):
        if number > 1 and kind != "unstrided":
            x = layers.MaxPooling2D(2, name=f"pool{number - 1}")(x)
        x = layers.Conv2D(filters, 3, padding="same", name=f"conv{number}")(x)
        x = layers.BatchNormalization(name=f"bn{number}")(x)
        x = layers.ReLU(name=f"relu{number}")(x)
    if kind == "dense":
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(10, "relu", name="hidden")(x)
    else:
        x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(CLASSES, "softmax", name="predictions")(x)
    return keras.Model(image, x, name=kind)


@pytest.fixture(scope="session")
def networks():
    """`{kind: model}` with He-scaled kernels, and no two statistics alike."""
    return {kind: he_scaled(make_network(kind), seed) for kind, seed in SEEDS.items()}


def he_scaled(model, seed):
    rng = np.random.default_rng(seed)
    ranges = {"gamma": (0.5, 1.5), "moving_variance": (0.5, 2)}
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name in ranges:
            variable.assign(rng.uniform(*ranges[variable.name], shape))
        elif variable.name == "kernel":
            variable.assign(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape))
        else:
            variable.assign(rng.normal(0, 0.3, shape))
    return model


@pytest.fixture(scope="session")
def request_of_all():
    """Six images, each for every class: noise, a bright square, stripes; each twice."""
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.3, (6, *SIZE, 3))
    images[1::3, 4:20, 6:16] += [0.7, 0.2, 0.1]
    images[2::3, ::4] += [0.1, 0.3, 0.7]
    images = np.repeat(images, CLASSES, axis=0).astype("float32")
    return images, np.tile(np.arange(CLASSES), 6).astype("int32")


@pytest.fixture(scope="session")
def peer(networks, request_of_all, tmp_path_factory):
    """`peer(library)` is `{"network/layer/method": maps}`, made once a session."""
    folder = tmp_path_factory.mktemp("conformity")
    for kind, model in networks.items():
        model.save(folder / f"{kind}.keras")
    images, class_index = request_of_all
    np.savez(folder / "request.npz", images=images, class_index=class_index)
    (folder / "request.json").write_text(json.dumps(dict.fromkeys(networks, LAYERS)))
    return lambda library: ask(library, folder)


def ask(library, folder):
    find_python(library)
    answer = folder / f"{library}.npz"
    if not answer.exists():
        backend = "torch" if "TORCH" in PYTHONS[library] else "tensorflow"
        run_peer(library, f"with_{library}.py", folder, KERAS_BACKEND=backend)
    with np.load(answer) as maps:
        return dict(maps)


def find_python(library):
    python = os.environ.get(PYTHONS[library])
    if not python:
        pytest.skip(f"{PYTHONS[library]} is not set to a Python that has {library}")
    return python


def run_peer(library, script, *arguments, **environment):
    """Runs a script of `peers` in the library's Python; returns what it prints."""
    done = subprocess.run(
        [find_python(library), PEERS / script, *map(str, arguments)],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"{script} failed:\n{done.stderr[-4000:]}")
    return done.stdout


class Served(NamedTuple):
    """An exported model, and what the library says of some images."""

    folder: Path  # of the version
    model: keras.Model
    images: np.ndarray
    expected: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def find_served(tmp_path_factory):
    """`find_served(kind)`: a network of `SEEDS`, or `"resnet50"` at 64 pixels."""
    return functools.cache(lambda kind: serve(kind, tmp_path_factory.mktemp("models")))


def serve(kind, folder):
    methods = ("hr_cam", "grad_cam", "attentive_response")
    if kind == "resnet50":
        network = hrcam.build_resnet50((64, 64, 3), CLASSES, weights=None)
        methods = methods[:1]  # the rest takes a minute
    else:
        network = make_network(kind)
    base = he_scaled(network, SEEDS.get(kind, 0))
    model = hrcam.build_hrcam_model(base)
    rng = np.random.default_rng(4)
    images = rng.uniform(0, 0.3, (5, *model.inputs[0].shape[1:])).astype("float32")
    images[1::2, 4:20, 6:16] += 0.7
    head = model.get_layer("predictions")
    kernel = rng.normal(0, 1, head.kernel.shape)
    features = hrcam.pool_features(model, images, np.zeros(5, int)).vectors
    # Scores of spread 1 around 0: images of different classes, none of them certain.
    kernel /= (features @ kernel).std(axis=0)
    head.set_weights([kernel, -(features @ kernel).mean(axis=0)])
    version = hrcam.export_saved_model(
        model,
        folder / "lesions",
        methods=methods,
        classifier=base,
        top_n=3,
    )
    probabilities = model.predict(images, verbose=0)
    expected = {
        "probabilities": probabilities,
        "class_index": probabilities.argmax(axis=1),
        "heatmap": hrcam.hr_cam(model, images),
    }
    return Served(version, model, images, expected)
