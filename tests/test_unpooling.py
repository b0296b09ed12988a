"""Unpooling against values worked out by hand, slow loops, and TensorFlow's gradients.

The loops place their windows anew: nothing of the module is used to expect a number.
"""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from hrcam.deconvnet.unpooling import (
    Windows,
    first_maxima,
    fit_to_size,
    spread_average,
    unpool,
    unpool_nearest,
)

# (height, width), pool, strides: k = s, k > s and k < s; odd, even and rectangular.
GEOMETRIES = [
    ((4, 4), (2, 2), (2, 2)),
    ((5, 7), (2, 2), (2, 2)),
    ((7, 6), (3, 3), (3, 3)),
    ((6, 6), (3, 3), (2, 2)),
    ((7, 8), (3, 3), (2, 2)),
    ((5, 5), (3, 3), (1, 1)),
    ((9, 8), (5, 4), (2, 3)),
    ((8, 9), (2, 3), (3, 1)),
    ((7, 7), (1, 1), (2, 2)),
    ((8, 7), (2, 2), (3, 3)),
    ((6, 10), (1, 2), (2, 4)),
    ((5, 3), (5, 3), (5, 3)),
    ((3, 3), (4, 2), (1, 2)),
]
PADDINGS = ["valid", "same"]
CASES = [
    pytest.param(*geometry, padding, id="-".join(map(str, (*geometry, padding))))
    for geometry, padding in itertools.product(GEOMETRIES, PADDINGS)
    if padding == "same" or geometry[0] >= geometry[1]
]
grid = pytest.mark.parametrize(("size", "pool", "strides", "padding"), CASES)


def as_map(rows):
    """(height, width) -> (1, height, width, 1)."""
    return np.array(rows, "float32")[None, ..., None]


def picture(tensor):
    return keras.ops.convert_to_numpy(tensor)[0, ..., 0]


def starts(side, pool, stride, padding):
    """First row of each window along one axis; negative in the padding before."""
    if padding == "valid":
        return list(range(0, side - pool + 1, stride))
    count = (side + stride - 1) // stride
    lacking = max(0, (count - 1) * stride + pool - side)
    return [n * stride - lacking // 2 for n in range(count)]


def window_list(size, pool, strides, padding):
    """[(window down, window across), rows, columns], its places row by row."""
    downs = starts(size[0], pool[0], strides[0], padding)
    acrosses = starts(size[1], pool[1], strides[1], padding)
    for (i, row), (j, column) in itertools.product(
        enumerate(downs), enumerate(acrosses)
    ):
        yield (
            (i, j),
            [
                (row + r, column + c)
                for r, c in itertools.product(range(pool[0]), range(pool[1]))
            ],
        )


def slow_switches(x, size, *pooling):
    """{(window, channel): (number in the window, (row, column))} of one map."""
    found = {}
    for window, places in window_list(size, *pooling):
        for channel in range(x.shape[-1]):
            best = None
            for number, (row, column) in enumerate(places):
                if not (0 <= row < size[0] and 0 <= column < size[1]):
                    continue
                value = x[row, column, channel]
                if best is None or value > best[0]:
                    best = (value, number, (row, column))
            found[(*window, channel)] = best[1:]
    return found


def slow_unpool(signal, switches, size):
    """Puts `signal[:, i, j, channel]` to its switch, one value at a time."""
    maps = np.zeros((len(signal), *size, signal.shape[-1]))
    for (i, j, channel), (_, (row, column)) in switches.items():
        maps[:, row, column, channel] += signal[:, i, j, channel]
    return maps


def tied_map(size, seed=0):
    """Negative integers: ties in most windows, and padding by zero would win."""
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 0, (1, *size, 3)).astype("float32")


def random_signal(switches, units=2, seed=1):
    rng = np.random.default_rng(seed)
    shape = np.array(list(switches)).max(axis=0) + 1
    return rng.normal(size=(units, *shape)).astype("float32")


# --- by hand ----------------------------------------------------------------------


def test_unpooling_golden():
    """2x2 pools: 4 at (1, 1), 5 at (1, 3), 6 at (3, 1), 7 at (3, 2)."""
    image = as_map([[1, 2, 0, 0], [3, 4, 0, 5], [0, 0, 0, 0], [0, 6, 7, 0]])
    windows = Windows.of((2, 2), (2, 2), "valid", (4, 4))

    switches = first_maxima(image, windows)
    maps = unpool(as_map([[10, 20], [30, 40]]), switches, windows)

    assert picture(keras.layers.MaxPooling2D(2)(image)).tolist() == [[4, 5], [6, 7]]
    assert picture(switches).tolist() == [[3, 3], [3, 2]]  # counted row by row
    expected = [[0, 0, 0, 0], [0, 10, 0, 20], [0, 0, 0, 0], [0, 30, 40, 0]]
    assert picture(maps).tolist() == expected


def test_windows_that_share_a_switch_add_up():
    """3x3 windows of stride 2 share column 2, where 9 is: 5 + 7 = 12, not 7."""
    image = as_map([[0, 1, 0, 1, 0], [1, 0, 9, 0, 1], [0, 1, 0, 1, 0]])
    windows = Windows.of((3, 3), (2, 2), "valid", (3, 5))

    maps = unpool(as_map([[5, 7]]), first_maxima(image, windows), windows)

    assert picture(maps).tolist() == [[0] * 5, [0, 0, 12, 0, 0], [0] * 5]


def test_four_windows_that_share_a_switch_add_up():
    image = np.zeros((5, 5))
    image[2, 2] = 1
    windows = Windows.of((3, 3), (2, 2), "valid", (5, 5))

    maps = unpool(
        as_map([[1, 10], [100, 1000]]), first_maxima(as_map(image), windows), windows
    )

    assert picture(maps).tolist() == (1111 * image).tolist()


def test_of_ties_the_first_row_by_row_has_the_switch():
    """The 5s of the first window lie at (0, 1) and (1, 0); all of the second tie."""
    image = as_map([[0, 5, 2, 2], [5, 5, 2, 2]])
    windows = Windows.of((2, 2), (2, 2), "valid", (2, 4))

    switches = first_maxima(image, windows)

    assert picture(switches).tolist() == [[1, 0]]
    maps = unpool(as_map([[3, 4]]), switches, windows)
    assert picture(maps).tolist() == [[0, 3, 4, 0], [0, 0, 0, 0]]


def test_a_window_of_zeros_gives_its_signal_to_one_place():
    """As after a ReLU; the total is kept."""
    windows = Windows.of((2, 2), (2, 2), "valid", (4, 4))
    signal = as_map([[1, -2], [3, 4]])

    maps = unpool(signal, first_maxima(np.zeros((1, 4, 4, 1)), windows), windows)

    expected = [[1, 0, -2, 0], [0] * 4, [3, 0, 4, 0], [0] * 4]
    assert picture(maps).tolist() == expected


def test_padding_never_has_a_switch():
    """3x3, stride 2, "same" on 3x3: one row of padding on each side, so four windows
    over rows and columns -1 to 1 or 1 to 3. The largest of the negative values of each
    lie at (0, 1), (1, 2), (1, 0) and (1, 2): in the windows at (1, 2) = 5, (2, 1) = 7,
    (0, 1) = 1 and (0, 1) = 1.
    """
    image = as_map([[-9, -2, -8], [-3, -7, -1], [-6, -5, -4]])
    windows = Windows.of((3, 3), (2, 2), "same", (3, 3))

    switches = first_maxima(image, windows)
    maps = unpool(as_map([[1, 10], [100, 1000]]), switches, windows)

    assert picture(switches).tolist() == [[5, 7], [1, 1]]
    assert picture(maps).tolist() == [[0, 1, 0], [100, 0, 1010], [0, 0, 0]]


def test_a_padded_window_of_zeros_gives_its_signal_to_the_map():
    """The first place of the first window that is no padding is (0, 0)."""
    windows = Windows.of((3, 3), (2, 2), "same", (3, 3))

    maps = unpool(
        as_map([[1, 2], [3, 4]]), first_maxima(np.zeros((1, 3, 3, 1)), windows), windows
    )

    assert picture(maps).tolist() == [[1, 2, 0], [3, 4, 0], [0, 0, 0]]


def test_unpool_nearest_golden():
    """Pool 2 on 5x4: each value twice down and across; the fifth row has no window."""
    windows = Windows.of((2, 2), (2, 2), "valid", (5, 4))

    maps = unpool_nearest(as_map([[1, 2], [3, 4]]), windows)

    expected = [[1, 1, 2, 2], [1, 1, 2, 2], [3, 3, 4, 4], [3, 3, 4, 4], [0, 0, 0, 0]]
    assert picture(maps).tolist() == expected


def test_unpool_nearest_of_same_padding_golden():
    """3, stride 2, "same" on 5 columns: the first step begins in the padding."""
    windows = Windows.of((1, 3), (1, 2), "same", (1, 5))
    maps = unpool_nearest(as_map([[1, 2, 3]]), windows)
    assert picture(maps).tolist() == [[1, 2, 2, 3, 3]]


def test_spread_average_golden():
    """2, stride 2, "same" on 3x3: windows of 4, 2, 2 and 1 pixels."""
    windows = Windows.of((2, 2), (2, 2), "same", (3, 3))
    maps = spread_average(as_map([[4, 4], [4, 4]]), windows)
    assert picture(maps).tolist() == [[1, 1, 2], [1, 1, 2], [2, 2, 4]]


def test_fit_to_size_cuts_before_and_fills_after():
    x = as_map([[1, 2, 3], [4, 5, 6]])
    assert picture(fit_to_size(x, (1, 1), (2, 1))).tolist() == [[5], [0]]


# --- against slow loops and Keras -------------------------------------------------


@grid
def test_switches_are_those_of_a_slow_loop(size, pool, strides, padding):
    x = tied_map(size)
    windows = Windows.of(pool, strides, padding, size)
    expected = slow_switches(x[0], size, pool, strides, padding)

    actual = keras.ops.convert_to_numpy(first_maxima(x, windows))

    pooled = keras.layers.MaxPooling2D(pool, strides, padding)(x)
    assert actual.shape == pooled.shape
    assert actual.dtype == np.int32
    for place, (number, (row, column)) in expected.items():
        assert actual[0][place] == number
        assert pooled[0][place] == x[0, row, column, place[-1]]


@grid
def test_unpooling_is_that_of_a_slow_loop(size, pool, strides, padding):
    x = tied_map(size)
    windows = Windows.of(pool, strides, padding, size)
    switches = slow_switches(x[0], size, pool, strides, padding)
    signal = random_signal(switches)

    actual = unpool(signal, first_maxima(x, windows), windows)

    expected = slow_unpool(signal, switches, size)
    np.testing.assert_allclose(actual, expected, atol=1e-6)


@grid
def test_unpooling_is_the_gradient_of_max_pooling(size, pool, strides, padding):
    """Second road, without ties: where TensorFlow chooses among them is its own."""
    x = np.random.default_rng(2).permutation(np.prod(size) * 3).reshape(1, *size, 3)
    x = tf.constant(x - 200, "float32")
    windows = Windows.of(pool, strides, padding, size)
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled = tf.nn.max_pool2d(x, pool, strides, padding.upper())
    signal = np.random.default_rng(3).normal(size=pooled.shape).astype("float32")

    actual = unpool(signal, first_maxima(x, windows), windows)

    expected = tape.gradient(pooled, x, output_gradients=signal)
    np.testing.assert_allclose(actual, expected, atol=1e-5)


@grid
def test_unpooling_is_the_adjoint_of_pooling_by_the_same_switches(
    size, pool, strides, padding
):
    """<P x, y> = <x, U y>, where P reads another map at the recorded places."""
    windows = Windows.of(pool, strides, padding, size)
    recorded = tied_map(size)
    switches = slow_switches(recorded[0], size, pool, strides, padding)
    signal = random_signal(switches, units=1)
    x = np.random.default_rng(4).normal(size=(*size, 3))
    pooled = np.zeros(signal.shape[1:])
    for place, (_, (row, column)) in switches.items():
        pooled[place] = x[row, column, place[-1]]

    maps = unpool(signal, first_maxima(recorded, windows), windows)

    assert np.sum(maps[0] * x) == pytest.approx(np.sum(pooled * signal[0]), abs=1e-4)


def test_each_unit_may_have_its_own_switches():
    windows = Windows.of((2, 2), (2, 2), "valid", (2, 2))
    x = np.stack([as_map([[1, 0], [0, 0]])[0], as_map([[0, 0], [0, 1]])[0]])

    maps = unpool(np.full((2, 1, 1, 1), 3.0), first_maxima(x, windows), windows)

    assert maps[..., 0].numpy().tolist() == [[[3, 0], [0, 0]], [[0, 0], [0, 3]]]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_switches_of_half_precision_maps(dtype):
    x = tied_map((7, 8)).astype(dtype)
    windows = Windows.of((3, 3), (2, 2), "same", (7, 8))
    np.testing.assert_array_equal(
        first_maxima(x, windows), first_maxima(x.astype("float32"), windows)
    )


@grid
def test_unpool_nearest_is_that_of_a_slow_loop(size, pool, strides, padding):
    windows = Windows.of(pool, strides, padding, size)
    downs = starts(size[0], pool[0], strides[0], padding)
    acrosses = starts(size[1], pool[1], strides[1], padding)
    signal = np.random.default_rng(5).normal(size=(2, len(downs), len(acrosses), 3))
    expected = np.zeros((2, *size, 3))
    for (i, row), (j, column) in itertools.product(
        enumerate(downs), enumerate(acrosses)
    ):
        rows = slice(max(row, 0), row + strides[0])
        columns = slice(max(column, 0), column + strides[1])
        expected[:, rows, columns] = signal[:, i, None, j, None]

    actual = unpool_nearest(signal.astype("float32"), windows)

    np.testing.assert_allclose(actual, expected, rtol=1e-6)


@grid
def test_spread_average_is_the_gradient_of_average_pooling(
    size, pool, strides, padding
):
    """Second road: TensorFlow leaves the padding out of the average, too."""
    x = tf.zeros((2, *size, 3))
    layer = keras.layers.AveragePooling2D(pool, strides, padding)
    with tf.GradientTape() as tape:
        tape.watch(x)
        pooled = layer(x)
    signal = np.random.default_rng(6).normal(size=pooled.shape).astype("float32")

    actual = spread_average(signal, Windows.of(pool, strides, padding, size))

    expected = tape.gradient(pooled, x, output_gradients=signal)
    np.testing.assert_allclose(actual, expected, atol=1e-6)
