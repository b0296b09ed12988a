"""`hrcam export`, run as a user runs it; its maps against the library's."""

import json

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import hrcam
from hrcam.cli import app
from hrcam.cli._inputs import read_record
from hrcam.saving import sha256

RUN = CliRunner(env={"COLUMNS": "300"})


@pytest.fixture
def saved(flat_model, tmp_path):
    """Files of a classifier and of its HR-CAM model, with a trained-like head."""
    flat_model.save(tmp_path / "base.keras")
    keras.utils.set_random_seed(0)
    hrcam.build_hrcam_model(flat_model).save(tmp_path / "hrcam.keras")
    return tmp_path / "base.keras", tmp_path / "hrcam.keras"


def export(*arguments):
    return RUN.invoke(app, ["export", *map(str, arguments)])


def facts_of(folder):
    return json.loads((folder / "assets.extra" / "hrcam.json").read_text())


def signature(folder, name="serving_default"):
    return tf.saved_model.load(str(folder)).signatures[name]


def test_the_exported_map_is_hr_cam(saved, images, tmp_path):
    result = export(saved[1], tmp_path / "served", "--class-names", "a, b,[c]")
    assert result.exit_code == 0, result.output
    folder = tmp_path / "served" / "1"
    model = hrcam.load_model(saved[1])
    answer = signature(folder)(image=tf.constant(images))
    np.testing.assert_allclose(
        answer["heatmap"], hrcam.hr_cam(model, images), atol=1e-5
    )
    np.testing.assert_allclose(
        answer["probabilities"], model.predict(images, verbose=0), atol=1e-5
    )
    assert str(folder) in result.output
    lines = result.output.splitlines()
    explain = next(i for i, line in enumerate(lines) if "explain(" in line)
    wanted = "explain(image float32 (b, 16, 16, 1), class_index int32 (b))"
    assert lines[explain].strip() == wanted
    assert lines[explain + 1].strip() == "-> heatmap float32 (b, 16, 16)"
    assert "Classes: a, b, [c]" in result.output
    assert "docs/serving.md" in result.output


def test_further_methods_explain_the_classifier(saved, flat_model, images, tmp_path):
    methods = "hr_cam, grad_cam,attentive_response"
    options = ["--methods", methods, "--classifier", saved[0], "--units", 3]
    result = export(saved[1], tmp_path / "served", *options)
    assert result.exit_code == 0, result.output
    folder = tmp_path / "served" / "1"
    index = np.full(len(images), 1, "int32")
    grad_cam = signature(folder, "grad_cam")(
        image=tf.constant(images), class_index=tf.constant(index)
    )["heatmap"]
    base = hrcam.load_model(saved[0])
    np.testing.assert_allclose(grad_cam, hrcam.grad_cam(base, images, 1), atol=1e-5)
    response = signature(folder, "attentive_response")(image=tf.constant(images))
    wanted = hrcam.attentive_response_maps(base, images, top_n=3)
    np.testing.assert_array_equal(response["units"], wanted["units"])
    np.testing.assert_allclose(response["response"], wanted["response"], atol=1e-4)
    assert "Classes: not named" in result.output


@pytest.fixture
def fitted(tmp_path, he_scale):
    """A model of any size, trained by `hrcam fit` on images up to 255, 12 x 12."""
    image = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    base = keras.Model(image, keras.layers.Dense(2, "softmax")(x))
    he_scale(base).save(tmp_path / "base.keras")
    rng = np.random.default_rng(0)
    lines = ["image,label"]
    for i in range(4):
        pixels = rng.integers(0, 255, (12, 12)).astype("uint8")
        cv2.imwrite(str(tmp_path / f"{i}.png"), pixels)
        lines.append(f"{i}.png,{('well', 'ill')[i % 2]}")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    files = [str(tmp_path / n) for n in ("base.keras", "train.csv", "m.keras")]
    more = "--size 12 --white 255 --validation 0 --epochs 2 --class-names well,ill"
    result = RUN.invoke(app, ["fit", *files[:2], "--out", files[2], *more.split()])
    assert result.exit_code == 0, result.output
    return tmp_path / "m.keras"


def heatmap_of_file(folder, path):
    data = tf.constant([path.read_bytes()])
    return signature(folder, "predict_bytes")(image_bytes=data)["heatmap"]


def test_what_fit_noted_is_taken_over(fitted, tmp_path):
    result = export(fitted, tmp_path / "served")
    assert result.exit_code == 0, result.output
    assert f"as noted in {tmp_path / 'm.json'}" in result.output
    folder = tmp_path / "served" / "1"
    facts = facts_of(folder)
    assert facts["class_names"] == ["well", "ill"]
    assert facts["image"] == {"height": 12, "width": 12, "channels": 1}
    model, file = hrcam.load_model(fitted), tmp_path / "0.png"
    pixels = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)[None, ..., None]
    wanted = hrcam.hr_cam(model, pixels.astype("float32"))
    np.testing.assert_allclose(heatmap_of_file(folder, file), wanted, rtol=1e-4)

    options = ["--class-names", "0,1", "--white", 1, "--size", 9, "--version", 2]
    assert export(fitted, tmp_path / "served", *options).exit_code == 0
    other = tmp_path / "served" / "2"
    assert facts_of(other)["class_names"] == ["0", "1"]
    images = hrcam.datasets.load_images([file], 9, 1)
    np.testing.assert_allclose(
        heatmap_of_file(other, file), hrcam.hr_cam(model, images), rtol=1e-4
    )


def test_a_record_of_another_model_is_not_read(saved, tmp_path):
    beside = saved[1].with_suffix(".json")
    record = {"model sha256": sha256(saved[1]), "class_names": ["a", "b", "c"]}
    beside.write_text(json.dumps(record))
    assert read_record(saved[1]) == record
    for text in ("no JSON", "[1]", json.dumps(record | {"model sha256": "0"})):
        beside.write_text(text)
        assert read_record(saved[1]) == {}
    result = export(saved[1], tmp_path / "served")
    assert result.exit_code == 0, result.output
    assert "which is not what `hrcam fit` noted of hrcam.keras" in result.output
    assert facts_of(tmp_path / "served" / "1")["class_names"] is None


def test_an_existing_version_is_kept(saved, tmp_path):
    folder = tmp_path / "served" / "1"
    folder.mkdir(parents=True)
    (folder / "mine").write_text("x")
    result = export(saved[1], tmp_path / "served")
    assert result.exit_code == 1
    assert "must be new" in result.output
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.keras"], "none.keras, which is not a file"),
        (["base.keras"], "has no HR-CAM head"),
        (["hrcam.keras", "--classifier", "none.keras"], "none.keras, which is not"),
        (["hrcam.keras", "--methods", "hr_cam,cams"], "`methods` must be among"),
        (["hrcam.keras", "--class-names", "a,b"], "one name for each of 3 classes"),
        (["hrcam.keras", "--size", "20"], "`image_size` must fit the model's input"),
    ],
)
def test_what_is_wrong_is_said(arguments, message, saved, tmp_path):
    result = export(tmp_path / arguments[0], tmp_path / "served", *arguments[1:])
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "served").exists()
