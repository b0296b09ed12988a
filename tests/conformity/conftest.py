"""Networks and images, and the maps that each peer makes of them in its own Python."""

import json
import os
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

SIZE, CLASSES = (32, 24), 3  # not square: height and width swapped would show
LAYERS = ("relu1", "relu2", "conv3", "relu3")
SEEDS = {"unstrided": 139, "pooled": 78, "dense": 131}  # images of two classes each
PYTHONS = {
    "tf_keras_vis": "HRCAM_PEERS_PYTHON",
    "xplique": "HRCAM_PEERS_PYTHON",
    "captum": "HRCAM_TORCH_PYTHON",
    "pytorch_grad_cam": "HRCAM_TORCH_PYTHON",
    "torchcam": "HRCAM_TORCH_PYTHON",
}


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
    python = os.environ.get(PYTHONS[library])
    if not python:
        pytest.skip(f"{PYTHONS[library]} is not set to a Python that has {library}")
    answer = folder / f"{library}.npz"
    if not answer.exists():
        script = Path(__file__).parent / "peers" / f"with_{library}.py"
        backend = "torch" if "TORCH" in PYTHONS[library] else "tensorflow"
        done = subprocess.run(
            [python, script, folder],
            env=os.environ | {"KERAS_BACKEND": backend, "TF_ENABLE_ONEDNN_OPTS": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.fail(f"{script.name} failed:\n{done.stderr[-4000:]}")
    with np.load(answer) as maps:
        return dict(maps)
