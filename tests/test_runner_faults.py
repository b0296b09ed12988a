"""What `docs/reliability.md` shows at large, at a small scale: one file of each way.

The files are those of `benchmarks/broken_files.py`.
"""

import errno
import hashlib
import importlib
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_models import CLASSES, make_flat_model
from typer.testing import CliRunner

from hrcam.cli import app
from hrcam.datasets import simulated
from hrcam.imaging import Picture
from hrcam.imaging.write import (
    write_array,
    write_arrays,
    write_overlay,
    write_tiff,
)
from hrcam.runner import explain_files, read_manifest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))  # its scripts import each other by bare names
broken = importlib.import_module("broken_files")
sys.path.remove(str(BENCHMARKS))

SIDE = 16  # of the tiny model
RUN_ONCE = (
    "import sys; from hrcam.runner import explain_files; "
    "explain_files(sys.argv[1], [sys.argv[2]], sys.argv[3])"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "flat.keras"
    make_flat_model(CLASSES, seed=281).save(path)
    return path


@pytest.fixture(scope="module")
def ran(model, tmp_path_factory):
    """One run over a file of each way: its folder, names by way, and the result."""
    folder, out = tmp_path_factory.mktemp("images"), tmp_path_factory.mktemp("maps")
    picture = simulated(2, 96)[0][1, ..., 0]
    names = {}
    for number, way in enumerate(broken.WAYS):
        path = broken.make_broken(way, folder, number, picture)
        path = path / "inside.png" if path.is_dir() else path
        names[way.name] = os.path.relpath(path, folder)
    done = explain_files(model, [folder], out)
    return folder, out, names, done


def test_all_files_are_accounted_for(ran):
    _, out, names, done = ran
    assert len(names) == len(broken.WAYS)  # no name twice
    assert done.sources == done.total == len(broken.WAYS)
    assert read_manifest(out).keys() == set(names.values())
    assert not list(out.rglob(".hrcam-*"))


@pytest.mark.parametrize("way", broken.WAYS, ids=[way.name for way in broken.WAYS])
def test_broken_is_listed_and_good_is_mapped(ran, way):
    folder, out, names, done = ran
    if way.name == "no permission to read" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    records = read_manifest(out)[names[way.name]]
    listed = [record for record in records if "error" in record]
    mapped = [record for record in records if "files" in record]
    assert len(mapped) == way.images
    assert bool(listed) == (way.outcome in (broken.LISTED, broken.PART))
    for record in listed:
        assert 4 < len(record["error"]) < 120
        assert str(folder) not in record["error"]
    assert any(name.startswith(names[way.name]) for name in done.set_aside) == bool(
        listed
    )
    for record in mapped:
        (array,) = [name for name in record["files"] if name.endswith(".npy")]
        heatmap = np.load(out / array)
        assert heatmap.shape == (SIDE, SIDE)
        assert np.isfinite(heatmap).all()
        (shown,) = [name for name in record["files"] if name.endswith(".png")]
        with Image.open(out / shown) as picture:
            assert picture.size == (96, 96)


def test_no_way_that_is_mapped_could_pass_as_broken():
    """Each way of being broken makes other bytes than the whole file of its kind."""
    outcomes = [way.outcome for way in broken.WAYS]
    assert outcomes.count(broken.LISTED) >= 90
    assert outcomes.count(broken.PART) == 2
    assert all(
        (way.images == 0) == (way.outcome == broken.LISTED) for way in broken.WAYS
    )


def test_names_that_no_terminal_can_show(model, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a\n\x1b[2J[bold].png", os.fsdecode(b"b\xff\xe9.png")):
        (tmp_path / "in" / name).touch()
    out = tmp_path / "out"

    result = CliRunner().invoke(
        app, ["explain", str(model), str(tmp_path / "in"), "--out", str(out)]
    )

    assert result.exit_code == 3
    assert "\x1b[2J" not in result.output
    assert "[bold].png: empty" in result.output


def test_image_that_is_too_wide_for_a_png_of_opencv(model, tmp_path):
    """A million pixels are the most that libpng allows in a row."""
    (tmp_path / "in").mkdir()
    for name, width in (("a.png", 1_000_001), ("b.png", 20)):
        row = np.arange(width, dtype=np.uint8)[None]
        Image.fromarray(row).save(tmp_path / "in" / name)

    done = explain_files(model, [tmp_path / "in"], tmp_path / "out")

    assert done.sources == done.total == 2
    assert list(done.set_aside) == ["a.png"]


@pytest.mark.parametrize("kind", ["npy", "npz", "tiff", "png"])
def test_a_file_that_does_not_fit_is_not_there(kind, tmp_path):
    """A limit on the size of files stops a write in its middle, as a full disk does."""
    heatmap = np.random.default_rng(0).normal(size=(64, 64)).astype("float32")
    target = tmp_path / f"map.{kind}"
    write = {
        "npy": lambda: write_array(target, heatmap),
        "npz": lambda: write_arrays(target, {"hr_cam": heatmap}),
        "tiff": lambda: write_tiff(target, heatmap),
        "png": lambda: write_overlay(target, Picture(heatmap, -4, 4), heatmap),
    }[kind]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        with pytest.raises(OSError, match=re.escape(target.name)) as caught:
            write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_killed_in_the_middle_and_started_again(model, tmp_path):
    """SIGKILL after the first images; then the same files as without it."""
    images = tmp_path / "images"
    images.mkdir()
    pictures = np.random.default_rng(0).integers(0, 256, (96, 20, 24), np.uint8)
    for number, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(images / f"{number:03d}.png")
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    manifest = killed / "manifest.jsonl"
    command = [sys.executable, "-c", RUN_ONCE, str(model), str(images), str(killed)]

    with subprocess.Popen(command) as process:
        while not (manifest.exists() and manifest.stat().st_size):
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    done = read_manifest(killed)
    result = explain_files(model, [images], killed)
    explain_files(model, [images], whole)

    assert process.returncode == -signal.SIGKILL
    assert 0 < len(done) < len(pictures)
    assert result.sources == len(pictures)
    # what was noted before the kill is not done again, all else is
    assert result.images == len(pictures) - len(done)
    assert tree(killed) == tree(whole)


def tree(folder):
    """SHA-256 of every file, hidden ones too."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
