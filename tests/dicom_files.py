"""Tiny DICOM files, made with pydicom."""

from pathlib import Path

import numpy as np
from pydicom import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

PATIENT = "Secret^Name"


def write_dicom(
    path: Path,
    pixels: np.ndarray | None,
    syntax: UID = ExplicitVRLittleEndian,
    frames: int | None = None,
    streams: list[bytes] | None = None,
    has_bot: bool = False,
    **elements,
) -> Path:
    """Writes a file; `elements` are added at the end, `None` takes one away.

    Args:
        path: Where.
        pixels: `(rows, columns)`, `(rows, columns, 3)`, or with frames in front;
            integers, or float32 / float64. `None`: no pixels.
        syntax: The transfer syntax; not compressed, unless `streams` are given.
        frames: How many there are; `None`: one, and the header does not say it.
        streams: The compressed frames, put in the place of the pixels.
        has_bot: Whether there is a basic offset table.
        **elements: By keyword.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    header = FileDataset(str(path), {}, b"\0" * 128, meta)
    header.set_original_encoding(syntax.is_implicit_VR, syntax.is_little_endian)
    header.SOPClassUID = meta.MediaStorageSOPClassUID = CTImageStorage
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    header.PatientName = PATIENT
    if pixels is not None:
        _add_pixels(header, pixels, frames)
    for keyword, value in elements.items():
        if value is None:
            delattr(header, keyword)
        else:
            setattr(header, keyword, value)
    if streams is not None:
        header.PixelData = encapsulate(streams, has_bot=has_bot)
        header["PixelData"].VR = "OB"
        header["PixelData"].is_undefined_length = True
    header.save_as(path, enforce_file_format=True)
    return path


def _add_pixels(header: Dataset, pixels: np.ndarray, frames: int | None) -> None:
    if frames is not None:
        header.NumberOfFrames = frames
    colour = pixels.ndim == 3 + (frames is not None)
    header.SamplesPerPixel = 3 if colour else 1
    header.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        header.PlanarConfiguration = 0
    header.Rows, header.Columns = pixels.shape[frames is not None :][:2]
    header.BitsAllocated = bits = 8 * pixels.dtype.itemsize
    if pixels.dtype.kind == "f":
        name = "FloatPixelData" if bits == 32 else "DoubleFloatPixelData"
        setattr(header, name, pixels.tobytes())
        return
    header.BitsStored, header.HighBit = bits, bits - 1
    header.PixelRepresentation = int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    header.PixelData = data + b"\0" * (len(data) % 2)
    header["PixelData"].VR = "OB" if bits == 8 else "OW"


def lookup_table(first: int, entries: list[int], bits: int = 16) -> Dataset:
    """An item of a Modality or VOI LUT Sequence."""
    item = Dataset()
    item.add_new("LUTDescriptor", "SS", [len(entries), first, bits])
    item.add_new("LUTData", "US", entries)
    return item


def group(name: str, **elements) -> Dataset:
    """An item of the functional groups sequences, with one group of one item."""
    inner, outer = Dataset(), Dataset()
    for keyword, value in elements.items():
        setattr(inner, keyword, value)
    setattr(outer, name, [inner])
    return outer
