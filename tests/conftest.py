"""Tiny models with weights that hide no error, and images of different classes.

Fresh weights hide errors: deep layers fade, batch norm is the identity and every
image gets the same class. `he_scale` is against that. Every fixture is built anew for
each test, because `build_hrcam_model` freezes its base model in place.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from tiny_models import CLASSES, SIZE, make_backbone, make_flat_model, scale_weights


@pytest.fixture
def he_scale():
    """`he_scale(model, seed=0)` randomises all weights in place, returns the model."""
    return scale_weights


@pytest.fixture
def backbone():
    """`(None, None, 1)` -> the maps of `relu3`; see `make_backbone`."""
    return scale_weights(make_backbone())


@pytest.fixture
def flat_model():
    """16x16x1 -> softmax over 3 classes; layers `conv1` to `relu3`, `predictions`."""
    return make_flat_model(CLASSES, seed=281)


@pytest.fixture
def sigmoid_model():
    """`flat_model` with one sigmoid unit."""
    return make_flat_model(1, seed=180)


@pytest.fixture
def nested_model():
    """Sequential around `backbone`: feature layers are `backbone/relu1`, ..."""
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Rescaling(2.0, -0.5, name="rescaling"),
            make_backbone(),
            layers.GlobalAveragePooling2D(name="gap"),
            layers.Dropout(0.3, name="dropout"),
            layers.Dense(CLASSES, "softmax", name="predictions"),
        ],
        name="nested",
    )
    return scale_weights(model, seed=78)


@pytest.fixture
def functional_nested_model():
    """A functional model that calls `backbone` with `training=False`."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    x = layers.Rescaling(2.0, -0.5, name="rescaling")(image)
    x = make_backbone()(x, training=False)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dropout(0.3, name="dropout")(x)
    x = layers.Dense(CLASSES, "softmax", name="predictions")(x)
    return scale_weights(keras.Model(image, x, name="functional"), seed=126)


@pytest.fixture
def images():
    """`(6, 16, 16, 1)` float32 in [0, 1]: noise, a bright square, stripes; each twice.

    The model fixtures do not give all of them the same class.
    """
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 0.2, (6, SIZE, SIZE, 1))
    images[1::3, 2:12, 4:14] += 0.8
    images[2::3, ::2] += 0.8
    return images.astype("float32")


@pytest.fixture
def fracatlas_tree():
    """`fracatlas_tree(root, num_images)` makes a tiny FracAtlas in its own layout."""
    return make_fracatlas_tree


def make_fracatlas_tree(root, num_images):
    """The published layout, four body parts by turns, each group a block of 25."""
    rng = np.random.default_rng(0)
    rows = ["image_id,hand,leg,hip,shoulder,mixed,fractured"]
    for folder in ("Fractured", "Non_fractured"):
        (root / "images" / folder).mkdir(parents=True)
    for i in range(num_images):
        name = f"IMG{10 * i:07}.jpg"
        image = rng.integers(0, 60, (20, 24)).astype("uint8")
        image[4:16, 3 + i % 4 * 4 : 9 + i % 4 * 4] += 150
        cv2.imwrite(str(root / "images" / "Non_fractured" / name), image)
        rows.append(f"{name},{','.join(str(int(i % 4 == k)) for k in range(4))},0,0")
    (root / "dataset.csv").write_text("\n".join(rows) + "\n")
