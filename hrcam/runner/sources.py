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
        ValueError: If there is none, or a CSV has no such column.
        FileNotFoundError: If an input is not there.
    """
    addresses, left_out = [], 0
    for text in inputs:
        path = Path(text)
        if path.is_dir():
            files = sorted(_files_below(path, out))
            images = [file for file in files if _is_image(file)]
            left_out += len(files) - len(images)
            addresses += [(file, None) for file in images]
        elif path.suffix.lower() == ".csv" and path.is_file():
            addresses += [parse_address(address) for address in _listed(path)]
        elif path.exists() or parse_address(text).path.exists():
            addresses.append(parse_address(text))
        else:
            addresses += [(Path(found), None) for found in _matching(str(text))]
    if not addresses:
        raise ValueError(
            "The inputs must hold at least one image: files, folders, patterns or a "
            f"CSV. Received: {[str(text) for text in inputs]}, with {left_out} files "
            f"of other kinds than {', '.join(_SUFFIXES)}"
        )
    return Found(
        _named(dict.fromkeys((_absolute(p), f) for p, f in addresses)), left_out
    )


def _files_below(folder: Path, out: Path | None) -> Iterable[Path]:
    results = None if out is None else _absolute(out)
    for here, folders, names in os.walk(folder):
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".") and _absolute(Path(here, name)) != results
        ]
        yield from (Path(here, n) for n in names if not n.startswith("."))


def _is_image(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith(_SUFFIXES):
        return True
    if "." in name.strip("0123456789.") or name == "dicomdir" or not path.is_file():
        return False
    try:
        with path.open(
            "rb"
        ) as file:  # scanners name files 1.2.840..., IM0001, 00000001
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


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
    return [path.parent / name for name in names]


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


def _named(addresses: Iterable[tuple[Path, range | None]]) -> list[Source]:
    """Names each by its path below the common folder."""
    addresses = list(addresses)
    root = os.path.commonpath([path.parent for path, _ in addresses])
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
