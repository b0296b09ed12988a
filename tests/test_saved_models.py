"""The models in saved_models/: whole, and the same in both forms."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import hrcam
from hrcam.cli import app

FOLDER = Path(__file__).parent.parent / "saved_models"
# Not every image has something that argues for its class.
pytestmark = pytest.mark.filterwarnings("ignore:.*has no positive value:UserWarning")
NAMES = ("simulated", "anatomy")


def test_sums_are_those_of_the_readme():
    rows = re.findall(
        r"^\| `(\S+)` \| (\d+) \| `([0-9a-f]{64})` \|$",
        (FOLDER / "README.md").read_text(),
        re.MULTILINE,
    )
    files = {
        p.relative_to(FOLDER).as_posix()
        for name in NAMES
        for p in (FOLDER / name).rglob("*")
        if p.is_file() and p.name != "model.json"
    }
    assert {name for name, _, _ in rows} == files
    for name, size, digest in rows:
        data = (FOLDER / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (int(size), digest)


@pytest.mark.parametrize("name", NAMES)
def test_both_forms_agree(name):
    """Prediction, map, Grad-CAM and attentive response, on new images."""
    folder = FOLDER / name
    base = model = hrcam.load_model(folder / "base.keras")
    method = hrcam.cam
    if (folder / "hrcam.keras").exists():
        model, method = hrcam.load_model(folder / "hrcam.keras"), hrcam.hr_cam
    facts = json.loads((folder / "model.json").read_text())
    images, _, _ = hrcam.datasets.simulated(4, facts["image_size"], seed=7)
    signatures = tf.saved_model.load(str(folder / "1")).signatures

    noted = json.loads((folder / "1" / "assets.extra" / "hrcam.json").read_text())
    assert noted["heatmap"] == method.__name__
    assert noted["class_names"] == facts["class_names"]
    assert set(noted["signatures"]) == set(signatures)
    made = signatures["serving_default"](image=tf.constant(images))

    predicted = model.predict(images, verbose=0)
    assert predicted.shape[1] == len(facts["class_names"])
    np.testing.assert_allclose(made["probabilities"], predicted, atol=1e-5)
    classes = predicted.argmax(axis=1).astype("int32")
    np.testing.assert_array_equal(made["class_index"], classes)
    check(made["heatmap"], method(model, images, classes))
    given = {"image": tf.constant(images), "class_index": tf.constant(classes)}
    check(
        signatures["grad_cam"](**given)["heatmap"],
        hrcam.grad_cam(base, images, classes),
    )
    response = signatures["attentive_response"](image=tf.constant(images))["response"]
    result = hrcam.attentive_response_maps(base, images, unit_maps=False)
    check(response, result["response"])


def check(served, maps):
    np.testing.assert_allclose(served, maps, rtol=0, atol=1e-5 * np.ptp(maps))
    assert np.ptp(maps) > 0


def test_head_stands_on_the_base_model():
    """Below its head the HR-CAM model is the base model, weight by weight."""
    folder = FOLDER / "simulated"
    base, model = (hrcam.load_model(folder / f"{n}.keras") for n in ("base", "hrcam"))
    shared = [
        layer for layer in model.layers if layer.name.startswith(("conv", "block"))
    ]
    assert len(shared) >= 4
    for layer in shared:
        twin = base.get_layer(layer.name).get_weights()
        for own, other in zip(layer.get_weights(), twin, strict=True):
            np.testing.assert_array_equal(own, other)


def test_demo_without_training(tmp_path):
    arguments = ["demo", "--pretrained", "--num-images", "80", "--out", str(tmp_path)]
    arguments += ["--saved", str(FOLDER / "simulated")]

    done = CliRunner().invoke(app, arguments)

    assert done.exit_code == 0, done.output
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    record = json.loads((tmp_path / "scores.json").read_text())
    assert {row["method"] for row in record["scores"]} >= {"HR-CAM", "Grad-CAM", "CAM"}
    assert not (tmp_path / "hrcam.keras").exists()


def test_demo_refuses_the_images_of_the_training(tmp_path):
    facts = json.loads((FOLDER / "simulated" / "model.json").read_text())
    saved = ["--saved", str(FOLDER / "simulated")]
    arguments = ["demo", "--pretrained", "--seed", str(facts["seed"]), *saved]

    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])

    assert done.exit_code == 1
    assert "were trained on the images of that seed" in done.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--image-size", "--epochs"])
def test_demo_without_training_takes_no_settings_of_it(tmp_path, option):
    saved = ["--saved", str(FOLDER / "simulated"), "--out", str(tmp_path / "out")]

    done = CliRunner().invoke(app, ["demo", "--pretrained", option, "128", *saved])

    assert done.exit_code == 1
    assert "which --pretrained leaves out" in done.output
    assert not (tmp_path / "out").exists()


def test_demo_says_where_the_networks_are(tmp_path):
    arguments = ["demo", "--pretrained", "--saved", str(tmp_path)]

    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])

    assert done.exit_code == 1
    assert "saved_models/simulated of the repository" in done.output
