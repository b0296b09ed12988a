import csv
import json

import numpy as np
import pytest

from hrcam import metrics
from hrcam.evaluation import markdown_table, score_maps, score_rows
from hrcam.report import claim_directory, write_comparison

RNG = np.random.default_rng(0)
MASKS = np.zeros((4, 8, 8), bool)
MASKS[:3, 2:5, 3:6] = True  # the fourth is empty
MAPS = {
    "good": MASKS + RNG.uniform(0, 0.2, MASKS.shape),
    "noise": RNG.normal(size=MASKS.shape),
}


def test_score_maps_holds_the_metrics_of_every_method():
    scores = score_maps(MAPS, MASKS, thresholds=(0.5,))
    for method, maps in MAPS.items():
        low = maps.min(axis=(1, 2), keepdims=True)
        span = maps.max(axis=(1, 2), keepdims=True) - low
        sensitivity, specificity = metrics.sensitivity_specificity(
            ((maps - low) / span).astype("float32"), MASKS, (0.5,)
        )
        np.testing.assert_allclose(scores[method].sensitivity, sensitivity)
        np.testing.assert_allclose(scores[method].specificity, specificity)
        for name in scores[method]._fields[2:]:
            expected = getattr(metrics, name)(maps, MASKS)
            np.testing.assert_allclose(getattr(scores[method], name), expected)


def test_score_rows_leaves_undefined_images_out():
    scores = score_maps(MAPS, MASKS)
    rows = score_rows(scores)
    assert [row["method"] for row in rows] == ["good", "noise"]
    assert rows[0]["images"] == 3  # the empty mask has no AUC
    assert [row["blank"] for row in rows] == [0, 0]
    blank = score_rows(score_maps({"none": -MAPS["good"]}, MASKS))[0]
    assert blank["blank"] == 4
    assert np.isnan(blank["energy inside"])
    assert rows[0]["pixel auc"] == 1
    assert rows[0]["sensitivity 0.5"] == 1
    expected = np.median(scores["noise"].sensitivity[:3, 2])
    assert rows[1]["sensitivity 0.8"] == pytest.approx(expected)
    expected = np.median(scores["noise"].specificity[:, 0])  # defined for all four
    assert rows[1]["specificity 0.3"] == pytest.approx(expected)
    assert rows[1]["best iou"] == pytest.approx(np.nanmean(scores["noise"].best_iou))


def test_markdown_table_golden():
    rows = [
        {"method": "a", "x": 0.12345, "images": 3},
        {"method": "b", "x": 1.0, "images": 2},
    ]
    assert markdown_table(rows).splitlines() == [
        "| method | x | images |",
        "| --- | --- | --- |",
        "| a | 0.123 | 3 |",
        "| b | 1.000 | 2 |",
    ]


def test_write_comparison_writes_all_of_it(tmp_path):
    images = RNG.uniform(size=(4, 8, 8, 1))
    table = write_comparison(
        tmp_path / "deep" / "out",
        images,
        MAPS,
        MASKS,
        drawn=["good", "noise"],
        row_titles=["one", "two", "three", "four"],
        num_rows=2,
        facts={"seed": 0},
    )
    out = tmp_path / "deep" / "out"
    assert table in (out / "scores.md").read_text()
    assert "- seed: 0" in (out / "scores.md").read_text()
    record = json.loads((out / "scores.json").read_text())
    assert record["facts"] == {"seed": 0}
    with (out / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[0]["pixel auc"]) == record["scores"][0]["pixel auc"] == 1
    for name in ("sheet.png", "boxes.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_write_comparison_checks_the_shapes(tmp_path):
    with pytest.raises(ValueError, match="Received"):
        write_comparison(tmp_path, np.zeros((4, 9, 9, 1)), MAPS, MASKS)


def test_claim_directory_keeps_studies_apart(tmp_path):
    claim_directory(tmp_path / "study", {"seed": 0, "base": "small"})
    claim_directory(tmp_path / "study", {"seed": 0, "base": "small"})  # goes on
    with pytest.raises(FileExistsError, match="other settings"):
        claim_directory(tmp_path / "study", {"seed": 1, "base": "small"})
