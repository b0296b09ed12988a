import subprocess
import sys

import numpy as np
import pytest
from sklearn import metrics as sk

from hrcam import metrics

MAP = np.array([[[0.9, 0.6], [0.4, 0.1]]])
MASK = np.array([[[True, False], [True, False]]])
SCORES = (
    metrics.pixel_auc,
    metrics.pixel_average_precision,
    metrics.best_iou,
    metrics.pointing_game,
    metrics.energy_inside,
    metrics.sensitivity_specificity,
)


def random_maps(num_images=20, *, levels=None, dtype=np.float64):
    """Maps in [0, 1] that find their masks a little; with `levels`, full of ties."""
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(num_images, 7, 9)) < 0.3
    maps = rng.uniform(size=masks.shape) * 0.8 + 0.2 * masks
    if levels:
        maps = np.round(maps * levels) / levels
    return maps.astype(dtype), masks


def one(score, one_map, mask):
    return score(np.array([one_map]), np.array([mask]))[0]


@pytest.mark.parametrize(
    ("threshold", "sensitivity", "specificity"),
    [
        (0.3, 1.0, 0.5),  # found: 0.9, 0.6, 0.4 -> both mask pixels, one false alarm
        (0.5, 0.5, 0.5),  # found: 0.9, 0.6
        (0.8, 0.5, 1.0),  # found: 0.9
        (0.9, 0.5, 1.0),  # a pixel equal to the threshold is found
        (0.6, 0.5, 0.5),  # here too: with > the specificity would be 1
        (0.0, 1.0, 0.0),
        (1.0, 0.0, 1.0),
    ],
)
def test_sensitivity_specificity_golden(threshold, sensitivity, specificity):
    actual = metrics.sensitivity_specificity(MAP, MASK, (threshold,))

    np.testing.assert_array_equal(actual, [[[sensitivity]], [[specificity]]])


def test_sensitivity_specificity_has_the_papers_thresholds():
    maps = np.concatenate([MAP, 1 - MAP])
    masks = np.concatenate([MASK, MASK])

    sensitivity, specificity = metrics.sensitivity_specificity(maps, masks)

    # Second map: 0.1 0.4 / 0.6 0.9, mask on 0.1 and 0.6.
    np.testing.assert_array_equal(sensitivity, [[1, 0.5, 0.5], [0.5, 0.5, 0]])
    np.testing.assert_array_equal(specificity, [[0.5, 0.5, 1], [0, 0.5, 0.5]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7, 0.8])
def test_a_pixel_at_the_threshold_is_found_in_every_precision(dtype, threshold):
    maps = np.full((1, 2, 2), threshold, dtype)

    sensitivity, specificity = metrics.sensitivity_specificity(maps, MASK, [threshold])

    assert (sensitivity, specificity) == (1, 0)


def test_sensitivity_specificity_replicates_scikit_learn():
    maps, masks = random_maps(levels=10)

    actual = metrics.sensitivity_specificity(maps, masks, (0.2, 0.5, 0.7))

    for i, (one_map, mask) in enumerate(zip(maps, masks, strict=True)):
        for j, threshold in enumerate((0.2, 0.5, 0.7)):
            found = (one_map >= threshold).ravel()
            recall = sk.recall_score(mask.ravel(), found)
            other = sk.recall_score(~mask.ravel(), ~found)
            np.testing.assert_allclose([a[i, j] for a in actual], [recall, other])


def test_sensitivity_falls_and_specificity_rises_with_the_threshold():
    thresholds = np.linspace(0, 1, 11)

    sensitivity, specificity = metrics.sensitivity_specificity(
        *random_maps(), thresholds
    )

    assert (np.diff(sensitivity) <= 0).all()
    assert (np.diff(specificity) >= 0).all()


def test_empty_and_full_masks():
    maps = np.concatenate([MAP, MAP])
    masks = np.array([np.zeros((2, 2)), np.ones((2, 2))])

    sensitivity, specificity = metrics.sensitivity_specificity(maps, masks, (0.5,))

    np.testing.assert_array_equal(sensitivity, [[np.nan], [0.5]])
    np.testing.assert_array_equal(specificity, [[0.5], [np.nan]])
    for score, expected in (
        (metrics.pixel_auc, [np.nan, np.nan]),
        (metrics.pixel_average_precision, [np.nan, 1]),
        (metrics.best_iou, [np.nan, 1]),
        (metrics.pointing_game, [np.nan, 1]),
        (metrics.energy_inside, [0, 1]),
    ):
        np.testing.assert_array_equal(score(maps, masks), expected)


def test_golden_without_ties():
    # Mask pixels 0.9 and 0.4, others 0.6 and 0.1. Pairs in the right order:
    # (0.9, 0.6), (0.9, 0.1), (0.4, 0.1) of 4.
    assert one(metrics.pixel_auc, MAP[0], MASK[0]) == 0.75
    # Precision 1/1 at the first mask pixel, 2/3 at the second, weight 1/2 each.
    assert one(metrics.pixel_average_precision, MAP[0], MASK[0]) == 0.5 + 1 / 3
    # IoU of the 1, 2, 3, 4 highest: 1/2, 1/3, 2/3, 2/4.
    assert one(metrics.best_iou, MAP[0], MASK[0]) == 2 / 3
    assert one(metrics.pointing_game, MAP[0], MASK[0]) == 1
    # (0.9 + 0.4) of 2.0.
    np.testing.assert_allclose(one(metrics.energy_inside, MAP[0], MASK[0]), 0.65)


def test_golden_with_ties():
    one_map, mask = [[3.0, 3.0], [3.0, 1.0]], [[1, 0], [0, 1]]

    # Pairs (3, 3) twice, half each; (1, 3) twice, 0: 1 of 4.
    assert one(metrics.pixel_auc, one_map, mask) == 0.25
    # Threshold 3: precision 1/3 for half of the mask; 1: 2/4 for the other half.
    np.testing.assert_allclose(
        one(metrics.pixel_average_precision, one_map, mask), 1 / 6 + 1 / 4
    )
    # Threshold 3: 1 / (3 + 2 - 1); 1: 2 / 4.
    assert one(metrics.best_iou, one_map, mask) == 0.5
    np.testing.assert_allclose(one(metrics.pointing_game, one_map, mask), 1 / 3)


def test_best_iou_does_not_break_ties():
    # Threshold 5 finds both; only a broken tie would find the mask pixel alone.
    assert one(metrics.best_iou, [[5.0, 5.0, 0.0]], [[1, 0, 0]]) == 0.5
    assert one(metrics.best_iou, [[5.0, 5.0, 0.0]], [[0, 1, 0]]) == 0.5


@pytest.mark.parametrize("levels", [None, 4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_ranking_scores_replicate_scikit_learn(levels, dtype):
    maps, masks = random_maps(levels=levels, dtype=dtype)
    pixels = [(m.ravel(), a.ravel()) for a, m in zip(maps, masks, strict=True)]

    np.testing.assert_allclose(
        metrics.pixel_auc(maps, masks), [sk.roc_auc_score(*p) for p in pixels]
    )
    np.testing.assert_allclose(
        metrics.pixel_average_precision(maps, masks),
        [sk.average_precision_score(*p) for p in pixels],
    )


@pytest.mark.parametrize("levels", [None, 4])
def test_best_iou_replicates_trying_every_threshold(levels):
    maps, masks = random_maps(6, levels=levels)
    best = [
        max(sk.jaccard_score(m.ravel(), (a >= t).ravel()) for t in np.unique(a))
        for a, m in zip(maps, masks, strict=True)
    ]

    np.testing.assert_allclose(metrics.best_iou(maps, masks), best)


@pytest.mark.parametrize("score", SCORES[:4])
def test_rank_scores_do_not_change_under_a_monotone_transform(score):
    maps, masks = random_maps(levels=20)

    np.testing.assert_array_equal(
        score(np.exp(3 * maps) - 9, masks), score(maps, masks)
    )


def test_auc_of_the_negated_map_and_of_the_other_pixels():
    maps, masks = random_maps(levels=5)

    np.testing.assert_allclose(
        metrics.pixel_auc(-maps, masks), 1 - metrics.pixel_auc(maps, masks)
    )
    np.testing.assert_allclose(
        metrics.pixel_auc(-maps, ~masks), metrics.pixel_auc(maps, masks)
    )


def test_a_constant_map_scores_chance_and_a_perfect_one_1():
    _, masks = random_maps()
    constant, area = np.full(masks.shape, 0.7), masks.mean(axis=(1, 2))

    np.testing.assert_array_equal(metrics.pixel_auc(constant, masks), 0.5)
    for score in SCORES[1:5]:
        np.testing.assert_allclose(score(constant, masks), area)
    for score in SCORES[:5]:
        np.testing.assert_array_equal(score(masks * 1.0, masks), 1)


def test_pointing_game_outside():
    assert (
        one(metrics.pointing_game, [[0.0, -1.0], [-2.0, -3.0]], [[0, 1], [1, 1]]) == 0
    )


def test_energy_inside_counts_the_positive_part_only():
    # Positive: 1 and 3, of which 3 inside; -8 counts nowhere.
    assert one(metrics.energy_inside, [[1.0, 3.0, -8.0]], [[0, 1, 1]]) == 0.75
    assert np.isnan(one(metrics.energy_inside, [[-1.0, 0.0, -8.0]], [[0, 1, 1]]))


@pytest.mark.parametrize("scale", [1e-300, 1e308])
def test_energy_inside_of_extreme_maps(scale):
    one_map = np.full((2, 2), scale)

    assert one(metrics.energy_inside, one_map, MASK[0]) == 0.5


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
@pytest.mark.parametrize("score", SCORES)
def test_masks_of_every_type_count_the_same(score, dtype):
    maps, masks = random_maps(3)

    np.testing.assert_array_equal(score(maps, masks.astype(dtype)), score(maps, masks))


@pytest.mark.parametrize("score", SCORES)
def test_nothing_given_is_changed(score):
    maps, masks = random_maps(3)
    given = maps.copy(), masks.copy()

    score(maps, masks)

    np.testing.assert_array_equal(maps, given[0])
    np.testing.assert_array_equal(masks, given[1])


@pytest.mark.parametrize("score", SCORES[:5])
def test_integer_maps(score):
    maps = np.array([[[200, 100, 0, 255]]], np.uint8)
    mask = np.array([[[1, 0, 0, 1]]])

    np.testing.assert_array_equal(score(maps, mask), score(maps / 255.0, mask))


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("maps", "masks", "message"),
    [
        (MAP[0], MASK[0], r"\(2, 2\) and \(2, 2\).*A single map: `maps\[None\]`"),
        (MAP, MASK[:, :1], r"Received: \(1, 2, 2\) and \(1, 1, 2\)"),
        (np.zeros((1, 0, 2)), np.zeros((1, 0, 2)), r"\(1, 0, 2\)"),
        (MAP.astype(complex), MASK, "real numbers. Received: complex128"),
        (np.where(MAP > 0.5, np.nan, MAP), MASK, r"1 maps, first at \[0\]"),
        (np.where(MAP < 0.2, np.nan, MAP), MASK, r"1 maps, first at \[0\]"),
        (np.where(MAP > 0.7, np.inf, MAP), MASK, "infinity in 1 maps"),
        (MAP, MASK * 255, r"0/1. Received: int64 from 0 to 255.*masks > 127"),
        (MAP, np.where(MASK, np.nan, 0), "must be bool or 0/1"),
    ],
)
def test_every_score_rejects(score, maps, masks, message):
    with pytest.raises(ValueError, match=message):
        score(maps, masks)


@pytest.mark.parametrize(
    ("maps", "thresholds", "message"),
    [
        (MAP * 2, (0.5,), r"values from 0.2 to 1.8.*min_max_normalize"),
        (MAP - 0.2, (0.5,), r"values from -0.1 to 0.7"),
        (MAP, (0.5, 80), r"in \[0, 1\]. Received: \(0.5, 80\)"),
        (MAP, (np.nan,), r"in \[0, 1\]. Received: \(nan,\)"),
    ],
)
def test_sensitivity_specificity_rejects(maps, thresholds, message):
    with pytest.raises(ValueError, match=message):
        metrics.sensitivity_specificity(maps, MASK, thresholds)


@pytest.mark.parametrize("score", SCORES[:5])
def test_no_image_no_score(score):
    assert score(np.zeros((0, 2, 2)), np.zeros((0, 2, 2), bool)).shape == (0,)


def test_no_image_no_sensitivity():
    none = np.zeros((0, 2, 2))

    assert metrics.sensitivity_specificity(none, none)[0].shape == (0, 3)


def test_arrays_need_no_keras():
    code = (
        "import sys, hrcam.classification, hrcam.datasets, hrcam.metrics, "
        "hrcam.normalize; "
        "sys.exit(any(name in sys.modules for name in ('keras', 'tensorflow')))"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
