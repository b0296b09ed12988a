"""What the loaders of published data sets share: files, CSVs, what is set aside."""

import csv
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from hrcam.imaging.read import DICOM_SUFFIXES

# Files of one image, as a rule; a NIfTI volume is many (`scan.nii.gz#12`).
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", *DICOM_SUFFIXES)


def present(root: Path, name: str, source: str) -> Path:
    """Returns `root / name`.

    Raises:
        FileNotFoundError: If it is not there; says where the data are given out.
    """
    if not (root / name).exists():
        raise FileNotFoundError(f"Expected {name} in `root`. {there(root, source)}")
    return root / name


def there(root: Path, source: str) -> str:
    """Returns the end of a message: what is in a folder, and where the data are."""
    names = sorted(p.name for p in root.iterdir())[:8] if root.is_dir() else "no folder"
    return f"Received: {root} with {names}. The data are given out at {source}"


def read_csv(
    path: Path, columns: Sequence[str] = (), delimiter: str = ","
) -> list[dict[str, str]]:
    """Returns the rows of a CSV with a header, by column.

    Raises:
        ValueError: If it is not text, or lacks one of the columns.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, delimiter=delimiter, restval="")
            rows, found = list(reader), list(reader.fieldnames or [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} must be a CSV in UTF-8. Received: {error}") from error
    if not set(columns) <= set(found):
        raise ValueError(
            f"{path} must be separated by {delimiter!r} and have the columns "
            f"{list(columns)}. Received: columns {found}"
        )
    return rows


def warn_set_aside(
    what: str, names: Iterable[str], things: str = "images", *, stacklevel: int = 3
) -> None:
    """Warns, in the name of the caller's caller, of what is not in the table."""
    names = list(names)
    if names:
        warnings.warn(
            f"Set aside {len(names)} {things} {what}, first {names[:3]}",
            stacklevel=stacklevel,
        )
