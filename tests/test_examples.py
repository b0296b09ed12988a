"""Each example runs on tiny data, from the command line, as a user would run it."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

import hrcam
from hrcam.methods import METHODS

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return done.returncode, done.stdout, done.stderr


def test_simulated(tmp_path):
    options = ["--base", "small", "--num-images", 80, "--image-size", 32]
    options += ["--epochs", 1, "--head-epochs", 2, "--out", tmp_path]
    code, shown, errors = run("simulated.py", *options)
    assert code == 0, errors
    assert "| HR-CAM |" in shown
    record = json.loads((tmp_path / "scores.json").read_text())
    assert record["scores"][0]["images"] == 10  # half of the last quarter
    assert record["facts"]["base"] == "small"
    assert record["facts"]["epochs"] == 1
    head = record["facts"]["head scores"]["HR-CAM"]
    assert 0 <= head["held out"]["auc"] <= 1
    assert 0 <= head["in training"]["val_agreement"] <= 1
    check_study(tmp_path)
    for name in ("hrcam.keras", "base/best.keras"):
        assert (tmp_path / name).stat().st_size > 0


def test_simulated_controls():
    code, shown, errors = run(
        "simulated_controls.py", "--num-images", 40, "--image-size", 32
    )
    assert code == 0, errors
    assert "| logistic regression | 0." in shown
    assert "| smoothed absolute contrast | 0." in shown


def test_a_folder_of_other_settings_is_refused(tmp_path):
    (tmp_path / "settings.json").write_text('{"base": "resnet50"}')
    code, _, errors = run("simulated.py", "--base", "small", "--out", tmp_path)
    assert code == 1
    assert "holds a study with other settings" in errors


def isic_tree(root, num_images):
    """The published layout of ISIC 2017, every third image a melanoma."""
    rng = np.random.default_rng(0)
    images = root / "ISIC-2017_Training_Data"
    masks = root / "ISIC-2017_Training_Part1_GroundTruth"
    images.mkdir()
    masks.mkdir()
    lines = ["image_id,melanoma,seborrheic_keratosis"]
    for i in range(num_images):
        name = f"ISIC_{i:07d}"
        mask = np.zeros((40, 48), "uint8")
        mask[10:25, 15:35] = 255
        image = rng.integers(150, 250, (40, 48, 3)).astype("uint8")
        image[mask > 0] //= 3 if i % 3 == 0 else 2
        cv2.imwrite(str(images / f"{name}.jpg"), image)
        cv2.imwrite(str(masks / f"{name}_segmentation.png"), mask)
        lines.append(f"{name},{float(i % 3 == 0)},0.0")
    csv = root / "ISIC-2017_Training_Part3_GroundTruth.csv"
    csv.write_text("\n".join(lines) + "\n")


def check_study(out):
    record = json.loads((out / "scores.json").read_text())
    assert {method.title for method in METHODS.values()} | {"HR-CAM standardized"} == {
        row["method"] for row in record["scores"]
    }
    for name in ("sheet.png", "boxes.png", "curves.png", "tests.md", "summary.csv"):
        assert (out / name).stat().st_size > 0


def check_layers_and_shortcuts(out):
    for name in ("layers HR-CAM", "layers HR-CAM standardized"):
        assert "block4_relu" in (out / name / "layers.md").read_text()
        assert (out / name / "layer_weights.png").stat().st_size > 0
    for name in ("shortcuts CAM", "shortcuts HR-CAM"):
        assert (out / name / "worst.png").stat().st_size > 0


def test_isic(tmp_path):
    isic_tree(tmp_path, 30)
    broken = tmp_path / "ISIC-2017_Training_Data" / "ISIC_0000001.jpg"
    broken.write_bytes(broken.read_bytes()[:100])
    out = tmp_path / "out"
    options = ["--data-dir", tmp_path, "--base", "small", "--weights", "none"]
    options += ["--image-size", 32, "--epochs", 1, "--head-epochs", 2, "--out", out]
    code, shown, errors = run("isic.py", *options)
    assert code == 0, errors
    assert "ISIC-2017_Training_Data/ISIC_0000001.jpg: " in shown
    for name in ("melanoma", "all"):
        check_study(out / name)
    check_layers_and_shortcuts(out)
    text = (out / "all" / "scores.md").read_text()
    assert str(tmp_path) not in text  # no absolute path in a result


def fracture_tree(root, fracatlas_tree, num_images):
    """The made FracAtlas with every third image fractured and outlined."""
    fracatlas_tree(root, num_images)
    images, notes = root / "images", root / "Annotations" / "COCO JSON"
    notes.mkdir(parents=True)
    lines = (root / "dataset.csv").read_text().splitlines()
    record = {"images": [], "annotations": [], "categories": []}
    for i, line in enumerate(lines[1:]):
        if i % 3 == 0:
            name = line.split(",")[0]
            (images / "Non_fractured" / name).rename(images / "Fractured" / name)
            lines[i + 1] = line[:-1] + "1"
            picture = cv2.imread(str(images / "Fractured" / name))
            picture[5:12, 8:16] = 250
            cv2.imwrite(str(images / "Fractured" / name), picture)
            size = {"width": 24, "height": 20}
            record["images"].append({"id": i, "file_name": name} | size)
            outline = [[8, 5, 15, 5, 15, 11, 8, 11]]
            note = {"id": i, "image_id": i, "category_id": 0, "segmentation": outline}
            record["annotations"].append(note)
    (root / "dataset.csv").write_text("\n".join(lines) + "\n")
    (notes / "COCO_fracture_masks.json").write_text(json.dumps(record))


def test_fracatlas(tmp_path, fracatlas_tree):
    fracture_tree(tmp_path, fracatlas_tree, 60)
    out = tmp_path / "out"
    options = ["--data-dir", tmp_path, "--base", "small", "--weights", "none"]
    options += ["--image-size", 32, "--epochs", 1, "--head-epochs", 2, "--out", out]
    code, shown, errors = run("fracatlas.py", *options)
    assert code == 0, errors
    check_study(out / "fractures")
    check_layers_and_shortcuts(out)
    assert "| HR-CAM |" in shown
    assert str(tmp_path) not in (out / "fractures" / "scores.md").read_text()


def test_anatomy(tmp_path, fracatlas_tree):
    fracatlas_tree(tmp_path, 40)
    out = tmp_path / "out"
    options = ["--data-dir", tmp_path, "--dataset", "fracatlas", "--image-size", 32]
    options += ["--epochs", 1, "--seeds", 3, "--units", 4, "--out", out]
    code, shown, errors = run("anatomy.py", *options)
    assert code == 0, errors
    record = json.loads((out / "table1.json").read_text())["table1"]
    assert list(record) == ["shallow", "deeper", "deeper + augmentation"]
    count = record["shallow"][0]["test images"]
    majority = record["shallow"][0]["majority"]
    assert 5 <= count <= 11  # a fifth of 40, in blocks of two or three
    accuracy = 100 * record["deeper"][0]["accuracy"]
    assert f"| deeper | {accuracy:.1f} |" in shown
    baseline = f"| always the largest class | {100 * majority:.1f} | 25.0 | 1 |"
    assert baseline in shown
    mistakes = (out / "mistakes_deeper_augmentation.csv").read_text().splitlines()
    wrong = count * (1 - record["deeper + augmentation"][0]["accuracy"])
    assert len(mistakes) - 1 == round(wrong)
    shares = json.loads((out / "shares.json").read_text())["shares"]
    row = shares["shallow"]["hand"]
    assert 1 <= row["images"] <= majority * count
    assert row["letters"] + row["outside"] + row["inside"] == pytest.approx(1)
    for name in ("hands_deeper.png", "hands_shallow_units.png"):
        assert (out / name).stat().st_size > 0
    assert str(tmp_path) not in (out / "table1.md").read_text()

    code, again, _ = run("anatomy.py", *options)  # opens the finished networks
    assert code == 0
    assert "Epoch" not in again
    assert [r for r in again.splitlines() if "|" in r] == [
        r for r in shown.splitlines() if "|" in r
    ]


def test_saved_models(tmp_path, fracatlas_tree):
    """The networks, both forms of each, and a README whose sums are theirs."""
    fracatlas_tree(tmp_path, 40)
    options = ["--data-dir", tmp_path, "--num-images", 80, "--epochs", 1]
    options += ["--demo-size", 32, "--anatomy-size", 32, "--out", tmp_path / "out"]
    options += ["--anatomy-run", tmp_path / "run", "--work", tmp_path / "work"]
    code, _, errors = run("saved_models.py", *options)
    assert code == 0, errors
    rows = re.findall(
        r"^\| `(\S+)` \| \d+ \| `([0-9a-f]{64})` \|$",
        (tmp_path / "out" / "README.md").read_text(),
        re.MULTILINE,
    )
    kept = ["anatomy/base.keras", "simulated/base.keras", "simulated/hrcam.keras"]
    assert {name for name, _ in rows} >= {
        *kept, "anatomy/1/saved_model.pb", "simulated/1/saved_model.pb"
    }  # fmt: skip
    for name, digest in rows:
        data = (tmp_path / "out" / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
    facts = json.loads((tmp_path / "out" / "anatomy" / "model.json").read_text())
    assert facts["class_names"] == ["hand", "leg", "hip", "shoulder"]
    base = hrcam.load_model(tmp_path / "out" / "simulated" / "base.keras")
    assert base.trainable_weights
    assert not base.compiled
