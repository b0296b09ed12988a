"""Whole image files of every kind that `hrcam explain` reads, from one picture each.

A picture is float `(height, width)` in [0, 1], as of `hrcam.datasets.simulated`. Each
kind of `KINDS` writes it as a file; volumes and multi-page files have `SLICES` images,
the picture and its mirror images. Nothing in a file depends on when it was written.
"""

import gzip
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import nibabel
import numpy as np
from PIL import Image
from pydicom import FileDataset, FileMetaDataset, uid
from pydicom.encaps import encapsulate

SLICES = 3
EMPTY = (  # elements that must be there, but need no value
    *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID"),
    *("AccessionNumber", "ReferringPhysicianName", "Manufacturer"),
    "PositionReferenceIndicator",
)
ROOT_UID = "1.2.826.0.1.3680043.8.498."  # of examples, pydicom's
AFFINE = np.diag([0.9, 0.9, 2.5, 1.0])


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        suffix: How its name ends.
        write: `write(path, picture)`.
        images: How many images a file of it has.
    """

    suffix: str
    write: Callable[[Path, np.ndarray], None]
    images: int = 1


def grey(picture: np.ndarray, bits: int = 8) -> np.ndarray:
    """The picture in 8 or 16 bits."""
    white = 2**bits - 1
    return np.rint(picture * white).astype(np.uint8 if bits == 8 else np.uint16)


def colour(picture: np.ndarray) -> np.ndarray:
    """The picture as RGB, the blue inverted."""
    pixels = grey(picture)
    return np.stack([pixels, pixels, 255 - pixels], axis=-1)


def stack(picture: np.ndarray) -> np.ndarray:
    """`(slices, height, width)`: the picture, mirrored, upside down."""
    return np.stack([picture, picture[:, ::-1], picture[::-1]])


def write_pillow(
    path: Path, picture: np.ndarray, convert: Callable = grey, **options
) -> None:
    """Writes a file of the format that its suffix says."""
    Image.fromarray(convert(picture)).save(path, **options)


def write_pages(path: Path, picture: np.ndarray) -> None:
    """Writes a TIFF of some pages."""
    first, *others = [Image.fromarray(grey(page)) for page in stack(picture)]
    first.save(path, save_all=True, append_images=others)


def write_dicom(
    path: Path, picture: np.ndarray, syntax: str = uid.ExplicitVRLittleEndian
) -> None:
    """Writes a CT slice of 16 bits, of 8 bits in baseline JPEG."""
    dataset(path, picture, syntax).save_as(path, enforce_file_format=True)


def dataset(
    path: Path, picture: np.ndarray, syntax: str = uid.ExplicitVRLittleEndian
) -> FileDataset:
    """A CT slice; its identifiers follow from its file's name."""
    header = _header(path)
    is_jpeg = syntax == uid.JPEGBaseline8Bit
    pixels = grey(picture, 8 if is_jpeg else 16)
    header.Rows, header.Columns = pixels.shape
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated = header.BitsStored = 8 * pixels.itemsize
    header.HighBit, header.PixelRepresentation = header.BitsStored - 1, 0
    header.RescaleSlope, header.RescaleIntercept = 1, -1024
    header.PixelData = pixels.tobytes()
    header["PixelData"].VR = "OW"
    header.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    if is_jpeg:
        stream = cv2.imencode(".jpg", pixels)[1].tobytes()
        header.PixelData = encapsulate([stream + b"\0" * (len(stream) % 2)])
        header["PixelData"].VR = "OB"
        header["PixelData"].is_undefined_length = True
        header.file_meta.TransferSyntaxUID = syntax
    elif uid.UID(syntax).is_encapsulated:
        header.compress(syntax, generate_instance_uid=False)
    else:
        header.file_meta.TransferSyntaxUID = syntax
    return header


def write_nifti(path: Path, picture: np.ndarray) -> None:
    """Writes a volume of 16 bits, compressed where its name ends so."""
    volume = grey(stack(picture), 16).astype(np.int32).transpose(2, 1, 0)
    data = nibabel.Nifti1Image(volume, AFFINE).to_bytes()
    is_packed = path.name.endswith(".gz")
    path.write_bytes(gzip.compress(data, mtime=0) if is_packed else data)


def _header(path: Path) -> FileDataset:
    """What a CT slice must have, besides its pixels."""
    meta = FileMetaDataset()
    header = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    number = ROOT_UID + str(int.from_bytes(path.name.encode()[:12], "big"))
    header.SOPClassUID = meta.MediaStorageSOPClassUID = uid.CTImageStorage
    header.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = number
    header.StudyInstanceUID, header.SeriesInstanceUID = number + ".1", number + ".2"
    header.FrameOfReferenceUID = number + ".3"
    header.Modality, header.PatientID, header.PatientName = "CT", "SIM", "Simulated"
    for keyword in EMPTY:
        setattr(header, keyword, "")
    header.SeriesNumber = header.InstanceNumber = 1
    header.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    header.PixelSpacing, header.SliceThickness = [0.9, 0.9], 2.5
    header.ImagePositionPatient = [0, 0, 0]
    header.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    return header


KINDS = {
    "PNG": Kind(".png", write_pillow),
    "PNG, 16 bit": Kind(".png", partial(write_pillow, convert=partial(grey, bits=16))),
    "PNG, colour": Kind(".png", partial(write_pillow, convert=colour)),
    "JPEG": Kind(".jpg", write_pillow),
    "JPEG, colour": Kind(".jpeg", partial(write_pillow, convert=colour)),
    "TIFF": Kind(".tif", write_pillow),
    "TIFF, 16 bit": Kind(
        ".tif",
        partial(write_pillow, convert=partial(grey, bits=16), compression="tiff_lzw"),
    ),
    "TIFF, pages": Kind(".tiff", write_pages, SLICES),
    "BMP": Kind(".bmp", write_pillow),
    "GIF": Kind(".gif", write_pillow),
    "DICOM": Kind(".dcm", write_dicom),
    "DICOM, RLE": Kind(".dcm", partial(write_dicom, syntax=uid.RLELossless)),
    "DICOM, JPEG": Kind(".dcm", partial(write_dicom, syntax=uid.JPEGBaseline8Bit)),
    "DICOM, JPEG 2000": Kind(".dcm", partial(write_dicom, syntax=uid.JPEG2000Lossless)),
    "DICOM, deflated": Kind(
        ".dcm", partial(write_dicom, syntax=uid.DeflatedExplicitVRLittleEndian)
    ),
    "NIfTI": Kind(".nii", write_nifti, SLICES),
    "NIfTI, gz": Kind(".nii.gz", write_nifti, SLICES),
}
