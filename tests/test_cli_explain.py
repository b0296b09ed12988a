import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image
from tiny_models import make_flat_model
from typer.testing import CliRunner

from hrcam.cli import app
from hrcam.runner import read_manifest
from hrcam.saving import sha256

RUN = CliRunner(env={"COLUMNS": "200"})
pytestmark = pytest.mark.filterwarnings("ignore:.*has no positive value")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "base.keras"
    make_flat_model(3, seed=281).save(path)
    return path


@pytest.fixture
def scans(tmp_path):
    """Five good files, one that is cut off, one that is no image."""
    (tmp_path / "in").mkdir()
    random = np.random.default_rng(0)
    for number in range(5):
        pixels = random.integers(0, 256, (20, 24), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number}.png")
    data = (tmp_path / "in" / "0.png").read_bytes()
    (tmp_path / "in" / "[red]cut.png").write_bytes(data[:200])
    (tmp_path / "in" / "notes.txt").write_text("no image")
    return tmp_path / "in"


def explain(*arguments):
    return RUN.invoke(app, ["explain", *map(str, arguments)])


def test_some_are_set_aside(model, scans, tmp_path):
    done = explain(model, scans, "--out", tmp_path / "out", "--format", "png,npy,tiff")

    assert done.exit_code == 3, done.output
    assert "6 of 6 files; 5 images in this run" in done.output
    assert "Left out: 1 files of folders that are no images" in done.output
    assert "[red]cut.png: damaged or cut off" in done.output
    assert len(list((tmp_path / "out").glob("*.grad_cam.*"))) == 15
    again = explain(model, scans, "--out", tmp_path / "out", "--format", "png,npy,tiff")
    assert again.exit_code == 3
    assert "6 of 6 files; 0 images in this run" in again.output


def test_all_done(model, scans, tmp_path):
    (scans / "[red]cut.png").unlink()

    done = explain(model, scans / "*.png", "--out", tmp_path / "out", "--class", "2")

    assert done.exit_code == 0, done.output
    assert "5 of 5 files" in done.output
    made = [records[0] for records in read_manifest(tmp_path / "out").values()]
    assert {record["explained"] for record in made} == {2}


def test_what_fit_noted_counts(model, scans, tmp_path):
    """White and class names; an option goes before."""
    copy = tmp_path / "noted.keras"
    copy.write_bytes(model.read_bytes())
    record = {
        "model sha256": sha256(copy),
        "class_names": ["a", "b", "c"],
        "white": 255.0,
        "image": {"height": 16, "width": 16, "channels": 1},
    }
    copy.with_suffix(".json").write_text(json.dumps(record))

    explain(copy, scans / "0.png", "--out", tmp_path / "noted")
    explain(copy, scans / "0.png", "--out", tmp_path / "given", "--white", "1")
    explain(model, scans / "0.png", "--out", tmp_path / "by_hand", "--white", "255")

    (noted,) = read_manifest(tmp_path / "noted")["0.png"]
    (given,) = read_manifest(tmp_path / "given")["0.png"]
    (by_hand,) = read_manifest(tmp_path / "by_hand")["0.png"]
    assert noted["class_name"] == "abc"[noted["class"]]
    assert noted["range"] == by_hand["range"] != given["range"]
    assert by_hand["class_name"] is None


def test_values(model, scans, tmp_path):
    explain(model, scans / "0.png", "--out", tmp_path / "a", "--values", "-0,510")
    explain(model, scans / "0.png", "--out", tmp_path / "b", "--white", "0.5")

    ranges = [
        read_manifest(tmp_path / x)["0.png"][0]["range"]["grad_cam"] for x in "ab"
    ]
    np.testing.assert_allclose(*ranges, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--values", "0,white"], "file, window or LOW,HIGH. Received: '0,white'"),
        (["--values", "type"], "pair of different numbers"),
        (["--methods", "hrcam"], "explains an HR-CAM model"),
        (["--methods", "nothing"], "`methods` must be among hr_cam"),
        (["--format", "gif"], "`formats` must be among png"),
        (["--class", "7"], "below 3. Received: 7"),
        (["--engine", "spark"], "`engine` must be among local, ray"),
    ],
)
def test_errors_in_one_line(model, scans, tmp_path, options, message):
    done = explain(model, scans, "--out", tmp_path / "out", *options)

    assert done.exit_code == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_in_place_of_the_folder(model, scans, tmp_path):
    (tmp_path / "out").write_text("x")

    done = explain(model, scans, "--out", tmp_path / "out")

    assert done.exit_code == 1
    assert "File exists" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_the_run_and_loses_nothing(model, scans, tmp_path, number):
    for index in range(1500):
        os.link(scans / f"{index % 5}.png", scans / f"many{index}.png")
    command = [sys.executable, "-c", "from hrcam.cli import app; app()", "explain"]
    command += [str(model), str(scans), "--out", str(tmp_path / "out")]
    manifest = tmp_path / "out" / "manifest.jsonl"
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not manifest.exists() or not manifest.stat().st_size:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)

    running.send_signal(number)

    output, _ = running.communicate(timeout=60)
    assert running.returncode == 130, output
    assert "The same command goes on where it was" in output
    made = [
        record for own in read_manifest(tmp_path / "out").values() for record in own
    ]
    files = {name for record in made for name in record.get("files", ())}
    assert 0 < len(made) < 1506
    there = {p.name for p in (tmp_path / "out").iterdir() if not p.name.startswith(".")}
    assert there == files | {"manifest.jsonl", "settings.json"}
