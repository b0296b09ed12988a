import numpy as np
import pytest

from hrcam.normalize import min_max_normalize


def test_golden():
    maps = np.array([[[2.0, 4.0], [3.0, 6.0]], [[5.0, 5.0], [5.0, 5.0]]])

    actual = min_max_normalize(maps)

    # First map: minimum 2, range 4. Second map: constant.
    np.testing.assert_array_equal(actual, [[[0, 0.5], [0.25, 1]], [[0, 0], [0, 0]]])
    assert actual.dtype == np.float32


def test_is_not_division_by_the_maximum():
    # (.5 - .4) / (.9 - .4) = .2; by the maximum it would be .56.
    np.testing.assert_allclose(
        min_max_normalize(np.array([[0.4, 0.5, 0.9]])), [[0, 0.2, 1]], atol=1e-7
    )


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 5, 3, 4), (0, 3, 4)])
def test_each_map_by_itself_whatever_the_leading_axes(shape):
    maps = np.random.default_rng(0).normal(size=shape)
    given = maps.copy()

    actual = min_max_normalize(maps)

    assert actual.shape == shape
    flat, each = maps.reshape(-1, 3, 4), actual.reshape(-1, 3, 4)
    for one_map, normalized in zip(flat, each, strict=True):
        expected = (one_map - one_map.min()) / np.ptp(one_map)
        np.testing.assert_allclose(normalized, expected, atol=1e-6)
    np.testing.assert_array_equal(maps, given)


@pytest.mark.parametrize("scale", [1e-30, 3.0, 1e20])
def test_invariant_to_a_positive_scale_and_a_shift(scale):
    maps = np.random.default_rng(0).normal(size=(2, 3, 3))

    np.testing.assert_allclose(
        min_max_normalize(scale * (maps + 1)), min_max_normalize(maps), atol=1e-6
    )


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (-3e38, 3e38, np.float32),  # the range, 6e38, is infinite in float32
        (-6e4, 6e4, np.float16),
        (-1.7e308, 1.7e308, np.float64),
        (0, 255, np.uint8),
        (-128, 127, np.int8),  # the range, 255, is -1 in int8
        (-(2**62), 2**62, np.int64),
        (0, 5e-324, np.float64),  # the smallest number there is
    ],
)
def test_ranges_that_overflow(low, high, dtype):
    one_map = np.array([[low, high, low, high]], dtype)

    np.testing.assert_array_equal(min_max_normalize(one_map), [[0, 1, 0, 1]])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_names_the_maps_that_are_not_finite(value):
    maps = np.zeros((3, 2, 2))
    maps[1, 0, 1] = maps[2, 1, 1] = value

    with pytest.raises(ValueError, match=r"NaN or infinity in 2 maps, first at \[1, 2"):
        min_max_normalize(maps)
    with pytest.raises(ValueError, match=r"first at \[\(0, 1\), \(0, 2\)\]"):
        min_max_normalize(maps[None])
    with pytest.raises(ValueError, match=r"infinity in the map of shape \(2, 2\)"):
        min_max_normalize(maps[1])


@pytest.mark.parametrize(
    "maps", [np.zeros(3), np.zeros((3, 0, 2)), np.zeros((2, 2), complex)]
)
def test_rejects_what_is_not_maps(maps):
    with pytest.raises(ValueError, match=r"\(\.\.\., height, width\)\. Received: "):
        min_max_normalize(maps)
