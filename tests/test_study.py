"""Maps of several methods, scored by chunks that are kept."""

import csv
import json

import cv2
import numpy as np
import pytest

from hrcam.evaluation import MapScores, score_maps
from hrcam.methods import METHODS, explainers
from hrcam.normalize import min_max_normalize
from hrcam.report import write_study
from hrcam.study import Study, faithfulness_scores, score_study

SIZE, COUNT = 16, 11


def brightness(images, class_index=None):
    return images.mean(axis=-1)


def inverted(images, class_index=None):
    return -images.mean(axis=-1)  # nowhere positive: blank


def by_class(images, class_index):
    return (
        brightness(images)
        * np.where(np.asarray(class_index) == 1, 1, -1)[:, None, None]
        + 2
    )


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    images = rng.uniform(0, 1, (COUNT, SIZE, SIZE, 1)).astype("float32")
    masks = np.zeros((COUNT, SIZE, SIZE), bool)
    for i in range(COUNT - 1):  # the last one stays empty
        masks[i, 2 : 6 + i % 4, 3:9] = True
    images[masks] *= 1.5
    return np.minimum(images, 1), masks


def study_of(data, methods, **options):
    images, masks = data
    seen = []

    def load(rows):
        seen.append([*map(int, rows)])
        return images[rows], masks[rows]

    classes = np.arange(COUNT) % 2
    return Study(methods, load, classes, **options), seen


def test_chunks_give_what_all_images_at_once_give(data, tmp_path):
    methods = {"brightness": brightness, "by class": by_class}
    study, seen = study_of(data, methods)

    results = score_study(study, tmp_path, chunk_size=4)

    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]  # loaded once a chunk
    images, masks = data
    for title, method in methods.items():
        raw = method(images, study.class_index)
        expected = score_maps({"": raw}, masks)[""]
        for name in MapScores._fields:
            np.testing.assert_array_equal(
                getattr(results[title].scores, name), getattr(expected, name)
            )
        normalized = min_max_normalize(raw)
        found = results[title].found_inside[:, 50]  # threshold 0.5
        at_half = ((normalized >= np.float32(0.5)) & masks).sum(axis=(1, 2))
        np.testing.assert_array_equal(found, at_half)
        np.testing.assert_array_equal(results[title].inside, masks.sum(axis=(1, 2)))


def test_what_is_kept_is_not_computed_again(data, tmp_path):
    calls = []

    def counted(images, class_index):
        calls.append(len(images))
        return brightness(images)

    study, seen = study_of(data, {"m": counted})
    first = score_study(study, tmp_path, chunk_size=4)
    broken = tmp_path / "parts" / "m" / "4-7.npz"
    broken.write_bytes(broken.read_bytes()[:90])  # killed, disk full, ...
    seen.clear()

    again = score_study(study, tmp_path, chunk_size=4)

    assert calls == [4, 4, 3, 4]
    assert seen == [[4, 5, 6, 7]]
    np.testing.assert_array_equal(first["m"].scores.pixel_auc, again["m"].scores[2])
    more = study._replace(methods={"m": counted, "more": inverted})
    score_study(more, tmp_path, chunk_size=4)
    assert calls == [4, 4, 3, 4]  # a method more: nothing of the first anew
    assert not [*tmp_path.rglob("*.tmp")]


def test_a_method_that_fails_keeps_what_was_done(data, tmp_path):
    def failing(images, class_index):
        if class_index[0] == 0 and len(images) == 3:
            raise ValueError("here")
        return brightness(images)

    study, _ = study_of(data, {"m": failing})
    with pytest.raises(ValueError, match="here"):
        score_study(study, tmp_path, chunk_size=4)
    kept = sorted(p.name for p in (tmp_path / "parts" / "m").iterdir())
    assert kept == ["0-3.npz", "4-7.npz"]


def test_blank_maps_and_empty_masks_are_counted_with_their_reason(data, tmp_path):
    study, _ = study_of(data, {"brightness": brightness, "inverted": inverted})

    results = score_study(study, tmp_path)

    assert results["inverted"].blank.all()
    assert not results["brightness"].blank.any()
    reasons = results["inverted"].reasons()
    assert reasons.tolist() == ["blank map"] * (COUNT - 1) + ["empty mask"]
    assert np.isnan(results["inverted"].columns()["energy inside"]).all()


def test_no_image_is_an_error(data, tmp_path):
    study, _ = study_of(data, {"m": brightness})
    with pytest.raises(ValueError, match="n at least 1"):
        score_study(study._replace(class_index=np.zeros(0, int)), tmp_path)


def test_report_holds_tables_tests_and_pictures(data, tmp_path):
    methods = {"brightness": brightness, "inverted": inverted, "by class": by_class}
    study, _ = study_of(data, methods, groups=np.arange(COUNT) // 2)
    results = score_study(study, tmp_path)

    table = write_study(tmp_path, study, results, facts={"seed": 3, "size": SIZE})

    assert [line.split(" | ")[0] for line in table.splitlines()[2:]] == [
        f"| {title}" for title in methods
    ]
    record = json.loads((tmp_path / "scores.json").read_text())
    auc = results["brightness"].scores.pixel_auc
    assert record["scores"][0]["pixel auc"] == pytest.approx(np.nanmean(auc))
    assert record["scores"][1]["blank"] == COUNT
    assert record["facts"]["seed"] == 3
    with (tmp_path / "summary.csv").open() as file:
        rows = {(r["method"], r["score"]): r for r in csv.DictReader(file)}
    row = rows["brightness", "pixel auc"]
    assert float(row["median"]) == pytest.approx(np.nanmedian(auc))
    assert float(row["median_low"]) <= float(row["median"])
    assert row["left_out"] == "1 empty mask"
    assert row["groups"] == "5"  # ten images with a mask, two each
    assert rows["inverted", "energy inside"]["left_out"] == "10 blank map; 1 empty mask"
    with (tmp_path / "tests.csv").open() as file:
        tests = {(r["score"], r["method"]): r for r in csv.DictReader(file)}
    assert len(tests) == 2 * 11
    one = tests["pixel auc", "inverted"]
    # An inverted map has the AUC 1 - a (no ties here): the mean difference is 2a - 1.
    assert float(one["mean_difference"]) == pytest.approx(2 * np.nanmean(auc) - 1)
    with (tmp_path / "per_image.csv").open() as file:
        images = [*csv.DictReader(file)]
    assert len(images) == 3 * COUNT
    assert float(images[2]["pixel auc"]) == pytest.approx(auc[2])
    for name in ("boxes.png", "curves.png", "sheet.png"):
        assert cv2.imread(str(tmp_path / name)).std() > 5
    with pytest.raises(ValueError, match=r"Received: \['no'\]"):
        write_study(tmp_path, study, results, "no")


def test_explainers_bind_each_method_to_its_network(flat_model, data):
    import hrcam

    head = hrcam.build_hrcam_model(flat_model)
    kernel = head.get_layer(
        "predictions"
    ).kernel  # random: maps may be blank, which warns
    kernel.assign(np.random.default_rng(0).random(kernel.shape))
    images = data[0][:2]
    names = ["hr_cam", "grad_cam", "centre_prior"]

    bound = explainers(names, flat_model, head, white=3.0)

    assert [*bound] == [METHODS[name].title for name in names]
    np.testing.assert_array_equal(
        bound["HR-CAM"](images, 1), hrcam.hr_cam(head, images * 3, 1)
    )
    np.testing.assert_array_equal(
        bound["Grad-CAM"](images, 0), hrcam.grad_cam(flat_model, images * 3, 0)
    )
    assert bound["centre prior"](images, 0).shape == (2, SIZE, SIZE)
    with pytest.raises(ValueError, match="an HR-CAM model, which is not given"):
        explainers(["hr_cam"], flat_model)
    with pytest.raises(ValueError, match="Received: 'hrcam'"):
        explainers(["hrcam"], flat_model)


@pytest.mark.filterwarnings("ignore:.*no positive value")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_maps_images(name, flat_model, data):
    import hrcam

    head = hrcam.build_hrcam_model(flat_model)
    (method,) = explainers([name], flat_model, head).values()

    maps = method(data[0][:2], np.array([1, 2]))

    assert maps.shape == (2, SIZE, SIZE)
    assert maps.dtype == np.float32
    assert np.isfinite(maps).all()


def test_faithfulness_follows_the_class_probability(flat_model, data, tmp_path):
    images, _ = data
    study, _ = study_of(data, {"brightness": brightness})
    study = study._replace(further=faithfulness_scores(flat_model, white=2.0, steps=4))

    result = score_study(study, tmp_path, chunk_size=11)["brightness"]

    from hrcam.faithfulness import average_drop_gain, insertion_deletion

    maps = brightness(images)
    masked = average_drop_gain(flat_model, 2 * images, maps, study.class_index)
    np.testing.assert_allclose(result.further["drop"], masked.drop)
    curves = insertion_deletion(
        flat_model, 2 * images, maps, study.class_index, steps=4
    )
    np.testing.assert_allclose(result.further["insertion"], curves.insertion_auc)
    assert "deletion" in result.columns()
    again = score_study(study, tmp_path, chunk_size=11)["brightness"]
    np.testing.assert_array_equal(again.further["gain"], result.further["gain"])


def test_a_limited_method_maps_the_first_images_only(data, tmp_path):
    methods = {"all": brightness, "some": brightness}
    study, _ = study_of(data, methods, limits={"some": 5})

    results = score_study(study, tmp_path, chunk_size=4)

    some, every = results["some"], results["all"]
    assert some.mapped.tolist() == [True] * 5 + [False] * (COUNT - 5)
    for name, values in some.columns().items():
        np.testing.assert_array_equal(values[:5], every.columns()[name][:5])
        assert np.isnan(values[5:]).all()
    assert some.reasons().tolist() == [""] * 5 + ["not mapped"] * (COUNT - 5)
    np.testing.assert_array_equal(some.inside[:5], every.inside[:5])
    write_study(tmp_path, study, results)
    rows = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert [(row["images"], row["blank"]) for row in rows] == [(COUNT - 1, 0), (5, 0)]
