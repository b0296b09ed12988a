"""What a run is given: files, folders, globs and CSVs become a list of files."""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from hrcam.datasets._files import read_csv
from hrcam.imaging.read import (
    DICOM_SUFFIXES,
    NIFTI_SUFFIXES,
    RASTER_SUFFIXES,
    parse_address,
)

COLUMNS = ("image", "file", "path")  # of a CSV; the first that is there
_SUFFIXES = (*RASTER_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES)


class Source(NamedTuple):
    """One file to explain.

    Attributes:
        name: What the manifest calls it: its path below the common folder of all.
        path: The file.
        frames: Which of its images; `None`: all.
    """

    name: str
    path: Path
    frames: range | None = None

    @property
    def output_name(self) -> str:
        """How the names of its files begin, relative."""
        if self.frames is None or len(self.frames) == 1:
            return self.name
        whole, _, _ = self.name.rpartition("#")
        return f"{whole}#{self.frames[0]}-{self.frames[-1]}"


class Found(NamedTuple):
    """The files of some inputs.

    Attributes:
        sources: In order, each once.
        left_out: How many files of folders are of no known kind.
    """

    sources: list[Source]
    left_out: int


def find_sources(inputs: Sequence[str | Path], out: Path | None = None) -> Found:
    """Lists the image files of inputs.

    Args:
        inputs: Files; addresses as `scan.nii.gz#12`; folders, searched whole (hidden
            files are no images; a file without suffix is one if it is DICOM); patterns
            with `*`, `?` or `[`; CSVs with a column `image`, `file` or `path`, relative
            to the CSV. What is named itself is taken whatever its suffix.
        out: A folder of results, whose pictures are no inputs.

    Returns:
        The files, folders in the order of names.

    Raises:
        ValueError: If there is none, a CSV has no such column, or an input is `out`.
        FileNotFoundError: If an input is not there.
    """
    addresses, roots, left_out = [], [], 0
    results = None if out is None else _absolute(out)
    for text in [inputs] if isinstance(inputs, str | Path) else inputs:
        path = Path(text)
        if path.is_dir():
            if _absolute(path) == results:
                raise ValueError(
                    "The inputs must not be the folder of the results, whose pictures "
                    f"would be explained. Received: {text} for both"
                )
            roots.append(_absolute(path))
            files = sorted(_files_below(path, results))
            images = [file for file in files if _is_image(file)]
            left_out += len(files) - len(images)
            addresses += [(file, None) for file in images]
        elif path.suffix.lower() == ".csv" and path.is_file():
            addresses += [parse_address(address) for address in _listed(path)]
        elif path.exists() or parse_address(text).path.exists():
            addresses.append(parse_address(text))
        else:
            roots.append(_absolute(Path(_glob_root(str(text)))))
            found = [_absolute(Path(found)) for found in _matching(str(text))]
            addresses += [(p, None) for p in found if not _is_below(p, results)]
    if not addresses:
        raise ValueError(
            "The inputs must hold at least one image: files, folders, patterns or a "
            f"CSV. Received: {[str(text) for text in inputs]}, with {left_out} files "
            f"of other kinds than {', '.join(_SUFFIXES)}"
        )
    once = dict.fromkeys((_absolute(path), frames) for path, frames in addresses)
    return Found(_named(list(once), roots), left_out)


def _files_below(folder: Path, results: Path | None) -> Iterable[Path]:
    """Yields files, links followed; and folders that cannot be read, to be listed."""
    status = folder.stat()
    unreadable, seen = [], {(status.st_dev, status.st_ino)}
    walk = os.walk(folder, onerror=unreadable.append, followlinks=True)
    for here, folders, names in walk:
        kept = []
        for name in folders:
            below = Path(here, name)
            try:
                status = below.stat()
            except OSError as error:
                unreadable.append(error)
                continue
            key = status.st_dev, status.st_ino
            if not name.startswith(".") and _absolute(below) != results:
                kept += [name] * (key not in seen)
                seen.add(key)
        folders[:] = kept
        yield from (Path(here, n) for n in names if not n.startswith("."))
    yield from (Path(error.filename) for error in unreadable)


def _is_below(path: Path, folder: Path | None) -> bool:
    return folder is not None and path.is_relative_to(folder)


def _is_image(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith(_SUFFIXES) or path.is_dir():  # a folder that cannot be read
        return True
    if "." in name.strip("0123456789.") or name == "dicomdir":
        return False
    try:
        if not path.is_file():
            return False
        with path.open(
            "rb"
        ) as file:  # scanners name files 1.2.840..., IM0001, 00000001
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return True  # to be set aside with its reason


def _glob_root(pattern: str) -> str:
    """The part of a pattern before the first folder with a wildcard."""
    parts = Path(pattern).parts
    plain = next(
        (i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts)
    )
    return str(Path(*parts[:plain])) if plain else "."


def _listed(path: Path) -> list[Path]:
    rows = read_csv(path)
    found = [name for name in COLUMNS if rows and name in rows[0]]
    if not found:
        raise ValueError(
            f"{path} must have a row an image, and a column {', '.join(COLUMNS)}. "
            f"Received: {len(rows)} rows, columns {list(rows[0]) if rows else []}"
        )
    names = [(row[found[0]] or "").strip() for row in rows]
    if "" in names:
        raise ValueError(
            f"{path} must name an image in each row. "
            f"Received: none in row {names.index('') + 2}"
        )
    folder = path.resolve().parent
    return [folder / name for name in names]


def _matching(pattern: str) -> list[str]:
    found = sorted(f for f in glob.glob(pattern, recursive=True) if os.path.isfile(f))
    if not found:
        raise FileNotFoundError(
            f"Expected a file, a folder, a pattern or a CSV. Received: {pattern}, "
            "which matches nothing"
        )
    return found


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # links stay what they are called


def _named(
    addresses: list[tuple[Path, range | None]], roots: list[Path]
) -> list[Source]:
    """Names each by its path below the common folder, which new files do not change."""
    try:
        root = os.path.commonpath([*roots, *(path.parent for path, _ in addresses)])
    except ValueError as error:
        raise ValueError(
            "The inputs must be on one drive: explain those of each into a folder of "
            f"its own. Received: {error}"
        ) from error
    return [
        Source(
            Path(os.path.relpath(path, root)).as_posix() + _suffix(frames), path, frames
        )
        for path, frames in addresses
    ]


def _suffix(frames: range | None) -> str:
    if frames is None:
        return ""
    one = len(frames) == 1
    return f"#{frames.start}" if one else f"#{frames.start}:{frames.stop}"
