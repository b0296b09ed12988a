"""PNG, JPEG, TIFF, BMP and GIF; pages of a TIFF are its images.

Pillow decodes, and refuses what is cut off. It makes 8 bits of 16-bit colour, so that
PNG and TIFF files of that kind are decoded once more by OpenCV, for their values; and
every PNG, as OpenCV refuses some damage that Pillow does not see.

Choices that are ours: EXIF orientation is applied, so that the picture is upright as
in a viewer. Alpha is dropped. Palettes and CMYK become RGB. Of an animation the first
picture counts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from hrcam.imaging.picture import ImageReadError, Picture
from hrcam.imaging.read import Limits

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF")
_AS_THEY_ARE = ("1", "L", "I;16", "I;16L", "I;16B", "I;16N", "I", "F", "RGB")
_MARKS = {
    b"\x89PNG": "PNG",
    b"\xff\xd8": "JPEG",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"BM": "BMP",
    b"GIF8": "GIF",
}
_ORIENTATION, _BITS, _PHOTOMETRIC, _SAMPLES = 0x0112, 258, 262, 277
_WHITE_IS_ZERO = 0


def open_raster(path: Path, limits: Limits) -> "RasterFile":
    """Opens a file; see `hrcam.imaging.open_image`."""
    try:
        with _told_bombs(path, limits):
            image = Image.open(path, formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageReadError(path, _unidentified(path)) from None
    try:
        return RasterFile(path, image, limits)
    except BaseException:
        image.close()
        raise


class RasterFile:
    """An open file; see `hrcam.imaging.read.OpenImage`."""

    def __init__(self, path: Path, image: Image.Image, limits: Limits):
        self._path, self._image, self._limits = path, image, limits
        pages = image.n_frames if image.format == "TIFF" else 1
        self.frames = range(pages)
        self._check_unpacked()

    def read(self, frame: int) -> Picture:
        """Returns a page, or the only image."""
        image = self._image
        if len(self.frames) > 1:
            image.seek(frame)
        self._check_size(*image.size)
        is_16_bit_colour = self._is_16_bit_colour()
        orientation = image.getexif().get(_ORIENTATION, 1)
        white_is_zero = _tags(image).get(_PHOTOMETRIC) == _WHITE_IS_ZERO
        if image.format == "PNG":
            self._check_png()
        with _told_bombs(self._path, self._limits):
            image.load()
        if is_16_bit_colour:
            pixels = self._by_opencv(frame)
        else:
            kept = image.mode in _AS_THEY_ARE
            pixels = np.asarray(image if kept else image.convert(_kind(image.mode)))
        if image.format != "TIFF":  # which both decoders turn themselves
            pixels = _upright(pixels, orientation)
        pixels = _native(pixels)
        self._check_finite(pixels)
        black, white = _range(pixels)
        if white_is_zero and image.mode not in ("1", "L"):  # those Pillow has inverted
            black, white = white, black
        return Picture(np.ascontiguousarray(pixels), black, white)

    def close(self) -> None:
        """Closes the file."""
        self._image.close()

    def _is_16_bit_colour(self) -> bool:
        if self._image.format == "PNG":
            with self._path.open("rb") as file:
                header = file.read(26)
            depth, kind = header[24], header[25]
            return depth == 16 and kind != 0
        bits = _tags(self._image).get(_BITS, (8,))
        return len(bits) > 1 and max(bits) == 16

    def _check_png(self) -> None:
        """Checks what Pillow lets pass: the sums of pixels, and missing rows."""
        with Image.open(self._path) as image:
            image.verify()
        data = np.fromfile(self._path, np.uint8)
        if cv2.imdecode(data, cv2.IMREAD_UNCHANGED) is None:
            raise ImageReadError(self._path, "fewer pixels than its header says")

    def _by_opencv(self, page: int) -> np.ndarray:
        data = np.fromfile(self._path, np.uint8)
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecodemulti(data, flags, range=(page, page + 1))[1]
        if not pixels or pixels[0].dtype != np.uint16:
            raise ImageReadError(self._path, "damaged, or 16 bits of an unknown colour")
        return pixels[0][..., ::-1]  # BGR

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._limits.max_pixels:
            raise ImageReadError(
                self._path,
                f"{width} x {height} pixels, more than {self._limits.max_pixels}",
            )

    def _check_unpacked(self) -> None:
        """Checks the pages of a TIFF together; all count as large as the first."""
        tags, (width, height) = _tags(self._image), self._image.size
        bits = tags.get(_SAMPLES, 1) * max(tags.get(_BITS, (1,)))
        pages, page = len(self.frames), -(-width * height * bits // 8)
        if tags and pages * page > self._limits.max_bytes:
            raise ImageReadError(
                self._path,
                f"{pages} pages of {page} bytes unpacked, together more than "
                f"{self._limits.max_bytes}",
            )

    def _check_finite(self, pixels: np.ndarray) -> None:
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            count = int((~np.isfinite(pixels)).sum())
            raise ImageReadError(self._path, f"{count} values are NaN or infinite")


@contextmanager
def _told_bombs(path: Path, limits: Limits) -> Iterator[None]:
    """Says which limit there is: Pillow has one of its own."""
    try:
        yield
    except Image.DecompressionBombError:
        most = 2 * Image.MAX_IMAGE_PIXELS
        reason = f"more pixels than Pillow opens ({most})"
        if limits.max_pixels <= most:
            reason = f"more than {limits.max_pixels} pixels"
        raise ImageReadError(path, reason) from None


def _unidentified(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    for mark, name in _MARKS.items():
        if start.startswith(mark):
            return f"begins like a {name} file, but is damaged or cut off"
    return f"no {', '.join(FORMATS)}, DICOM or NIfTI file, or damaged at its start"


def _tags(image: Image.Image) -> dict:
    """The tags of a TIFF page."""
    return image.tag_v2 if isinstance(image, TiffImagePlugin.TiffImageFile) else {}


def _kind(mode: str) -> str:
    """What a mode that is not kept becomes: grey with alpha is grey."""
    return "L" if mode in ("LA", "La") else "RGB"


def _native(pixels: np.ndarray) -> np.ndarray:
    """The same values in the machine's byte order; pages of one bit as 0 and 255."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8) * 255
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def _range(pixels: np.ndarray) -> tuple[float, float]:
    if pixels.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(pixels.dtype).max)
    return float(pixels.min()), float(pixels.max())


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes an EXIF orientation, 1 to 8: where the file's first row and column are."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels
