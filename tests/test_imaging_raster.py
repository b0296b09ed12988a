import errno
import io
import os
import pickle
from contextlib import contextmanager
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
import tifffile
from dicom_files import write_dicom
from PIL import Image, ImageOps

from hrcam.datasets import load_images
from hrcam.imaging import ImageReadError, Limits, Picture, open_image, read_image
from hrcam.imaging._raster import RasterFile
from hrcam.imaging.read import FAULTS_OF_THE_MACHINE, _reasons, parse_address

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 20), np.uint8)
COLOUR = RNG.integers(0, 256, (12, 20, 3), np.uint8)
GREY_16 = RNG.integers(0, 65536, (12, 20), np.uint16)
COLOUR_16 = RNG.integers(0, 65536, (12, 20, 3), np.uint16)
ALPHA_16 = np.concatenate([COLOUR_16, GREY_16[..., None]], axis=-1)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def save_by_opencv(path, pixels, *options):
    """RGB(A) of 16 bits, which Pillow cannot write."""
    order = [2, 1, 0, 3][: pixels.shape[-1]]
    assert cv2.imwrite(str(path), pixels[..., order], options)
    return path


# ------------------------------------------------------------------------ exact values


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_8_bits(tmp_path, suffix, pixels):
    picture = read_image(save(tmp_path / f"a.{suffix}", pixels))

    assert picture.pixels.dtype == np.uint8
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.black, picture.white, picture.window) == (0, 255, None)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey(tmp_path, suffix):
    picture = read_image(save(tmp_path / f"a.{suffix}", GREY_16))

    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, GREY_16)
    assert (picture.black, picture.white) == (0, 65535)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("pixels", [COLOUR_16, ALPHA_16], ids=["rgb", "rgba"])
def test_16_bit_colour(tmp_path, suffix, pixels):
    picture = read_image(save_by_opencv(tmp_path / f"a.{suffix}", pixels))

    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.pixels, COLOUR_16)


@pytest.mark.parametrize("compression", [1, 5, 8, 32946])  # none, LZW, two deflates
def test_16_bit_colour_tiff_compressed(tmp_path, compression):
    options = (cv2.IMWRITE_TIFF_COMPRESSION, compression)
    path = save_by_opencv(tmp_path / "a.tif", COLOUR_16, *options)

    np.testing.assert_array_equal(read_image(path).pixels, COLOUR_16)


@pytest.mark.parametrize("order", ["<", ">"])
def test_tiff_of_either_byte_order(tmp_path, order):
    tifffile.imwrite(tmp_path / "a.tif", GREY_16, byteorder=order)

    picture = read_image(tmp_path / "a.tif")

    assert picture.pixels.dtype == np.dtype("=u2")
    np.testing.assert_array_equal(picture.pixels, GREY_16)


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.int32])
def test_tiff_without_a_range_of_its_own(tmp_path, kind):
    pixels = (GREY_16.astype(np.int32) - 32768).astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack")

    picture = read_image(tmp_path / "a.tif")

    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.black, picture.white) == (pixels.min(), pixels.max())
    assert picture.unit_range().min() == 0
    assert picture.unit_range().max() == 1


@pytest.mark.parametrize("pixels", [GREY, GREY_16], ids=["8 bit", "16 bit"])
def test_tiff_whose_zero_is_white(tmp_path, pixels):
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="miniswhite")

    shown = read_image(tmp_path / "a.tif").unit_range()

    np.testing.assert_allclose(
        shown, 1 - pixels / np.iinfo(pixels.dtype).max, atol=1e-6
    )


def test_pages(tmp_path):
    pages = RNG.integers(0, 65536, (3, 12, 20), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")

    with open_image(tmp_path / "a.tif") as file:
        assert list(file.frames) == [0, 1, 2]
        for page in (2, 0, 1):
            np.testing.assert_array_equal(file.read(page).pixels, pages[page])


def test_pages_of_16_bit_colour(tmp_path):
    pages = RNG.integers(0, 65536, (3, 12, 20, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")

    for page in (2, 0, 1):
        pixels = read_image(f"{tmp_path / 'a.tif'}#{page}").pixels
        np.testing.assert_array_equal(pixels, pages[page])


def test_alpha_is_dropped(tmp_path):
    rgba = np.concatenate([COLOUR, GREY[..., None]], axis=-1)
    grey_alpha = np.stack([GREY, GREY // 2], axis=-1)

    rgb = read_image(save(tmp_path / "a.png", rgba)).pixels
    grey = read_image(save(tmp_path / "b.png", grey_alpha)).pixels

    np.testing.assert_array_equal(rgb, COLOUR)
    np.testing.assert_array_equal(grey, GREY)


def test_palette_and_one_bit(tmp_path):
    colours = Image.fromarray(COLOUR).quantize(16)
    colours.save(tmp_path / "a.png")
    Image.fromarray(GREY > 127).save(tmp_path / "b.png")

    rgb = read_image(tmp_path / "a.png").pixels
    bits = read_image(tmp_path / "b.png").pixels

    np.testing.assert_array_equal(rgb, np.asarray(colours.convert("RGB")))
    np.testing.assert_array_equal(bits, np.where(GREY > 127, 255, 0))


def test_gif_is_its_first_picture(tmp_path):
    first, second = (Image.fromarray(p) for p in (GREY, GREY[::-1].copy()))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])

    with open_image(tmp_path / "a.gif") as file:
        assert list(file.frames) == [0]
        pixels = file.read(0).pixels
    np.testing.assert_array_equal(pixels if pixels.ndim == 2 else pixels[..., 0], GREY)


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_becomes_rgb(tmp_path, suffix):
    """Ink of one colour: 255 cyan is no red, all green and blue."""
    ink = np.zeros((16, 16, 4), np.uint8)
    ink[..., 0] = 255
    Image.fromarray(ink, mode="CMYK").save(tmp_path / f"a.{suffix}")

    pixels = read_image(tmp_path / f"a.{suffix}").pixels.astype(int)

    assert np.abs(pixels - [0, 255, 255]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_exif_orientation(tmp_path, orientation, suffix):
    """Pillow's own turning is the second road."""
    image = Image.fromarray(COLOUR)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif)

    pixels = read_image(tmp_path / f"a.{suffix}").pixels

    with Image.open(tmp_path / f"a.{suffix}") as again:
        np.testing.assert_array_equal(
            pixels, np.asarray(ImageOps.exif_transpose(again))
        )
    assert pixels.shape[:2] == ((20, 12) if orientation > 4 else (12, 20))


def test_exif_orientation_of_16_bit_colour(tmp_path):
    """6: the file's first row is the right edge."""
    tifffile.imwrite(
        tmp_path / "a.tif", COLOUR_16, photometric="rgb", extratags=[(274, 3, 1, 6)]
    )

    pixels = read_image(tmp_path / "a.tif").pixels

    np.testing.assert_array_equal(pixels, COLOUR_16.swapaxes(0, 1)[:, ::-1])
    np.testing.assert_array_equal(pixels[:, -1], COLOUR_16[0])


# ---------------------------------------------------- the same as the training pipeline


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(12, 20), (7, 9), (30, 41)])
@pytest.mark.parametrize(
    "pixels", [GREY, COLOUR, GREY_16], ids=["grey", "colour", "16 bit"]
)
def test_array_is_that_of_load_images(tmp_path, pixels, size, channels):
    path = save(tmp_path / "a.png", pixels)

    array = read_image(path).array(size, channels)

    assert array.dtype == np.float32
    np.testing.assert_allclose(array, load_images([path], size, channels)[0], atol=2e-6)


@pytest.mark.parametrize("subsampling", [0, 2])
def test_jpeg_is_decoded_as_by_load_images(tmp_path, subsampling):
    pixels = cv2.GaussianBlur(RNG.integers(0, 256, (61, 83, 3), np.uint8), (5, 5), 0)
    path = save(tmp_path / "a.jpg", pixels, quality=90, subsampling=subsampling)

    array = read_image(path).array((61, 83), 3)

    np.testing.assert_allclose(array, load_images([path], (61, 83), 3)[0], atol=1e-6)


# ------------------------------------------------------------------------------ values


def test_values_by_hand():
    picture = Picture(np.array([[0, 100], [200, 400]], np.int16), 0, 400, (100, 300))

    np.testing.assert_allclose(picture.unit_range(), [[0, 0.25], [0.5, 1]])
    np.testing.assert_allclose(picture.unit_range("window"), [[0, 0], [0.5, 1]])
    np.testing.assert_allclose(picture.unit_range((0, 200)), [[0, 0.5], [1, 1]])
    assert picture.display()[..., 1].tolist() == [[0, 0], [128, 255]]
    assert picture.size == (2, 2)


def test_low_values_are_white():
    """MONOCHROME1: a pair of numbers is turned, too."""
    picture = Picture(np.array([[0, 100], [200, 400]], np.int16), 400, 0)

    np.testing.assert_allclose(picture.unit_range(), [[1, 0.75], [0.5, 0]])
    np.testing.assert_allclose(picture.unit_range((0, 200)), [[1, 0.5], [0, 0]])


@pytest.mark.parametrize("low", [1e6, 0.0, -1e30])
@pytest.mark.parametrize("width", [0.01, 1e-50, 1e30])
def test_narrow_and_wide_ranges_of_floats(low, width):
    """In float32 their ends would be equal, or their difference infinite."""
    pixels = np.array([[low, low + width]])
    picture = Picture(pixels, pixels.min(), pixels.max())

    expected = [0, 0] if low + width == low else [0, 1]
    assert picture.unit_range().tolist() == [expected]


def test_constant_picture_is_black():
    assert Picture(np.full((2, 2), 7.0), 7.0, 7.0).unit_range().tolist() == [[0, 0]] * 2


def test_window_of_a_picture_without_one_is_its_own_range():
    picture = Picture(np.array([[0, 255]], np.uint8), 0, 255)

    assert picture.unit_range("window").tolist() == [[0, 1]]


@pytest.mark.parametrize("values", ["type", (3, 3), (1, 2, 3)])
def test_values_of_no_kind(values):
    with pytest.raises(ValueError, match="pair of different numbers"):
        Picture(np.zeros((2, 2)), 0, 1).unit_range(values)


def test_channels_of_no_kind():
    with pytest.raises(ValueError, match="must be 1 or 3"):
        Picture(np.zeros((2, 2)), 0, 1).array((2, 2), 2)


# --------------------------------------------------------------------------- addresses


def test_addresses(tmp_path):
    assert parse_address("a.nii.gz") == (Path("a.nii.gz"), None)
    assert parse_address("a.nii.gz#12") == (Path("a.nii.gz"), range(12, 13))
    assert parse_address("b/a#1.nii#2:5") == (Path("b/a#1.nii"), range(2, 5))
    odd = tmp_path / "a#1"
    odd.write_bytes(b"x")
    assert parse_address(odd) == (odd, None)
    with pytest.raises(ValueError, match="start < stop"):
        parse_address("a.nii#5:5")


def test_one_of_several_must_be_named(tmp_path):
    pages = np.zeros((3, 12, 20), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="minisblack")

    with pytest.raises(ImageReadError, match=r"3 images.*as in a\.tif#0"):
        read_image(tmp_path / "a.tif")
    with pytest.raises(ImageReadError, match="no image 3; it has 3"):
        read_image(f"{tmp_path / 'a.tif'}#3")


# --------------------------------------------------------------------------- bad files


def encoded(kind, pixels=COLOUR, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def lzw_16(cut):
    data = cv2.imencode(".tif", COLOUR_16, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1]
    return data.tobytes()[:cut]


BROKEN = {
    "text.png": b"not an image at all",
    "half.png": encoded("PNG")[:300],
    "half.jpg": encoded("JPEG", quality=95)[:-200],
    "half.bmp": encoded("BMP")[:-100],
    "half.tif": encoded("TIFF", GREY_16)[:-300],
    "half_deflated.tif": encoded("TIFF", compression="tiff_deflate")[:400],
    "half_16_bit.png": cv2.imencode(".png", COLOUR_16)[1].tobytes()[:-60],
    "half_16_bit.tif": lzw_16(500),
    "half.gif": encoded("GIF")[:-150],
    "head.png": encoded("PNG")[:20],
    "page.html": b"<html><body>404</body></html>",
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_file(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])

    with pytest.raises(ImageReadError, match="cannot be read as an image") as caught:
        read_image(tmp_path / name)

    assert caught.value.path == tmp_path / name
    assert caught.value.reason
    assert "\n" not in caught.value.reason


def test_missing_empty_and_folder(tmp_path):
    (tmp_path / "empty.png").touch()

    for path, why in [
        ("no.png", "missing"),
        ("empty.png", "empty"),
        ("", "not a file"),
    ]:
        with pytest.raises(ImageReadError, match=why):
            read_image(tmp_path / path)


def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path):
    save(tmp_path / "a.png", np.zeros((300, 400), np.uint8))

    with pytest.raises(ImageReadError, match="400 x 300 pixels, more than 100000"):
        read_image(tmp_path / "a.png", Limits(max_pixels=100_000))


def test_too_many_bytes(tmp_path):
    path = save(tmp_path / "a.bmp", COLOUR)

    with pytest.raises(ImageReadError, match="bytes, more than 100"):
        read_image(path, Limits(max_bytes=100))


def test_bomb_of_pillow(tmp_path):
    """A header that claims 65,535 x 65,535 pixels."""
    data = bytearray(encoded("BMP"))
    data[18:26] = (65535).to_bytes(4, "little") * 2
    (tmp_path / "a.bmp").write_bytes(data)

    with pytest.raises(ImageReadError, match="more than 134217728 pixels"):
        read_image(tmp_path / "a.bmp")


def claimed_tiff(pages):
    """TIFF of 8-bit grey whose pages have sizes that are only claimed: no pixels."""
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as tiff:
        for _ in pages:
            tiff.write(np.zeros((1, 1), np.uint8), metadata=None)
    data = bytearray(file.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as tiff:
        for page, size in zip(tiff.pages, pages, strict=True):
            for tag, number in zip((257, 256), size, strict=True):
                at = page.tags[tag].valueoffset
                length = 4 if page.tags[tag].dtype == 4 else 2
                data[at : at + length] = number.to_bytes(length, "little")
    return bytes(data)


@pytest.mark.parametrize("pages", [[(20000, 10000)], [(1, 1), (20000, 10000)]])
def test_limits_beyond_those_of_pillow(tmp_path, pages):
    """200 million pixels: fewer than are allowed here, more than Pillow opens."""
    (tmp_path / "a.tif").write_bytes(claimed_tiff(pages))
    address = f"{tmp_path / 'a.tif'}#{len(pages) - 1}"

    with pytest.raises(ImageReadError, match=r"than Pillow opens \(178956970\)"):
        read_image(address, Limits(max_pixels=300_000_000))


@pytest.mark.parametrize(
    ("pixels", "page"),
    [(GREY, 240), (GREY_16, 480), (COLOUR, 720), (COLOUR_16, 1440), (GREY > 127, 30)],
    ids=["8 bit", "16 bit", "colour", "16 bit colour", "1 bit"],
)
def test_pages_of_a_tiff_are_limited_together(tmp_path, pixels, page):
    """12 x 20 pixels, three pages, of `page` bytes each; compressed, as bombs are."""
    kind = "rgb" if pixels.ndim == 3 else "minisblack"
    with tifffile.TiffWriter(tmp_path / "a.tif") as tiff:
        for _ in range(3):
            options = {} if pixels.dtype == bool else {"compression": "zlib"}
            tiff.write(
                np.zeros_like(pixels), photometric=kind, metadata=None, **options
            )
    size, most = (tmp_path / "a.tif").stat().st_size, 3 * page - 1
    reason = f"3 pages of {page} bytes unpacked, together more than {most}"

    with (
        Image.open(tmp_path / "a.tif") as image,
        pytest.raises(ImageReadError, match=reason),
    ):
        RasterFile(tmp_path / "a.tif", image, Limits(max_bytes=most))
    with open_image(tmp_path / "a.tif", Limits(max_bytes=max(3 * page, size))) as file:
        assert file.read(2).size == (12, 20)


def test_a_tiff_bomb_of_pages_is_not_opened(tmp_path):
    pages = np.zeros((9, 300, 400), np.uint8)
    options = {"compression": "zlib", "photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", pages, **options)
    reason = "9 pages of 120000 bytes unpacked, together more than 1000000"

    with (
        pytest.raises(ImageReadError, match=reason),
        open_image(tmp_path / "a.tif", Limits(max_bytes=1_000_000)),
    ):
        pass


def test_nan_in_a_float_tiff(tmp_path):
    pixels = np.zeros((4, 4), np.float32)
    pixels[1, 2] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", pixels)

    with pytest.raises(ImageReadError, match="1 values are NaN"):
        read_image(tmp_path / "a.tif")


def test_what_a_file_is_is_told_by_its_content(tmp_path):
    """A JPEG named .png."""
    (tmp_path / "a.png").write_bytes(encoded("JPEG"))

    assert read_image(tmp_path / "a.png").size == (12, 20)


def test_the_error_survives_pickle():
    error = pickle.loads(pickle.dumps(ImageReadError("a.png", "empty")))

    assert (error.path.name, error.reason) == ("a.png", "empty")
    assert str(error) == "a.png cannot be read as an image: empty"


# ------------------------------------------------------------- faults of the machine


@pytest.fixture
def no_more_files():
    """`with no_more_files():` this process can open no further file."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited():
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.open(os.devnull, os.O_RDONLY)  # that the next would get
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)

    return limited


@pytest.fixture(params=["a.png", "a.tif", "a.nii", "a.nii.gz", "a.dcm"])
def sound(request, tmp_path):
    """A file that can be read, and was, so that all modules are there."""
    path = tmp_path / request.param
    if path.suffix in (".nii", ".gz"):
        nibabel.save(nibabel.Nifti1Image(GREY, np.eye(4)), path)
    elif path.suffix == ".dcm":
        write_dicom(path, GREY_16)
    else:
        save(path, GREY)
    read_image(path)
    return path


def test_too_many_open_files_are_no_fault_of_the_file(no_more_files, sound):
    with no_more_files(), pytest.raises(OSError, match="open files") as caught:
        read_image(sound)

    assert caught.value.errno == errno.EMFILE
    assert read_image(sound).size


@pytest.mark.parametrize("sound", ["a.png", "a.nii", "a.nii.gz"], indirect=True)
def test_too_many_open_files_while_it_is_read(no_more_files, sound):
    with open_image(sound) as file:
        with no_more_files(), pytest.raises(OSError, match="open files") as caught:
            file.read(0)
        assert file.read(0).size

    assert caught.value.errno == errno.EMFILE


@pytest.mark.parametrize("code", FAULTS_OF_THE_MACHINE)
def test_faults_of_the_machine_pass(tmp_path, code):
    fault = OSError(code, os.strerror(code))

    with pytest.raises(OSError) as caught, _reasons(tmp_path):  # noqa: PT011
        raise fault

    assert caught.value is fault


def test_other_faults_are_those_of_the_file(tmp_path):
    with pytest.raises(ImageReadError, match="Input/output"), _reasons(tmp_path):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
