import numpy as np
import pytest
from sklearn import metrics as sk

from hrcam import metrics, min_max_normalize
from hrcam.sweep import SWEEP, ThresholdCounts, threshold_counts, threshold_curve

MAPS = np.array([[[1.0, 0.6], [0.4, 0.0]], [[0.0, 0.5], [0.5, 1.0]]])
MASKS = np.array([[[1, 0], [1, 0]], [[1, 1], [1, 0]]], bool)


def random_maps(num_images=12, *, dtype=np.float32, seed=0):
    """Maps whose values often meet a threshold; an empty, a full mask, a blank map."""
    rng = np.random.default_rng(seed)
    masks = rng.uniform(size=(num_images, 9, 11)) < 0.3
    maps = np.round(rng.uniform(size=masks.shape) * 0.8 + 0.2 * masks, 2)
    masks[1], masks[2], maps[3] = False, True, 0
    return maps.astype(dtype), masks


def test_counts_golden():
    counts = threshold_counts(MAPS, MASKS, (0, 0.5, 0.6, 1))

    # First: mask on 1 and 0.4, others 0.6 and 0. Second: mask on 0, 0.5, 0.5, other 1.
    np.testing.assert_array_equal(counts.found_inside, [[2, 1, 1, 1], [3, 2, 0, 0]])
    np.testing.assert_array_equal(counts.found_outside, [[2, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(counts.inside, [2, 3])
    np.testing.assert_array_equal(counts.outside, [2, 1])


def test_curve_golden():
    thresholds = (0, 0.5, 0.6, 1)
    curve = threshold_curve(threshold_counts(MAPS, MASKS, thresholds), thresholds)

    # From the counts above; sensitivity of the second image: 1, 2/3, 0, 0.
    sensitivity = [1, (1 / 2 + 2 / 3) / 2, 1 / 4, 1 / 4]
    precision = [(2 / 4 + 3 / 4) / 2, (1 / 2 + 2 / 3) / 2, 1 / 4, 1 / 2]
    np.testing.assert_allclose(curve.sensitivity, sensitivity)
    np.testing.assert_allclose(curve.false_positive_rate, [1, 0.75, 0.75, 0.5])
    np.testing.assert_allclose(curve.precision, precision)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    np.testing.assert_array_equal(curve.nothing_found, 0)
    assert (curve.chance, curve.images, curve.left_out) == (0.625, 2, 0)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_rates_are_exactly_those_of_sensitivity_specificity(dtype):
    maps, masks = random_maps(dtype=dtype)
    assert np.isin(SWEEP.astype(dtype), maps).mean() > 0.7  # thresholds are met

    counts = threshold_counts(maps, masks)
    sensitivity, specificity = metrics.sensitivity_specificity(maps, masks, SWEEP)

    inside, outside = counts.inside[:, None], counts.outside[:, None]
    with np.errstate(invalid="ignore"):
        np.testing.assert_array_equal(counts.found_inside / inside, sensitivity)
        np.testing.assert_array_equal(
            (outside - counts.found_outside) / outside, specificity
        )


def test_curve_replicates_the_means_of_other_scores():
    maps, masks = random_maps()
    curve = threshold_curve(threshold_counts(maps, masks))

    used = [0, *range(3, 12)]  # 1 is empty, 2 is full
    pairs = metrics.sensitivity_specificity(maps[used], masks[used], SWEEP)
    sensitivity, specificity = (rates.mean(axis=0) for rates in pairs)
    np.testing.assert_allclose(curve.sensitivity, sensitivity, atol=1e-12)
    np.testing.assert_allclose(curve.false_positive_rate, 1 - specificity, atol=1e-12)
    for column in (30, 80):
        limit = np.float32(SWEEP[column])
        precision = [  # the blank map, 3, finds nothing
            sk.precision_score(masks[i].ravel(), maps[i].ravel() >= limit)
            for i in used
            if i != 3
        ]
        np.testing.assert_allclose(curve.precision[column], np.mean(precision))
    np.testing.assert_allclose(curve.chance, masks[used].mean())
    assert (curve.images, curve.left_out) == (10, 2)


def test_area_under_one_maps_curve_is_its_auc():
    maps, masks = (array[:1] for array in random_maps())

    curve = threshold_curve(threshold_counts(maps, masks))

    # Its values are multiples of 0.01, so that the sweep misses none.
    rates = np.append(curve.false_positive_rate, 0), np.append(curve.sensitivity, 0)
    np.testing.assert_allclose(sk.auc(*rates), metrics.pixel_auc(maps, masks)[0])


def test_ends_and_directions():
    maps, masks = random_maps()
    curve = threshold_curve(threshold_counts(min_max_normalize(maps), masks))

    assert (curve.sensitivity[0], curve.false_positive_rate[0]) == (1, 1)
    assert curve.precision[0] == pytest.approx(curve.chance)
    assert (np.diff(curve.sensitivity) <= 0).all()
    assert (np.diff(curve.false_positive_rate) <= 0).all()


def test_images_where_nothing_is_found_are_counted():
    maps, masks = random_maps()

    curve = threshold_curve(threshold_counts(maps, masks))

    nothing = [(maps[[0, *range(3, 12)]].max(axis=(1, 2)) < t).sum() for t in SWEEP]
    assert curve.nothing_found[0] == 0
    assert curve.nothing_found[50] == 1  # the blank map
    np.testing.assert_allclose(curve.nothing_found[::10], nothing[::10])


def test_perfect_map_and_chance():
    masks = random_maps()[1][4:]
    perfect = threshold_curve(threshold_counts(masks * 1.0, masks))

    np.testing.assert_array_equal(perfect.sensitivity, 1)
    np.testing.assert_array_equal(perfect.false_positive_rate[1:], 0)
    np.testing.assert_array_equal(perfect.precision[1:], 1)

    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(4, 200, 200)) < 0.2
    chance = threshold_curve(threshold_counts(rng.uniform(size=masks.shape), masks))
    assert np.abs(chance.sensitivity - chance.false_positive_rate).max() < 0.01
    assert np.abs(chance.precision[:90] - chance.chance).max() < 0.01


def test_chunks_concatenate():
    maps, masks = random_maps()
    chunks = [
        threshold_counts(maps[i : i + 5], masks[i : i + 5]) for i in range(0, 12, 5)
    ]

    counts = ThresholdCounts(*map(np.concatenate, zip(*chunks, strict=True)))

    for actual, expected in zip(counts, threshold_counts(maps, masks), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_masks_of_every_type_count_the_same():
    maps, masks = random_maps()
    expected = threshold_counts(maps, masks)

    for dtype in (np.uint8, np.int64, np.float32):
        counts = threshold_counts(maps, masks.astype(dtype))
        np.testing.assert_array_equal(counts.found_inside, expected.found_inside)


def test_no_image_and_no_defined_image():
    maps, masks = random_maps()
    none = threshold_counts(maps[:0], masks[:0])

    assert [array.shape for array in none] == [(0, 101), (0, 101), (0,), (0,)]
    for counts, left_out in ((none, 0), (threshold_counts(maps[1:3], masks[1:3]), 2)):
        curve = threshold_curve(counts)
        assert np.isnan(curve.sensitivity).all()
        assert np.isnan(curve.precision).all()
        assert np.isnan(curve.chance)
        assert (curve.images, curve.left_out) == (0, left_out)


@pytest.mark.parametrize(
    ("maps", "masks", "thresholds", "message"),
    [
        (MAPS * 2, MASKS, SWEEP, "values from 0 to 2.*min_max_normalize"),
        (MAPS - 0.5, MASKS, SWEEP, "values from -0.5 to 0.5"),
        (MAPS[0], MASKS[0], SWEEP, r"A single map: `maps\[None\]`"),
        (np.where(MAPS == 0.6, np.nan, MAPS), MASKS, SWEEP, r"1 maps, first at \[0\]"),
        (MAPS, MASKS * 255, SWEEP, "must be bool or 0/1"),
        (MAPS, MASKS, (0.5, 0.3), r"must rise. Received: \(0.5, 0.3\)"),
        (MAPS, MASKS, (0.5, 0.5), "must rise"),
        (MAPS, MASKS, (0.5, np.nan), "must rise"),
        (MAPS, MASKS, (), "must rise"),
        (MAPS, MASKS, 0.5, "must rise"),
        (MAPS, MASKS, (0.5, 80), r"in \[0, 1\]. Received: \(0.5, 80\)"),
        (MAPS, MASKS, (np.nan,), r"in \[0, 1\]. Received: \(nan,\)"),
    ],
)
def test_counts_reject(maps, masks, thresholds, message):
    with pytest.raises(ValueError, match=message):
        threshold_counts(maps, masks, thresholds)


def test_curve_rejects_other_thresholds():
    counts = threshold_counts(MAPS, MASKS, (0.3, 0.5, 0.8))

    with pytest.raises(ValueError, match=r"\(3,\) columns, 101 thresholds. Pass those"):
        threshold_curve(counts)
