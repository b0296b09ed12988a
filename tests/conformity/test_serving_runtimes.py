"""Exported models in other runtimes than ours: OpenVINO and `saved_model_cli`.

A difference is the largest of all values, as a share of the range of what the library
gives. OpenVINO computes in bfloat16 where the CPU has it, unless told otherwise; what
that gives is noted, not tested.
"""

import os
import subprocess
import sys

import conftest
import numpy as np
import pytest

KINDS = ("pooled", "resnet50")
TOLERANCE = 2e-4  # scores are small differences of large sums here

pytestmark = [
    pytest.mark.conformity,
    pytest.mark.filterwarnings("ignore:The .*map has no positive value"),
]


@pytest.fixture(params=KINDS)
def served(request, find_served):
    return find_served(request.param)


def difference(found, expected):
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.ptp(expected))


def test_images_are_of_different_classes(served):
    assert len(set(served.expected["class_index"])) > 1
    assert served.expected["probabilities"].max() < 0.99


def test_openvino(served, tmp_path, record_property):
    np.save(tmp_path / "images.npy", served.images)
    answer = tmp_path / "answer.npz"
    shown = conftest.run_peer(
        "openvino", "with_openvino.py", served.folder, tmp_path / "images.npy", answer
    )
    record_property("openvino", shown.strip())
    with np.load(answer) as file:
        found = dict(file)
    for key, expected in served.expected.items():
        share = difference(found[f"float32/all/{key}"], expected)
        record_property(key, share)
        share_as_it_comes = difference(found[f"as it comes/all/{key}"], expected)
        record_property(f"{key}, as it comes", share_as_it_comes)
        assert share < TOLERANCE
        last = found[f"float32/last/{key}"]
        assert last.shape == (1, *expected.shape[1:])
        assert np.abs(last - expected[-1:]).max() <= TOLERANCE * np.ptp(expected)


def test_saved_model_cli(served, tmp_path, record_property):
    np.save(tmp_path / "images.npy", served.images)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run"),
            *("--dir", served.folder, "--tag_set", "serve"),
            *("--signature_def", "serving_default", "--outdir", tmp_path),
            *("--inputs", f"image={tmp_path / 'images.npy'}"),
        ],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for key, expected in served.expected.items():
        share = difference(np.load(tmp_path / f"{key}.npy"), expected)
        record_property(key, share)
        assert share < TOLERANCE
