"""Layer names are an interface; weights come from files by those names.

The file formats are tried on a net of two layers, which builds in milliseconds; each
big network is built once.
"""

import logging
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from hrcam.base_models import (
    build_resnet50,
    build_small_net,
    build_vgg16,
    build_vgg19,
    load_weights,
)
from hrcam.layer_selection import feature_layers

BUILDERS = {"ResNet50": build_resnet50, "VGG16": build_vgg16, "VGG19": build_vgg19}
VGG16_MEAN = (123.68, 116.779, 103.939)  # red, green, blue


@pytest.mark.parametrize("name", BUILDERS)
def test_layer_names_are_those_of_keras(name):
    reference = getattr(keras.applications, name)(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )

    model = BUILDERS[name]((32, 32, 3), num_classes=4)

    names = [layer.name for layer in model.layers]
    assert names[0] == "image"
    assert names[1:] == [x.name for x in reference.layers[1:]] + ["gap", "predictions"]
    assert [w.shape for w in model.weights[:-2]] == [w.shape for w in reference.weights]
    assert model.name == name.lower()
    assert model.output.shape == (None, 4)
    assert model.layers[-1].activation.__name__ == "softmax"


def test_contract_layers_and_sigmoid_and_any_size():
    model = build_vgg19((None, None, 5), num_classes=1)

    assert feature_layers(model) == (
        ["block1_conv2", "block2_conv2", "block3_conv4", "block4_conv4", "block5_conv4"]
    )
    assert model.input_shape == (None, None, None, 5)
    assert model.output.shape == (None, 1)
    assert model.layers[-1].activation.__name__ == "sigmoid"


def test_resnet_feature_layers():
    assert feature_layers(build_resnet50((32, 32, 1))) == [
        "conv1_relu",
        "conv2_block3_out",
        "conv3_block4_out",
        "conv4_block6_out",
        "conv5_block3_out",
    ]


@pytest.mark.parametrize(
    "input_shape",
    [(32, 32), (32, 32, 3, 1), (31, 32, 3), (32, 0, 3), (32, 32, 0), (32, 32, None)],
)
def test_wrong_input_shape(input_shape):
    with pytest.raises(ValueError, match=r"`input_shape` must be .*Received: \("):
        build_vgg16(input_shape)


def test_wrong_preprocessing():
    with pytest.raises(ValueError, match=r"None or 'caffe'\. Received: 'torch'"):
        build_vgg16((32, 32, 3), preprocessing="torch")


def test_wrong_class_count():
    with pytest.raises(ValueError, match="`num_classes` must be at least 1"):
        build_small_net(num_classes=0)


def test_small_net():
    model = build_small_net((16, 16, 2), num_classes=3, filters=(2, 3, 4))

    assert feature_layers(model) == ["block1_relu", "block2_relu", "block3_relu"]
    assert [layer.name for layer in model.layers if "pool" in layer.name] == [
        "block1_pool",
        "block2_pool",
    ]
    # kernels 9 * (2 * 2 + 2 * 3 + 3 * 4) = 198; batch norm 4 * 9 = 36; head 4 * 3 + 3
    assert model.count_params() == 198 + 36 + 15
    assert model.get_layer("block3_relu").output.shape == (None, 4, 4, 4)


# ------------------------------------------------------- the big networks, with weights


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """The 13 convolutions of a VGG-16 at He scale, three input channels, as .npz."""
    rng = np.random.default_rng(0)
    reference = keras.applications.VGG16(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    values = {}
    for layer in reference.layers:
        for variable in layer.weights:
            shape = tuple(variable.shape)
            scale = np.sqrt(2 / np.prod(shape[:3])) if len(shape) == 4 else 0.1
            draws = scale * rng.standard_normal(shape, "float32")
            values[f"{layer.name}/{variable.name}"] = draws
    path = tmp_path_factory.mktemp("weights") / "vgg16.npz"
    np.savez(path, **values)
    return path


@pytest.fixture(scope="module")
def vgg(vgg_file):
    """The last maps of the plain VGG-16 with those weights."""
    return trunk(build_vgg16((32, 32, 3), weights=vgg_file))


@pytest.fixture(scope="module")
def grey():
    return np.random.default_rng(1).uniform(0, 1, (2, 32, 32, 1)).astype("float32")


def trunk(model):
    return keras.Model(model.inputs[0], model.get_layer("block5_pool").output)


def assert_close(actual, expected):
    expected = np.asarray(expected)
    assert expected.std() > 0.01
    np.testing.assert_allclose(actual, expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("channels", [1, 5])
def test_equal_channels_give_what_the_rgb_network_gives(channels, vgg, vgg_file, grey):
    model = trunk(build_vgg16((32, 32, channels), weights=vgg_file))

    actual = model(np.repeat(grey, channels, axis=-1))

    assert_close(actual, vgg(np.repeat(grey, 3, axis=-1)))


def test_caffe_preprocessing_is_that_of_keras(vgg, vgg_file):
    model = trunk(build_vgg16((32, 32, 3), weights=vgg_file, preprocessing="caffe"))
    rgb = np.random.default_rng(2).uniform(0, 1, (2, 32, 32, 3)).astype("float32")
    rgb[..., 0] *= 0.3

    expected = vgg(keras.applications.vgg16.preprocess_input(255 * rgb))

    assert_close(model(rgb), expected)
    by_hand = vgg((255 * rgb - np.float32(VGG16_MEAN))[..., ::-1])
    assert_close(expected, by_hand)


@pytest.mark.parametrize("channels", [1, 5])
def test_caffe_preprocessing_of_other_channel_counts(channels):
    model = build_vgg16((32, 32, channels), preprocessing="caffe")
    images = np.random.default_rng(3).uniform(0, 1, (1, 32, 32, channels))

    inputs = keras.Model(model.inputs[0], model.get_layer("preprocessing").output)

    # (123.68 + 116.779 + 103.939) / 3 = 114.799333
    expected = 255 * images - 114.799333
    np.testing.assert_allclose(inputs(images), expected, atol=1e-3)


def test_imagenet_goes_through_keras(monkeypatch, vgg_file, vgg, grey):
    """Nothing is downloaded here: Keras' own network stands in with known weights."""
    plain = keras.applications.VGG16
    asked = []

    def application(*, include_top, weights, **options):
        asked.append(weights)
        model = plain(include_top=include_top, weights=None, **options)
        if weights == "imagenet":
            load_weights(model, vgg_file)
        return model

    monkeypatch.setattr(keras.applications, "VGG16", application)

    model = trunk(build_vgg16((32, 32, 1), weights="imagenet"))

    assert asked == [None, "imagenet"]
    assert_close(model(grey), vgg(np.repeat(grey, 3, axis=-1)))


@pytest.mark.data
@pytest.mark.skipif("HRCAM_DATA" not in os.environ, reason="HRCAM_DATA is not set")
@pytest.mark.parametrize(
    ("build", "file", "last", "loaded"),
    [
        (build_vgg16, "vgg16_imagenet_notop.npz", "block5_conv3", 13),
        # all 53 batch norms, and conv1 with its bias; of the other convolutions the
        # file has the kernels only
        (
            build_resnet50,
            "resnet50_imagenet_conv1_to_conv4.npz",
            "conv4_block6_out",
            54,
        ),
    ],
)
def test_published_weights(build, file, last, loaded):
    """The counts, and that the maps are finite and depend on the image."""
    path = Path(os.environ["HRCAM_DATA"]) / "weights" / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    model = build((64, 64, 3), preprocessing="caffe")

    report = load_weights(model, path)

    assert len(report.loaded) == loaded
    assert report.unused == report.adapted == ()
    assert "predictions" in report.missing
    assert {key.rpartition("/")[2] for key in report.partial} <= {"bias"}
    noise = np.random.default_rng(0).uniform(0, 1, (1, 64, 64, 3)).astype("float32")
    maps = keras.Model(model.inputs[0], model.get_layer(last).output)
    energy = [
        float(np.abs(maps(image)).mean())
        for image in (noise, np.full_like(noise, noise.mean()))
    ]
    assert np.isfinite(energy).all()
    assert min(energy) > 0
    assert abs(energy[0] - energy[1]) > 0.1 * max(energy)


# ------------------------------------------------------------------- formats of weights


@pytest.fixture
def net():
    """`first` (3x3, 3 -> 2), `bn`, `predictions` (2 -> 2)."""
    return make_net()


def make_net(channels=3, filters=2):
    image = keras.Input((4, 4, channels))
    x = layers.Conv2D(filters, 3, name="first")(image)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(image, layers.Dense(2, name="predictions")(x), name="net")


NAMES = {
    "first": ("kernel", "bias"),
    "bn": ("gamma", "beta", "moving_mean", "moving_variance"),
    "predictions": ("kernel", "bias"),
}


@pytest.fixture
def values(net, he_scale):
    """A random value for each weight, by `layer/weight`."""
    model = he_scale(keras.models.clone_model(net), seed=5)
    keys = [f"{layer}/{name}" for layer, names in NAMES.items() for name in names]
    return dict(zip(keys, map(np.array, by_layer(model)), strict=True))


def by_layer(model):
    return [
        getattr(model.get_layer(layer), name).numpy()
        for layer, names in NAMES.items()
        for name in names
    ]


def save(path, values):
    np.savez(path, **values)
    return path


def assert_weights(model, values, start=None):
    keys = [f"{layer}/{name}" for layer, names in NAMES.items() for name in names]
    for i, (key, actual) in enumerate(zip(keys, by_layer(model), strict=True)):
        expected = values[key] if key in values else start[i]
        np.testing.assert_array_equal(actual, expected, err_msg=key)


def test_whole_npz(net, values, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "hrcam"):
        report = load_weights(net, save(tmp_path / "w.npz", values))

    assert_weights(net, values)
    assert report == (("first", "bn", "predictions"), (), (), (), ())
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("hrcam", "INFO")
    assert record.getMessage() == (
        "w.npz: layers loaded whole: 3; weights left at their start in loaded layers: "
        "none; layers not in the file: none; not used of the file: none; first kernel "
        "summed over its inputs: none"
    )


def test_partial_npz_with_extra_keys(net, values, tmp_path, caplog):
    start = by_layer(net)
    partial = {k: values[k] for k in ("first/kernel", "first/bias", "bn/gamma")}
    extra = {"other/kernel": np.ones(3), "first/scale": np.ones(2)}

    with caplog.at_level(logging.INFO, "hrcam"):
        report = load_weights(net, save(tmp_path / "w.npz", partial | extra))

    assert_weights(net, partial, start)
    assert report.loaded == ("first",)
    assert report.partial == ("bn/beta", "bn/moving_mean", "bn/moving_variance")
    assert report.missing == ("predictions",)
    assert report.unused == ("first/scale", "other/kernel")
    assert report.adapted == ()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "bn/beta, bn/moving_mean" in record.getMessage()
    assert "not used of the file: first/scale, other/kernel" in record.getMessage()


def test_a_missing_head_alone_is_no_warning(net, values, tmp_path, caplog):
    values = {k: v for k, v in values.items() if "predictions" not in k}

    with caplog.at_level(logging.INFO, "hrcam"):
        report = load_weights(net, save(tmp_path / "w.npz", values))

    assert report.missing == ("predictions",)
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_half_precision_npz(net, values, tmp_path):
    halves = {key: value.astype("float16") for key, value in values.items()}

    load_weights(net, save(tmp_path / "w.npz", halves))

    assert_weights(net, {key: value.astype("float32") for key, value in halves.items()})


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_first_kernel_is_summed_over_its_inputs(channels, values, tmp_path):
    net = make_net(channels)

    report = load_weights(net, save(tmp_path / "w.npz", values))

    assert report.adapted == ("first",)
    assert "first" in report.loaded
    kernel = net.get_layer("first").kernel.numpy()
    for channel in range(channels):
        np.testing.assert_allclose(
            kernel[:, :, channel] * channels,
            values["first/kernel"].sum(axis=2),
            atol=1e-6,
        )


def test_wrong_shape_loads_nothing(values, tmp_path):
    net = make_net(filters=3)
    start = by_layer(net)

    with pytest.raises(ValueError, match=r"must have the shape .*Received: .* w\.npz"):
        load_weights(net, save(tmp_path / "w.npz", values))
    assert_weights(net, {}, start)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_loads_nothing(net, values, bad, tmp_path):
    start = by_layer(net)
    values["bn/beta"][1] = bad

    with pytest.raises(ValueError, match=r"'bn/beta' of w\.npz holds NaN or infinity"):
        load_weights(net, save(tmp_path / "w.npz", values))
    assert_weights(net, {}, start)


def test_no_common_layer(net, tmp_path):
    path = save(tmp_path / "w.npz", {"other/kernel": np.ones(2)})

    with pytest.raises(
        ValueError, match=r"no weight of a layer of 'net'.*other.*first"
    ):
        load_weights(net, path)


@pytest.mark.parametrize("name", ["w.npz", "w.h5", "w.keras"])
def test_not_such_a_file(net, name, tmp_path):
    (tmp_path / name).write_text("no weights in here")

    with pytest.raises(ValueError, match=rf"{name} (is not a readable|cannot be op)"):
        load_weights(net, tmp_path / name)


def test_truncated_npz(net, values, tmp_path):
    path = save(tmp_path / "w.npz", values)
    path.write_bytes(path.read_bytes()[:-200])

    with pytest.raises(ValueError, match=r"w\.npz is not a readable"):
        load_weights(net, path)


def test_array_file_named_npz(net, tmp_path):
    with (tmp_path / "w.npz").open("wb") as file:
        np.save(file, np.ones(3))

    with pytest.raises(ValueError, match=r"w\.npz is not a readable"):
        load_weights(net, tmp_path / "w.npz")


class Bomb:
    """Would run code when unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("the pickle was opened",))


def test_pickled_objects_are_refused(net, tmp_path):
    path = save(tmp_path / "w.npz", {"first/kernel": np.array([Bomb()], dtype=object)})

    with pytest.raises(ValueError, match=r"w\.npz is not a readable .npz file.*pickle"):
        load_weights(net, path)


def test_missing_file_and_unknown_suffix(net, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"None or 'imagenet'.*image-net"):
        load_weights(net, "image-net")
    (tmp_path / "w.pt").write_text("")
    with pytest.raises(ValueError, match=r"\['\.h5', '\.keras', '\.npz'\].*w\.pt"):
        load_weights(net, tmp_path / "w.pt")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_files_of_keras(net, values, suffix, tmp_path, caplog):
    source = make_net()
    load_weights(source, save(tmp_path / "w.npz", values))
    path = tmp_path / f"model{suffix}"
    (source.save_weights if suffix == ".weights.h5" else source.save)(path)
    caplog.clear()

    with caplog.at_level(logging.INFO, "hrcam"):
        report = load_weights(net, path)

    assert_weights(net, values)
    assert report == (("first", "bn", "predictions"), (), (), (), ())
    assert [r.levelname for r in caplog.records if r.name == "hrcam"] == ["INFO"]


def test_h5_of_older_keras(net, values, tmp_path):
    """Weight names with a scope and `:0`, some as bytes, as in published files."""
    import h5py

    with h5py.File(tmp_path / "w.h5", "w") as file:
        for layer, names in NAMES.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [f"{layer}_1/{n}:0".encode() for n in names]
            for name in names:
                group[f"{layer}_1/{name}:0"] = values[f"{layer}/{name}"]

    report = load_weights(net, tmp_path / "w.h5")

    assert_weights(net, values)
    assert report.unused == ()


def test_keras_file_of_another_model_loads_what_fits(net, values, tmp_path):
    """A model with the same `first` and another head gives its `first`."""
    image = keras.Input((4, 4, 3))
    x = layers.Conv2D(2, 3, name="first")(image)
    source = keras.Model(image, layers.Conv2D(1, 1, name="other")(x))
    source.save(tmp_path / "source.keras")
    start = by_layer(net)

    report = load_weights(net, tmp_path / "source.keras")

    kernel, bias = source.get_layer("first").get_weights()
    assert_weights(net, {"first/kernel": kernel, "first/bias": bias}, start)
    assert report.missing == ("bn", "predictions")
    assert report.unused == ("other/bias", "other/kernel")


def test_weights_go_into_nested_models_by_inner_name(net, values, tmp_path):
    image = keras.Input((4, 4, 3))
    outer = keras.Model(image, layers.ReLU()(net(image)), name="outer")

    report = load_weights(outer, save(tmp_path / "w.npz", values))

    assert_weights(net, values)
    assert report.loaded == ("first", "bn", "predictions")


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_of_nested_models(net, values, suffix, tmp_path):
    load_weights(net, save(tmp_path / "w.npz", values))
    image = keras.Input((4, 4, 3))
    outer = keras.Model(image, layers.ReLU()(net(image)), name="outer")
    outer.save(tmp_path / f"outer{suffix}")
    fresh = make_net()

    load_weights(fresh, tmp_path / f"outer{suffix}")

    assert_weights(fresh, values)
