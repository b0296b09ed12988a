"""The same `.keras` files and images on TensorFlow, JAX and PyTorch: the same arrays.

This process asks TensorFlow; the others are asked in a Python that has them
(docs/backends.md), each once for all cases of `answers.py`.
"""

import datetime
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import answers
import keras
import networks
import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
DOCS = "HRCAM_BACKENDS_TABLE"
BACKENDS = {"jax": "JAX", "torch": "PyTorch"}
TOLERANCE = 1e-4  # of the range of each map
UPSTREAM = ("torch", "average pooling even")

pytestmark = [
    pytest.mark.backends,
    pytest.mark.filterwarnings("ignore:The .*map has no positive value"),
    pytest.mark.skipif(
        keras.backend.backend() != "tensorflow", reason="this process asks TensorFlow"
    ),
]


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backends")
    networks.save_all(folder)
    return folder


@pytest.fixture(scope="session")
def answer(folder):
    """`answer(backend)` is (`{case: {part: array}}`, `{case: traceback}`, facts)."""
    found = {}

    def ask(backend):
        if backend not in found:
            if backend == "tensorflow":
                found[backend] = *answers.ask(folder), {}
            else:
                found[backend] = ask_elsewhere(backend, folder)
        return found[backend]

    return ask


def ask_elsewhere(backend, folder):
    """Asks a Python that has the backend, or skips."""
    done = subprocess.run(
        [python_with(backend), Path(__file__).with_name("answers.py"), folder],
        env=os.environ | {"KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.fail(f"answers.py failed on {backend}:\n{done.stderr[-4000:]}")
    facts = json.loads((folder / f"{backend}.json").read_text())
    arrays = {}
    with np.load(folder / f"{backend}.npz") as flat:
        for key in flat.files:
            case, part = key.split(":")
            arrays.setdefault(case, {})[part] = flat[key]
    return arrays, facts["errors"], facts


def python_with(backend):
    python = os.environ.get("HRCAM_BACKENDS_PYTHON")
    if python is None:
        if importlib.util.find_spec(backend) is None:
            pytest.skip(
                f"{backend} is not installed here, and HRCAM_BACKENDS_PYTHON is not "
                "set to a Python that has it"
            )
        return sys.executable
    code = f"import importlib.util as u; print(u.find_spec({backend!r}) is not None)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True)
    if done.stdout.strip() != "True":
        pytest.skip(f"the Python of HRCAM_BACKENDS_PYTHON has no {backend}")
    return python


@pytest.fixture(scope="session")
def note(answer):
    """`note(row, backend, value)` keeps the largest; all are written in the end."""
    largest = {}

    def keep(row, backend, value):
        key = (row, backend)
        largest[key] = max(value, largest.get(key, 0.0))

    yield keep
    if DOCS in os.environ:
        write_table(Path(os.environ[DOCS]), largest, answer)


def compared(answer, backend, case):
    """`{part: (found, expected)}`, or the failure of one of the two."""
    found, others, _ = answer(backend)  # first, for it may skip
    expected, errors, _ = answer("tensorflow")
    failed = errors.get(case) or others.get(case)
    if failed:
        pytest.fail(failed)
    assert set(found[case]) == set(expected[case])
    return {part: (found[case][part], value) for part, value in expected[case].items()}


def difference(found, expected):
    """The largest, as a share of the range of its map.

    The widest range stands for that of a blank map. Of losses and weights: as a share
    of their largest value. Of whole numbers: the share of those that differ.
    """
    assert found.shape == expected.shape
    assert found.dtype.kind == expected.dtype.kind
    assert np.isfinite(expected).all()
    if expected.dtype.kind in "iu":
        return float((found != expected).mean())
    if expected.ndim < 3:
        return float(np.abs(found - expected).max() / np.abs(expected).max())
    axes = tuple(range(1, expected.ndim))
    ranges = np.ptp(expected, axis=axes)
    ranges = np.where(ranges > 0, ranges, np.max(ranges) or 1)
    return float((np.abs(found - expected).max(axis=axes) / ranges).max())


# --- what is compared --------------------------------------------------------------


def test_images_are_of_different_classes(folder):
    data = answers.Folder(folder)
    for name in ("flat", "nested", "multi_label", "resnet"):
        images = data["large" if name == "resnet" else "images"]
        predicted = data.open(name).predict(images, verbose=0).argmax(axis=1)
        assert len(set(predicted)) > 1, name


@pytest.mark.parametrize("case", answers.CASES)
def test_maps_are_not_blank(answer, case):
    """Two blank maps would be equal on any backend."""
    arrays, errors, _ = answer("tensorflow")
    assert case not in errors, errors[case]
    for part, values in arrays[case].items():
        if values.ndim > 2 and values.dtype.kind == "f":
            ranges = np.ptp(values.reshape(len(values), -1), axis=1)
            assert (ranges > 0).mean() > 0.3, part


# --- the same ----------------------------------------------------------------------

SAME = [case for case in answers.CASES if case != "bfloat16 maps"]


def known(backend, case):
    if (backend, case) != UPSTREAM:
        return ()
    reason = "Keras counts padding of 'same' on PyTorch; docs/backends.md"
    return pytest.mark.xfail(strict=True, reason=reason)


@pytest.mark.parametrize(
    ("backend", "case"),
    [pytest.param(b, c, marks=known(b, c)) for b in BACKENDS for c in SAME],
)
def test_same(answer, note, backend, case):
    for part, pair in compared(answer, backend, case).items():
        apart = difference(*pair)
        note(row_of(case, part), backend, apart)
        assert apart < (DOMINANT if part == "dominant_unit" else TOLERANCE), part


DOMINANT = 1e-2  # of the pixels: where two units are equal to rounding, either may win


def row_of(case, part):
    """The row of the table: a method, or a case with its arrays."""
    method = case.split()[-1]
    if method in answers.EXPLAINED:
        return f"`{method}`"
    if part == "dominant_unit":
        return "attentive response maps, pixels with another dominant unit"
    if case.startswith("attentive"):
        return "attentive response maps, residual network: " + case.split(" ", 2)[2]
    return case


@pytest.mark.parametrize("backend", BACKENDS)
def test_bfloat16_is_apart_by_its_own_rounding(answer, note, backend):
    """Each backend is as far from float32 as bfloat16 rounds, in its own direction.

    How far is measured on TensorFlow, on the same weights; two may be apart by twice.
    """
    pairs = compared(answer, backend, "bfloat16 maps")
    arrays, _, _ = answer("tensorflow")
    for part, (found, expected) in pairs.items():
        apart = difference(found, expected)
        own = difference(expected, arrays["float32 maps"][part])
        note("bfloat16 maps", backend, apart)
        note("bfloat16 maps, against float32 on TensorFlow", backend, own)
        assert apart <= 2 * own, part


@pytest.mark.parametrize("backend", ["tensorflow", *BACKENDS])
def test_new_weights_count_at_the_next_call(answer, backend):
    """A compiled map that kept the weights of its first call would be `before`."""
    arrays, errors, _ = answer(backend)
    assert "changed weights" not in errors, errors["changed weights"]
    maps = arrays["changed weights"]
    names = {key.split()[0] for key in maps if key.endswith("fresh")}
    assert len(names) == 5
    for name in names:
        before, after, fresh = (
            maps[f"{name} {when}"] for when in ("before", "after", "fresh")
        )
        assert difference(after, fresh) < 1e-6
        assert difference(before, fresh) > 1e-2
    expected = maps["base classes expected"]
    np.testing.assert_array_equal(maps["base classes after"], expected)
    assert (maps["base classes before"] != expected).any()


# --- each backend by itself --------------------------------------------------------


def own(answer, backend, name):
    _, errors, facts = answer(backend)
    if name in errors:
        pytest.fail(errors[name])
    return facts["own"][name]


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_tensorflow(answer, backend):
    """There nothing can import it; the rest of the cases ran there as well."""
    found = own(answer, backend, "without tensorflow")

    for name, said in found["said"].items():
        wanted = f"ModuleNotFoundError: `hrcam.datasets.{name}` needs TensorFlow"
        assert said.startswith(wanted), said
        assert "pip install tensorflow" in said
    assert len(found["said"]) == 6
    assert len(found["auc"]) == 4
    assert found["plots"]


def test_jax_compiles_once_a_batch_size(answer):
    for name, counts in own(answer, "jax", "compilations").items():
        first, again, shorter, *later = counts
        assert first > 0, name
        assert again == 0, name
        assert shorter > 0, name
        assert later == [0, 0], name


def test_jax_keeps_no_weights_in_its_programs(answer):
    """They are arguments: else each would keep about 3 kB of them, and grow stale."""
    kept = own(answer, "jax", "constants")

    assert len(kept) == 5
    assert max(kept.values()) < 300, kept


def test_jax_leaks_no_tracers(answer):
    assert len(own(answer, "jax", "leaks")) == 5


def test_torch_records_nothing(answer):
    records = own(answer, "torch", "records")

    assert len(records) == 5
    assert not any(records.values()), records


def test_torch_of_a_frozen_network(answer):
    found = own(answer, "torch", "frozen")

    assert found["asked for gradients"]["nested"] == [True, False]
    assert found["differences"] == dict.fromkeys(found["differences"], 0.0)


# --- the table ---------------------------------------------------------------------


def write_table(path, largest, answer):
    """Replaces what stands below the heading "Measured" in docs/backends.md."""
    rows = dict.fromkeys(row for row, _ in largest)
    lines = ["| | " + " | ".join(BACKENDS.values()) + " |", "|---|---|---|"]
    for row in rows:
        found = [largest.get((row, backend)) for backend in BACKENDS]
        cells = ["-" if value is None else f"{value:.1e}" for value in found]
        lines.append(f"| {row} | " + " | ".join(cells) + " |")
    versions = {"TensorFlow": importlib.import_module("tensorflow").__version__}
    for backend, title in BACKENDS.items():
        versions[title] = answer(backend)[2]["versions"][backend]
    versions |= {"Keras": keras.__version__, "NumPy": np.__version__}
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    head = path.read_text().split("## Measured")[0]
    date = datetime.date.today().isoformat()
    measured = f"## Measured\n\n{date}, CPU: {made}.\n\n" + "\n".join(lines)
    path.write_text(f"{head}{measured}\n")
