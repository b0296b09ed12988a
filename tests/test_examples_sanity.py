"""`examples/sanity.py` on tiny data, from the command line."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

import hrcam

EXAMPLE = Path(__file__).parent.parent / "examples" / "sanity.py"
CONTROLS = ["edge magnitude", "random smooth map", "centre prior"]
PICTURES = ("sanity_curves.png", "faithfulness.png")


def run(*arguments):
    return subprocess.run(
        [sys.executable, EXAMPLE, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def test_simulated(tmp_path):
    options = ["--simulate", "--num-images", 24, "--image-size", 32, "--epochs", 1]
    options += ["--num-maps", 2, "--steps", 3, "--methods", "hr_cam", "cam"]
    options += ["--out", tmp_path]
    done = run(*options)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "sanity.json").read_text())

    named = [row["method"] for row in record["faithfulness"]]
    assert named == ["HR-CAM", "CAM", *CONTROLS]
    for table in ("cascade", "labels"):
        assert [row["method"] for row in record[table]] == named[:2]
    for row in record["faithfulness"]:
        assert 0 <= row["insertion"] <= 1
    facts = record["facts"]
    assert facts["images explained"] == 2
    for name in ("true labels", "permuted labels", "other start"):
        assert 0 <= facts[f"training accuracy, {name}"] <= 1
    text = (tmp_path / "sanity.md").read_text()
    assert "| HR-CAM | " in text
    assert str(tmp_path) not in text
    with (tmp_path / "faithfulness.csv").open() as file:
        assert [row["method"] for row in csv.DictReader(file)] == named
    for name in PICTURES:
        assert (tmp_path / name).stat().st_size > 0

    # What is kept is not computed again: a mark left in it shows in the table.
    kept = tmp_path / "work" / "cam.npz"
    arrays = dict(np.load(kept))
    arrays["insertion_auc"][:] = 0.125
    np.savez_compressed(kept, **arrays)
    again = run(*options)
    assert again.returncode == 0, again.stderr
    record = json.loads((tmp_path / "sanity.json").read_text())
    assert record["faithfulness"][1]["insertion"] == 0.125
    other = run(*options, "--seed", 1)
    assert other.returncode == 1
    assert "holds a study with other settings" in other.stderr


def test_saved_networks(tmp_path):
    classifier = hrcam.build_small_net((16, 16, 1), filters=(4, 4))
    classifier.save(tmp_path / "base.keras")
    hrcam.build_hrcam_model(classifier).save(tmp_path / "hrcam.keras")
    rng = np.random.default_rng(0)
    for name in ("sick", "sound"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(2):
            noise = rng.integers(0, 255, (20, 20)).astype("uint8")
            cv2.imwrite(str(tmp_path / "images" / name / f"{i}.png"), noise)
    out = tmp_path / "out"
    options = ["--model", tmp_path / "base.keras", "--hrcam", tmp_path / "hrcam.keras"]
    options += ["--data-dir", tmp_path / "images", "--methods", "hr_cam"]
    done = run(*options, "--num-maps", 3, "--steps", 3, "--out", out)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "sanity.json").read_text())
    assert "labels" not in record  # nothing is trained
    assert record["facts"]["images explained"] == 3
    assert record["facts"]["model"] == "base.keras"
    for name in PICTURES:
        assert (out / name).stat().st_size > 0


def test_what_to_check_must_be_given(tmp_path):
    done = run("--model", "base.keras", "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "give --simulate, or --model, --hrcam and --data-dir" in done.stderr
    assert not (tmp_path / "out").exists()
