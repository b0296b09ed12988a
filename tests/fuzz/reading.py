"""What must hold for every file, whatever is in it: a sound image or one known error.

`check(path)` looks at all that the process itself can see. Crashes, hangs and memory
are seen from outside (`campaign.py`).
"""

import logging
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from dicom_files import PATIENT

from hrcam.imaging import ImageReadError, Limits, Picture, open_image

LIMITS = Limits(max_pixels=2**20, max_bytes=2**24)


def check(path: Path) -> str | None:
    """Reads a file; returns why it is refused, `None`: it is not.

    Args:
        path: The file, in a folder of which nothing else is open.

    Raises:
        AssertionError: If it breaks a rule.
        BaseException: Whatever else the readers raise.
    """
    with scratch(path.parent / "scratch"), told_nothing():
        try:
            pictures, reason = read(path), None
        except ImageReadError as error:
            pictures, reason = [], error.reason
            check_words(error, path)
        for picture in pictures:
            check_picture(picture)
        assert not held(path.parent)  # while the pictures are still there
    return reason


def read(path: Path) -> list[Picture]:
    with open_image(path, LIMITS) as file:
        return [file.read(frame) for frame in file.frames[:3]]


def check_words(error: ImageReadError, path: Path) -> None:
    assert error.path == path
    assert str(error) == f"{path} cannot be read as an image: {error.reason}"
    assert len(error.reason.splitlines()) == 1, f"not one line: {error.reason!r}"
    assert error.reason.isprintable(), f"not printable: {error.reason!r}"
    assert PATIENT not in error.reason, "told a patient's name"


def check_picture(picture: Picture) -> None:
    pixels = picture.pixels
    assert pixels.dtype.kind in "iuf", f"pixels of {pixels.dtype}"
    assert pixels.dtype.isnative
    assert pixels.size, "no pixels"
    assert pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3), "shape"
    assert np.isfinite(pixels).all(), "pixels are not finite"
    assert np.isfinite([picture.black, picture.white]).all(), "range is not finite"
    array = picture.array((8, 8), 3)
    assert array.shape == (8, 8, 3)
    assert array.dtype == np.float32
    assert np.isfinite(array).all(), "array is not finite"
    assert array.min() >= 0, "below 0"
    assert array.max() <= 1, "above 1"
    shown = picture.display()
    assert shown.dtype == np.uint8
    assert shown.shape == (*picture.size, 3)


@contextmanager
def scratch(folder: Path) -> Iterator[None]:
    """Puts temporary files there, and sees that none is left."""
    folder.mkdir(exist_ok=True)
    before, tempfile.tempdir = tempfile.tempdir, str(folder)
    try:
        yield
    finally:
        tempfile.tempdir = before
    left = os.listdir(folder)
    assert not left, f"left behind: {left}"


def held(folder: Path) -> list[str]:
    """What this process has open, or mapped into memory, of a folder; on Linux."""
    if not Path("/proc/self/maps").exists():
        return []
    found = Path("/proc/self/maps").read_text().splitlines()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # that of the list itself
            found.append(os.readlink(f"/proc/self/fd/{number}"))
    return [line for line in found if str(folder) in line]


class _Records(logging.Handler):
    """Keeps what libraries tell; hrcam's own logger tells what a header lacked."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("hrcam."):
            self.records.append(record)


@contextmanager
def told_nothing() -> Iterator[None]:
    """Sees that no warning and no log record of that level comes through.

    A warning that is an error, as in these tests, would become an `ImageReadError`
    inside the readers and not be seen.
    """
    logged = _Records()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        logging.root.addHandler(logged)
        try:
            yield
        finally:
            logging.root.removeHandler(logged)
    assert not warned, f"{warned[0].category.__name__}: {warned[0].message}"
    assert not logged.records, f"logged: {logged.records[0].getMessage()}"
