import zipfile

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image

from hrcam.imaging import Picture, overlay, resize_map
from hrcam.imaging._atomic import TEMPORARY, whole_file, write_whole
from hrcam.imaging.write import (
    write_array,
    write_arrays,
    write_overlay,
    write_tiff,
)

RAW = np.array([[-3.5, 0.25], [1e-30, 3e38]], np.float32)


# -------------------------------------------------------------------------- raw maps


def test_raw_maps_read_back_equal(tmp_path):
    write_array(tmp_path / "a.npy", RAW)
    write_arrays(tmp_path / "a.npz", {"hr_cam": RAW, "cam": RAW[:1]})
    write_tiff(tmp_path / "a.tiff", RAW)

    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), RAW)
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["hr_cam"], RAW)
        np.testing.assert_array_equal(arrays["cam"], RAW[:1])
    pixels = np.asarray(Image.open(tmp_path / "a.tiff"))
    assert pixels.dtype == np.float32
    np.testing.assert_array_equal(pixels, RAW)


def test_float64_is_stored_as_float32(tmp_path):
    write_array(tmp_path / "a.npy", np.eye(2))

    assert np.load(tmp_path / "a.npy").dtype == np.float32


def test_npz_holds_no_time(tmp_path):
    """Written twice it has the same bytes."""
    write_arrays(tmp_path / "a.npz", {"hr_cam": RAW})

    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        assert {info.date_time for info in file.infolist()} == {(1980, 1, 1, 0, 0, 0)}


# ------------------------------------------------------------------------- pictures


def test_resize_by_hand():
    """Half-pixel centres: 2 -> 4 pixels lie at -1/4, 1/4, 3/4, 5/4 of the two."""
    larger = resize_map(np.array([[0.0, 4.0]]), (1, 4))
    smaller = resize_map(np.array([[1.0, 3.0, 5.0, 7.0]]), (1, 2))

    np.testing.assert_allclose(larger, [[0, 1, 3, 4]])
    np.testing.assert_allclose(smaller, [[2, 6]])
    assert resize_map(RAW, (2, 2)).dtype == np.float32


def test_one_side_shrinks_and_the_other_grows():
    """By two roads of one dimension each: means of parts, and `numpy.interp`."""
    heatmap = np.random.default_rng(0).normal(size=(16, 16))

    # Row r of 10 covers 1.6 r to 1.6 r + 1.6 of 16: its share of each of those.
    edges = np.arange(10)[:, None] * 1.6
    lines = np.arange(16)
    shares = np.minimum(edges + 1.6, lines + 1) - np.maximum(edges, lines)
    rows = np.maximum(shares, 0) / 1.6 @ heatmap
    places = (np.arange(64) + 0.5) / 4 - 0.5
    expected = np.stack([np.interp(places, lines, row) for row in rows])

    np.testing.assert_allclose(resize_map(heatmap, (10, 64)), expected, atol=1e-5)
    np.testing.assert_allclose(resize_map(heatmap.T, (64, 10)), expected.T, atol=1e-5)


def test_overlay_by_hand():
    """Half of inferno's colour, by matplotlib, and half of the image's grey."""
    pixels = np.array([[0, 100], [200, 255]], np.uint8)
    heatmap = np.array([[-1.0, 0.0], [1.0, 3.0]])  # levels 0, 63.75, 127.5, 255

    shown = overlay(Picture(pixels, 0, 255), heatmap)

    inferno = matplotlib.colormaps["inferno"](np.array([[0, 64], [128, 255]]))[..., :3]
    expected = 127.5 * inferno + pixels[..., None] / 2
    assert shown.shape == (2, 2, 3)
    np.testing.assert_allclose(shown, expected, atol=2.01)  # of rounding, twice


@pytest.mark.parametrize("scale", [1e-40, 1e38])
def test_overlay_of_very_small_and_very_large_values(scale):
    picture = Picture(np.full((2, 2), 90, np.uint8), 0, 255)
    heatmap = np.array([[-3.0, -1.5], [1.5, 3.0]])

    shown = overlay(picture, heatmap * scale)

    np.testing.assert_allclose(shown, overlay(picture, heatmap), atol=1)


def test_overlay_of_colour_is_on_its_grey():
    pixels = np.array([[[255, 0, 0], [0, 255, 0]]], np.uint8)

    shown = overlay(Picture(pixels, 0, 255), np.zeros((1, 2)))

    assert shown[0, :, 0].tolist() == [76, 150]  # 0.299, 0.587 of 255
    assert (shown == shown[..., :1]).all()


@pytest.mark.parametrize("value", [0.0, -2.5, 1e30])
def test_map_without_a_range_has_no_colour(value):
    pixels = np.array([[0, 100], [200, 255]], np.uint8)

    shown = overlay(Picture(pixels, 0, 255), np.full((3, 3), value))

    np.testing.assert_array_equal(shown, np.repeat(pixels[..., None], 3, axis=-1))


def test_overlay_shows_the_window(tmp_path):
    pixels = np.array([[0, 1000], [1040, 4095]], np.uint16)

    shown = overlay(Picture(pixels, 0, 4095, (1000, 1040)), np.ones((2, 2)))

    assert shown[..., 0].tolist() == [[0, 0], [255, 255]]


def test_written_overlay_is_the_overlay(tmp_path):
    picture = Picture(np.arange(12, dtype=np.uint8).reshape(3, 4) * 20, 0, 255)
    heatmap = np.random.default_rng(0).normal(size=(7, 5))

    write_overlay(tmp_path / "sub" / "a.png", picture, heatmap)

    written = cv2.imread(str(tmp_path / "sub" / "a.png"))[..., ::-1]
    np.testing.assert_array_equal(written, overlay(picture, heatmap))


# ---------------------------------------------------------------------- whole files


def test_whole_file(tmp_path):
    target = tmp_path / "new" / "a.nii.gz"
    with whole_file(target) as unfinished:
        assert unfinished.parent == target.parent
        assert unfinished.name.startswith(TEMPORARY)
        assert unfinished.name.endswith(".nii.gz")
        unfinished.write_bytes(b"whole")
        assert not target.exists()

    assert target.read_bytes() == b"whole"
    assert [p.name for p in target.parent.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_unfinished_file_leaves_the_old_one(tmp_path, error):
    target = tmp_path / "a.txt"
    write_whole(target, b"old")

    def write_half():
        with whole_file(target) as unfinished:
            unfinished.write_bytes(b"ne")
            raise error

    with pytest.raises(error):
        write_half()

    assert target.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_long_suffixes_do_not_make_a_name_too_long(tmp_path):
    target = tmp_path / ("a." + "b" * 240)

    write_whole(target, b"x")

    assert target.read_bytes() == b"x"
