"""The gRPC client and the warm-up file against TF Serving's own stubs.

`peers/serve_grpc.py` is a gRPC server with the real service and messages, on an
exported model. What its `Predict` does is our reading of `predict.proto`; the server's
own binary is not run.
"""

import base64
import contextlib
import json
import os
import subprocess
from pathlib import Path

import conftest
import cv2
import numpy as np
import pytest

import hrcam

EXAMPLES = Path(conftest.__file__).parents[2] / "examples"
NAMES = "naevus,melanoma,other"

pytestmark = [
    pytest.mark.conformity,
    pytest.mark.filterwarnings("ignore:The .*map has no positive value"),
]


@pytest.fixture(scope="session")
def served(find_served):
    return find_served("pooled")


@contextlib.contextmanager
def running_server(folder):
    process = subprocess.Popen(
        [
            conftest.find_python("tensorflow_serving"),
            conftest.PEERS / "serve_grpc.py",
            folder,
            "lesions",
        ],
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # closes its input, which ends it, and waits
        yield f"127.0.0.1:{int(process.stdout.readline())}"


@pytest.fixture(scope="session")
def server(served):
    with running_server(served.folder) as address:
        yield address


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Two images of another size than the model's: 16-bit PNG and JPEG; and none."""
    folder = tmp_path_factory.mktemp("files")
    pixels = np.random.default_rng(6).uniform(0, 0.3, (50, 40, 3))
    pixels[10:25, 10:20] += 0.7
    cv2.imwrite(str(folder / "a.png"), (pixels * 65535).astype("uint16"))
    cv2.imwrite(str(folder / "b.jpg"), ((1 - pixels) * 255).astype("uint8"))
    (folder / "broken.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    return folder


def run_client(*arguments):
    done = subprocess.run(
        [
            conftest.find_python("tensorflow_serving"),
            EXAMPLES / "serving_grpc.py",
            *map(str, arguments),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


def test_client_gets_the_library_s_map(
    server, served, files, tmp_path, record_property
):
    paths = [files / name for name in ("a.png", "broken.jpg", "none.png", "b.jpg")]
    code, shown, errors = run_client(
        server, "lesions", *paths, "--class-names", NAMES, "--raw", "--out", tmp_path
    )
    assert code == 1  # for the broken one and the missing one
    assert f"{paths[1]}: the server answered INVALID_ARGUMENT: " in errors
    assert "No such file or directory" in errors
    size = served.model.inputs[0].shape[1:3]
    images = hrcam.datasets.load_images([paths[0], paths[3]], size)
    probabilities = served.model.predict(images, verbose=0)
    assert shown.splitlines() == [
        f"{path}: {NAMES.split(',')[row.argmax()]}, {row.max():.4f}"
        for path, row in zip([paths[0], paths[3]], probabilities, strict=True)
    ]
    found = np.stack([np.load(tmp_path / f"{n}.npy") for n in ("a.png", "b.jpg")])
    expected = hrcam.hr_cam(served.model, images)
    difference = np.abs(found - expected).max() / np.ptp(expected)
    record_property("difference", float(difference))
    assert found.dtype == np.float32
    assert difference < 1e-5


def test_another_model_and_no_server(server, files):
    code, _, errors = run_client(server, "other", files / "a.png", "--raw")
    assert code == 1
    assert "NOT_FOUND: Servable not found" in errors
    code, _, errors = run_client("127.0.0.1:9", "lesions", files / "a.png", "--raw")
    assert code == 1
    assert "Is it running" in errors
    assert "Traceback" not in errors


def in_serving_python(code):
    done = subprocess.run(
        [conftest.find_python("tensorflow_serving"), "-c", code],
        env=os.environ | {"PYTHONPATH": str(EXAMPLES)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_request_body():
    """PredictRequest by hand: field << 3 | 2, length, bytes; or field << 3, number.

    model_spec 1: name 1, signature_name 3. inputs 2: key 1, value 2, a tensor: dtype 1
    (string is 7), shape 2 of a dim 2 of a size 1, string_val 8.
    """
    spec = b"\x0a\x07lesions" + b"\x1a\x0dpredict_bytes"
    tensor = b"\x08\x07" + b"\x12\x04\x12\x02\x08\x01" + b"\x42\x03\x89P\0"
    entry = b"\x0a\x0bimage_bytes" + b"\x12\x0d" + tensor
    expected = b"\x0a\x18" + spec + b"\x12\x1c" + entry

    shown = in_serving_python(
        "import base64, serving_grpc\n"
        "body = serving_grpc.request_body('lesions', [b'\\x89P\\0'])\n"
        "print(base64.b64encode(body.SerializeToString()).decode())"
    )

    assert base64.b64decode(shown) == expected


def test_every_warm_up_request_fits_and_runs(served):
    found = json.loads(
        conftest.run_peer("tensorflow_serving", "with_warmup.py", served.folder)
    )
    facts = json.loads((served.folder / "assets.extra/hrcam.json").read_text())

    assert {row["signature"] for row in found} == set(facts["signatures"])
    assert len(found) == len(facts["signatures"]) == 5
    for row in found:
        assert row["known"]
        assert (row["kind"], row["name"]) == ("predict_log", "lesions")
        for side in ("inputs", "outputs"):
            assert {
                key: f"{kind} ({', '.join(['b', *map(str, shape[1:])])})"
                for key, (kind, shape) in row[side].items()
            } == facts["signatures"][row["signature"]][side]
            assert {shape[0] for _, shape in row[side].values()} == {1}
