"""The examples of MURA and neuromelanin MRI, on tiny data in the published layout."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

EXAMPLES = Path(__file__).parent.parent / "examples"
SMALL = ["--base", "small", "--image-size", 32, "--epochs", 1, "--head-epochs", 2]


def run(name, *arguments):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return done.returncode, done.stdout, done.stderr


def mura_tree(root):
    """The published layout: 24 + 8 wrists with two views, grey and RGB, a finger."""
    rng = np.random.default_rng(0)
    for split, patients in (("train", range(1, 25)), ("valid", range(25, 33))):
        names, studies = [], []
        for patient in patients:
            part = "FINGER" if patient == 1 else "WRIST"
            ending = "positive" if patient % 2 else "negative"
            study = f"{split}/XR_{part}/patient{patient:05}/study1_{ending}"
            studies.append(f"MURA-v1.1/{study}/,{patient % 2}")
            (root / "MURA-v1.1" / study).mkdir(parents=True)
            for view in (1, 2):
                image = rng.integers(0, 90, (40, 30, 3)).astype("uint8")
                image[10:20, 8:18] += 150 * np.uint8(patient % 2)
                image = image if view == 1 else image[..., 0]
                path = root / "MURA-v1.1" / study / f"image{view}.png"
                cv2.imwrite(str(path), image)
                (path.parent / f"._{path.name}").write_bytes(b"macOS")
                names.append(f"MURA-v1.1/{study}/image{view}.png")
        for what, rows in (("image_paths", names), ("labeled_studies", studies)):
            (root / "MURA-v1.1" / f"{split}_{what}.csv").write_text("\n".join(rows))


def test_mura(tmp_path):
    mura_tree(tmp_path)
    broken = tmp_path / "MURA-v1.1/valid/XR_WRIST/patient00025/study1_positive"
    (broken / "image1.png").write_bytes((broken / "image1.png").read_bytes()[:60])
    out = tmp_path / "out"
    options = ["--data-dir", tmp_path, "--part", "WRIST", "--weights", "none", *SMALL]
    code, shown, errors = run("mura.py", *options, "--out", out)
    assert code == 0, errors
    assert "patient00025/study1_positive/image1.png: " in shown
    record = json.loads((out / "scores.json").read_text())
    # 23 wrists to fit and choose; 8 studies to test, of which one has one image left.
    assert sum(record["facts"]["images (train, check, test)"][:2]) == 46
    assert set(record["scores"]) == {"base model", "HR-CAM", "HR-CAM standardized"}
    for levels in record["scores"].values():
        assert levels["images"]["number"] == 15
        assert levels["studies"]["number"] == 8
    auc = record["scores"]["HR-CAM"]["studies"]["auc"]
    assert f"| {auc:.3f} |" in shown
    assert (out / "sheet.png").stat().st_size > 0
    assert str(tmp_path) not in (out / "scores.md").read_text()
    check_study_auc(tmp_path, out, record["scores"]["HR-CAM"]["studies"]["auc"])


def check_study_auc(root, out, expected):
    """The AUC of the saved network, with the mean over a study's images by hand."""
    import hrcam

    model = hrcam.load_model(out / "hrcam.keras")
    labels, means = [], []
    for patient in range(25, 33):
        ending = "positive" if patient % 2 else "negative"
        study = f"MURA-v1.1/valid/XR_WRIST/patient{patient:05}/study1_{ending}"
        paths = [root / study / f"image{view}.png" for view in (1, 2)]
        paths = paths[1:] if patient == 25 else paths
        images = hrcam.datasets.load_images(paths, 32)
        means.append(model.predict(images, verbose=0)[:, 1].mean())
        labels.append(patient % 2)
    assert roc_auc_score(labels, means) == pytest.approx(expected)


def test_mura_refuses_weights_for_the_small_network(tmp_path):
    code, _, errors = run("mura.py", "--data-dir", tmp_path, "--base", "small")
    assert code == 2
    assert "--weights none" in errors


def test_neuromelanin_phantom(tmp_path):
    options = ["--simulate", "--num-subjects", 16, "--slices-per-subject", 2]
    code, shown, errors = run("neuromelanin.py", *options, *SMALL, "--out", tmp_path)
    assert code == 0, errors
    facts = json.loads((tmp_path / "classes.json").read_text())
    assert facts["subjects (fit, check, test)"] == [9, 2, 5]
    assert facts["slices (fit, check, test)"] == [18, 4, 10]
    tested = 0
    for name in ("control", "patient"):
        record = json.loads((tmp_path / name / "scores.json").read_text())
        rows = json.loads((tmp_path / name / "separation.json").read_text())
        assert [row["method"] for row in rows] == [
            row["method"] for row in record["scores"]
        ]
        for row in rows:
            shares = [row[verdict] for verdict in ("apart", "merged", "one", "none")]
            assert sum(shares) == pytest.approx(1)
        by_name = {row["method"]: row for row in rows}
        assert by_name["centre prior"]["separation"] < 0.1  # one bump
        assert by_name["centre prior"]["apart"] == 0
        assert (tmp_path / name / "separation.md").read_text().strip() in shown
        assert (tmp_path / name / "sheet.png").stat().st_size > 0
        tested += record["scores"][0]["images"]
    assert tested == 10

    code, again, _ = run("neuromelanin.py", *options, *SMALL, "--out", tmp_path)
    assert code == 0  # goes on from the finished base model
    assert "Epoch" not in again
    tables = [
        [r for r in text.splitlines() if "| CAM |" in r] for text in (shown, again)
    ]
    assert tables[0] == tables[1]
    assert len(tables[0]) == 4


def slices_tree(root):
    """16 subjects with two slices each, as 16-bit PNG, and their CSV."""
    rng = np.random.default_rng(0)
    rows = ["file,subject,label"]
    for subject in range(16):
        for number in range(2):
            image = rng.integers(0, 2000, (80, 100)).astype("uint16")
            image[30:40, 40:60] += np.uint16(8000 * (subject % 2 == 0))
            name = f"sub{subject:02}/slice{number}.png"
            (root / name).parent.mkdir(exist_ok=True)
            cv2.imwrite(str(root / name), image)
            label = "patient" if subject % 2 else "control"
            rows.append(f"{name},sub{subject:02},{label}")
    (root / "slices.csv").write_text("\n".join(rows))


def test_neuromelanin_slices(tmp_path):
    root, out = tmp_path / "data", tmp_path / "out"
    root.mkdir()
    slices_tree(root)
    options = ["--data-dir", root, "--table", "slices.csv", "--out", out]
    options += ["--box", 0.3, 0.25, 0.7, 0.65, *SMALL]
    code, shown, errors = run("neuromelanin.py", *options)
    assert code == 0, errors
    assert "separation" not in shown  # no masks: nothing to score maps by
    facts = json.loads((out / "classes.json").read_text())
    assert sum(facts["slices (fit, check, test)"]) == 32
    scores = facts["class scores"]["HR-CAM standardized"]
    assert 0 <= scores["subjects"]["balanced_accuracy"] <= 1
    for name in ("control/sheet.png", "patient/sheet.png", "hrcam.keras"):
        assert (out / name).stat().st_size > 0
    assert str(tmp_path) not in (out / "classes.json").read_text()
