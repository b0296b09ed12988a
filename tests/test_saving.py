"""Opening models: what is opened is equal, what is refused says why."""

import keras
import numpy as np
import pytest
from keras import layers

from hrcam.saving import load_model


@pytest.mark.parametrize("fixture", ["flat_model", "nested_model"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_round_trip(fixture, kind, images, tmp_path, request):
    model = request.getfixturevalue(fixture)
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.save(tmp_path / "model.keras")

    opened = load_model(kind(tmp_path / "model.keras"))

    np.testing.assert_array_equal(
        opened.predict_on_batch(images), model.predict_on_batch(images)
    )
    assert opened.compiled
    assert opened.loss == "sparse_categorical_crossentropy"


def test_missing_file(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"must be a \.keras file.*nothing\.keras"
    ):
        load_model(tmp_path / "nothing.keras")


def test_directory(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a \.keras file"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["model.txt", "model.keras", "model.h5"])
def test_another_kind_of_file(name, tmp_path):
    (tmp_path / name).write_text("not a model")

    with pytest.raises(ValueError, match=rf"{name} cannot be opened as a \.keras"):
        load_model(tmp_path / name)


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_truncated_file(flat_model, share, tmp_path):
    path = tmp_path / "model.keras"
    flat_model.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    with pytest.raises(ValueError, match=r"model\.keras cannot be opened as a \.keras"):
        load_model(path)


def test_damaged_weights(flat_model, tmp_path):
    """A whole archive, some bytes of which changed on the way."""
    path = tmp_path / "model.keras"
    flat_model.save(path)
    kernel = flat_model.get_layer("conv3").kernel.numpy().tobytes()
    damaged = path.read_bytes().replace(kernel, bytes(len(kernel)))
    assert damaged != path.read_bytes()
    path.write_bytes(damaged)

    with pytest.raises(ValueError, match=r"model\.keras cannot be opened"):
        load_model(path)


def test_code_in_the_file_is_refused(tmp_path):
    image = keras.Input((4, 4, 1))
    x = layers.Lambda(lambda x: 2 * x, output_shape=(4, 4, 1))(image)
    keras.Model(image, x).save(tmp_path / "model.keras")

    with pytest.raises(ValueError, match=r"holds a Lambda layer.*`Rescaling`"):
        load_model(tmp_path / "model.keras")


def test_a_layer_of_its_own_has_to_be_registered(tmp_path):
    class Unknown(layers.Layer):
        def call(self, x):
            return x

    image = keras.Input((4, 4, 1))
    keras.Model(image, Unknown()(image)).save(tmp_path / "model.keras")

    with pytest.raises(ValueError, match="register_keras_serializable"):
        load_model(tmp_path / "model.keras")
