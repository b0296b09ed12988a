"""The exported SavedModel against the library, request by request."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers
from tiny_models import make_backbone, make_flat_model, scale_weights

import hrcam
from hrcam import export_saved_model
from hrcam.datasets import load_images

NAMES = ["noise", "square", "stripes"]
# Heads of random weights: a class may have nothing that argues for it.
pytestmark = pytest.mark.filterwarnings("ignore:.*has no positive value:UserWarning")


def make_head(base, seed=1):
    """An HR-CAM model with weights that hide no error."""
    model = hrcam.build_hrcam_model(base)
    dense = model.get_layer("predictions")
    rng = np.random.default_rng(seed)
    dense.set_weights([rng.normal(0, 1, w.shape) for w in dense.get_weights()])
    return model


class Case:
    """One exported model, opened by TensorFlow alone."""

    def __init__(self, folder):
        self.base = make_flat_model(3, seed=281)
        self.model = make_head(self.base)
        self.path = export_saved_model(
            self.model,
            folder,
            methods=("hr_cam", "grad_cam", "attentive_response"),
            classifier=self.base,
            class_names=NAMES,
            top_n=5,
        )
        self.call = opened(self.path)


def opened(path):
    """`call(signature, **inputs)` -> dict of numpy arrays."""
    loaded = tf.saved_model.load(str(path))

    def call(signature, **inputs):
        tensors = {name: tf.constant(value) for name, value in inputs.items()}
        made = loaded.signatures[signature](**tensors)
        return {name: value.numpy() for name, value in made.items()}

    call.loaded = loaded  # the signatures live as long as this
    return call


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    return Case(tmp_path_factory.mktemp("served") / "squares")


def png(image, dtype="uint8"):
    """PNG bytes of an image in [0, 1]."""
    levels = np.iinfo(dtype).max
    return cv2.imencode(".png", (image.clip(0, 1) * levels).round().astype(dtype))[
        1
    ].tobytes()


# ------------------------------------------------------------------------- signatures


def test_prediction_and_its_map(case, images):
    made = case.call("serving_default", image=images)

    np.testing.assert_allclose(
        made["probabilities"], case.model.predict(images, verbose=0), rtol=1e-5
    )
    np.testing.assert_array_equal(
        made["class_index"], case.model.predict(images, verbose=0).argmax(1)
    )
    assert len(set(made["class_index"])) > 1
    maps = hrcam.hr_cam(case.model, images)
    np.testing.assert_allclose(made["heatmap"], maps, rtol=0, atol=1e-5 * np.ptp(maps))
    assert made["class_index"].dtype == np.int32
    assert made["heatmap"].dtype == np.float32


def test_mean_of_the_served_map_is_the_served_score(case, images):
    """log p_c - log p_0 is the difference of the scores: of the maps' means + bias."""
    made = case.call("serving_default", image=images)
    bias = keras.ops.convert_to_numpy(case.model.get_layer("predictions").bias)

    scores = []
    for number in range(3):
        classes = np.full(6, number, "int32")
        maps = case.call("explain", image=images, class_index=classes)["heatmap"]
        scores.append(maps.mean(axis=(1, 2)) + bias[number])

    logs = np.log(made["probabilities"])
    np.testing.assert_allclose(
        logs[:, 1:] - logs[:, :1],
        (np.array(scores[1:]) - scores[0]).T,
        rtol=1e-4,
        atol=1e-4,
    )


def test_one_class_an_image(case, images):
    classes = np.array([0, 1, 2, 2, 1, -1], "int32")

    made = case.call("explain", image=images, class_index=classes)

    predicted = case.model.predict(images, verbose=0).argmax(1)[5]
    maps = hrcam.hr_cam(case.model, images, [0, 1, 2, 2, 1, predicted])
    np.testing.assert_allclose(made["heatmap"], maps, rtol=0, atol=1e-5 * np.ptp(maps))


@pytest.mark.parametrize("bad", [3, -2])
@pytest.mark.parametrize("signature", ["explain", "grad_cam"])
def test_class_that_is_none(case, images, signature, bad):
    inputs = {"image": images[:1], "class_index": np.array([bad], "int32")}
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"in \[0, 3\), or -1"):
        case.call(signature, **inputs)

    inputs["class_index"] = np.array([2], "int32")
    assert case.call(signature, **inputs)["heatmap"].shape == (1, 16, 16)


def test_one_class_for_many_images(case, images):
    with pytest.raises(tf.errors.InvalidArgumentError, match="one for each image"):
        case.call("explain", image=images, class_index=np.array([1], "int32"))


def test_grad_cam_of_the_base_model(case, images):
    classes = np.array([0, 1, 2] * 2, "int32")

    made = case.call("grad_cam", image=images, class_index=classes)["heatmap"]

    maps = hrcam.grad_cam(case.base, images, classes)
    np.testing.assert_allclose(made, maps, rtol=0, atol=1e-5 * np.ptp(maps))


def test_attentive_response_of_the_base_model(case, images):
    made = case.call("attentive_response", image=images)

    result = hrcam.attentive_response_maps(case.base, images, top_n=5)
    np.testing.assert_array_equal(made["units"], result["units"])
    np.testing.assert_allclose(made["response"], result["response"], atol=1e-4)
    assert set(made) == {"units", "response"}


def test_exported_weights_are_those_of_then(case, images, tmp_path):
    model = make_head(make_flat_model(3, seed=281))
    call = opened(export_saved_model(model, tmp_path / "m"))
    before = hrcam.hr_cam(model, images, 0)
    model.get_layer("predictions").set_weights(
        [w * 2 for w in model.get_layer("predictions").get_weights()]
    )

    made = call("explain", image=images, class_index=np.zeros(6, "int32"))["heatmap"]

    np.testing.assert_allclose(made, before, rtol=0, atol=1e-5 * np.ptp(before))
    np.testing.assert_allclose(hrcam.hr_cam(model, images, 0), 2 * before, rtol=1e-4)


# ------------------------------------------------------------------------------- bytes


@pytest.mark.parametrize(
    ("name", "dtype", "shape"),
    [
        ("grey8.png", "uint8", (16, 16)),
        ("grey16.png", "uint16", (16, 16)),
        ("rgb.png", "uint8", (20, 40, 3)),
        ("rgba.png", "uint8", (9, 7, 4)),
        ("grey.jpg", "uint8", (64, 50)),
        ("rgb.jpg", "uint8", (33, 16, 3)),
    ],
)
def test_bytes_are_read_as_for_training(case, tmp_path, name, dtype, shape):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype)
    path = tmp_path / name
    cv2.imwrite(str(path), pixels)

    made = case.call("predict_bytes", image_bytes=[path.read_bytes()] * 2)

    image = load_images([path], 16, channels=1)
    maps = hrcam.hr_cam(case.model, image)
    np.testing.assert_allclose(made["heatmap"][1], maps[0], atol=1e-5 * np.ptp(maps))
    np.testing.assert_allclose(
        made["probabilities"][1], case.model.predict(image, verbose=0)[0], rtol=1e-5
    )


def test_sixteen_bits_are_kept(case):
    """Two images whose upper eight bits are equal have different maps."""
    low = np.full((16, 16), 256 * 100, "uint16")
    high = low + np.arange(256, dtype="uint16").reshape(16, 16)
    files = [cv2.imencode(".png", x)[1].tobytes() for x in (low, high)]

    made = case.call("predict_bytes", image_bytes=files)["heatmap"]

    assert np.abs(made[0] - made[1]).max() > 0


BROKEN = {
    "empty": b"",
    "text": b"not an image",
    "gif": b"GIF89a" + bytes(20),
    "png start": b"\x89PNG\r\n\x1a\n",
    "png cut": png(np.eye(16))[:-30],
    "jpeg start": b"\xff\xd8\xff\xe0",
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_bytes_fail_alone(case, images, kind):
    with pytest.raises(tf.errors.InvalidArgumentError):
        case.call("predict_bytes", image_bytes=[BROKEN[kind]])

    made = case.call("predict_bytes", image_bytes=[png(images[1])])
    assert np.isfinite(made["heatmap"]).all()


def test_broken_bytes_say_what_is_wanted(case):
    with pytest.raises(tf.errors.InvalidArgumentError, match="PNG or JPEG"):
        case.call("predict_bytes", image_bytes=[b"GIF89a"])


def test_images_of_too_many_pixels(images, tmp_path):
    """A 16 x 16 image passes, and one row more does not: PNG and JPEG."""
    model = make_head(make_flat_model(3, seed=281))
    call = opened(export_saved_model(model, tmp_path / "m", max_pixels=16 * 16))
    for ending in (".png", ".jpg"):
        files = [
            cv2.imencode(ending, np.zeros((rows, 16), "uint8"))[1].tobytes()
            for rows in (16, 17)
        ]
        assert call("predict_bytes", image_bytes=files[:1])["heatmap"].shape[0] == 1
        with pytest.raises(tf.errors.InvalidArgumentError, match="too many pixels"):
            call("predict_bytes", image_bytes=files[1:])


def centred(images):
    return images * 2 - 1


@pytest.mark.parametrize(
    ("preprocess", "text"), [(255, "times 255"), (centred, f"{__name__}.centred")]
)
def test_preprocessing_is_in_the_graph(images, tmp_path, preprocess, text):
    model = make_head(make_flat_model(3, seed=281))
    path = export_saved_model(model, tmp_path / "m", preprocess=preprocess)
    levels = (images[1].clip(0, 1) * 255).round() / 255

    made = opened(path)("predict_bytes", image_bytes=[png(images[1])])["heatmap"]

    given = levels * 255 if preprocess == 255 else levels * 2 - 1
    maps = hrcam.hr_cam(model, given[None])
    np.testing.assert_allclose(made, maps, rtol=0, atol=1e-5 * np.ptp(maps))
    facts = json.loads((path / "assets.extra" / "hrcam.json").read_text())
    assert text in facts["preprocess"]


# ------------------------------------------------------------------------ other models


def check_served(model, images, tmp_path, **options):
    """Exports, and compares prediction and map; returns what was served."""
    path = export_saved_model(model, tmp_path / "m", **options)
    made = opened(path)("serving_default", image=images)
    maps = hrcam.hr_cam(model, images, made["class_index"])
    np.testing.assert_allclose(
        made["probabilities"], model.predict(images, verbose=0), rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(made["heatmap"], maps, rtol=0, atol=1e-5 * np.ptp(maps))
    return made


def test_one_sigmoid_unit(sigmoid_model, images, tmp_path):
    made = check_served(
        make_head(sigmoid_model), images, tmp_path, class_names=["a", "b"]
    )

    assert made["probabilities"].shape == (6, 1)
    np.testing.assert_array_equal(
        made["class_index"], made["probabilities"][:, 0] >= 0.5
    )


def test_labels_that_exclude_nothing(flat_model, images, tmp_path):
    model = hrcam.build_hrcam_model(flat_model, activation="sigmoid")
    scale_weights(model.get_layer("predictions"), 3)

    made = check_served(model, images, tmp_path)

    assert not np.allclose(made["probabilities"].sum(axis=1), 1)
    np.testing.assert_array_equal(
        made["class_index"], made["probabilities"].argmax(axis=1)
    )


def test_nested_model(nested_model, images, tmp_path):
    check_served(make_head(nested_model), images, tmp_path)


def test_mixed_precision(images, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        base = make_flat_model(3, seed=281)
    finally:
        keras.config.set_dtype_policy("float32")
    model = make_head(base)

    made = opened(export_saved_model(model, tmp_path / "m"))(
        "serving_default", image=images
    )

    maps = hrcam.hr_cam(model, images, made["class_index"])
    np.testing.assert_allclose(made["heatmap"], maps, atol=2e-3 * np.ptp(maps))
    assert made["heatmap"].dtype == np.float32


def test_name_of_a_folder_that_is_here(case, tmp_path, monkeypatch):
    """The warm-up request is to a model of the folder's name, also of `.`."""
    (tmp_path / "lesions").mkdir()
    monkeypatch.chdir(tmp_path / "lesions")

    path = export_saved_model(case.model, ".")

    file = path / "assets.extra" / "tf_serving_warmup_requests"
    assert b"lesions" in file.read_bytes()


@pytest.mark.parametrize("activation", ["softmax", None])
def test_plain_classifier_with_grad_cam(images, tmp_path, activation):
    """Without an HR-CAM head; logits are served as probabilities."""
    backbone = make_backbone(16)
    x = layers.Flatten()(backbone.output)
    model = keras.Model(backbone.input, layers.Dense(3, activation)(x), name="dense")
    scale_weights(model, 4)

    made = opened(export_saved_model(model, tmp_path / "m", methods="grad_cam"))(
        "serving_default", image=images
    )

    output = model.predict(images, verbose=0)
    if activation is None:
        output = np.exp(output) / np.exp(output).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made["probabilities"], output, rtol=1e-4, atol=1e-6)
    maps = hrcam.grad_cam(model, images, made["class_index"])
    np.testing.assert_allclose(made["heatmap"], maps, rtol=0, atol=1e-5 * np.ptp(maps))


def test_hr_cam_goes_without_saying(case, images, tmp_path):
    """The heat map of an HR-CAM model is HR-CAM, whatever else is asked for."""
    methods = ("attentive_response", "cam", "grad_cam")
    path = export_saved_model(
        case.model, tmp_path / "m", methods=methods, classifier=case.base
    )
    call = opened(path)

    classes = np.array([0, 1, 2] * 2, "int32")
    for signature, maps in {
        "explain": hrcam.hr_cam(case.model, images, classes),
        "cam": hrcam.cam(case.base, images, classes),
        "grad_cam": hrcam.grad_cam(case.base, images, classes),
    }.items():
        made = call(signature, image=images, class_index=classes)["heatmap"]
        np.testing.assert_allclose(made, maps, rtol=0, atol=1e-5 * np.ptp(maps))
    assert "attentive_response" in call.loaded.signatures


def test_first_map_of_a_plain_classifier(flat_model, images, tmp_path):
    methods = ("attentive_response", "cam", "grad_cam")
    path = export_saved_model(flat_model, tmp_path / "m", methods=methods)

    made = opened(path)("serving_default", image=images)

    maps = hrcam.cam(flat_model, images, made["class_index"])
    np.testing.assert_allclose(made["heatmap"], maps, rtol=0, atol=1e-5 * np.ptp(maps))
    facts = json.loads((path / "assets.extra" / "hrcam.json").read_text())
    assert facts["heatmap"] == "cam"


def test_any_size_needs_one(backbone, images, tmp_path):
    model = make_head(hrcam.build_gap_classifier(backbone, 3))
    with pytest.raises(ValueError, match=r"`image_size` is needed.*None, None, 1"):
        export_saved_model(model, tmp_path / "m")

    check_served(model, images, tmp_path, image_size=(16, 16))
    assert export_saved_model(model, tmp_path / "n", image_size=16).is_dir()


def test_five_channels_have_no_files(tmp_path):
    backbone = make_backbone(16, channels=5)
    model = make_head(hrcam.build_gap_classifier(backbone, 3))
    images = np.random.default_rng(0).normal(size=(2, 16, 16, 5)).astype("float32")

    check_served(model, images, tmp_path)

    loaded = tf.saved_model.load(str(tmp_path / "m" / "1"))
    assert "predict_bytes" not in loaded.signatures


# -------------------------------------------------------------------------- the folder


def test_what_it_is_lies_beside_it(case):
    facts = json.loads((case.path / "assets.extra" / "hrcam.json").read_text())

    assert case.path.name == "1"
    assert facts["class_names"] == NAMES
    assert facts["layers"] == ["relu1", "relu2", "relu3"]
    assert facts["hrcam"] == hrcam.__version__
    assert facts["image"] == {"height": 16, "width": 16, "channels": 1}
    for name, signature in facts["signatures"].items():
        function = case.call.loaded.signatures[name]
        assert set(signature["outputs"]) == set(function.structured_outputs)
        assert set(signature["inputs"]) == set(function.structured_input_signature[1])


def test_one_warm_up_request_a_signature(case):
    """That the server's own stubs read them is in tests/conformity."""
    file = case.path / "assets.extra" / "tf_serving_warmup_requests"

    records = [r.numpy() for r in tf.data.TFRecordDataset(str(file))]

    assert len(records) == len(case.call.loaded.signatures)
    for name in case.call.loaded.signatures:
        assert sum(name.encode() in record for record in records) == 1, name
    assert all(b"squares" in record for record in records)


def test_nothing_is_overwritten(case):
    before = {p: p.stat().st_mtime_ns for p in case.path.rglob("*")}

    with pytest.raises(FileExistsError, match="version=2"):
        export_saved_model(case.model, case.path.parent)

    assert {p: p.stat().st_mtime_ns for p in case.path.rglob("*")} == before
    second = export_saved_model(case.model, case.path.parent, version=2)
    assert sorted(p.name for p in case.path.parent.iterdir()) == ["1", "2"]
    assert second.name == "2"


def test_a_failed_export_leaves_nothing(case, tmp_path):
    """A warm-up request cannot be written where a folder is in the way."""

    def fails(images):
        raise RuntimeError("no such step")

    with pytest.raises(RuntimeError, match="no such step"):
        export_saved_model(case.model, tmp_path / "m", preprocess=fails)
    assert not list(tmp_path.rglob("*"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        export_saved_model(case.model, tmp_path / "file" / "m")


def test_without_this_package_and_without_keras(case, images, tmp_path):
    np.savez(tmp_path / "in.npz", image=images, bytes=np.array(png(images[1])))
    code = """
import sys
sys.modules["hrcam"] = sys.modules["keras"] = None  # neither can be imported
import numpy as np, tensorflow as tf
folder, given, out = sys.argv[1:]
given = np.load(given)
signatures = tf.saved_model.load(folder).signatures
made = signatures["serving_default"](image=tf.constant(given["image"]))
try:
    signatures["predict_bytes"](image_bytes=tf.constant([b"broken"]))
except tf.errors.InvalidArgumentError:
    more = signatures["predict_bytes"](image_bytes=tf.constant([given["bytes"].item()]))
np.savez(out, heatmap=made["heatmap"], of_bytes=more["heatmap"])
"""
    subprocess.run(
        [sys.executable, "-c", code, case.path, tmp_path / "in.npz", tmp_path / "out"],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        check=True,
        timeout=300,
    )

    made = np.load(tmp_path / "out.npz")
    maps = hrcam.hr_cam(case.model, images)
    np.testing.assert_allclose(made["heatmap"], maps, rtol=0, atol=1e-5 * np.ptp(maps))
    assert made["of_bytes"].shape == (1, 16, 16)


def test_no_path_of_this_machine_is_in_it(case):
    text = (case.path / "saved_model.pb").read_bytes()

    assert str(Path(hrcam.__file__).parent).encode() not in text
    assert str(Path(__file__).parent).encode() not in text


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("hr_cam", "magic")}, "`methods` must be among.*magic"),
        ({"class_names": ["a", "b"]}, "one name for each of 3 classes"),
        ({"class_names": "abc"}, "one name for each of 3 classes"),
        ({"version": 0}, "`version` must be an integer of at least 1"),
        ({"version": "1"}, "`version` must be an integer"),
        ({"image_size": (8, 8)}, "must fit the model's input"),
        ({"image_size": 8}, "must fit the model's input"),
        ({"image_size": (16, 16, 1)}, "must fit the model's input"),
    ],
)
def test_wrong_arguments(case, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        export_saved_model(case.model, tmp_path / "m", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "methods", [("hr_cam",), (), ("attentive_response",), ("grad_cam", "hr_cam")]
)
def test_classifier_without_a_head(flat_model, tmp_path, methods):
    with pytest.raises(ValueError, match=r"build_hrcam_model.*methods=\('grad_cam',\)"):
        export_saved_model(flat_model, tmp_path / "m", methods=methods)


def test_no_model(tmp_path):
    with pytest.raises(TypeError, match="load_model"):
        export_saved_model("model.keras", tmp_path / "m")


def test_request_of_another_type_or_size(case, images):
    with pytest.raises(tf.errors.InvalidArgumentError, match="double"):
        case.call("serving_default", image=images.astype("float64"))
    for wrong in (images[:, :8], images[:, :, :8], np.repeat(images, 3, axis=3)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="expected shape"):
            case.call("serving_default", image=wrong)
