"""Training on two devices gives the losses, weights and maps of one.

The devices are two logical ones of one CPU, in processes of their own.
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = Path(__file__).with_name("several_devices")


def start(script, backend, *arguments, python=sys.executable):
    return subprocess.Popen(
        [python, SCRIPTS / script, *map(str, arguments)],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process):
    try:
        said, _ = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 0, said[-4000:]


def trained(folder, backend, *cases, python=sys.executable):
    """`{case: {part: (of one device, of two)}}`, and a function to read facts."""
    finish(start("train.py", backend, folder, *cases, python=python))
    pairs = {case: {} for case in cases}
    with np.load(folder / "found.npz") as found:
        for key in found.files:
            case, number, part = key.split(":")
            if number == "one":
                pairs[case][part] = found[key], found[f"{case}:two:{part}"]
    return pairs, lambda name: json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def on_tensorflow(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tensorflow")
    return trained(folder, "tensorflow", "whole_road", "noted")


def python_with_jax():
    python = os.environ.get("HRCAM_BACKENDS_PYTHON", sys.executable)
    if python == sys.executable and importlib.util.find_spec("jax") is None:
        pytest.skip("needs JAX, or HRCAM_BACKENDS_PYTHON; docs/backends.md")
    return python


@pytest.fixture(scope="module")
def on_jax(tmp_path_factory):
    cases = ("whole_road", "noted", "dropout", "batch_norm")
    folder = tmp_path_factory.mktemp("jax")
    return trained(folder, "jax", *cases, python=python_with_jax())


def apart(one, two):
    """The largest difference, as a share of the largest value."""
    assert one.shape == two.shape
    return np.abs(one - two).max() / np.abs(one).max()


def check_same(pairs):
    for part, (one, two) in pairs.items():
        assert np.isfinite(one).all(), part
        assert apart(one, two) < 1e-5, part
    for part in {"loss", "val_loss", "head_loss"} & set(pairs):
        assert len(set(pairs[part][0])) == len(pairs[part][0]), "it does not learn"


def check_whole_road(pairs):
    assert set(pairs) == {
        *("accuracy", "loss", "val_accuracy", "val_loss", "weights"),
        *("pooled", "base_classes", "head_loss", "head_weights", "hr_cam", "grad_cam"),
    }
    assert len(pairs["loss"][0]) == 3
    assert len(pairs["head_loss"][0]) == 3
    check_same(pairs)


# --- TensorFlow --------------------------------------------------------------------


def test_tensorflow_base_model_head_and_maps(on_tensorflow):
    check_whole_road(on_tensorflow[0]["whole_road"])


def test_tensorflow_data_set(on_tensorflow):
    check_same(on_tensorflow[0]["noted"])


def test_tensorflow_gives_each_device_its_half(on_tensorflow):
    """Two epochs of two batches of 8 images, by the count of each replica's graph."""
    _, facts = on_tensorflow

    one, two = facts("noted_one"), facts("noted_two")

    assert Counter(map(tuple, one["images"])) == {("CPU:0", 8): 4}
    assert Counter(map(tuple, two["images"])) == {("CPU:0", 4): 4, ("CPU:1", 4): 4}
    assert one["weights"] == {"CPU:0": True}
    assert two["weights"] == {"CPU:0": True, "CPU:1": True}


def test_tensorflow_says_where_shares_are_uneven(on_tensorflow):
    said = on_tensorflow[1]("said")

    (last,) = said["last"]["said"]
    assert "Each batch of `x` must have a multiple of 2 images" in last
    assert "batches of [8, 5]" in last
    assert 0.5 < said["last"]["loss"] < 0.9  # trained all the same; log 2 is 0.69
    for case, name in {"first": "`x`", "validation": "`validation_data`"}.items():
        (error,) = said[case]["said"]
        assert error.startswith(f"Each batch of {name} must have a multiple of 2")
        assert "batches of [5]" in error
        assert said[case]["loss"] is None


@pytest.mark.backends
def test_tensorflow_batch_norm_is_the_same_if_synchronized(tmp_path):
    pairs, _ = trained(tmp_path, "tensorflow", "batch_norm", "synchronized")

    check_same(pairs["synchronized"])
    assert apart(*pairs["batch_norm"]["loss"]) > 1e-3  # docs/several_devices.md


# --- JAX ---------------------------------------------------------------------------


@pytest.mark.backends
def test_jax_base_model_head_and_maps(on_jax):
    check_whole_road(on_jax[0]["whole_road"])


@pytest.mark.backends
@pytest.mark.parametrize("case", ["noted", "dropout", "batch_norm"])
def test_jax_layers_see_the_whole_batch(on_jax, case):
    check_same(on_jax[0][case])


@pytest.mark.backends
def test_jax_gives_each_device_its_half(on_jax):
    """By the sharding of the images in the compiled step."""
    _, facts = on_jax

    one, two = facts("noted_one"), facts("noted_two")

    assert set(map(tuple, one["images"])) == {("cpu:0", 8)}
    assert set(map(tuple, two["images"])) == {("cpu:0", 4), ("cpu:1", 4)}
    assert one["weights"] == {"cpu:0": True}
    assert two["weights"] == {"cpu:0": True, "cpu:1": True}


@pytest.mark.backends
def test_jax_refuses_uneven_shares(on_jax):
    said = on_jax[1]("said")

    sizes = {"last": "[8, 5]", "first": "[5]", "validation": "[5]"}
    for case, given in sizes.items():
        (error,) = said[case]["said"]
        assert "must have a multiple of 2 images" in error
        assert f"batches of {given}" in error
        assert said[case]["loss"] is None
    assert said["distributed"]  # the head's training put the distribution back


@pytest.mark.backends
def test_jax_on_two_hosts(tmp_path):
    python = python_with_jax()
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    files = {process: tmp_path / f"{process}.npz" for process in (-1, 0, 1)}

    running = [
        start("hosts.py", "jax", file, process, port, python=python)
        for process, file in files.items()
    ]
    try:
        for process in running:
            finish(process)
    finally:  # a host waits long for one that failed
        for process in running:
            process.kill()

    alone, *hosts = (dict(np.load(file)) for file in files.values())
    assert alone.pop("devices") == 1
    for host in hosts:
        assert host.pop("devices") == 2
        check_same({part: (value, host[part]) for part, value in alone.items()})
