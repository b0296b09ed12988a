"""`hrcam evaluate` and `hrcam methods`, run as a user runs them."""

import json

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import hrcam
from hrcam.cli import app

RUN = CliRunner(env={"COLUMNS": "300"})
SOME = "cam,grad_cam,centre_prior"


@pytest.fixture
def listed(tmp_path):
    """A CSV of eight 20x24 images, the last without a mask."""
    rng = np.random.default_rng(0)
    lines = ["image,label,mask,group"]
    for i in range(8):
        image = rng.integers(0, 120, (20, 24)).astype("uint8")
        mask = np.zeros((20, 24), "uint8")
        mask[4 + i : 10 + i, 6:14] = 255
        image[mask > 0] += 100
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
        cv2.imwrite(str(tmp_path / f"m{i}.png"), mask)
        lines.append(f"{i}.png,{i % 3},{f'm{i}.png' if i < 7 else ''},p{i // 2}")
    path = tmp_path / "test.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def model(flat_model, tmp_path):
    flat_model.save(tmp_path / "model.keras")
    return tmp_path / "model.keras"


def evaluate(*arguments):
    return RUN.invoke(app, ["evaluate", *map(str, arguments)])


def rows_of(out):
    return {
        row["method"]: row
        for row in json.loads((out / "scores.json").read_text())["scores"]
    }


def test_scores_are_those_of_the_library(flat_model, model, listed, tmp_path):
    out = tmp_path / "out"
    result = evaluate(model, listed, "--methods", SOME, "--out", out)

    assert result.exit_code == 0, result.output
    assert "| Grad-CAM |" in result.output
    rows = rows_of(out)
    assert [*rows] == ["CAM", "Grad-CAM", "centre prior"]
    table = hrcam.datasets.csv_table(listed).select(range(7))
    images = hrcam.datasets.load_images(table, 16, 1)
    masks = hrcam.datasets.load_masks(table, 16)
    auc = hrcam.metrics.pixel_auc(hrcam.cam(flat_model, images, table.labels), masks)
    assert rows["CAM"]["pixel auc"] == pytest.approx(auc.mean())
    facts = json.loads((out / "scores.json").read_text())["facts"]
    assert facts["left out, no mask"] == 1
    assert str(tmp_path) not in (out / "scores.md").read_text()
    for name in ("tests.md", "boxes.png", "curves.png", "sheet.png", "per_image.csv"):
        assert (out / name).stat().st_size > 0


def test_a_second_run_goes_on_and_other_settings_are_refused(model, listed, tmp_path):
    out = tmp_path / "out"
    evaluate(model, listed, "--methods", "cam", "--out", out)
    kept = {p: p.stat().st_mtime_ns for p in (out / "parts").rglob("*.npz")}

    again = evaluate(model, listed, "--methods", "cam,grad_cam", "--out", out)

    assert again.exit_code == 0, again.output
    assert kept
    assert kept == {p: p.stat().st_mtime_ns for p in kept}
    other = evaluate(model, listed, "--class", "predicted", "--out", out)
    assert other.exit_code == 1
    assert "holds a study with other settings" in other.output


def test_an_hrcam_model_alone_and_beside_its_classifier(flat_model, listed, tmp_path):
    path, head = tmp_path / "base.keras", tmp_path / "head.keras"
    flat_model.save(path)
    hrcam.build_hrcam_model(flat_model).save(head)
    names = "hr_cam,cam"

    both = evaluate(
        path, listed, "--hrcam", head, "--methods", names, "--out", tmp_path / "a"
    )
    assert both.exit_code == 0, both.output
    assert [*rows_of(tmp_path / "a")] == ["HR-CAM", "CAM"]
    alone = evaluate(head, listed, "--out", tmp_path / "b", "--num-images", 2)
    assert alone.exit_code == 0, alone.output
    assert "Left out CAM: `model` must end in GlobalAveragePooling2D" in alone.output
    rows = rows_of(tmp_path / "b")
    assert "HR-CAM" in rows
    assert "CAM" not in rows
    assert rows["HR-CAM"]["images"] == 2
    wrong = evaluate(path, listed, "--methods", "hr_cam", "--out", tmp_path / "c")
    assert wrong.exit_code == 1
    assert "an HR-CAM model, which is not given" in wrong.output


def test_faithfulness_white_and_class_options(model, listed, tmp_path):
    out = tmp_path / "out"
    options = ["--methods", "grad_cam", "--class", "1", "--white", 255, "--out", out]
    result = evaluate(model, listed, *options, "--faithfulness")
    assert result.exit_code == 0, result.output
    row = rows_of(out)["Grad-CAM"]
    assert 0 <= row["insertion"] <= 1
    assert 0 <= row["drop"] <= 1
    for value, message in (("3", "a class below 3"), ("all", "a class below 3")):
        wrong = evaluate(model, listed, "--class", value, "--out", tmp_path / value)
        assert wrong.exit_code == 1
        assert message in wrong.output


def test_folders_with_masks_beside(model, listed, tmp_path):
    root, masks = tmp_path / "data", tmp_path / "masks"
    for label in range(3):
        (root / str(label)).mkdir(parents=True)
        (masks / str(label)).mkdir(parents=True)
    for i in range(8):
        (root / str(i % 3) / f"{i}.png").write_bytes(
            (tmp_path / f"{i}.png").read_bytes()
        )
        if i < 7:
            (masks / str(i % 3) / f"{i}.png").write_bytes(
                (tmp_path / f"m{i}.png").read_bytes()
            )
    for data, extra in ((root, ["--masks", masks]), (listed, [])):
        out = tmp_path / f"{data.stem} out"
        result = evaluate(model, data, "--methods", "cam", *extra, "--out", out)
        assert result.exit_code == 0, result.output
    first, second = (rows_of(tmp_path / f"{n} out")["CAM"] for n in ("data", "test"))
    assert first["pixel auc"] == pytest.approx(second["pixel auc"])
    nothing = evaluate(model, root, "--out", tmp_path / "x")
    assert nothing.exit_code == 1
    assert "At least one image must have a mask" in nothing.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.keras", "test.csv"], "none.keras"),
        (["model.keras", "none"], "one sub-folder a class"),
        (["model.keras", "test.csv", "--methods", "cams"], "Received: 'cams'"),
        (["model.keras", "test.csv", "--layout", "dicom"], "--layout must be one of"),
    ],
)
def test_what_is_wrong_is_said(arguments, message, model, listed, tmp_path):
    arguments = [tmp_path / arguments[0], tmp_path / arguments[1], *arguments[2:]]
    result = evaluate(*arguments, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output


def test_help_explains_the_scores_and_methods_are_listed():
    shown = RUN.invoke(app, ["evaluate", "--help"]).output
    for score in ("sensitivity", "pixel auc", "best iou", "insertion", "deletion"):
        assert score in shown
    listed = RUN.invoke(app, ["methods"]).output
    for name in ("hr_cam", "score_cam", "random_smooth"):
        assert name in listed
