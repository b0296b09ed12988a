"""Opens image files: PNG, JPEG, TIFF, BMP, GIF, DICOM, NIfTI.

A file holds one image or several (frames of DICOM, axial slices of NIfTI, pages of
TIFF), numbered from 0. One of them, or some, have an address:

    scan.nii.gz        every axial slice
    scan.nii.gz#12     slice 12
    scan.nii.gz#10:20  slices 10 to 19

What a file is, is told by its content, not by its name (NIfTI's by its name first, as
its mark may lie inside a compressed stream).

Files from outside may be damaged or hostile. The size that a header claims is checked
before memory is taken for it, and whatever a decoder raises becomes an
`ImageReadError` with the path and the reason.
"""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from hrcam.imaging._quiet import quiet
from hrcam.imaging.picture import ImageReadError, Picture

RASTER_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
FAULTS_OF_THE_MACHINE = (
    *(errno.ENOSPC, errno.EDQUOT, errno.ENOMEM),
    *(errno.EMFILE, errno.ENFILE),
)
_ADDRESS = re.compile(r"(.+)#(?:(\d+)|(\d+):(\d+))")


class Limits(NamedTuple):
    """What a file may ask for.

    Attributes:
        max_pixels: Of one image: height times width.
        max_bytes: Of the file, and of all its images unpacked.
    """

    max_pixels: int = 2**27
    max_bytes: int = 2**33


LIMITS = Limits()


class OpenImage(Protocol):
    """An open file.

    Attributes:
        frames: The numbers of its images.
    """

    frames: range

    def read(self, frame: int) -> Picture:
        """Returns one of its images; in any order, from one thread at a time."""

    def close(self) -> None:
        """Closes the file."""


class Address(NamedTuple):
    """A file, and which of its images.

    Attributes:
        path: The file.
        frames: Their numbers; `None`: all.
    """

    path: Path
    frames: range | None = None


def parse_address(text: str | Path) -> Address:
    """Splits `file#12` and `file#10:20`; a file of just that name is itself.

    Raises:
        ValueError: If the range is empty.
    """
    match = _ADDRESS.fullmatch(str(text))
    if match is None or Path(text).exists():
        return Address(Path(text))
    path, one, start, stop = match.groups()
    frames = range(int(one), int(one) + 1) if one else range(int(start), int(stop))
    if not frames:
        raise ValueError(
            "An address must be file#number or file#start:stop, with start < stop. "
            f"Received: {text}"
        )
    return Address(Path(path), frames)


@contextmanager
def open_image(path: str | Path, limits: Limits = LIMITS) -> Iterator[OpenImage]:
    """Opens a file, to read one of its images after another.

    Args:
        path: The file; no address.
        limits: What it may ask for.

    Yields:
        The open file: `frames`, `read(frame)`, and `kind`, which is `"raster"`,
        `"dicom"` or `"nifti"`.

    Raises:
        ImageReadError: If it is missing, no image, damaged or too large; also from
            `read`.
        OSError: If the machine is at fault, not the file: a full disk (of temporary
            files), no memory, too many open files; also from `read`.

    Example:
        >>> with open_image("scan.nii.gz") as file:  # doctest: +SKIP
        ...     middle = file.read(len(file.frames) // 2)
    """
    path = Path(path)
    with _reasons(path):
        kind = _kind(path, limits)
    opener = import_module(f"hrcam.imaging._{kind}")
    with _reasons(path):
        file = getattr(opener, f"open_{kind}")(path, limits)
    try:
        yield _Guarded(path, kind, file)
    finally:
        file.close()


def read_image(address: str | Path, limits: Limits = LIMITS) -> Picture:
    """Reads one image.

    Args:
        address: A file with one image, or `file#number`.
        limits: What it may ask for.

    Returns:
        The image.

    Raises:
        ImageReadError: If it cannot be read, or has more images than one.
    """
    path, frames = parse_address(address)
    with open_image(path, limits) as file:
        frames = file.frames if frames is None else frames
        if len(frames) != 1:
            raise ImageReadError(
                path,
                f"{len(frames)} images, where one is wanted: say which, as in "
                f"{path.name}#{frames[0]}",
            )
        return file.read(frames[0])


class _Guarded:
    """An open file whose every error has the path and a reason."""

    def __init__(self, path: Path, kind: str, file: OpenImage):
        self.path, self.kind, self.frames, self._file = path, kind, file.frames, file

    def __getattr__(self, name: str):
        """What formats have beside `frames` and `read`: an affine, a header."""
        return getattr(self._file, name)

    def read(self, frame: int) -> Picture:
        if frame not in self.frames:
            raise ImageReadError(
                self.path,
                f"no image {frame}; it has {len(self.frames)}, numbered from 0",
            )
        with _reasons(self.path):
            return self._file.read(frame)


@contextmanager
def _reasons(path: Path) -> Iterator[None]:
    """Makes an `ImageReadError` of whatever a decoder raises.

    Damaged and hostile files make decoders raise almost anything, so that all of
    `Exception` is meant. The messages of those could hold a header's values: only
    their type is told, and they are no part of the traceback. Nor is anything told of
    the warnings that damaged, and some sound, files give. What is the machine's fault
    passes: the same file may be read later.
    """
    try:
        with quiet("PIL", "nibabel"):
            yield
    except (ImageReadError, ImportError):  # a missing library is not the file's fault
        raise
    except MemoryError:
        raise ImageReadError(path, "more memory than there is") from None
    except FileNotFoundError:
        if path.exists():  # what is missing is a folder for temporary files
            raise
        raise ImageReadError(path, "missing") from None
    except OSError as error:
        if error.errno in FAULTS_OF_THE_MACHINE:
            raise
        raise ImageReadError(path, error.strerror or "damaged or cut off") from None
    except Exception as error:
        reason = f"damaged, or of a kind that is not known ({type(error).__name__})"
        raise ImageReadError(path, reason) from None


def _kind(path: Path, limits: Limits) -> str:
    """Tells the kind of a file by its first bytes."""
    if not path.is_file():
        raise ImageReadError(path, "missing" if not path.exists() else "not a file")
    size = path.stat().st_size
    if size == 0:
        raise ImageReadError(path, "empty")
    if size > limits.max_bytes:
        raise ImageReadError(path, f"{size} bytes, more than {limits.max_bytes}")
    with path.open("rb") as file:
        start = file.read(352)
    if path.name.lower().endswith(NIFTI_SUFFIXES) or start[344:348] in (
        b"n+1\0", b"ni1\0"
    ):  # fmt: skip
        return "nifti"
    if start[128:132] == b"DICM" or path.suffix.lower() in DICOM_SUFFIXES:
        return "dicom"
    return "raster"
