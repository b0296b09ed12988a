"""DICOM images: one or many frames, compressed or not, grey or colour.

pydicom parses and decodes, one frame at a time. A frame becomes a `Picture`:

* Grey: the values after the Modality LUT or rescaling (`_dicom_values`); black and
  white are the range of the stored bits, rescaled (over all frames, where each has a
  rescaling of its own), or that of the Modality LUT's entries, or for float pixels the
  lowest and highest finite value of the file. MONOCHROME1 swaps black and white.
* Colour (RGB, YBR, palettes): `(height, width, 3)` RGB; black is 0 and white the
  highest value of the stored bits, 255 or 65535 as a rule.

Padding values (Pixel Padding Value) are left as they are; overlays, presentation
states, real world values and the dose grid's scaling are not applied. Of a file
with more frames than its header says, the rest is left out.

What a file claims is checked before memory is taken, and a file that lacks a byte of
its pixels is refused whole. Messages name elements, never their values; pydicom's
own warnings and log records are dropped while this thread reads (`_quiet`).

Source: DICOM PS3.3 C.7.6.3 (Image Pixel), C.11.1 and C.11.2; PS3.5 8 and A.4.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

import numpy as np
from pydicom import FileDataset, uid
from pydicom.encaps import encapsulate

from hrcam.imaging import _dicom_file as raw
from hrcam.imaging import _dicom_layout as storage
from hrcam.imaging import _dicom_values as meaning
from hrcam.imaging._dicom_layout import Layout
from hrcam.imaging._dicom_values import RefusedError
from hrcam.imaging._quiet import quiet
from hrcam.imaging.picture import ImageReadError, Picture
from hrcam.imaging.read import FAULTS_OF_THE_MACHINE, Limits

LIBRARIES = ("pydicom", "pylibjpeg", "openjpeg", "_openjpeg", "libjpeg", "rle")


def open_dicom(path: Path, limits: Limits) -> "_OpenDicom":
    """Opens a DICOM file; called by `hrcam.imaging.open_image`.

    Args:
        path: The file.
        limits: What it may ask for.

    Returns:
        The open file: `frames`, `read`, `close`, and `header`, a pydicom `Dataset`
        without the pixels.

    Raises:
        ImageReadError: If it has no pixels, is cut off, too large, or of a kind that
            is not read.
    """
    file = path.open("rb")
    try:
        with _reasons(path):
            return _OpenDicom(file, path, limits)
    except BaseException:
        file.close()
        raise


class _OpenDicom:
    """An open file; see `hrcam.imaging.read.OpenImage`."""

    def __init__(self, file: BinaryIO, path: Path, limits: Limits):
        self.path, self._file = path, file
        self.header, self._source, element = raw.read_header(file, limits)
        if element is None:
            raise RefusedError(_no_pixels(self.header))
        self._element = element
        self._layout = storage.read_layout(self.header, element.keyword)
        storage.check_size(self._layout, limits)
        self._syntax = storage.transfer_syntax(self.header)
        self._decoder = storage.decoder_of(self._syntax)
        self.frames = range(self._layout.number_of_frames)
        if self._syntax.is_encapsulated:
            self._fragments = raw.frame_fragments(
                self._source, element, len(self.frames)
            )
        else:
            needed = -(-self._layout.frame_bits * len(self.frames) // 8)
            raw.check_length(self._source, element, needed)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def read(self, frame: int) -> Picture:
        """Returns a frame."""
        with _reasons(self.path):
            stored = self._stored(frame)
            layout = self._layout
            if layout.is_palette:
                table, white = self._palette
                return Picture(meaning.look_up(stored, table), 0, white)
            if not layout.is_grey:
                return Picture(stored, 0, 2**layout.bits_stored - 1)
            return self._grey(stored, frame)

    def _grey(self, stored: np.ndarray, frame: int) -> Picture:
        values = self._values(stored, frame)
        wrong = values.size - np.count_nonzero(np.isfinite(values))
        if wrong:
            raise RefusedError(f"{wrong} of its values are not finite numbers")
        black, white = self._range
        meaning.check_range(black, white)
        window = meaning.window(self.header, frame)
        if self._layout.photometric_interpretation == "MONOCHROME1":
            return Picture(values, white, black, window and window[::-1])
        return Picture(values, black, white, window)

    def _values(self, stored: np.ndarray, frame: int) -> np.ndarray:
        """The Modality LUT's or the rescaling's values of stored ones."""
        if self._table is not None:
            return meaning.look_up(stored, self._table)
        pair = meaning.rescaling(self.header, frame)
        return meaning.rescale(stored, *pair, self._stored_range)

    @cached_property
    def _stored_range(self) -> tuple[int, int]:
        layout = self._layout
        return meaning.stored_range(
            layout.bits_stored, layout.pixel_representation == 1
        )

    @cached_property
    def _table(self) -> meaning.Table | None:
        return meaning.modality_table(self.header, self._syntax.is_little_endian)

    @cached_property
    def _palette(self) -> tuple[meaning.Table, int]:
        return meaning.colour_table(self.header, self._syntax.is_little_endian)

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The lowest and highest value, as the module's docstring has it."""
        if self._table is not None:
            return float(self._table[1].min()), float(self._table[1].max())
        if self._element.keyword == "PixelData":
            pairs = meaning.rescalings(self.header)
            return meaning.rescaled_range(*self._stored_range, pairs)
        low, high = math.inf, -math.inf
        for frame in self.frames:  # one at a time in memory
            values = self._values(self._stored(frame), frame)
            finite = values[np.isfinite(values)]
            low = min(low, float(finite.min(initial=math.inf)))
            high = max(high, float(finite.max(initial=-math.inf)))
        return low, high

    def _stored(self, frame: int) -> np.ndarray:
        """A frame as it is stored, decompressed; colour as RGB, but for palettes."""
        layout = self._layout
        if self._syntax.is_encapsulated:
            pixels, told = self._decompressed(frame)
        elif layout.bits_allocated == 1:
            return raw.read_bits(
                self._source, self._element, frame, (layout.rows, layout.columns)
            )
        else:
            self._source.seek(self._element.start)
            pixels, told = self._decode(self._source, frame, layout)
        if (
            layout.samples_per_pixel == 3
            and told["photometric_interpretation"] != "RGB"
        ):
            raise RefusedError(
                "its colours are of a kind that is not read; convert it to RGB"
            )
        return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)

    def _decompressed(self, frame: int) -> tuple[np.ndarray, dict]:
        layout = self._layout._replace(number_of_frames=1)
        stream, size = raw.read_frame(
            self._source, self._fragments[frame], self._syntax
        )
        if size is not None and not layout.holds(size):
            raise RefusedError("its compressed pixels have not the size of its header")
        try:
            if self._syntax == uid.RLELossless:
                raw.check_rle(stream, layout.rows * layout.columns)
            return self._decode(encapsulate([stream], has_bot=False), 0, layout)
        except (KeyboardInterrupt, SystemExit, RefusedError):
            raise
        except BaseException as error:  # panics of Rust are beside Exception
            if _is_of_the_machine(error):
                raise
            reason = f"its pixels cannot be decompressed ({self._syntax.name})"
            if not storage.has_libjpeg(self._syntax, self._decoder):
                reason += f"; if they are more than 8 bits deep: {storage.INSTALL}"
            raise RefusedError(reason) from None

    def _decode(self, source, index: int, layout: Layout) -> tuple[np.ndarray, dict]:
        plugins = self._decoder.available_plugins
        return self._decoder.as_array(
            source,
            index=index,
            # strict where libjpeg fills up what is missing
            decoding_plugin="pyjpegls" if "pyjpegls" in plugins else "",
            transfer_syntax_uid=self._syntax,
            pixel_keyword=self._element.keyword,
            pixel_vr=self._element.vr,
            **layout._asdict(),
        )


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Makes an `ImageReadError` of what pydicom and decoders raise, without its words.

    Those may hold a header's values; so that the error before is not shown, either.
    """
    with quiet(*LIBRARIES):
        try:
            yield
        except RefusedError as error:
            raise ImageReadError(path, str(error)) from None
        except Exception as error:
            if _is_of_the_machine(error):
                raise
            reason = f"damaged, or of a kind that is not known ({type(error).__name__})"
            raise ImageReadError(path, reason) from None


def _is_of_the_machine(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno in FAULTS_OF_THE_MACHINE


def _no_pixels(header: FileDataset) -> str:
    """Says what the file is, where it says so itself."""
    if "Rows" in header:
        return "cut off before its pixels"
    kind = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    if kind not in uid.UID_dictionary:
        return "no pixels, or no DICOM file"
    return f"no pixels (a {uid.UID(kind).name})"
