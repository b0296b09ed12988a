"""The REST client against our reading of TF Serving's documentation.

`Server` is no TF Serving: it maps HTTP bodies to an exported model's signatures as the
documentation of TF Serving's REST API says, as far as these tests go. It shows that
requests and answers fit the signatures and each other, not what the server's binary
does. The gRPC client has the real stubs, in tests/conformity.
"""

import base64
import functools
import importlib
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf

import hrcam

EXAMPLES = Path(__file__).parent.parent / "examples"
SIZE = (24, 16)  # not square: height and width swapped would show
NAMES = "naevus,melanoma,other"


class Server(ThreadingHTTPServer):
    """`POST /v1/models/lesions:predict` in the row format, on a SavedModel."""

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.signatures = tf.saved_model.load(str(folder)).signatures
        self.url = f"http://127.0.0.1:{self.server_port}/v1/models/lesions"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/v1/models/lesions:predict":
            status, answer = 404, {"error": f"Servable not found for {self.path}"}
        else:
            try:
                status, answer = 200, predict(self.server.signatures, json.loads(body))
            except (ValueError, tf.errors.InvalidArgumentError) as error:
                status, answer = 400, {"error": str(error)}
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *_):
        pass


def predict(signatures, request):
    """The documented mapping: JSON to tensors, tensors to JSON."""
    unknown = set(request) - {"signature_name", "instances"}
    if unknown or not request.get("instances"):
        raise ValueError(f"Not the row format: {sorted(request)}")
    name = request.get("signature_name", "serving_default")
    if name not in signatures:
        raise ValueError(f"Serving signature name: {name} not found")
    specs = signatures[name].structured_input_signature[1]
    rows = [named(row, specs) for row in request["instances"]]
    inputs = {
        key: tf.constant([from_json(row[key], spec) for row in rows], spec.dtype)
        for key, spec in specs.items()
    }
    outputs = {k: v.numpy().tolist() for k, v in signatures[name](**inputs).items()}
    if len(outputs) == 1:  # one output is given without its name
        return {"predictions": next(iter(outputs.values()))}
    by_row = zip(*outputs.values(), strict=True)
    return {"predictions": [dict(zip(outputs, row, strict=True)) for row in by_row]}


def named(row, specs):
    """An object of all inputs by name; one input may come without its name."""
    is_object = isinstance(row, dict) and set(row) != {"b64"}
    if not is_object and len(specs) == 1:
        return {next(iter(specs)): row}
    if not is_object or set(row) != set(specs):
        raise ValueError(f"Keys must be equal to: {sorted(specs)}")
    return row


def from_json(value, spec):
    """Binary values come as `{"b64": ...}`."""
    if spec.dtype != tf.string:
        return value
    if isinstance(value, dict):
        return base64.b64decode(value["b64"], validate=True)
    return value.encode()


@pytest.fixture(scope="module")
def model():
    """24 x 16 x 1 -> three classes, 4 + 8 feature maps; `files` are of two classes."""
    base = hrcam.build_small_net((*SIZE, 1), 3, filters=(4, 8))
    model = hrcam.build_hrcam_model(base)
    rng = np.random.default_rng(58)
    for variable in model.weights:
        if variable.name == "kernel":
            scale = np.sqrt(8 / np.prod(variable.shape[:-1]))
            variable.assign(rng.normal(0, scale, variable.shape))
    return model


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "lesions"
    methods = ("hr_cam", "grad_cam")
    server = Server(hrcam.export_saved_model(model, folder, methods=methods))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("serving_rest")


@pytest.fixture
def files(tmp_path):
    """Three images of another size than the model's: grey, 16 bit, colour JPEG."""
    rng = np.random.default_rng(5)
    pixels = cv2.resize(rng.uniform(0, 1, (4, 5)), (50, 40))
    pixels[5:20, 10:20] = 1
    files = [tmp_path / name for name in ("a.png", "b.png", "c.jpg")]
    cv2.imwrite(str(files[0]), (pixels * 255).astype("uint8"))
    cv2.imwrite(str(files[1]), ((1 - pixels) * 65535).astype("uint16"))
    colour = np.stack([pixels, pixels**2, 1 - pixels], axis=-1)
    cv2.imwrite(str(files[2]), (colour * 255).astype("uint8"))
    return files


def post(server, body):
    """Status and body, as they come."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}:predict", body)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def run(*arguments):
    done = subprocess.run(
        [sys.executable, EXAMPLES / "serving_rest.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout, done.stderr


# --- bodies -------------------------------------------------------------------------


def test_request_body(client):
    # 0x89 0x50 0x4e is 100010 010101 000001 001110: places 34, 21, 1, 14 of A-Za-z0-9+/
    # and 0xff three times is 63 four times.
    assert json.loads(client.request_body([b"\x89PN", b"\xff\xff\xff"])) == {
        "signature_name": "predict_bytes",
        "instances": [{"b64": "iVBO"}, {"b64": "////"}],
    }


def test_read_response(client):
    body = b"""{"predictions": [
        {"class_index": 1, "probabilities": [0.25, 0.75], "heatmap": [[1, -2.5e-1]]},
        {"class_index": 0, "probabilities": [1, 0.0], "heatmap": [[0.1, NaN]]}]}"""

    first, second = client.read_response(body)

    assert (first["class_index"], second["class_index"]) == (1, 0)
    np.testing.assert_array_equal(first["probabilities"], [0.25, 0.75])
    np.testing.assert_array_equal(first["heatmap"], [[1, -0.25]])
    np.testing.assert_array_equal(second["heatmap"], np.float32([[0.1, np.nan]]))
    assert first["heatmap"].dtype == second["probabilities"].dtype == np.float32


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"predictions": [[1, 2]]}',
        b'{"predictions": [{"score": 1}]}',
    ],
)
def test_another_answer_is_refused(client, body):
    with pytest.raises(ValueError, match=r"must hold `predictions`.*Received: b'"):
        client.read_response(body)


def test_error_body(client):
    assert client.read_error(b'{"error": "no such model"}') == "no such model"
    assert client.read_error(b"<html>") == "b'<html>'"


@pytest.mark.parametrize(
    ("probabilities", "index", "names", "text"),
    [
        ([0.2, 0.8], 1, None, "class 1, 0.8000"),
        ([0.2, 0.8], 0, ["a", "b"], "a, 0.2000"),
        ([0.25], 0, ["a", "b"], "a, 0.7500"),  # one sigmoid unit: p(class 1) = 0.25
        ([0.75], 1, None, "class 1, 0.7500"),
    ],
)
def test_describe(client, probabilities, index, names, text):
    answer = {"probabilities": np.float32(probabilities), "class_index": index}
    assert client.describe(answer, names) == text


# --- the signatures behind the documented mapping -----------------------------------


def test_every_signature_answers_as_the_library(server, model):
    rng = np.random.default_rng(1)
    x = rng.uniform(0, 1, (2, *SIZE, 1)).astype("float32")
    predictions = {}
    for signature in ("explain", "grad_cam"):
        rows = [{"image": image.tolist(), "class_index": 2} for image in x]
        status, answer = post(server, {"signature_name": signature, "instances": rows})
        assert status == 200, answer
        predictions[signature] = np.array(answer["predictions"])
    status, answer = post(server, {"instances": x.tolist()})
    assert status == 200, answer
    found = answer["predictions"]

    expected = model.predict(x, verbose=0)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    assert set(found[0]) == {"probabilities", "class_index", "heatmap"}
    close([row["probabilities"] for row in found], expected)
    assert [row["class_index"] for row in found] == expected.argmax(axis=1).tolist()
    close([row["heatmap"] for row in found], hrcam.hr_cam(model, x))
    close(predictions["explain"], hrcam.hr_cam(model, x, 2))
    close(predictions["grad_cam"], hrcam.grad_cam(model, x, 2))


def test_client_gets_the_library_s_map_of_each_file(client, server, model, files):
    body = client.request_body([path.read_bytes() for path in files])
    status, answer = post(server, body)
    assert status == 200, answer
    found = client.read_response(json.dumps(answer).encode())

    images = hrcam.datasets.load_images(files, SIZE, channels=1)
    expected, maps = model.predict(images, verbose=0), hrcam.hr_cam(model, images)
    assert len({*expected.argmax(axis=1)}) > 1
    for row, probabilities, heatmap in zip(found, expected, maps, strict=True):
        assert row["class_index"] == probabilities.argmax()
        np.testing.assert_allclose(row["probabilities"], probabilities, atol=1e-6)
        np.testing.assert_allclose(row["heatmap"], heatmap, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "Expecting property name"),
        ({"signature_name": "no", "instances": [1]}, "name: no not found"),
        ({"signature_name": "explain", "instances": [[[[0.5]]]]}, "Keys must be equal"),
        ({"signature_name": "predict_bytes", "inputs": ["x"]}, "Not the row format"),
        ({"signature_name": "predict_bytes", "instances": ["x"]}, "of a PNG or JPEG"),
    ],
)
def test_what_does_not_fit_is_a_400(server, body, reason):
    status, answer = post(server, body)
    assert status == 400
    assert reason in answer["error"]


def test_a_malformed_image_fails_its_batch_and_nothing_else(client, server, files):
    good = files[0].read_bytes()
    before = post(server, client.request_body([good]))
    for bad in (b"", b"not an image", good[: len(good) // 2]):
        status, answer = post(server, client.request_body([good, bad]))
        assert status == 400
        assert set(answer) == {"error"}
    assert before[0] == 200
    assert post(server, client.request_body([good])) == before


# --- the client from the command line -----------------------------------------------


def test_raw_maps_from_the_command_line(server, model, files, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(files[2].read_bytes()[:300])
    out = tmp_path / "out"
    options = ["--class-names", NAMES, "--raw", "--out", out]

    code, shown, errors = run(
        server.url, files[0], broken, tmp_path / "none.png", files[2], *options
    )

    assert code == 1
    images = hrcam.datasets.load_images([files[0], files[2]], SIZE, channels=1)
    probabilities = model.predict(images, verbose=0)
    expected = [
        f"{path}: {NAMES.split(',')[row.argmax()]}, {row.max():.4f}"
        for path, row in zip([files[0], files[2]], probabilities, strict=True)
    ]
    assert shown.splitlines() == expected
    assert f"{broken}: the server answered 400: " in errors
    assert "No such file or directory" in errors
    assert sorted(path.name for path in out.iterdir()) == ["a.png.npy", "c.jpg.npy"]
    heatmap = np.load(out / "c.jpg.npy")
    np.testing.assert_allclose(heatmap, hrcam.hr_cam(model, images)[1], atol=1e-6)


def test_pictures_from_the_command_line(server, files, tmp_path):
    code, shown, errors = run(server.url + "/", files[1], "--out", tmp_path / "out")
    assert code == 0, errors
    assert f"{files[1]}: class " in shown
    assert cv2.imread(str(tmp_path / "out" / "b.png.png")).shape[0] > 100


def with_exif(jpeg, orientation):
    """The file with an EXIF block of this one entry (tag 0x112, a 16-bit number)."""
    entry = b"\1\x12" + b"\0\3" + b"\0\0\0\1" + bytes([0, orientation, 0, 0])
    block = b"Exif\0\0MM\0*\0\0\0\x08\0\1" + entry + b"\0\0\0\0"
    return jpeg[:2] + b"\xff\xe1" + bytes([0, len(block) + 2]) + block + jpeg[2:]


def test_the_map_lies_on_the_image_as_the_server_saw_it(client, tmp_path):
    grey = np.full((40, 60), 128, "uint8")
    jpeg = with_exif(cv2.imencode(".jpg", grey)[1].tobytes(), orientation=6)
    assert cv2.imdecode(np.frombuffer(jpeg, "uint8"), 1).shape == (60, 40, 3)  # turned
    drawn = []
    for heatmap in ([[1, 0], [0, -1]], [[-1, 0], [0, 1]]):
        client.draw(jpeg, np.float32(heatmap), "map", tmp_path / "map.png")
        drawn.append(cv2.imread(str(tmp_path / "map.png")).astype(int).sum(axis=-1))
    change = drawn[0] - drawn[1]  # nothing but the map differs

    rows, columns = (np.flatnonzero(change.any(axis=axis)) for axis in (1, 0))
    panel = change[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = panel.shape
    assert width / height == pytest.approx(60 / 40, rel=0.02)
    assert (panel[: height // 4, : width // 4] > 0).all()
    assert (panel[-height // 4 :, -width // 4 :] < 0).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda url: url.replace("lesions", "other"),
            "answered 404: Servable",
        ),
        (lambda url: "http://127.0.0.1:9/v1/models/lesions", "Is the server running"),
        (lambda url: url.replace("/v1/models", ""), "URL must be like http"),
    ],
    ids=["another model", "no server", "no model's URL"],
)
def test_server_away_or_another(server, files, tmp_path, change, reason):
    url = change(server.url)
    code, shown, errors = run(url, *files[:2], "--out", tmp_path / "out")
    assert code != 0
    assert reason in errors
    assert "Traceback" not in errors
    assert shown == ""


def test_wrong_number_of_names(client):
    answer = {"probabilities": np.float32([0.2, 0.8]), "class_index": 0}
    with pytest.raises(ValueError, match=r"must be 2 names. Received: \['a'\]"):
        client.describe(answer, ["a"])


def test_two_images_of_one_name(files):
    code, _, errors = run("http://127.0.0.1:9/v1/models/lesions", files[0], files[0])
    assert code == 2
    assert "Two images have the same name" in errors
