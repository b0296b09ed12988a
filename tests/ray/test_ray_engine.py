"""`--engine ray` against the engine without it: the same bits, whatever happens.

One Ray for all tests but the first and the last; run with `-m ray`, docs/clusters.md.
"""

import errno
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_models import CLASSES, make_flat_model

from hrcam.imaging.read import LIMITS
from hrcam.runner import explain_files, read_manifest
from hrcam.runner.explainer import Settings
from hrcam.runner.opened import Writing

pytestmark = [
    pytest.mark.ray,
    # Ray Data's own defaults use settings that it has deprecated itself
    pytest.mark.filterwarnings(r"ignore::DeprecationWarning:ray\.data\.context"),
]

OPTIONS = {"batch_size": 4, "formats": ("npy", "png", "tiff"), "class_index": 1}
IMAGES, BROKEN = 94, ("020.png", "050.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """`model.keras`, and `images`: 94 PNGs, of which 2 are broken, and 3-page TIFF.

    That is three chunks of 8 batches. The pages shift the places of what follows.
    """
    folder = tmp_path_factory.mktemp("data")
    make_flat_model(CLASSES, seed=281).save(folder / "model.keras")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        image = rng.integers(0, 120, (24, 20)).astype("uint8")
        image[4 : 5 + number % 16, 3 : 5 + number % 11] += 100
        cv2.imwrite(str(folder / "images" / f"{number:03}.png"), image)
    for name in BROKEN:
        path = folder / "images" / name
        path.write_bytes(path.read_bytes()[:100])
    pages = [rng.integers(0, 255, (16, 16)).astype("uint8") for _ in range(3)]
    cv2.imwritemulti(str(folder / "images" / "010.pages.tiff"), pages)
    return folder


@pytest.fixture(scope="module")
def expected(folder):
    """Path -> content of what the local engine writes."""
    done = run(folder, "local", engine="local")
    assert done.sources == done.total == IMAGES + 1
    assert set(done.set_aside) == set(BROKEN)
    return contents(folder / "local")


@pytest.fixture(scope="module")
def ray():
    """A Ray with room for two workers; gives the module."""
    ray = pytest.importorskip("ray", reason='needs pip install "hrcam[ray]"')
    before = os.environ.get("RAY_USAGE_STATS_ENABLED")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        "local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 * 2**20,
    )
    yield ray
    ray.shutdown()
    if before is None:
        del os.environ["RAY_USAGE_STATS_ENABLED"]


def run(folder, out, inputs=None, **options):
    options = {"engine": "ray", **OPTIONS, **options}
    inputs = [folder / "images"] if inputs is None else inputs
    return explain_files(folder / "model.keras", inputs, folder / out, **options)


def contents(out):
    """Path -> content; `settings.json` and the manifest, too, all but the lock."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in files
        if path.name != ".lock"
    }


def written(out):
    return {file for records in read_manifest(out).values() for r in records
            for file in r.get("files", ())}  # fmt: skip


def workers():
    """Processes of Ray's workers that this process has started, by their id."""
    import psutil  # comes with Ray

    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "_Worker" in " ".join(process.cmdline()):
                found.append(process.pid)
    return found


def test_nothing_to_do_needs_no_cluster(tmp_path):
    engine = pytest.importorskip("hrcam.runner.ray_engine")
    # A connection would be refused, after more than a minute.
    work = engine.explain_on_ray("127.0.0.1:1")([[(None, 1)]], None, None, bool)
    assert list(work) == []


def test_an_address_that_ray_data_cannot_use_is_refused(folder):
    pytest.importorskip("ray")
    with pytest.raises(ValueError, match=r"`address` must be .* Received: 'ray://a:1'"):
        run(folder, "client", address="ray://a:1")


def test_without_ray_it_says_what_to_install(folder, monkeypatch):
    monkeypatch.delitem(sys.modules, "hrcam.runner.ray_engine", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ImportError, match=r'pip install "hrcam\[ray\]"'):
        run(folder, "without")


def test_two_workers_write_the_same_bits(folder, expected, ray):
    seen = set()
    done = run(folder, "same", progress=lambda _: seen.update(workers()))
    assert (done.sources, done.images) == (IMAGES + 1, IMAGES + 3 - len(BROKEN))
    assert set(done.set_aside) == set(BROKEN)
    assert contents(folder / "same") == expected
    assert len(seen) == 2
    assert ray.is_initialized()  # it was running before


def test_relative_paths_and_several_methods(folder, ray, monkeypatch):
    monkeypatch.chdir(folder)
    for engine in ("local", "ray"):
        explain_files(
            "model.keras",
            ["images/00*.png"],
            f"relative_{engine}",
            methods=("cam", "grad_cam"),
            formats=("npz",),
            batch_size=4,
            engine=engine,
        )
    assert len(written("relative_ray")) == 10
    assert contents(Path("relative_ray")) == contents(Path("relative_local"))


def test_killed_workers_lose_nothing(folder, expected, ray):
    out, killed = folder / "killed", {}

    def kill(done):
        """After the first chunk, when files of another one are there."""
        if killed or done.sources == 0:
            return
        noted = written(out)
        until = time.monotonic() + 60
        while time.monotonic() < until and not killed:
            unnoted = {p.name for p in out.iterdir() if p.suffix == ".npy"} - noted
            if unnoted:
                killed["workers"] = workers()
                for pid in killed["workers"]:
                    os.kill(pid, signal.SIGKILL)
                killed["sources"] = done.sources

    done = run(folder, "killed", progress=kill, batch_size=4)
    assert killed["workers"]
    assert killed["sources"] < done.total  # in the middle
    assert done.sources == done.total
    assert contents(out) == expected  # and no unfinished file


def test_stopped_and_gone_on(folder, expected, ray):
    out, seen = folder / "stopped", []
    stopped = run(
        folder,
        "stopped",
        progress=lambda done: seen.append(done.sources),
        stop=lambda: seen[-1] > 0,
    )
    assert 0 < stopped.sources < stopped.total
    files = set(contents(out)) - {"manifest.jsonl", "settings.json"}
    assert files == written(out)  # what is there is noted, the batch at work as well
    again = run(folder, "stopped")
    assert again.sources == again.total
    assert again.images < IMAGES + 3 - len(BROKEN)
    assert contents(out) == expected


def test_stopped_before_a_worker_is_there(folder, ray):
    done = run(folder, "at_once", stop=lambda: True)
    assert done.sources == 0
    assert not written(folder / "at_once")


def test_a_file_that_cannot_be_written_ends_the_run(folder, ray):
    names = [f"{number:03}.png" for number in range(20, 30)]
    out = folder / "blocked"
    blocked = out / "026.png.grad_cam.npy"
    blocked.mkdir(parents=True)
    inputs = [folder / "images" / name for name in names]
    with pytest.raises(OSError, match="026") as raised:
        run(folder, "blocked", inputs)
    error = raised.value
    assert error.errno == errno.EISDIR
    assert error.strerror == os.strerror(errno.EISDIR)
    assert error.filename == str(blocked)
    assert "In the worker" in error.__notes__[0]
    assert list(read_manifest(out)) == names[:6]  # in order, so all before it
    blocked.rmdir()
    assert run(folder, "blocked", inputs).sources == 10
    assert list(read_manifest(out)) == names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_index": 9}, "must be one of the model's, below 3. Received: 9"),
        ({"class_names": ["a", "b"]}, "`class_names` must be one for each"),
    ],
)
def test_wrong_arguments_arrive_as_they_are(folder, ray, options, message):
    with pytest.raises(ValueError, match=message):
        run(folder, f"wrong_{'_'.join(options)}", **options)


def test_files_that_kill_each_worker_end_the_run(tmp_path, ray):
    from hrcam.runner.ray_engine import MOST_TRIES, _new_gate, _Worker
    from hrcam.runner.sources import Source

    gate = _new_gate()
    tries = [ray.get(gate.enter.remote(7)) for _ in range(MOST_TRIES)]
    assert tries == [1, 2, 3, 4, 5]
    chunk = [(Source(n, tmp_path / n), 0) for n in ("a.png", "b.png")]
    writing = Writing(tmp_path, ("npy",), None, None, "file", LIMITS)
    worker = _Worker(Settings(tmp_path / "none.keras"), writing, gate)
    answer = worker({"chunk": pickle.dumps((7, chunk))})
    error = pickle.loads(answer["error"])
    assert isinstance(error, RuntimeError)
    assert "5 workers died" in str(error)
    assert "a.png" in str(error)
    assert "b.png" in str(error)
    # Another chunk is begun, and misses its model; a closed gate lets none begin.
    answer = worker({"chunk": pickle.dumps((8, chunk))})
    assert isinstance(pickle.loads(answer["error"]), FileNotFoundError)
    assert ray.get(gate.close.remote()) == [7, 8]
    answer = worker({"chunk": pickle.dumps((9, chunk))})
    assert answer["closed"]
    assert json.loads(answer["records"]) == []
    assert pickle.loads(answer["error"]) is None


def test_an_error_that_cannot_be_sent_is_told(ray):
    from hrcam.runner.ray_engine import _portable

    class Local(Exception):  # noqa: N818
        pass

    error = _portable(Local("why"))
    assert (type(error), str(error)) == (RuntimeError, "Local: why")


def test_workers_take_two_cores_and_the_settings_of_keras(ray, monkeypatch):
    from hrcam.runner.ray_engine import _environment, _pool

    assert _pool() == (2, {"num_cpus": 2})  # of 4
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert _environment({"num_cpus": 2}) == {
        "KERAS_BACKEND": "tensorflow",
        "TF_CPP_MIN_LOG_LEVEL": "1",
        "TF_NUM_INTRAOP_THREADS": "2",
    }
    assert "TF_NUM_INTRAOP_THREADS" not in _environment({"num_gpus": 1})


def test_the_command_starts_ray_and_ends_it(folder, expected):
    command = "from hrcam.cli import app; app()"
    arguments = ["explain", "model.keras", "images", "--out", "command", "--engine"]
    arguments += ["ray", "--batch-size", "4", "--format", "npy,png,tiff"]
    ended = subprocess.run(
        [sys.executable, "-c", command, *arguments, "--class", "1"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 3, ended.stderr  # some set aside
    assert "95 of 95 files" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert contents(folder / "command") == expected
