import fcntl
import hashlib
import json
import os
import shutil
import threading

import cv2
import keras
import numpy as np
import pytest
from PIL import Image
from tiny_models import make_flat_model

import hrcam
from hrcam.datasets import load_images
from hrcam.imaging import _atomic as atomic
from hrcam.imaging import overlay, read_image
from hrcam.runner import explain_files, outputs, read_manifest
from hrcam.runner.explainer import Explainer, Settings
from hrcam.runner.manifest import Manifest
from hrcam.runner.run import BATCHES_A_CHUNK

pytestmark = pytest.mark.filterwarnings("ignore:.*has no positive value")
SIDE, CLASSES = 16, 3  # of the tiny models
COUNT, BATCH = 11, 4


def pictures():
    """Eleven smooth images of 20 x 24 pixels."""
    random = np.random.default_rng(3)
    small = random.integers(0, 256, (COUNT, 5, 6), np.uint8)
    return [cv2.resize(pixels, (24, 20)) for pixels in small]


def level(model):
    """Evens out the classes' mean scores, so that not all images are of one class."""
    images = [cv2.resize(pixels, (SIDE, SIDE)) / 255 for pixels in pictures()]
    scores = np.log(model.predict(np.stack(images)[..., None], verbose=0))
    bias = model.get_layer("predictions").bias
    bias.assign(bias - scores.mean(axis=0))
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A classifier and its HR-CAM model, saved."""
    folder = tmp_path_factory.mktemp("models")
    base = level(make_flat_model(CLASSES, seed=281))
    base.save(folder / "base.keras")
    model = hrcam.build_hrcam_model(base)
    kernel = model.get_layer("predictions").kernel
    kernel.assign(np.random.default_rng(5).normal(size=kernel.shape))
    level(model).save(folder / "hrcam.keras")
    return folder / "base.keras", folder / "hrcam.keras"


@pytest.fixture
def scans(tmp_path):
    """The pictures as PNG, one of them in a folder below."""
    (tmp_path / "in" / "sub").mkdir(parents=True)
    for number, pixels in enumerate(pictures()):
        name = f"sub/{number:02d}.png" if number == 4 else f"{number:02d}.png"
        Image.fromarray(pixels).save(tmp_path / "in" / name)
    return tmp_path / "in"


def explain(models, scans, out, **options):
    return explain_files(models[1], [scans], out, **{"batch_size": BATCH} | options)


def tree(folder):
    """Every file of a folder but hidden ones, with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def records(out):
    return [record for own in read_manifest(out).values() for record in own]


# ------------------------------------------------------------------- what comes out


def test_maps_and_classes_are_those_of_the_library(models, scans, tmp_path):
    done = explain(models, scans, tmp_path / "out", class_names=["a", "b", "c"])

    model = hrcam.load_model(models[1])
    paths = sorted(scans.rglob("*.png"))
    images = load_images(paths, SIDE, 1)
    outputs = model.predict(images, verbose=0)
    maps = hrcam.hr_cam(model, images)
    made = records(tmp_path / "out")
    assert done[:3] == (COUNT, COUNT, COUNT)
    assert not done.set_aside
    assert [r["source"] for r in made] == [
        p.relative_to(scans).as_posix() for p in paths
    ]
    assert len({r["class"] for r in made}) > 1
    for record, output, heatmap in zip(made, outputs, maps, strict=True):
        assert record["class"] == record["explained"] == output.argmax()
        assert record["class_name"] == "abc"[output.argmax()]
        assert record["probability"] == pytest.approx(output.max(), abs=1e-5)
        raw = np.load(tmp_path / "out" / record["files"][1])
        assert raw.dtype == np.float32
        np.testing.assert_allclose(raw, heatmap, atol=1e-5 * np.ptp(heatmap))
        low, high = record["range"]["hr_cam"]
        np.testing.assert_allclose([low, high], [raw.min(), raw.max()], rtol=1e-6)


def test_picture_lies_on_the_original(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")

    first = records(tmp_path / "out")[0]
    assert first["files"] == ["00.png.hr_cam.png", "00.png.hr_cam.npy"]
    picture = read_image(scans / "00.png")
    raw = np.load(tmp_path / "out" / "00.png.hr_cam.npy")
    shown = np.asarray(Image.open(tmp_path / "out" / "00.png.hr_cam.png"))
    assert shown.shape == (20, 24, 3)
    np.testing.assert_array_equal(shown, overlay(picture, raw))


@pytest.mark.parametrize("name", ["grad_cam", "cam", "hires_cam", "edge_magnitude"])
def test_methods_of_the_classifier(models, scans, tmp_path, name):
    explain_files(models[0], [scans], tmp_path / "out", methods=[name], formats=["npy"])

    model = hrcam.load_model(models[0])
    images = load_images(sorted(scans.rglob("*.png")), SIDE, 1)
    explained = hrcam.methods.METHODS[name].explain(model, images, None)
    for record, heatmap in zip(records(tmp_path / "out"), explained, strict=True):
        raw = np.load(tmp_path / "out" / record["files"][0])
        np.testing.assert_allclose(raw, heatmap, atol=1e-5 * max(np.ptp(heatmap), 1e-6))


def test_one_class_for_all_methods_and_images(models, scans, tmp_path):
    explain(
        models,
        scans,
        tmp_path / "out",
        methods=["hrcam", "grad_cam", "arm"],
        formats=["npz", "tiff"],
        class_index=2,
    )

    model = hrcam.load_model(models[1])
    image = load_images([scans / "00.png"], SIDE, 1)
    with np.load(tmp_path / "out" / "00.png.npz") as raw:
        assert list(raw) == ["hr_cam", "grad_cam", "attentive_response"]
        for name in ("hr_cam", "grad_cam"):
            heatmap = hrcam.methods.METHODS[name].explain(model, image, 2)[0]
            np.testing.assert_allclose(raw[name], heatmap, atol=1e-5)
        tiff = np.asarray(Image.open(tmp_path / "out" / "00.png.grad_cam.tiff"))
        assert tiff.dtype == np.float32
        np.testing.assert_array_equal(tiff, raw["grad_cam"])
    made = records(tmp_path / "out")
    assert {r["explained"] for r in made} == {2}
    assert {r["class"] for r in made} != {2}


def test_hrcam_model_beside_the_classifier(models, scans, tmp_path):
    """The classifier's prediction is noted, HR-CAM explains the head."""
    explain_files(
        models[0],
        [scans],
        tmp_path / "out",
        methods=["hrcam", "grad_cam"],
        formats=["npy"],
        hrcam_model=models[1],
    )

    base, head = map(hrcam.load_model, models)
    images = load_images(sorted(scans.rglob("*.png")), SIDE, 1)
    outputs = base.predict(images, verbose=0)
    maps = hrcam.hr_cam(head, images, outputs.argmax(axis=1))
    for record, output, heatmap in zip(
        records(tmp_path / "out"), outputs, maps, strict=True
    ):
        assert record["class"] == output.argmax()
        assert record["probability"] == pytest.approx(output.max(), abs=1e-5)
        raw = np.load(tmp_path / "out" / record["files"][0])
        np.testing.assert_allclose(raw, heatmap, atol=1e-5 * np.ptp(heatmap))


def test_default_method_is_what_the_model_allows(models, scans, tmp_path):
    for model, name in zip(models, ("grad_cam", "hr_cam"), strict=True):
        explain_files(model, [scans], tmp_path / name, formats=["npy"])
        assert records(tmp_path / name)[0]["files"] == [f"00.png.{name}.npy"]


@pytest.mark.parametrize("units", ["sigmoid", "logit", "logits"])
def test_probability_of_other_ends(units, scans, tmp_path):
    """By the map's pass and by the prediction alone, which controls need."""
    model = make_flat_model(3 if units == "logits" else 1, seed=180)
    if units != "sigmoid":
        model.get_layer("predictions").activation = keras.activations.linear
    model.save(tmp_path / "m.keras")
    images = load_images(sorted(scans.rglob("*.png")), SIDE, 1)
    outputs = model.predict(images, verbose=0)
    if units == "logits":
        outputs = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    else:
        p = outputs if units == "sigmoid" else 1 / (1 + np.exp(-outputs))
        outputs = np.concatenate([1 - p, p], axis=1)
    for method in ("grad_cam", "centre_prior"):
        out = tmp_path / f"out {method}"
        explain_files(tmp_path / "m.keras", [scans], out, methods=[method])
        made = records(out)
        assert [r["class"] for r in made] == outputs.argmax(axis=1).tolist()
        np.testing.assert_allclose(
            [r["probability"] for r in made], outputs.max(axis=1), atol=1e-5
        )


def test_white_and_values(models, scans, tmp_path):
    """White 2 of a range up to 510 is white 1 of one up to 255."""
    explain(models, scans, tmp_path / "a")
    explain(models, scans, tmp_path / "b", white=2.0, values=(0, 510))

    a, b = (np.load(tmp_path / x / "00.png.hr_cam.npy") for x in "ab")
    np.testing.assert_allclose(a, b, atol=1e-5 * np.ptp(a))


def test_maps_without_a_positive_value_are_counted(models, scans, tmp_path):
    done = explain(models, scans, tmp_path / "out")

    images = load_images(sorted(scans.rglob("*.png")), SIDE, 1)
    maps = hrcam.hr_cam(hrcam.load_model(models[1]), images)
    assert done.blank == (maps.max(axis=(1, 2)) <= 0).sum() > 0
    assert explain(models, scans, tmp_path / "out").blank == done.blank


# ------------------------------------------------------------------ going on


def test_a_stopped_run_goes_on_to_the_same_bits(models, scans, tmp_path):
    explain(models, scans, tmp_path / "whole")
    asked = []

    def once():
        asked.append(1)
        return True

    first = explain(models, scans, tmp_path / "parts", stop=once)
    assert 0 < first.sources < COUNT
    rest = explain(models, scans, tmp_path / "parts")

    assert (rest.sources, rest.images) == (COUNT, COUNT - first.images)
    assert tree(tmp_path / "parts") == tree(tmp_path / "whole")


def test_what_is_done_is_not_done_again(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.npy")}

    done = explain(models, scans, tmp_path / "out")

    assert (done.sources, done.images) == (COUNT, 0)
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize("rows", [range(COUNT), [0, 5, 10], [7]])
def test_missing_results_are_made_again_with_the_same_bits(
    models, scans, tmp_path, rows
):
    explain(models, scans, tmp_path / "out")
    before = tree(tmp_path / "out")
    for row in rows:
        name = records(tmp_path / "out")[row]["files"][1]
        (tmp_path / "out" / name).unlink()

    done = explain(models, scans, tmp_path / "out")

    assert done.images == len(rows)
    assert tree(tmp_path / "out") == before


def test_changed_source_is_done_again(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")
    before = np.load(tmp_path / "out" / "01.png.hr_cam.npy")
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(scans / "01.png")

    assert explain(models, scans, tmp_path / "out").images == 1

    assert not np.array_equal(np.load(tmp_path / "out" / "01.png.hr_cam.npy"), before)
    made = records(tmp_path / "out")
    assert len(made) == COUNT  # the old record is gone


def test_new_source_is_added(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")
    Image.fromarray(np.full((9, 9), 7, np.uint8)).save(scans / "00a.png")

    assert explain(models, scans, tmp_path / "out").images == 1

    names = [record["source"] for record in records(tmp_path / "out")]
    assert names[:2] == ["00.png", "00a.png"]


def test_cut_manifest_and_unfinished_files(models, scans, tmp_path):
    """As a kill leaves them: half a last line, a file of another name."""
    explain(models, scans, tmp_path / "out")
    before = tree(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.jsonl"
    manifest.write_bytes(manifest.read_bytes()[:-40])
    unfinished = tmp_path / "out" / "sub" / ".hrcam-1234.png"
    unfinished.write_bytes(b"half")

    assert explain(models, scans, tmp_path / "out").images == 1

    assert tree(tmp_path / "out") == before
    assert not unfinished.exists()


def test_broken_files_are_set_aside_and_tried_again(models, scans, tmp_path):
    good = (scans / "03.png").read_bytes()
    (scans / "03.png").write_bytes(good[:100])
    (scans / "05.png").write_bytes(b"")

    done = explain(models, scans, tmp_path / "out")

    assert done[:3] == (COUNT, COUNT, COUNT - 2)
    assert done.set_aside == {"03.png": "damaged or cut off", "05.png": "empty"}
    aside = [record for record in records(tmp_path / "out") if "error" in record]
    assert [(r["source"], r["frames"]) for r in aside] == [("03.png", 0), ("05.png", 0)]
    assert not list((tmp_path / "out").glob("03*"))
    (scans / "03.png").write_bytes(good)
    done = explain(models, scans, tmp_path / "out")
    assert done.images == 1
    assert done.set_aside == {"05.png": "empty"}


def test_other_settings_are_refused(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")

    for options in ({"formats": ["npy"]}, {"class_index": 1}, {"white": 255.0}):
        with pytest.raises(FileExistsError, match="other settings"):
            explain(models, scans, tmp_path / "out", **options)
    with pytest.raises(FileExistsError, match="other settings"):
        explain_files(models[0], [scans], tmp_path / "out", batch_size=BATCH)


def test_data_may_move(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")
    scans.rename(tmp_path / "moved")

    done = explain(models, tmp_path / "moved", tmp_path / "out")

    assert (done.sources, done.images) == (COUNT, 0)


def test_one_run_a_folder(models, scans, tmp_path):
    refused = []

    def second(_):
        if not refused:
            with pytest.raises(FileExistsError, match="Another run is writing"):
                explain(models, scans, tmp_path / "out")
            refused.append(True)

    explain(models, scans, tmp_path / "out", progress=second)
    assert refused


def test_results_within_the_input_folder_are_no_inputs(models, scans):
    explain(models, scans, scans / "maps")

    assert explain(models, scans, scans / "maps").total == COUNT


def test_other_files_of_the_same_names_are_refused(models, scans, tmp_path):
    """Of one size and time they would pass for those that are done."""
    explain(models, scans, tmp_path / "out")
    other = tmp_path / "other"
    shutil.copytree(scans, other)
    (other / "00.png").write_bytes((scans / "00.png").read_bytes()[:-1] + b"x")
    times = (scans / "00.png").stat()
    os.utime(other / "00.png", ns=(times.st_atime_ns, times.st_mtime_ns))

    with pytest.raises(FileExistsError, match="maps of another file"):
        explain(models, other, tmp_path / "out")


def test_stale_results_are_removed(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")
    (scans / "00.png").write_bytes(b"broken")

    done = explain(models, scans, tmp_path / "out")

    assert list(done.set_aside) == ["00.png"]
    assert not list((tmp_path / "out").glob("00.png*"))


def test_names_do_not_depend_on_what_else_is_there(models, scans, tmp_path):
    shutil.rmtree(scans / "sub")
    (scans / "deep").mkdir()
    for path in scans.glob("*.png"):
        path.rename(scans / "deep" / path.name)
    explain(models, scans, tmp_path / "out")
    shutil.copy(scans / "deep" / "00.png", scans / "new.png")

    assert explain(models, scans, tmp_path / "out").images == 1


def test_manifest_cut_before_its_last_newline(models, scans, tmp_path):
    explain(models, scans, tmp_path / "out")
    before = tree(tmp_path / "out")
    manifest = tmp_path / "out" / "manifest.jsonl"
    lines = manifest.read_bytes().splitlines(keepends=True)
    manifest.write_bytes(b"".join(lines[:2])[:-1])

    explain(models, scans, tmp_path / "out")

    assert tree(tmp_path / "out") == before


def test_arguments_that_do_not_work_claim_nothing(models, scans, tmp_path):
    for options in ({"class_index": 3}, {"class_names": ["a"]}):
        with pytest.raises(ValueError, match="Received"):
            explain(models, scans, tmp_path / "out", **options)

    assert explain(models, scans, tmp_path / "out", class_index=2).images == COUNT


def test_the_results_are_no_inputs(models, scans, tmp_path):
    with pytest.raises(ValueError, match="must not be the folder of the results"):
        explain(models, scans, scans)
    pattern, out = str(scans / "**" / "*.png"), scans / "out"
    explain_files(models[1], pattern, out)
    assert explain_files(models[1], pattern, out).total == COUNT


def test_many_broken_files_can_be_stopped(models, scans, tmp_path):
    for number in range(300):
        (scans / f"a{number:03d}.png").touch()
    asked = []

    def soon():
        asked.append(True)
        return len(asked) > 20

    assert explain(models, scans, tmp_path / "out", stop=soon).sources < 100


def test_storage_without_locks(models, scans, tmp_path, monkeypatch):
    """What a file system that has none answers; none can be mounted in a test."""

    def no_locks(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)

    assert explain(models, scans, tmp_path / "out").images == COUNT


def test_failed_format_leaves_nothing_unlisted(models, scans, tmp_path, monkeypatch):
    def fail(target, heatmap):
        raise ValueError("no TIFF for this one")

    monkeypatch.setattr(outputs, "write_tiff", fail)

    done = explain(models, scans, tmp_path / "out", formats=["png", "npy", "tiff"])

    assert set(done.set_aside.values()) == {"no TIFF for this one"}
    assert set(tree(tmp_path / "out")) == {"manifest.jsonl", "settings.json"}


# ------------------------------------------------------------------------- places


def test_bits_do_not_depend_on_what_lies_beside(models):
    explainer = Explainer(Settings(models[1], batch_size=BATCH))
    images = np.random.default_rng(0).random((BATCH, SIDE, SIDE, 1), np.float32)
    whole = explainer(images).maps["hr_cam"]

    for place in range(BATCH):
        alone = np.zeros_like(images)
        alone[place] = images[place]
        made = explainer(alone).maps["hr_cam"][place]
        np.testing.assert_array_equal(made, whole[place])


def test_more_than_one_chunk(models, tmp_path):
    """Chunks are of eight batches; each begins with a new batch."""
    (tmp_path / "in").mkdir()
    count = BATCHES_A_CHUNK * 2 + 3
    for number in range(count):
        pixels = np.full((4, 4), 8 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number:02d}.png")

    done = explain_files(models[1], [tmp_path / "in"], tmp_path / "out", batch_size=2)

    assert done[:3] == (count, count, count)
    assert len(list((tmp_path / "out").glob("*.npy"))) == count


# ---------------------------------------------------------------------- what can fail


def test_all_methods_explain_the_class_that_is_noted(scans, tmp_path):
    """Sigmoids of 20, 25 and 40 are all 1 in float32; the scores tell which is more."""
    model = make_flat_model(CLASSES, seed=281)
    dense = model.get_layer("predictions")
    dense.kernel.assign(dense.kernel * 1e-3)
    dense.bias.assign([20.0, 25.0, 40.0])
    dense.activation = keras.activations.sigmoid
    model.save(tmp_path / "m.keras")

    explain_files(
        tmp_path / "m.keras",
        [scans],
        tmp_path / "out",
        methods=["grad_cam", "cam"],
        formats=["npz"],
    )

    assert {r["class"] for r in records(tmp_path / "out")} == {2}
    images = load_images([scans / "00.png"], SIDE, 1)
    with np.load(tmp_path / "out" / "00.png.npz") as raw:
        for name in raw:
            heatmap = hrcam.methods.METHODS[name].explain(model, images, 2)[0]
            np.testing.assert_allclose(raw[name], heatmap, atol=1e-9)


def test_hrcam_model_of_other_classes(models, scans, tmp_path):
    make_flat_model(2, seed=281).save(tmp_path / "two.keras")

    with pytest.raises(ValueError, match="its classes apart"):
        explain_files(
            tmp_path / "two.keras", [scans], tmp_path / "out", hrcam_model=models[1]
        )


def test_a_map_that_is_not_finite_is_set_aside(scans, tmp_path):
    model = make_flat_model(CLASSES, seed=281)
    kernel = model.get_layer("predictions").kernel
    kernel.assign(kernel * 3e38)
    model.save(tmp_path / "m.keras")

    done = explain_files(
        tmp_path / "m.keras", [scans], tmp_path / "out", methods=["cam"]
    )

    assert done.images < COUNT
    assert set(done.set_aside.values()) == {
        "the map of cam is not finite: the model overflows"
    }


def test_a_name_too_long_for_its_results_is_set_aside(models, scans, tmp_path):
    long = "a" * 245 + ".png"
    (scans / "00.png").rename(scans / long)

    done = explain(models, scans, tmp_path / "out")

    assert done.images == COUNT - 1
    assert "File name too long" in done.set_aside[long]


def test_disk_full_stops_the_run_and_loses_nothing(
    models, scans, tmp_path, monkeypatch
):
    """No tiny disk can be mounted in a test: `os.replace` fails as it would there."""
    real, calls = atomic.os.replace, []

    def full(source, target):
        calls.append(target)
        if len(calls) == 12:
            raise OSError(28, "No space left on device", str(target))
        real(source, target)

    explain(models, scans, tmp_path / "whole")
    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        explain(models, scans, tmp_path / "out")
    monkeypatch.undo()
    assert not list((tmp_path / "out").rglob(".hrcam-*"))
    assert threading.active_count() < 20

    explain(models, scans, tmp_path / "out")

    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["gradcam"]}, "`methods` must be among hr_cam, .*'gradcam'"),
        ({"formats": ["jpg"]}, "`formats` must be among png, .*'jpg'"),
        ({"formats": []}, "Received: none"),
        ({"engine": "spark"}, "`engine` must be among local, ray"),
        ({"batch_size": 0}, "at least 1"),
        ({"class_index": 3}, "one of the model's, below 3. Received: 3"),
        ({"class_names": ["a"]}, "3 classes. Received: 1"),
        ({"image_size": 20}, "must fit the model's input"),
        ({"values": "fle"}, "pair of different numbers"),
        ({"values": (float("nan"), 5)}, "pair of different numbers"),
    ],
)
def test_bad_arguments(models, scans, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        explain(models, scans, tmp_path / "out", **options)


def test_hr_cam_needs_the_head(models, scans, tmp_path):
    with pytest.raises(ValueError, match="explains an HR-CAM model"):
        explain_files(models[0], [scans], tmp_path / "out", methods=["hr_cam"])


def test_model_that_is_not_there(scans, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"must be a \.keras file"):
        explain_files(tmp_path / "no.keras", [scans], tmp_path / "out")


# ------------------------------------------------------------------------- manifest


def test_manifest_is_json_lines_that_hold_what_was_promised(models, scans, tmp_path):
    (scans / "05.png").write_bytes(b"")
    explain(models, scans, tmp_path / "out")

    lines = (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()

    keys = ["source", "sha256", "bytes", "modified", "place", "frames", "frame"]
    keys += ["class", "class_name", "probability", "explained", "range", "files"]
    for line in map(json.loads, lines):
        wanted = [*keys[:6], "error"] if line["source"] == "05.png" else keys
        assert list(line) == wanted
    data = (scans / "00.png").read_bytes()
    assert json.loads(lines[0])["sha256"] == hashlib.sha256(data).hexdigest()


def test_frames_of_one_try_belong_together(tmp_path):
    """Lines by hand: a try of two of three frames, then a whole one."""
    lines = [{"source": "a", "frame": f, "frames": 3} for f in (0, 1, 0, 1, 2)]
    lines.insert(2, {"source": "b", "frames": 0, "error": "empty"})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "manifest.jsonl").write_text(text + '{"source": "c", "fra')

    found = read_manifest(tmp_path)

    assert [line["frame"] for line in found["a"]] == [0, 1, 2]
    assert found["b"][0]["error"] == "empty"
    assert "c" not in found


def test_no_manifest(tmp_path):
    assert read_manifest(tmp_path) == {}
    with Manifest(tmp_path) as manifest:
        assert manifest.path.read_bytes() == b""
