"""Files that are there whole or not at all, whatever happens meanwhile."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".hrcam-"  # how the name of an unfinished file begins


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Gives a path to write to; what is there at the end becomes `target` at once.

    Its content is on the disk before its name is, so that not even a power cut leaves
    half a file. After an error, or a kill, `target` is as it was.

    Args:
        target: The file; its folder is made where it does not exist.

    Yields:
        A path in the same folder, with the same end of the name.

    Raises:
        OSError: If the disk is full, say; nothing unfinished is left then.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    suffixes = "".join(target.suffixes[-2:])[-16:]  # a name has 255 bytes at most
    unfinished = target.parent / f"{TEMPORARY}{uuid.uuid4().hex[:12]}{suffixes}"
    try:
        yield unfinished
        with unfinished.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(unfinished, target)
    except BaseException as error:
        with suppress(OSError):  # of a disk that went read-only, say
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):  # who reads it knows the target only
            error.filename, error.filename2 = str(target), None
        raise


def write_whole(target: Path, data: bytes) -> None:
    """Writes a file in one piece."""
    with whole_file(target) as unfinished:
        unfinished.write_bytes(data)
