"""Sources while they are worked on: opened, hashed and read."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hrcam.imaging.picture import ImageReadError, Picture, Values
from hrcam.imaging.read import FAULTS_OF_THE_MACHINE, Limits, open_image
from hrcam.runner.manifest import Record, place_of
from hrcam.runner.outputs import SourceFiles
from hrcam.runner.sources import Source
from hrcam.saving import sha256

_WITHOUT_PICTURE = {"npy", "npz", "tiff", "nifti"}


class Writing(NamedTuple):
    """What is written, and how files become images.

    Attributes:
        folder: Where.
        formats: Of `outputs.FORMATS`.
        class_names: One a class; `None`: not known.
        class_index: The class to explain; `None`: the predicted one.
        values: Which values of a file are black and white; `Picture.unit_range`.
        limits: What a file may ask for.
    """

    folder: Path
    formats: tuple[str, ...]
    class_names: tuple[str, ...] | None
    class_index: int | None
    values: Values
    limits: Limits


class Read(NamedTuple):
    """One image that was read, or why it could not be; the picture only if needed."""

    frame: int
    picture: Picture | None = None
    array: np.ndarray | None = None
    error: str | None = None


class Opened:
    """A source while it is worked on.

    Attributes:
        facts: How its records begin.
        frames: The images to explain.
        digits: Of their numbers in the names of files; 0: the only one of its file.
        error: Why it could not be opened.
        first: Its images, if they were read at once.
        files: What is written of it.
        parts: Records of its images, or what will be records.
    """

    def __init__(self, source: Source, size: tuple, writing: Writing):
        """Opens it, and reads it if it has one image."""
        self._size, self._values, self._stack = size, writing.values, ExitStack()
        self._is_shown = not _WITHOUT_PICTURE.issuperset(writing.formats)
        self.facts, self.error, self.first = {"source": source.name}, None, None
        self.frames, self.parts = range(0), []
        try:
            self._open(source, writing)
        except ImageReadError as error:
            self._stack.close()
            self.error, self.frames = error.reason, range(0)
        self.facts["frames"] = len(self.frames)

    def _open(self, source: Source, writing: Writing) -> None:
        self.facts |= _facts(source.path, writing.limits)
        opening = open_image(source.path, writing.limits)
        self._file = self._stack.enter_context(opening)
        all_frames = self._file.frames
        frames = all_frames if source.frames is None else source.frames
        if not frames or frames[-1] not in all_frames:
            asked = f"{frames[0]} to {frames[-1]}" if len(frames) > 1 else frames[0]
            count = len(all_frames)
            reason = f"{count} images, numbered from 0; asked for {asked}"
            raise ImageReadError(source.path, reason)
        self.digits = len(str(frames[-1])) if len(frames) > 1 else 0
        where = (writing.folder, source.output_name, source.path)
        kind, formats = self._file.kind, writing.formats
        self.files = SourceFiles(*where, kind, formats, writing.limits)
        self.frames = frames
        if len(frames) == 1:
            self.first = self.read(frames)
            self._stack.close()

    def read(self, frames: Sequence[int]) -> list[Read]:
        """Reads images; in order it is fastest."""
        return [self._read(frame) for frame in frames]

    def _read(self, frame: int) -> Read:
        try:
            picture = self._file.read(frame)
        except ImageReadError as error:
            if len(self.frames) == 1:
                raise
            return Read(frame, error=error.reason)
        height, width, channels = self._size
        try:
            array = picture.array((height, width), channels, self._values)
        except MemoryError:
            raise ImageReadError(self._file.path, "more memory than there is") from None
        return Read(frame, picture if self._is_shown else None, array)

    def close(self) -> None:
        """Closes the file."""
        self._stack.close()


def _facts(path: Path, limits: Limits) -> Record:
    try:
        status = path.stat()
        is_read = path.is_file() and status.st_size <= limits.max_bytes
        digest = sha256(path) if is_read else None
    except OSError as error:
        if error.errno in FAULTS_OF_THE_MACHINE:
            raise
        raise ImageReadError(path, error.strerror or "cannot be read") from error
    sizes = {"bytes": status.st_size, "modified": status.st_mtime_ns}
    return {"sha256": digest, **sizes, "place": place_of(path)}
