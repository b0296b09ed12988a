"""Where a DICOM file has its frames, and their bytes: checked, none decoded yet.

Compressed frames lie in fragments, one frame in one or several. They are listed once,
without reading them, so that each frame costs one read. Which fragments are a frame
is told by their number, else by the basic offset table, else by the mark that ends
each compressed stream. A part that reaches beyond the file, a list without its end, a
JPEG stream without its end mark, or one of another size than the header says, is an
error: decoders fill up what is missing, or take memory for what the stream claims.
A JPEG stream that is damaged inside but ends as it should is not noticed.
"""

import struct
import zlib
from itertools import pairwise
from typing import BinaryIO, NamedTuple

import numpy as np
from pydicom import FileDataset, uid
from pydicom.filereader import read_dataset, read_partial, read_preamble
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32
from rle.rle import decode_segment

from hrcam.imaging._dicom_values import RefusedError
from hrcam.imaging.read import Limits

PIXELS = {0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
PIXELS[0x7FE00010] = "PixelData"
UNDEFINED = 0xFFFFFFFF
JPEG_START = b"\xff\xd8"
JPEG_2000_START = b"\xff\x4f\xff\x51"
StreamSize = tuple[int, int, int, int]  # rows, columns, samples, bits of each
_SIZE_MARKS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # SOF, of JPEG-LS too


class PixelElement(NamedTuple):
    """The element with the pixels.

    Attributes:
        keyword: Its name.
        vr: Its value representation; `None`: not told.
        start: Where its value begins.
        length: Bytes of its value, or `UNDEFINED`.
    """

    keyword: str
    vr: str | None
    start: int
    length: int


def read_header(
    file: BinaryIO, limits: Limits
) -> tuple[FileDataset, BinaryIO, PixelElement | None]:
    """Reads all that is before the pixels.

    Returns:
        The header; the bytes it came from, which of a deflated file are in memory;
        and the element with the pixels, if there is one.

    Raises:
        RefusedError: If a deflated file is cut off or inflates to too much.
    """
    _check_inflated(file, limits)
    file.seek(0)
    found = []

    def at_pixels(tag: int, vr: str | None, length: int) -> bool:
        found[:] = [(tag, vr, length)] if tag in PIXELS else []
        return bool(found)

    header = read_partial(file, at_pixels, force=True)
    source, header.buffer = header.buffer or file, None
    if not found:
        return header, source, None
    tag, vr, length = found[0]
    start = source.tell() + (12 if vr in EXPLICIT_VR_LENGTH_32 else 8)
    return header, source, PixelElement(PIXELS[tag], vr, start, length)


def _check_inflated(file: BinaryIO, limits: Limits) -> None:
    """A deflated file is in memory whole: it may be as large as one large image."""
    read_preamble(file, force=True)
    meta = read_dataset(file, False, True, stop_when=lambda tag, *_: tag >> 16 != 2)
    if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
        return
    allowed = min(limits.max_bytes, 4 * limits.max_pixels)
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    inflated = 0
    while not engine.eof:
        chunk = file.read(2**14)
        if not chunk:
            raise RefusedError("cut off: its deflated data do not end")
        inflated += len(engine.decompress(chunk))
        if inflated > allowed:
            raise RefusedError(f"it inflates to more than {allowed} bytes")


def check_length(source: BinaryIO, element: PixelElement, needed: int) -> None:
    """Checks that uncompressed pixels are all there.

    Raises:
        RefusedError: If they are not.
    """
    if element.length == UNDEFINED:
        raise RefusedError("its pixels are compressed, but it does not say how")
    held = min(element.length, source.seek(0, 2) - element.start)
    if held < needed:
        raise RefusedError(f"cut off: {held} bytes of pixels, where {needed} are due")


def read_bits(
    source: BinaryIO, element: PixelElement, frame: int, size: tuple[int, int]
) -> np.ndarray:
    """Returns a frame of one bit a pixel; frames need not begin with a byte."""
    length = size[0] * size[1]
    first, rest = divmod(frame * length, 8)
    source.seek(element.start + first)
    data = np.frombuffer(source.read((rest + length + 7) // 8), np.uint8)
    bits = np.unpackbits(data, bitorder="little")[rest : rest + length]
    return bits.reshape(size)


def frame_fragments(
    source: BinaryIO, element: PixelElement, frames: int
) -> list[list[tuple[int, int]]]:
    """Returns for each compressed frame the offset and length of its fragments.

    Raises:
        RefusedError: If the file is cut off, or has fewer frames.
    """
    (table_at, table_length), *fragments = _items(source, element.start)
    if frames == 1 and fragments:
        return [fragments]
    if len(fragments) == frames:
        return [[fragment] for fragment in fragments]
    source.seek(table_at)
    table = np.frombuffer(source.read(table_length // 4 * 4), "<u4")
    if len(table) == frames:
        numbers = {at - 8: number for number, (at, _) in enumerate(fragments)}
        first = fragments[0][0] - 8 if fragments else 0
        starts = [numbers.get(first + int(offset), len(fragments)) for offset in table]
    else:
        ends = [has_end(_read(source, [fragment])) for fragment in fragments]
        starts = [0, *(number + 1 for number, end in enumerate(ends[:-1]) if end)]
    parts = [fragments[a:b] for a, b in pairwise([*starts, len(fragments)])]
    if starts[:1] != [0] or len(parts) != frames or not all(parts):
        raise RefusedError(
            f"its {len(fragments)} compressed parts are not {frames} frames"
        )
    return parts


def _items(source: BinaryIO, start: int) -> list[tuple[int, int]]:
    """Lists the offset table and the fragments: offset and length of each."""
    source.seek(start)
    items = []
    while True:
        head = source.read(8)
        group, number, length = struct.unpack("<HHL", head.ljust(8, b"\0"))
        if (group, number) == (0xFFFE, 0xE0DD) and items:
            return items
        if (group, number) != (0xFFFE, 0xE000):  # or beyond the end of the file
            raise RefusedError("cut off within its compressed pixels")
        items.append((source.tell(), length))
        source.seek(length, 1)


def read_frame(
    source: BinaryIO, fragments: list[tuple[int, int]], syntax: uid.UID
) -> tuple[bytes, StreamSize | None]:
    """Returns a compressed frame, and the size that its stream says.

    Returns:
        The stream; and its size, `None` for RLE, which has none.

    Raises:
        RefusedError: If the stream has no end or no size.
    """
    stream = _read(source, fragments)
    if syntax == uid.RLELossless:
        return stream, None
    is_jpeg = stream.startswith(JPEG_START)
    size = _jpeg_size(stream) if is_jpeg else _jpeg_2000_size(stream)
    if size is None or not has_end(stream):
        raise RefusedError("its compressed pixels are cut off or damaged")
    return stream, size


def check_rle(stream: bytes, pixels: int) -> None:
    """Checks that each byte plane of an RLE frame has one byte a pixel, or a pad more.

    RLE does not say how large an image is, and decoders drop what is too much.

    Raises:
        RefusedError: If not.
    """
    count, *starts = struct.unpack_from("<16L", stream.ljust(64, b"\0"))
    ends = [*starts[1:count], len(stream)]
    for start, end in zip(starts[:count], ends, strict=False):
        if len(decode_segment(stream[start:end])) - pixels not in (0, 1):
            raise RefusedError("its compressed pixels have not the size of its header")


def _read(source: BinaryIO, fragments: list[tuple[int, int]]) -> bytes:
    parts = []
    for at, length in fragments:
        source.seek(at)
        parts.append(source.read(length))
    return b"".join(parts)


def has_end(stream: bytes) -> bool:
    """Has a JPEG stream its end mark? Some bytes of padding may follow."""
    return b"\xff\xd9" in stream[-10:]


def _jpeg_size(stream: bytes) -> StreamSize | None:
    at = 2
    while len(stream) >= at + 10 and stream[at] == 0xFF:
        mark, length, bits = struct.unpack_from(">xBHB", stream, at)
        if mark in _SIZE_MARKS:
            return (*struct.unpack_from(">HHB", stream, at + 5), bits)
        at += 1 if mark == 0xFF else 2 + length  # FF may be repeated before a mark
    return None


def _jpeg_2000_size(stream: bytes) -> StreamSize | None:
    """That of the one start there is; before it may be boxes of a JP2 file."""
    at = stream.find(JPEG_2000_START)
    if stream.count(JPEG_2000_START) != 1 or len(stream) < at + 43:
        return None
    right, bottom, left, top = struct.unpack_from(">4L", stream, at + 8)
    samples, bits = struct.unpack_from(">HB", stream, at + 40)
    return bottom - top, right - left, samples, (bits & 0x7F) + 1
