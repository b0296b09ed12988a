"""Sheets of maps during `fit`: of which weights, how numbered, and nothing changed.

A sheet is compared, pixel by pixel, with one that is drawn outside of training: by
`comparison_sheet`, from the maps of a clone that is given the weights of that epoch.
"""

import importlib.util
import os
import sys
import warnings
from io import BytesIO

import cv2
import keras
import numpy as np
import pytest
from keras import layers

import hrcam
from hrcam.plots import comparison_sheet

LABELS = np.array([0, 1, 2, 0, 1, 2])
tensorflow_only = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="writes TensorBoard's files"
)


def pixels(content):
    return cv2.imdecode(np.frombuffer(content, "uint8"), cv2.IMREAD_COLOR).astype(int)


def drawn(*sheet, **options):
    file = BytesIO()
    comparison_sheet(*sheet, **options).savefig(file, format="png", dpi=150)
    return pixels(file.getvalue())


def read(directory, epoch):
    return pixels((directory / f"epoch_{epoch:04d}.png").read_bytes())


def assert_same_picture(got, expected):
    """Equal but for the rounding of one graph or another."""
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2


def expected_sheet(clone, weights, images, epoch, title="Grad-CAM"):
    """What the callback is to draw with these weights."""
    clone.set_weights(weights)
    p = clone.predict_on_batch(images).astype("float64")
    p = np.hstack([1 - p, p]) if p.shape[1] == 1 else p
    rows = [f"predicted: class {row.argmax()}\np = {row.max():.2f}" for row in p]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        maps = {"HR-CAM": hrcam.hr_cam, "Grad-CAM": hrcam.grad_cam}[title](
            clone, images
        )
    rows = [
        row if one_map.max() > 0 else f"{row}\nno positive value"
        for row, one_map in zip(rows, maps, strict=True)
    ]
    return drawn(images, {f"{title}\nepoch {epoch}": maps}, row_titles=rows)


def keep_weights(model, weights):
    """A callback that notes the weights after each number of epochs."""
    return keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: weights.update({0: model.get_weights()}),
        on_epoch_end=lambda n, logs: weights.update({n + 1: model.get_weights()}),
    )


def fit(model, images, *callbacks, labels=LABELS, **options):
    """Trains for two epochs of two steps, unless told otherwise."""
    options = {"epochs": 2, "batch_size": 3, "verbose": 0} | options
    return model.fit(images, labels, callbacks=list(callbacks), **options)


def compiled(model, loss="sparse_categorical_crossentropy", **options):
    model.compile(keras.optimizers.SGD(0.05), loss, **options)
    return model


def one_map_model(kernel, activation="softmax", bias=None):
    """`(2, 2, 1)` -> one feature map, the image itself -> dense layer."""
    model = keras.Sequential(
        [
            keras.Input((2, 2, 1)),
            layers.Conv2D(1, 1, use_bias=False, name="conv"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(len(kernel), activation, use_bias=bias is not None),
        ]
    )
    model.layers[0].set_weights([np.ones((1, 1, 1, 1))])
    weights = [np.array([kernel])] + ([] if bias is None else [np.array(bias)])
    model.layers[-1].set_weights(weights)
    return compiled(model, "mse")


def drawn_before_training(model, images, directory, **options):
    """The sheet of epoch 0, in pixels."""
    callback = hrcam.HeatmapCallback(images, 9, directory, **options)
    units = model.output_shape[-1]
    fit(model, images, callback, labels=np.zeros((len(images), units)), epochs=1)
    return read(directory, 0)


# ------------------------------------------------------------------- which weights


@pytest.mark.parametrize(
    ("fixture", "loss"),
    [
        ("flat_model", "sparse_categorical_crossentropy"),
        ("nested_model", "sparse_categorical_crossentropy"),
        ("sigmoid_model", "mse"),
    ],
)
def test_each_sheet_is_of_the_weights_of_its_epoch(
    fixture, loss, images, tmp_path, request
):
    model, weights = request.getfixturevalue(fixture), {}

    fit(
        compiled(model, loss),
        images,
        hrcam.HeatmapCallback(images[:2], directory=tmp_path),
        keep_weights(model, weights),
        labels=LABELS % 2 if loss == "mse" else LABELS,
    )

    clone = keras.models.clone_model(model)
    for epoch in (0, 1, 2):
        expected = expected_sheet(clone, weights[epoch], images[:2], epoch)
        assert_same_picture(read(tmp_path, epoch), expected)
    change = np.abs(read(tmp_path, 1) - read(tmp_path, 2))[70:]  # below the epoch
    assert change.max() > 50


@pytest.mark.skipif(keras.backend.backend() == "torch", reason="wants a C++ compiler")
def test_training_that_is_compiled(images, tmp_path):
    model, images, weights = one_map_model([0.5, -0.5]), images[:, :2, :2], {}
    compiled(model, jit_compile=True)

    callback = hrcam.HeatmapCallback(images[:1], directory=tmp_path)
    fit(model, images, callback, keep_weights(model, weights), labels=LABELS % 2)

    clone = keras.models.clone_model(model)
    for epoch in (0, 1, 2):
        expected = expected_sheet(clone, weights[epoch], images[:1], epoch)
        assert_same_picture(read(tmp_path, epoch), expected)


def test_head_of_hr_cam_is_drawn_by_hr_cam(flat_model, images, tmp_path):
    model = compiled(hrcam.build_hrcam_model(flat_model))
    weights = {}

    callback = hrcam.HeatmapCallback(images[:2], 2, tmp_path)
    fit(model, images, callback, keep_weights(model, weights))

    clone = keras.models.clone_model(model)
    for epoch in (0, 2):
        expected = expected_sheet(clone, weights[epoch], images[:2], epoch, "HR-CAM")
        assert_same_picture(read(tmp_path, epoch), expected)


@pytest.mark.parametrize("stopper_is_first", [True, False])
def test_early_stopping_leaves_the_sheet_of_the_last_epoch(
    stopper_is_first, images, tmp_path
):
    """Its weights are the last epoch's, though those of the first are restored."""
    model, images, weights = one_map_model([0.5, -0.5]), images[:, :2, :2], {}
    model.optimizer.learning_rate = 1.0
    stopper = keras.callbacks.EarlyStopping(
        "loss", mode="max", patience=1, restore_best_weights=True
    )
    callback = hrcam.HeatmapCallback(images[:1], 9, tmp_path)
    order = [stopper, callback] if stopper_is_first else [callback, stopper]
    options = {"labels": np.eye(2)[LABELS % 2], "epochs": 8, "batch_size": 6}

    # All images in each step: the loss falls, and its highest value is the first.
    fit(model, images, keep_weights(model, weights), *order, **options)

    assert sorted(os.listdir(tmp_path)) == ["epoch_0000.png", "epoch_0002.png"]
    np.testing.assert_array_equal(model.get_weights()[1], weights[1][1])
    clone = keras.models.clone_model(model)
    expected = expected_sheet(clone, weights[2], images[:1], 2)
    assert_same_picture(read(tmp_path, 2), expected)


# ------------------------------------------------------------------------ numbering


def test_every_second_epoch_the_first_and_the_last(images, tmp_path):
    """And a second fit goes on with the numbers, and with the weights."""
    first, second = tmp_path / "a/first", tmp_path / "second"
    model = one_map_model([0.5, -0.5])
    images = images[:, :2, :2]
    targets = np.eye(2)[LABELS % 2]

    fit(
        model,
        images,
        hrcam.HeatmapCallback(images[:1], 2, first),
        labels=targets,
        epochs=5,
    )
    callback = hrcam.HeatmapCallback(images[:1], 2, second)
    fit(model, images, callback, labels=targets, initial_epoch=5, epochs=7)
    fit(model, images, callback, labels=targets, initial_epoch=7, epochs=8)

    assert sorted(os.listdir(first)) == [f"epoch_000{n}.png" for n in (0, 2, 4, 5)]
    assert sorted(os.listdir(second)) == [f"epoch_000{n}.png" for n in (5, 6, 7, 8)]
    np.testing.assert_array_equal(read(first, 5), read(second, 5))


def test_no_epoch_no_sheet(images, tmp_path):
    model, images = one_map_model([0.5, -0.5]), images[:, :2, :2]

    callback = hrcam.HeatmapCallback(images, directory=tmp_path)
    fit(model, images, callback, labels=np.zeros((6, 2)), epochs=0)

    assert os.listdir(tmp_path) == []


def test_a_sheet_of_the_same_number_is_replaced_whole(images, tmp_path):
    """A new file takes its name: what was open there, as by a link, stays as it was."""
    model, images = one_map_model([0.5, -0.5]), images[:1, :2, :2]
    old = tmp_path / "epoch_0000.png"
    old.write_bytes(b"old")
    os.link(old, tmp_path / "link")

    drawn_before_training(model, images, tmp_path)

    assert (tmp_path / "link").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["epoch_0000.png", "epoch_0001.png", "link"]


# ------------------------------------------------------------------ titles, by hand

# One feature map, the image itself, of mean m. Softmax with the kernel [0, 1] gives
# p1 = e^m / (1 + e^m); m = ln 3: p1 = 3/4. Grad-CAM of class 1 is the image (weight
# 1/4 by the mean of four pixels), of class 0 it is 0 (weight 0).
RAMP = np.log(3) * np.array([[0.4, 0.8], [1.2, 1.6]])[None, ..., None]
SHOWN = np.array([[0, 1 / 3], [2 / 3, 1]])[None, ..., None]


def test_titles_of_softmax(tmp_path):
    got = drawn_before_training(one_map_model([0.0, 1.0]), RAMP, tmp_path)

    maps = {"Grad-CAM\nepoch 0": RAMP[..., 0] / 4}
    rows = ["predicted: class 1\np = 0.75"]
    assert_same_picture(got, drawn(SHOWN, maps, row_titles=rows))


def test_titles_of_one_sigmoid_unit(tmp_path):
    """Logit -m: p1 = 1/4. The map of class 0 has the sign turned: +image / 4."""
    got = drawn_before_training(one_map_model([-1.0], "sigmoid"), RAMP, tmp_path)

    maps = {"Grad-CAM\nepoch 0": RAMP[..., 0] / 4}
    rows = ["predicted: class 0\np = 0.75"]
    assert_same_picture(got, drawn(SHOWN, maps, row_titles=rows))


@pytest.mark.parametrize(
    ("kernel", "bias", "title"),
    [
        # 2 m - 1 = 1.197 against 0; one unit 0.3 - m = -0.799 is class 0's 0.799.
        ([0.0, 2.0], [0.0, -1.0], "predicted: class 1\nscore 1.20"),
        ([-1.0], [0.3], "predicted: class 0\nscore 0.80"),
    ],
)
def test_titles_of_scores_before_softmax(kernel, bias, title, tmp_path):
    model = one_map_model(kernel, None, bias)

    got = drawn_before_training(model, RAMP, tmp_path)

    maps = {"Grad-CAM\nepoch 0": RAMP[..., 0] / 4 * abs(kernel[-1])}
    assert_same_picture(got, drawn(SHOWN, maps, row_titles=[title]))


def test_class_is_fixed_for_each_image(tmp_path):
    """Class 0 of kernel [0, 1] has a map of zeros, said in words and not warned of."""
    model, images = one_map_model([0.0, 1.0]), np.repeat(RAMP, 2, axis=0)

    got = drawn_before_training(model, images, tmp_path, class_index=[1, 0])

    maps = np.stack([RAMP[0, ..., 0] / 4, np.zeros((2, 2))])
    rows = [
        "predicted: class 1\np = 0.75\nmap: class 1",
        "predicted: class 1\np = 0.75\nmap: class 0\nno positive value",
    ]
    shown = np.repeat(SHOWN, 2, axis=0)
    expected = drawn(shown, {"Grad-CAM\nepoch 0": maps}, row_titles=rows)
    assert_same_picture(got, expected)


def test_method_masks_and_images_in_0_to_1_as_they_are(tmp_path):
    """RAMP / 4 is from 0.11 to 0.44, with a mean of ln 3 / 4: p1 = 3^(1/4) / (1 + .)

    = 1.316 / 2.316 = 0.568. HiResCAM with a mean of pixels is Grad-CAM.
    """
    masks = np.array([[[True, False], [False, False]]])

    got = drawn_before_training(
        one_map_model([0.0, 1.0]), RAMP / 4, tmp_path, masks=masks, method="hires_cam"
    )

    maps = {"HiResCAM\nepoch 0": RAMP[..., 0] / 16}
    rows = ["predicted: class 1\np = 0.57"]
    assert_same_picture(got, drawn(RAMP / 4, maps, masks, row_titles=rows))


def test_one_scale_for_all_images(tmp_path):
    """From -1 over both to 3: (x + 1) / 4."""
    low, high = np.full((2, 2, 1), -1.0), np.array([[[1.0], [3.0]], [[0.0], [2.0]]])

    got = drawn_before_training(
        one_map_model([0.0, 1.0]),
        np.stack([low, high]),
        tmp_path,
        method="centre_prior",
    )

    # Means -1 and 1.5; p is e / (1 + e) = 0.731 and e^1.5 / (1 + e^1.5) = 0.818.
    rows = ["predicted: class 0\np = 0.73", "predicted: class 1\np = 0.82"]
    shown = np.stack([0 * low, np.array([[[0.5], [1.0]], [[0.25], [0.75]]])])
    bump = np.full((2, 2, 2), np.exp(-1.0))  # u = v = 1/2: (1/4 + 1/4) / (2 / 4) = 1
    expected = drawn(shown, {"centre prior\nepoch 0": bump}, row_titles=rows)
    assert_same_picture(got, expected)


def test_output_is_chosen_by_name(tmp_path):
    single = one_map_model([0.0, 1.0])
    other = layers.Dense(3, name="other")(layers.Flatten()(single.inputs[0]))
    outputs = {"class": single.outputs[0], "other": other}
    model = keras.Model(single.inputs[0], outputs)
    compiled(model, {"class": "mse", "other": "mse"})
    targets = {"class": np.zeros((1, 2)), "other": np.zeros((1, 3))}
    missing = hrcam.HeatmapCallback(RAMP, directory=tmp_path)

    with pytest.raises(ValueError, match="`output` must name the output to explain"):
        fit(model, RAMP, missing, labels=targets)
    callback = hrcam.HeatmapCallback(RAMP, directory=tmp_path, output="class")
    fit(model, RAMP, callback, labels=targets)

    maps = {"Grad-CAM\nepoch 0": RAMP[..., 0] / 4}
    rows = ["predicted: class 1\np = 0.75"]
    assert_same_picture(read(tmp_path, 0), drawn(SHOWN, maps, row_titles=rows))


# ---------------------------------------------------------------- nothing is changed


def test_training_is_the_same_with_and_without(nested_model, images, tmp_path):
    """Losses, weights and what is random (order, dropout, later draws)."""
    start = nested_model.get_weights()

    def train(*callbacks):
        keras.utils.set_random_seed(3)
        model = keras.models.clone_model(nested_model)
        model.set_weights(start)
        keras.utils.set_random_seed(3)
        compiled(model, metrics=["accuracy"])
        history = fit(
            model, images, *callbacks, epochs=3, validation_data=(images, LABELS)
        )
        later = keras.ops.convert_to_numpy(keras.random.uniform((3,)))
        return model, [*history.history.values(), later, *model.get_weights()]

    _, without = train()
    model, with_sheets = train(hrcam.HeatmapCallback(images[:2], 2, tmp_path))

    assert len(os.listdir(tmp_path)) == 3
    for one, other in zip(without, with_sheets, strict=True):
        np.testing.assert_array_equal(one, other)
    moved = np.abs(model.get_weights()[0] - start[0]).max()
    assert moved > 1e-4


def test_model_is_left_as_it_was(nested_model, images, tmp_path):
    nested_model.get_layer("backbone").get_layer("conv1").trainable = False
    compiled(nested_model)

    def state():
        inner = nested_model.get_layer("backbone").layers
        return (
            [(layer.name, layer.trainable) for layer in [*nested_model.layers, *inner]],
            (nested_model.optimizer, nested_model.loss, nested_model.compiled),
            (nested_model.predict_function, nested_model.test_function),
            [weight.path for weight in nested_model.weights],
        )

    before = state()
    fit(nested_model, images, hrcam.HeatmapCallback(images[:1], 2, tmp_path))

    assert state() == before


def test_diverged_training_goes_on_with_one_warning(images, tmp_path):
    model, images = one_map_model([0.5, np.nan]), images[:, :2, :2]
    callback = hrcam.HeatmapCallback(images, directory=tmp_path)

    with pytest.warns(UserWarning, match=r"epoch 0, .* NaN or infinity") as caught:
        history = fit(model, images, callback, labels=np.zeros((6, 2)), epochs=3)

    assert sum("No sheet" in str(warning.message) for warning in caught) == 1
    assert len(history.epoch) == 3
    assert os.listdir(tmp_path) == []


# ----------------------------------------------------------------------- TensorBoard


@tensorflow_only
def test_tensorboard_has_the_same_pictures(images, tmp_path):
    """Also while Keras' own callback has recording switched off."""
    import tensorflow as tf

    model, images = one_map_model([0.5, -0.5]), images[:, :2, :2]
    sheets, log_dir = tmp_path / "sheets", tmp_path / "logs"

    callback = hrcam.HeatmapCallback(images[:1], 2, sheets, log_dir=log_dir)
    with tf.summary.record_if(False):
        fit(model, images, callback, labels=np.zeros((6, 2)), epochs=3)

    (file,) = log_dir.iterdir()
    assert file.name.startswith("events.out.tfevents.")
    records = tf.data.TFRecordDataset(str(file)).as_numpy_iterator()
    events = [tf.compat.v1.Event.FromString(record) for record in records]
    values = [(event.step, value) for event in events for value in event.summary.value]
    assert [step for step, _ in values] == [0, 2, 3]
    for step, value in values:
        assert value.tag == "heatmaps/Grad-CAM"
        assert value.metadata.plugin_data.plugin_name == "images"
        width, height, png = value.tensor.string_val
        assert pixels(png).shape == (int(height), int(width), 3)
        assert png == (sheets / f"epoch_{step:04d}.png").read_bytes()


def test_log_dir_without_tensorflow(images, monkeypatch, tmp_path):
    """`None` among the modules: Python refuses the import."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)

    with pytest.raises(ImportError, match=r"`log_dir` needs TensorFlow.*'runs'.*leave"):
        hrcam.HeatmapCallback(images, log_dir="runs")


# ------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("every", [0, -1, 1.5, None])
def test_every_is_at_least_one(every, images):
    with pytest.raises(ValueError, match=f"`every` must be.* Received: {every!r}"):
        hrcam.HeatmapCallback(images, every)


def test_unknown_method(images):
    with pytest.raises(ValueError, match=r"must be among hr_cam, .*'gradcam'"):
        hrcam.HeatmapCallback(images, method="gradcam")


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda x: x[:, :8], {}, "`images` must have the shape of the model's input"),
        (lambda x: x[0], {}, r"For one image, use `images\[None\]`"),
        (lambda x: x / (x > 0.1), {}, "`images` must be finite"),
        (lambda x: x, {"class_index": 3}, r"`class_index` must be in \[0, 3\)"),
        (lambda x: x, {"class_index": [0, 1]}, "one int for each of 6 images"),
        (lambda x: x, {"masks": np.ones((6, 4, 4), bool)}, "`masks` must have the"),
        (lambda x: x, {"method": "hr_cam"}, "must come from `build_hrcam_model`"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_what_does_not_fit_is_said_before_the_first_step(
    change, options, message, flat_model, images, tmp_path
):
    compiled(flat_model)
    before = flat_model.get_weights()
    callback = hrcam.HeatmapCallback(change(images), directory=tmp_path, **options)

    with pytest.raises(ValueError, match=message):
        fit(flat_model, images, callback)

    for one, other in zip(before, flat_model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_output_must_be_of_classes(backbone, images, tmp_path):
    compiled(backbone, "mse")
    callback = hrcam.HeatmapCallback(images, directory=tmp_path)

    with pytest.raises(ValueError, match=r"shape \(batch, classes\).*'backbone'"):
        fit(backbone, images, callback, labels=np.zeros((6, 4, 4, 8)))


def test_subclassed_model(images, tmp_path):
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(3)

        def call(self, x):
            return self.dense(keras.ops.mean(x, axis=(1, 2)))

    callback = hrcam.HeatmapCallback(images, directory=tmp_path)

    with pytest.raises(TypeError, match="functional or built Sequential"):
        fit(compiled(Subclassed(), "mse"), images, callback, labels=np.zeros((6, 3)))


def test_output_that_needs_more_than_the_image(tmp_path):
    image = keras.Input((8, 8, 1), name="image")
    age = keras.Input((1,), name="age")
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 3)(image))
    x = keras.layers.Concatenate()([x, age])
    model = keras.Model([image, age], keras.layers.Dense(2, "softmax")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    given = [np.zeros((2, 8, 8, 1)), np.zeros((2, 1))]
    heatmaps = hrcam.HeatmapCallback(given[0], directory=tmp_path)
    with pytest.raises(ValueError, match=r"one image and nothing else.*'age'"):
        model.fit(given, np.zeros(2), callbacks=[heatmaps], verbose=0)
