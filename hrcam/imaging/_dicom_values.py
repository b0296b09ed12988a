"""What the stored values of a DICOM image mean.

    value = slope * stored + intercept        rescaling, of the file or of each frame
    black, white = centre - 1/2 -+ (width - 1)/2     display window, LINEAR
    black, white = centre -+ width/2                 LINEAR_EXACT

as in the standard's part 3, C.11.1 and C.11.2 (the Modality and VOI LUT modules).
Multi-frame files of the enhanced kind have both in functional groups, a frame's own
before those that all frames share.

Choices that are ours:

* Values stay integers where slope and intercept are whole numbers: in the smallest
  type of 8, 16 or 32 bits that holds what the stored bits can become. Else they are
  float32, float64 from 32 bits on.
* SIGMOID is 1/(1 + exp(-4 (x - centre)/width)); its window is the tangent at the
  centre, which is LINEAR_EXACT's line.
* Values beyond 32-bit floats are refused, and a window there is none.
* A window whose width the standard forbids is none. One of width 1 has no ramp: white
  is the next float32 above black. With a VOI LUT and no window, the window is the
  range of values that the LUT has an entry for; its curve is left out.
* Of several windows the first is taken.
"""

import math

import numpy as np
from pydicom import Dataset
from pydicom.pixels import apply_color_lut

INTEGERS = (np.uint8, np.int8, np.uint16, np.int16, np.int32)
LARGEST = float(np.finfo(np.float32).max)
Table = tuple[int, np.ndarray]  # the first value that has an entry, and the entries


class RefusedError(ValueError):
    """Why a file is not read, in words that hold none of its header's values."""


def functional_group(header: Dataset, frame: int, name: str) -> Dataset:
    """Returns what holds for a frame; the header itself where it has no such group."""
    own = header.get("PerFrameFunctionalGroupsSequence") or []
    shared = header.get("SharedFunctionalGroupsSequence") or []
    for groups in (own[frame : frame + 1], shared[:1]):
        if groups and groups[0].get(name):
            return groups[0].get(name)[0]
    return header


def rescaling(header: Dataset, frame: int) -> tuple[float, float]:
    """Returns slope and intercept of a frame.

    Raises:
        RefusedError: If they are no numbers, or the slope is 0.
    """
    group = functional_group(header, frame, "PixelValueTransformationSequence")
    slope = _number(group.get("RescaleSlope"), 1.0)
    intercept = _number(group.get("RescaleIntercept"), 0.0)
    if slope == 0 or not math.isfinite(slope) or not math.isfinite(intercept):
        raise RefusedError("its rescale slope or intercept is 0, infinite or no number")
    return slope, intercept


def rescalings(header: Dataset) -> set[tuple[float, float]]:
    """Returns those of all frames."""
    own = header.get("PerFrameFunctionalGroupsSequence") or [None]
    return {rescaling(header, frame) for frame in range(len(own))}


def _number(value, default: float) -> float:
    """The first of a header's values; the default where it has none."""
    if value is None or (isinstance(value, str) and not value):
        return default
    return float(np.ravel(value)[0])


def stored_range(bits: int, signed: bool) -> tuple[int, int]:
    """Returns the lowest and highest value of that many bits."""
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def rescaled_range(
    low: float, high: float, pairs: set[tuple[float, float]]
) -> tuple[float, float]:
    """Returns what stored values from `low` to `high` can become."""
    ends = [slope * end + offset for slope, offset in pairs for end in (low, high)]
    return min(ends), max(ends)


def check_range(low: float, high: float) -> None:
    """Checks that 32-bit floats hold the lowest and highest value, and all between.

    Raises:
        RefusedError: If they do not.
    """
    if not max(-low, high, high - low) <= LARGEST:
        raise RefusedError("its values, or what they can become, exceed 32-bit floats")


def rescale(
    stored: np.ndarray, slope: float, intercept: float, possible: tuple[int, int]
) -> np.ndarray:
    """Returns `slope * stored + intercept`; `stored` itself if that changes nothing.

    Args:
        stored: The stored values.
        slope: Factor.
        intercept: What is added.
        possible: The lowest and highest value that the stored bits can have.
    """
    if (slope, intercept) == (1, 0):
        return stored
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        # some compressed files have values beyond their stored bits
        low, high = min(possible[0], stored.min()), max(possible[1], stored.max())
        kind = _integer_type(*rescaled_range(low, high, {(slope, intercept)}))
        if kind is not None:
            values = stored.astype(np.int64) * int(slope) + int(intercept)
            return values.astype(kind)
    with np.errstate(over="ignore", invalid="ignore"):  # counted by who calls
        values = stored.astype(np.float64) * slope + intercept
        return values.astype(np.float32 if stored.dtype.itemsize <= 2 else np.float64)


def _integer_type(low: float, high: float) -> type | None:
    for kind in INTEGERS:
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return None


def window(header: Dataset, frame: int) -> tuple[float, float] | None:
    """Returns a frame's `(black, white)` for display; `None`: it has none."""
    group = functional_group(header, frame, "FrameVOILUTSequence")
    centre = _number(group.get("WindowCenter"), math.nan)
    width = _number(group.get("WindowWidth"), math.nan)
    linear = (group.get("VOILUTFunction") or "LINEAR") == "LINEAR"
    if abs(centre) + width < LARGEST and (width >= 1 if linear else width > 0):
        if linear:
            centre, width = centre - 0.5, width - 1
        return _apart(centre - width / 2, centre + width / 2)
    if group.get("VOILUTSequence"):
        count, first, _ = group.VOILUTSequence[0].LUTDescriptor
        return _apart(float(first), float(first + (count or 2**16) - 1))
    return None


def _apart(black: float, white: float) -> tuple[float, float]:
    """Black and white that float32 tells apart."""
    above = np.nextafter(np.float32(black), np.float32(np.inf))
    return black, max(white, float(above))


def modality_table(header: Dataset, little_endian: bool) -> Table | None:
    """Returns the Modality LUT, where the file has one."""
    if not header.get("ModalityLUTSequence"):
        return None
    item = header.ModalityLUTSequence[0]
    count, first, _ = item.LUTDescriptor
    return int(first), _entries(item.LUTData, count or 2**16, little_endian)


def colour_table(header: Dataset, little_endian: bool) -> tuple[Table, int]:
    """Returns the palette, entries `(number, 3)`, and its white.

    Raises:
        RefusedError: If it has segments of a kind that is not read.
    """
    count, first, bits = header.RedPaletteColorLookupTableDescriptor
    count = count or 2**16
    if "RedPaletteColorLookupTableData" in header:
        parts = [
            _entries(header[name].value, count, little_endian)
            for name in (
                "RedPaletteColorLookupTableData",
                "GreenPaletteColorLookupTableData",
                "BluePaletteColorLookupTableData",
            )
        ]
        entries = np.stack(parts, axis=-1)
    elif bits == 8 and count > 256:  # pydicom looks these up modulo 256
        raise RefusedError(
            "its palette has 8 bits and more than 256 entries in segments"
        )
    else:
        ramp = np.arange(first, first + count, dtype=np.int32)
        entries = apply_color_lut(ramp, header)[:, :3]
    kind = np.uint8 if bits <= 8 else np.uint16
    return (int(first), entries.astype(kind)), np.iinfo(kind).max


def _entries(data, count: int, little_endian: bool) -> np.ndarray:
    """A table's entries: bytes of 8 or 16 bits each, or numbers."""
    if isinstance(data, bytes):
        wide = "<u2" if little_endian else ">u2"
        data = np.frombuffer(data, wide if len(data) >= 2 * count else np.uint8)
    entries = np.atleast_1d(np.asarray(data)).astype(np.uint16)[:count]
    if len(entries) < count:
        raise RefusedError("its lookup table is cut off")
    return entries


def look_up(stored: np.ndarray, table: Table) -> np.ndarray:
    """Returns the entries of stored values; those beyond an end have the end's."""
    first, entries = table
    return entries[np.clip(stored.astype(np.int64) - first, 0, len(entries) - 1)]
