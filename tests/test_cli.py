import json
import re
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
from typer.testing import CliRunner

import hrcam
from hrcam.cli import app

RUN = CliRunner(env={"COLUMNS": "200"})
TINY = ["--num-images", "80", "--image-size", "32", "--epochs", "2"]


def test_layers_prints_the_advisor(flat_model, tmp_path):
    flat_model.save(tmp_path / "model.keras")
    result = RUN.invoke(app, ["layers", str(tmp_path / "model.keras")])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    row = next(line for line in lines if "relu2" in line)
    # 8 x 8 pixels, 6 maps, stride 2; sees 3 + 1 (pool) + 2 * 2 = 8 pixels; pooled.
    assert [cell.strip() for cell in row.split("│")[1:-1]] == [
        "relu2", "8 x 8", "6", "2", "8", "yes",
    ]  # fmt: skip
    assert "pools 3 layers, 18 feature maps" in result.output


def test_layers_of_an_hrcam_model_are_those_that_it_pools(flat_model, tmp_path):
    model = hrcam.build_hrcam_model(flat_model, ["relu1", "bn3"])
    model.save(tmp_path / "[x] model.keras")
    result = RUN.invoke(app, ["layers", str(tmp_path / "[x] model.keras")])
    rows = [line.split("│")[1:-1] for line in result.output.splitlines() if "│" in line]
    pooled = [cells[0].strip() for cells in rows if cells[-1].strip() == "yes"]
    assert pooled == ["relu1", "bn3"]
    assert "[x] model.keras" in result.output
    assert "pools 2 layers, 12 feature maps" in result.output


def test_layers_never_cuts_a_name(tmp_path):
    long_name = "a_name_of_a_layer_" * 8
    image = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3, name=long_name)(image)
    keras.Model(image, x).save(tmp_path / "model.keras")
    narrow = CliRunner(env={"COLUMNS": "80"})
    result = narrow.invoke(app, ["layers", str(tmp_path / "model.keras")])
    assert long_name in result.output


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is not a file"), (b"no model", "cannot be opened")],
)
def test_layers_explains_a_bad_file(content, message, tmp_path):
    path = tmp_path / "model.keras"
    if content is not None:
        path.write_bytes(content)
    result = RUN.invoke(app, ["layers", str(path)])
    assert result.exit_code == 1
    assert message in result.output.replace("\n", " ")
    assert "Traceback" not in result.output


def test_demo_makes_everything_twice_the_same(tmp_path):
    records = []
    for name in ("one", "two"):
        out = tmp_path / name
        result = RUN.invoke(app, ["demo", *TINY, "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert str(out) in result.output.replace("\n", "")
        for file in ("sheet.png", "boxes.png", "scores.md", "scores.csv"):
            assert (out / file).stat().st_size > 0
        records.append(json.loads((out / "scores.json").read_text()))
    assert records[0] == records[1]
    methods = [row["method"] for row in records[0]["scores"]]
    shown = ["CAM", "Grad-CAM", "HR-CAM", "attentive response"]
    assert methods == [*shown, "centre prior", "image darkness"]
    model = hrcam.load_model(tmp_path / "one" / "hrcam.keras")
    assert hrcam.hr_cam(model, np.zeros((1, 32, 32, 1)), 1).shape == (1, 32, 32)
    keras.backend.clear_session()


def test_help_does_not_start_tensorflow():
    code = (
        "import sys; from typer.testing import CliRunner; from hrcam.cli import app;"
        "result = CliRunner().invoke(app, ['--help']);"
        "assert result.exit_code == 0 and 'demo' in result.output;"
        "print([m for m in ('tensorflow', 'keras', 'matplotlib') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"


@pytest.fixture
def pictures(tmp_path):
    """Two PNGs of one name in two folders, and a file that is no image."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / "a" / "hand.png", tmp_path / "b" / "hand.png"]
    for path in paths:
        path.parent.mkdir()
        cv2.imwrite(str(path), rng.integers(0, 255, (20, 24)).astype("uint8"))
    paths.append(tmp_path / "broken.png")
    paths[2].write_bytes(b"no image")
    return paths


def test_respond_writes_raw_maps_and_pictures(flat_model, pictures, tmp_path):
    flat_model.save(tmp_path / "model.keras")
    out = tmp_path / "out"
    options = ["respond", str(tmp_path / "model.keras"), *map(str, pictures)]
    result = RUN.invoke(app, [*options, "--units", "3", "--out", str(out)])

    assert result.exit_code == 1  # one file is no image
    assert "broken.png" in result.output
    assert "Wrote 2 of 3" in result.output
    images = hrcam.datasets.load_images(pictures[:2], 16, channels=1)
    expected = hrcam.attentive_response_maps(flat_model, images, top_n=3)
    for number in (0, 1):
        raw = np.load(out / f"{number}_hand_response.npz")
        for name in ("units", "response", "dominant_unit"):
            np.testing.assert_allclose(raw[name], expected[name][number], atol=1e-5)
        for what in ("response", "units"):
            picture = cv2.imread(str(out / f"{number}_hand_{what}.png"))
            assert picture.std() > 10
        first = str(expected["units"][number][0])
        assert f"strongest units {first}" in result.output
    assert not list(out.glob("*broken*"))


def test_respond_scales_images_to_what_the_model_was_trained_on(tmp_path, he_scale):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="conv")(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = he_scale(keras.Model(image, keras.layers.Dense(2, "softmax")(x)))
    model.save(tmp_path / "model.keras")
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype("uint8")
    cv2.imwrite(str(tmp_path / "x.png"), pixels)
    options = ["respond", str(tmp_path / "model.keras"), str(tmp_path / "x.png")]
    options += ["--units", "2", "--out", str(tmp_path)]

    assert "choose one with --size" in RUN.invoke(app, options).output
    result = RUN.invoke(app, [*options, "--size", "12", "--white", "255"])

    assert result.exit_code == 0, result.output
    wanted = hrcam.attentive_response_maps(
        model, pixels[None, ..., ::-1].astype("float32"), top_n=2
    )
    raw = np.load(tmp_path / "x_response.npz")
    np.testing.assert_allclose(raw["response"], wanted["response"][0], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--units", "9"], r"`top_n` must be an integer in \[1, 8\]"),
        (["--layer", "relu9"], "must be a layer of the model"),
        (["--preset", "other"], "`preset` must be one of"),
    ],
)
def test_respond_explains_wrong_options(
    flat_model, pictures, tmp_path, options, message
):
    flat_model.save(tmp_path / "model.keras")
    command = ["respond", str(tmp_path / "model.keras"), str(pictures[0]), *options]

    result = RUN.invoke(app, [*command, "--out", str(tmp_path / "out")])

    assert result.exit_code == 1
    assert re.search(message, result.output), result.output
    assert not (tmp_path / "out").exists()
