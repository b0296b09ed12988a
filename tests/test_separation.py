import numpy as np
import pytest
from scipy import ndimage

from hrcam.separation import separation_score, structures_found

#  Two structures of two pixels in a row of seven; the map below it by hand.
STRUCTURES = np.array([[[1, 1, 0, 0, 0, 2, 2]]])


def score(*values):
    return float(separation_score(np.array([[values]]), STRUCTURES)[0])


def verdict(*values, threshold=0.5):
    return structures_found(np.array([[values]]), STRUCTURES, threshold)[0]


def test_separation_by_hand():
    # Peaks 1.0 (pixel 0) and 0.8 (pixel 5), lowest between them 0.2: 1 - 0.2 / 0.8.
    assert score(1.0, 0.5, 0.2, 0.4, 0.6, 0.8, 0.0) == pytest.approx(0.75)
    # The lowest is the lower peak itself: no dip.
    assert score(0.0, 0.5, 0.6, 0.7, 1.0, 0.9, 0.0) == pytest.approx(0)
    # Down to the minimum between the two.
    assert score(0.9, 0.3, 0.1, 0.0, 0.1, 0.2, 1.0) == pytest.approx(1)


def test_raw_maps_are_normalised_first():
    values = np.array([1.0, 0.5, 0.2, 0.4, 0.6, 0.8, 0.0])
    assert score(*(-3 + 7 * values)) == pytest.approx(score(*values))


def test_no_peak_is_undefined():
    assert np.isnan(score(0.0, 0.0, 1.0, 0.5, 0.5, 0.3, 0.2))
    assert np.isnan(score(*[0.4] * 7))


def test_the_line_is_straight_in_two_dimensions():
    structures = np.zeros((1, 5, 5), int)
    structures[0, 0, 0], structures[0, 4, 4] = 1, 2
    values = np.full((1, 5, 5), 0.5)
    values[0, 0, 0] = values[0, 4, 4] = 1
    values[0, 0, 4] = 0  # off the diagonal: not on the line
    assert separation_score(values, structures)[0] == pytest.approx(0.5)
    values[0, 3, 3] = 0.2
    assert separation_score(values, structures)[0] == pytest.approx(0.8)


def test_a_dip_can_only_lower_the_line():
    """Two bumps: the score grows as they move apart, and is 0 when they coincide."""
    x = np.arange(61)
    structures = np.zeros((1, 1, 61), int)
    structures[0, 0, 10:29], structures[0, 0, 32:51] = 1, 2
    scores = []
    for distance in (0, 4, 8, 12, 16):
        bumps = [np.exp(-(((x - 30 - s * distance) / 6) ** 2)) for s in (-1, 1)]
        scores.append(separation_score(sum(bumps)[None, None], structures)[0])
    assert scores[0] < 1e-6
    assert np.all(np.diff(scores) >= -1e-6)
    assert scores[-1] > 0.95


def test_verdicts_by_hand():
    assert verdict(1.0, 0.9, 0.0, 0.0, 0.0, 0.7, 0.6) == "apart"
    assert verdict(1.0, 0.9, 0.8, 0.6, 0.5, 0.7, 0.0) == "merged"  # 0.5 is reached
    assert verdict(1.0, 0.9, 0.8, 0.6, 0.49, 0.7, 0.0) == "apart"
    assert verdict(1.0, 0.9, 0.8, 0.6, 0.5, 0.4, 0.0) == "one"
    assert verdict(0.0, 0.1, 0.8, 1.0, 0.5, 0.4, 0.0) == "none"
    assert verdict(1.0, 0.9, 0.8, 0.6, 0.5, 0.7, 0.0, threshold=0.55) == "apart"
    # An island in a structure does not undo the bridge between both.
    structures = np.array([[[1, 0, 1, 0, 2]]])
    bridge = np.array([[[1.0, 0.0, 1.0, 1.0, 1.0]]])
    assert structures_found(bridge, structures)[0] == "merged"


def test_pixels_that_touch_at_a_corner_belong_together():
    structures = np.array([[[1, 0], [0, 2]]])
    assert structures_found(np.eye(2)[None], structures)[0] == "merged"


def test_verdicts_agree_with_components_of_scipy():
    rng = np.random.default_rng(0)
    maps = ndimage.gaussian_filter(rng.normal(size=(200, 16, 16)), (0, 1.5, 1.5))
    structures = np.zeros(maps.shape, int)
    structures[:, 6:10, 1:6], structures[:, 6:10, 10:15] = 1, 2
    got = structures_found(maps, structures)
    for one_map, verdict_of in zip(maps, got, strict=True):
        low, high = one_map.min(), one_map.max()
        found = (one_map - low) / (high - low) >= 0.5
        parts, count = ndimage.label(found, np.ones((3, 3)))
        reach = [
            ((parts == k)[6:10, 1:6].any(), (parts == k)[6:10, 10:15].any())
            for k in range(1, count + 1)
        ]
        both = any(a and b for a, b in reach)
        hits = any(a for a, _ in reach) + any(b for _, b in reach)
        assert verdict_of == ("merged" if both else ("none", "one", "apart")[hits])
    assert set(got) == {"apart", "merged", "one", "none"}


GOOD = np.array([[[1.0, 0, 0, 0, 0, 0, 0.5]]])


@pytest.mark.parametrize(
    ("maps", "structures", "message"),
    [
        (GOOD[0], STRUCTURES[0], r"\(1, 7\) and \(1, 7\)"),
        (GOOD[..., :3], STRUCTURES, r"\(1, 1, 3\) and \(1, 1, 7\)"),
        (GOOD, STRUCTURES > 0, "integers with 1 and 2.*bool"),
        (GOOD, np.minimum(STRUCTURES, 1), r"image 0 with \[0 1\]"),
        (GOOD * np.nan, STRUCTURES, "must be finite"),
    ],
)
def test_rejects(maps, structures, message):
    with pytest.raises(ValueError, match=message):
        separation_score(maps, structures)
    with pytest.raises(ValueError, match=message):
        structures_found(maps, structures)


@pytest.mark.parametrize("threshold", [0, -0.1, 1.1])
def test_rejects_thresholds(threshold):
    with pytest.raises(ValueError, match=r"in \(0, 1\]. Received"):
        structures_found(GOOD, STRUCTURES, threshold)
