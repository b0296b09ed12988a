"""The manifest: what was made of each image, one JSON object a line.

An image that was explained:

    source       path below the common folder of all sources (and #which images)
    frame        its number in the file
    frames       how many images of the file there are to explain
    sha256, bytes, modified   of the file
    place        where it was: a hash of its path
    class, class_name, probability   as the model predicts
    range        method -> [lowest, highest] value of the raw map
    files        what was written, relative to the folder

One that was not has `error` instead of the last six; a file that could not be opened
has `frames` 0. A file is *done* when all its `frames` lines are there without an error,
it has not changed, and what was written is still there. Nothing of a header is noted.

Lines are appended when the files they name are on the disk, those of a source in one
piece: a line that a kill cut off is dropped when the run goes on. They are not forced
to the disk one by one: after a power cut the last may be missing, and are made again.
"""

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from hrcam.imaging._atomic import write_whole
from hrcam.runner.sources import Source
from hrcam.saving import sha256

NAME = "manifest.jsonl"
Record = dict[str, Any]


class Manifest:
    """The manifest of a folder, open for appending.

    Attributes:
        path: The file.
    """

    def __init__(self, folder: Path):
        """Opens it, and drops what a kill left unfinished."""
        self.path = folder / NAME
        self._folder = folder
        self._lines = _read_lines(folder)
        self._file = None

    def __enter__(self) -> "Manifest":
        """Writes the whole lines again, and opens the file."""
        self._write_all()
        self._file = self.path.open("ab", buffering=0)
        return self

    def __exit__(self, *_) -> None:
        """Closes the file."""
        self._file.close()

    def done(self, source: Source) -> list[Record] | None:
        """The records of a source that is done; `None` if it is not.

        Raises:
            FileExistsError: If they are of another file of that name.
        """
        records = [json.loads(line) for line in self._lines.get(source.name, ())]
        is_whole = records and len(records) == records[0]["frames"]
        if not is_whole or any("error" in record for record in records):
            return None
        files = _files(records)
        try:
            status = source.path.stat()
        except OSError:
            return None
        noted = records[0]
        same = (noted["bytes"], noted["modified"]) == (
            status.st_size, status.st_mtime_ns
        )  # fmt: skip
        if noted["place"] != place_of(source.path):
            same = noted["sha256"] == sha256(source.path)
            if not same:
                raise FileExistsError(
                    f"{self._folder} holds the maps of another file {source.name} than "
                    f"{source.path}. Name another folder with --out."
                )
        there = same and all((self._folder / name).is_file() for name in files)
        return records if there else None

    def append(self, records: Sequence[Record]) -> None:
        """Adds the records of one source, all or none of them.

        What was written of an earlier try and is not written again is removed.
        """
        lines = [
            json.dumps(record, allow_nan=False).encode() + b"\n" for record in records
        ]
        data = b"".join(lines)
        try:
            is_whole = self._file.write(data) == len(data)
        except OSError as error:
            error.filename = str(self.path)
            raise
        if not is_whole:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        name = records[0]["source"]
        before = [json.loads(line) for line in self._lines.get(name, ())]
        for file in _files(before) - _files(records):
            (self._folder / file).unlink(missing_ok=True)
        self._lines[name] = lines

    def sort(self, names: Iterable[str]) -> None:
        """Writes the file again: each source once, in this order, then all others."""
        first = {name: self._lines[name] for name in names if name in self._lines}
        self._lines = first | self._lines
        self._write_all()

    def _write_all(self) -> None:
        write_whole(
            self.path, b"".join(line for x in self._lines.values() for line in x)
        )


def place_of(path: Path) -> str:
    """Tells places apart without naming them."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _files(records: Sequence[Record]) -> set[str]:
    return {name for record in records for name in record.get("files", ())}


def read_manifest(folder: str | Path) -> dict[str, list[Record]]:
    """Reads the manifest of a folder.

    Args:
        folder: What `explain_files` has written to.

    Returns:
        Source -> its records, one an image, in order; of a source that was tried
        again the last ones. Empty if there is no manifest. Lines that were cut off
        are left out.
    """
    lines = _read_lines(Path(folder))
    return {name: [json.loads(line) for line in own] for name, own in lines.items()}


def _read_lines(folder: Path) -> dict[str, list[bytes]]:
    """The whole lines by source; parsed they would take five times the memory."""
    path, found = folder / NAME, {}
    last_name, last_frame = None, None
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for line in lines:
        if not line.endswith(b"\n"):  # a kill cut it off, be it by this one byte
            continue
        try:
            record = json.loads(line)
            name, frame = record["source"], record.get("frame")
        except (ValueError, TypeError, KeyError):
            continue
        # The frames of one try grow; another try starts again.
        of_one_try = name == last_name and None not in (frame, last_frame)
        if of_one_try and frame > last_frame:
            found[name].append(line)
        else:
            found[name] = [line]
        last_name, last_frame = name, frame
    return found
