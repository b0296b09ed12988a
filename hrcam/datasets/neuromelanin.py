"""Neuromelanin-sensitive MRI: axial slices of the midbrain, patients and controls.

The substantia nigra is bright in these images and fades in Parkinson's disease. Shinde
et al. (2021) train on slices of 55 subjects and test on those of 25 (377 and 171
slices), cut to a box around the brain-stem, each slice augmented ten-fold. Their images
are not public, and no other set is known to us in this form; so this is a loader for
images of your own: a folder of 2-D slices and a CSV. `neuromelanin_phantom` simulates
such slices.

**The box** is not part of the table: load the slices, then `crop` them. Its sides are
fractions of width and height, so it means the same at every size.

The data are of patients: what may be done with them is yours to know. Nothing is
downloaded here.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrcam.datasets._files import IMAGE_SUFFIXES, read_csv, warn_set_aside
from hrcam.datasets._table import ImageTable

NOT_YET = {".dcm": "DICOM", ".ima": "DICOM", ".nii": "NIfTI", ".nii.gz": "NIfTI"}
COLUMNS = ("file", "subject", "label")


def neuromelanin(
    root: str | Path,
    table: str | None = None,
    *,
    class_names: Sequence[str] = ("control", "patient"),
) -> ImageTable:
    """Lists axial slices by a CSV.

    Args:
        root: The folder of the slices (.png, .jpg, .jpeg, .bmp; nested or not) and
            the CSV.
        table: The CSV's name in `root`. Default: the only CSV there. Its columns:
            `file`, a path below `root`; `subject`; `label`, a class name or its
            number. Others are ignored.
        class_names: One name a class, in the order of their labels.

    Returns:
        The image table in the order of the CSV. Groups: the subject, so that
        `split_by_group` keeps all slices of one together. No masks.

    Raises:
        ValueError: If a slice is DICOM or NIfTI, if a label is no class, if a subject
            has two labels or a file is named twice, or if the CSV lacks a column.
        FileNotFoundError: If there is no CSV or more than one to choose from, or
            none of its files is there.

    Warns:
        UserWarning: If slices are set aside: in the CSV but not on disk, on disk but
            not in the CSV. Hidden files are no slices.

    Example:
        >>> slices = neuromelanin(root, "slices.csv")
        >>> train, test = split_by_group(slices, (55 / 80, 25 / 80))
    """
    root = Path(root)
    path = _find_csv(root, table)
    rows = {row["file"].strip(): row for row in _checked_rows(path)}
    files = _files(root)
    found = [name for name in rows if name in files]
    if not found:
        raise FileNotFoundError(
            f"Expected the files of {path} below {root}, such as {next(iter(rows))}. "
            f"Received: none of {len(rows)} on disk"
        )
    warn_set_aside("in the CSV but not on disk", [n for n in rows if n not in files])
    warn_set_aside("on disk but not in the CSV", [n for n in files if n not in rows])
    labels = {name: _label(path, rows[name], class_names) for name in found}
    subjects = {name: rows[name]["subject"].strip() for name in found}
    _check_subjects(path, subjects, labels)
    return ImageTable(
        [files[name] for name in found],
        np.array(list(labels.values()), np.int64),
        list(subjects.values()),
        tuple(class_names),
    )


def crop(images: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Cuts every image to one box.

    To lose no detail, load the images so large that the box has the size wanted.

    Args:
        images: `(n, height, width, channels)` or, masks, `(n, height, width)`.
        box: `(left, top, right, bottom)`, fractions of the width and height in
            [0, 1]; left and top are 0 at the image's own.

    Returns:
        The same array inside the box, `(n, round((bottom - top) * height),
        round((right - left) * width), ...)`, at least one pixel; a view.

    Raises:
        ValueError: If the array has another shape or the box is none.

    Example:
        >>> left, top, right, bottom = box = (0.3, 0.25, 0.7, 0.65)
        >>> size = (round(96 / (bottom - top)), round(96 / (right - left)))
        >>> images = crop(load_images(table, size, channels=1), box)  # 96 x 96
    """
    images = np.asarray(images)
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(
            "`images` must be (n, height, width) or (n, height, width, channels). "
            f"Received: shape {images.shape}"
        )
    sides = np.asarray(box, float)
    if sides.shape != (4,) or not (
        0 <= sides[0] < sides[2] <= 1 and 0 <= sides[1] < sides[3] <= 1
    ):
        raise ValueError(
            "`box` must be (left, top, right, bottom), fractions with "
            "0 <= left < right <= 1 and 0 <= top < bottom <= 1; divide pixels by "
            f"width and height. Received: {box}"
        )
    left, top, right, bottom = sides
    rows = _span(top, bottom, images.shape[1])
    return images[:, rows, _span(left, right, images.shape[2])]


def _span(start: float, stop: float, side: int) -> slice:
    """Returns whole pixels, as many wherever the box lies."""
    length = max(1, round((stop - start) * side))
    first = min(round(start * side), side - length)
    return slice(first, first + length)


def _find_csv(root: Path, table: str | None) -> Path:
    if table is not None:
        if not (root / table).is_file():
            raise FileNotFoundError(f"Expected the CSV {table} in `root`: {root}")
        return root / table
    found = [p for p in sorted(root.glob("*.csv")) if not p.name.startswith(".")]
    if len(found) != 1:
        raise FileNotFoundError(
            f"{root} must hold one CSV with the columns {list(COLUMNS)}; if there are "
            f"more, say which with `table=`. Received: {[p.name for p in found]}"
        )
    return found[0]


def _checked_rows(path: Path) -> list[dict[str, str]]:
    rows = read_csv(path, COLUMNS)
    names = [row["file"].strip() for row in rows]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice or not rows:
        raise ValueError(
            f"{path} must name each slice once. "
            f"Received: {f'{twice[0]} twice' if twice else 'no row'}"
        )
    for name in names:
        for ending, kind in NOT_YET.items():
            if name.lower().endswith(ending):
                raise ValueError(
                    f"{path} must name PNG, JPEG or BMP slices: {kind} is not read "
                    f"yet; write its axial slices as 16-bit PNG. Received: {name}"
                )
    return rows


def _files(root: Path) -> dict[str, Path]:
    """Returns the images by their path below the root; none lies outside."""
    return {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    }


def _label(path: Path, row: dict[str, str], class_names: Sequence[str]) -> int:
    label = row["label"].strip()
    if label in class_names:
        return list(class_names).index(label)
    numbers = [str(number) for number in range(len(class_names))]
    if label not in numbers:
        raise ValueError(
            f"{path} must have labels of {tuple(class_names)} or their numbers "
            f"{numbers}; name others with `class_names=`. Received: {label!r} of "
            f"{row['file']}"
        )
    return int(label)


def _check_subjects(
    path: Path, subjects: dict[str, str], labels: dict[str, int]
) -> None:
    labels_of = {}
    for name, subject in subjects.items():
        labels_of.setdefault(subject, set()).add(labels[name])
    several = [subject for subject, found in labels_of.items() if len(found) > 1]
    if several:
        raise ValueError(
            f"{path} must give all slices of a subject one label. "
            f"Received: several of {several[:3]}"
        )
