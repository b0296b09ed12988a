"""NIfTI-1 and NIfTI-2 volumes in one file, `.nii` or `.nii.gz`, slice by slice.

nibabel reads the header. Each frame is one axial slice: the slices lie along the
storage axis that is closest to superior-inferior by the affine, and have that axis's
voxel index, as in viewers. It is shown in radiological manner: rows from anterior to
posterior, columns from the patient's right to the left. Axes are exchanged and turned,
nothing is resampled, so that each pixel is one voxel.

Choices that are ours:

* Where an axis has one voxel only, the file is one image and the slice lies across
  that axis, whatever its plane: of several such axes the axial one, else the first.
  Coronal images have the head on top and the right on the left; sagittal ones the
  head on top and the face on the left.
* A file without an affine (both codes 0) is read with nibabel's default: the third
  axis is axial, the first runs to the left.
* Values are after `scl_slope` and `scl_inter` (float64); without a scaling the type is
  the file's. Black and white are the lowest and highest finite value of the volume;
  `cal_min` and `cal_max` are the display window.

The header's extensions and texts are never read. The values are copied once, unpacked
if they are compressed, into a temporary file without a name, by the size that the
header claims: slices along any axis then cost what they hold, and a source that is
cut short meanwhile does not end the process, as mapped into memory it would. `TMPDIR`
says where.

Source: the fields of the header, https://nifti.nimh.nih.gov/nifti-1.
"""

import gzip
import logging
import math
import tempfile
import zlib
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from nibabel import Nifti1Header, Nifti2Header, io_orientation
from nibabel.spatialimages import HeaderDataError

from hrcam.imaging.picture import ImageReadError, Picture
from hrcam.imaging.read import Limits

LOG = logging.getLogger(__name__)  # of what nibabel mends in a header
LOG.addHandler(logging.NullHandler())
GZIP_START = b"\x1f\x8b"
CHUNK = 2**20
SUPERIOR = 2  # of the world's axes: right, anterior, superior


class Layout(NamedTuple):
    """How slices lie in a volume.

    Attributes:
        axis: The storage axis that counts the slices.
        rows: The one that runs down an image.
        columns: The one that runs along its rows.
        row_step: -1 where the rows are stored from the bottom.
        column_step: -1 where the columns are stored from the right.
    """

    axis: int
    rows: int
    columns: int
    row_step: int
    column_step: int

    def slice_of(self, volume: np.ndarray, frame: int) -> np.ndarray:
        """Returns one slice as it is shown: a view, to read from or to write to."""
        plane = np.moveaxis(volume, (self.axis, self.rows, self.columns), (0, 1, 2))
        return plane[frame, :: self.row_step, :: self.column_step]


def open_nifti(path: Path, limits: Limits) -> "NiftiFile":
    """Opens a file by its header; see `hrcam.imaging.open_image`."""
    return NiftiFile(path, _read_header(path), limits)


class NiftiFile:
    """An open file; see `hrcam.imaging.read.OpenImage`.

    Attributes:
        frames: The numbers of its slices.
        header: nibabel's, without extensions.
        affine: `(4, 4)` float64, from voxels to millimetres (right, anterior,
            superior).
        shape: Of the volume, three axes.
        layout: How its slices lie in it.
    """

    def __init__(self, path: Path, header: Nifti1Header | Nifti2Header, limits: Limits):
        self.header, self._path = header, path
        self.shape = _shape(path, header)
        self._dtype = _dtype(path, header)
        self.affine = header.get_best_affine()
        self.layout = _layout(path, self.affine, self.shape)
        self._offset = header.get_data_offset()
        self._scaling = header.get_slope_inter()
        self._check_size(limits)
        self.frames = range(self.shape[self.layout.axis])
        self._stored, self._failure = None, None

    def read(self, frame: int) -> Picture:
        """Returns a slice."""
        volume = self._voxels.reshape(self.shape, order="F")
        pixels = self._values(np.array(self.layout.slice_of(volume, frame), order="C"))
        if pixels.dtype.kind == "f":
            wrong = pixels.size - np.count_nonzero(np.isfinite(pixels))
            if wrong:
                raise ImageReadError(
                    self._path,
                    f"{wrong} values of slice {frame} are NaN or infinite; "
                    "`numpy.nan_to_num` mends such a volume",
                )
        return Picture(pixels, *self._range, self._window())

    def close(self) -> None:
        """Lets go of the file."""
        self._stored = None

    @property
    def _voxels(self) -> np.ndarray:
        """The stored values in storage order, on disk; copied once, if it can be.

        Kept is a fault of the file only: on a disk that is full now there is room
        later.
        """
        if self._failure is not None:
            raise ImageReadError(self._path, self._failure)
        if self._stored is None:
            try:
                self._stored = self._copied()
            except ImageReadError as error:
                self._failure = error.reason
                raise
        return self._stored

    def _copied(self) -> np.ndarray:
        count = math.prod(self.shape)
        with tempfile.TemporaryFile() as file:
            with _unpacked(self._path) as source:
                _skip(source, self._offset, self._path)
                _copy(source, file, count * self._dtype.itemsize, self._path)
            file.flush()
            return np.memmap(file, self._dtype, "r", 0, (count,))

    @cached_property
    def _range(self) -> tuple[float, float]:
        """The lowest and highest finite value; there is one in the slice just read."""
        lows, highs = [], []
        for start in range(0, len(self._voxels), CHUNK):
            values = self._values(self._voxels[start : start + CHUNK])
            values = values[np.isfinite(values)]
            if values.size:
                lows.append(values.min())
                highs.append(values.max())
        low, high = float(min(lows)), float(max(highs))
        if max(-low, high, high - low) > np.finfo(np.float32).max:
            reason = f"values of {low:g} to {high:g}, beyond 32-bit floats"
            raise ImageReadError(self._path, reason)
        return low, high

    def _values(self, stored: np.ndarray) -> np.ndarray:
        """Stored values after the header's scaling, in the machine's byte order."""
        slope, inter = self._scaling
        if slope is None or (slope, inter) == (1, 0):
            return stored.astype(stored.dtype.newbyteorder("="))
        with np.errstate(over="ignore", invalid="ignore"):  # becomes inf or NaN: read()
            return stored.astype(np.float64) * slope + inter

    def _window(self) -> tuple[float, float] | None:
        low, high = float(self.header["cal_min"]), float(self.header["cal_max"])
        is_one = math.isfinite(low) and math.isfinite(high) and low < high
        return (low, high) if is_one else None

    def _check_size(self, limits: Limits) -> None:
        """Refuses what the file cannot hold, or is more than is allowed."""
        height = self.shape[self.layout.rows]
        width = self.shape[self.layout.columns]
        needed = self._offset + math.prod(self.shape) * self._dtype.itemsize
        held = self._path.stat().st_size
        if height * width > limits.max_pixels:
            reason = f"{width} x {height} pixels, more than {limits.max_pixels}"
        elif needed > limits.max_bytes:
            reason = f"{needed} bytes unpacked, more than {limits.max_bytes}"
        elif needed > held and not _is_packed(self._path):
            reason = f"cut off: {held} bytes of {needed}"
        else:
            return
        raise ImageReadError(self._path, reason)


def _read_header(path: Path) -> Nifti1Header | Nifti2Header:
    """Reads the header alone; extensions, which follow it, may be of any size."""
    with _unpacked(path) as file:
        start = _read(file, Nifti2Header.sizeof_hdr, path)
    marks = start[344:348], start[4:8]  # where NIfTI-1 and NIfTI-2 have theirs
    if b"ni1\0" in marks or b"ni2\0" in marks:
        reason = "header and values in two files (.hdr, .img): save them as one .nii"
        raise ImageReadError(path, reason)
    kind = Nifti1Header if marks[0] == b"n+1\0" else None
    kind = Nifti2Header if marks[1] == b"n+2\0" else kind
    if kind is None or len(start) < kind.sizeof_hdr:
        raise ImageReadError(path, "no NIfTI file, or damaged at its start")
    try:
        with np.errstate(all="ignore"):
            header = kind(start[: kind.sizeof_hdr], check=False)
            header.check_fix(LOG, error_level=40)
            header.get_slope_inter()
            header.get_best_affine()
            is_sound = header.get_data_offset() >= kind.single_vox_offset
    except (HeaderDataError, ValueError, ArithmeticError):
        is_sound = False
    if not is_sound:
        raise ImageReadError(path, "its header is damaged")
    return header


def _shape(path: Path, header: Nifti1Header | Nifti2Header) -> tuple[int, int, int]:
    shape = tuple(map(int, header.get_data_shape()))
    if len(shape) < 2 or min(shape) < 1:
        raise ImageReadError(path, f"no image has the dimensions {shape}")
    volumes = math.prod(shape[3:])
    if volumes > 1:
        reason = f"{len(shape)}-D, {volumes} volumes: split it first, into one a file"
        raise ImageReadError(path, reason)
    return (*shape, 1)[:3]


def _dtype(path: Path, header: Nifti1Header | Nifti2Header) -> np.dtype:
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        kind = "colour" if dtype.names else "complex"
        reason = f"{kind} voxels: save one number a voxel"
        raise ImageReadError(path, reason)
    return dtype


def _layout(path: Path, affine: np.ndarray, shape: tuple[int, int, int]) -> Layout:
    """Finds the slices' axis, and turns the image's axes as radiologists do.

    Right, anterior and superior are where the world's coordinates are high, and all
    three come first in an image: along both its axes coordinates fall.
    """
    if not np.isfinite(affine).all():
        raise ImageReadError(path, "its affine is not finite")
    world, direction = io_orientation(affine).T
    if np.isnan(world).any() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ImageReadError(path, "its affine is singular")
    axial = int(np.flatnonzero(world == SUPERIOR)[0])
    thin = [axis for axis in range(3) if shape[axis] == 1]
    axis = axial if axial in thin or not thin else thin[0]
    columns, rows = sorted({0, 1, 2} - {axis}, key=lambda other: world[other])
    return Layout(axis, rows, columns, -int(direction[rows]), -int(direction[columns]))


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP_START


def _unpacked(path: Path) -> BinaryIO:
    return gzip.open(path) if _is_packed(path) else path.open("rb")


def _skip(file: BinaryIO, count: int, path: Path) -> None:
    while count:
        count -= len(_read(file, min(count, CHUNK), path, whole=True))


def _copy(source: BinaryIO, target: BinaryIO, count: int, path: Path) -> None:
    """Copies what the header claims, and checks the stream's own sum at its end."""
    while count:
        data = _read(source, min(count, CHUNK), path, whole=True)
        target.write(data)
        count -= len(data)
    _read(source, 1, path)


def _read(file: BinaryIO, count: int, path: Path, whole: bool = False) -> bytes:
    try:
        data = file.read(count)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = "its compressed values are damaged or cut off"
        raise ImageReadError(path, reason) from error
    if whole and not data:
        raise ImageReadError(path, "cut off: fewer values than its header says")
    return data
