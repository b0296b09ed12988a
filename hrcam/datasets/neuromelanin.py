"""Neuromelanin-sensitive MRI: axial slices of the midbrain, patients and controls.

The substantia nigra is bright in these images and fades in Parkinson's disease. Shinde
et al. (2021) train on slices of 55 subjects and test on those of 25 (377 and 171
slices), cut to a box around the brain-stem, each slice augmented ten-fold. Their images
are not public, and no other set is known to us in this form; so this is a loader for
images of your own: a folder of slices or volumes and a CSV. `neuromelanin_phantom`
simulates such slices.

**Scanner files.** PNG, JPEG, BMP and TIFF are read as they are; of NIfTI volumes and of
DICOM files with several frames the CSV's column `slice` says which slices are meant:

    file,subject,label,slice
    s1.nii.gz,s1,control,10:14
    s2.nii.gz,s2,patient,11
    s3.nii.gz,s3,patient,
    s4/IM_0012.dcm,s4,control,

slices 10 to 13 of the first, one of the second, every axial slice of the third. They
are counted from 0, as viewers of NIfTI do; only headers are read here.

**One scale.** Black (0) and white (1) are those of a volume's lowest and highest value
for NIfTI, of the stored bits for DICOM, and of the file's type for the others. A set
that mixes kinds mixes scales, and a network could tell the classes by them: convert to
one kind first.

**The box** is not part of the table: load the slices, then `crop` them. Its sides are
fractions of width and height, so it means the same at every size.

The data are of patients: what may be done with them is yours to know. Nothing is
downloaded here.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrcam.datasets._files import IMAGE_SUFFIXES, read_csv, warn_set_aside
from hrcam.datasets._table import ImageTable
from hrcam.imaging import ImageReadError, open_image, parse_address
from hrcam.imaging.read import NIFTI_SUFFIXES

COLUMNS = ("file", "subject", "label")
SUFFIXES = (*IMAGE_SUFFIXES, *NIFTI_SUFFIXES)
ONE_IMAGE = (".jpg", ".jpeg", ".png", ".bmp")  # not opened to count their images


def neuromelanin(
    root: str | Path,
    table: str | None = None,
    *,
    class_names: Sequence[str] = ("control", "patient"),
) -> ImageTable:
    """Lists axial slices by a CSV.

    Args:
        root: The folder of the files (PNG, JPEG, BMP, TIFF, DICOM, NIfTI; nested or
            not) and the CSV.
        table: The CSV's name in `root`. Default: the only CSV there. Its columns:
            `file`, a path below `root`; `subject`; `label`, a class name or its
            number; if there is one `slice`: `12`, or `10:20` for 10 to 19, or empty
            for every slice. Others are ignored. A volume may be in several rows.
        class_names: One name a class, in the order of their labels.

    Returns:
        The image table in the order of the CSV, one row a slice; slice 12 of a volume
        has the path `scan.nii.gz#12`. Groups: the subject, so that `split_by_group`
        keeps all slices of one together. No masks. A file that cannot be read is one
        row; `drop_unreadable` says why.

    Raises:
        ValueError: If a label is no class, if a subject has two labels or a slice is
            named twice or is not in its file, or if the CSV lacks a column.
        FileNotFoundError: If there is no CSV or more than one to choose from, or
            none of its files is there.

    Warns:
        UserWarning: If files are set aside: in the CSV but not on disk, on disk but
            not in the CSV. Hidden files are no images.

    Example:
        >>> slices = neuromelanin(root, "slices.csv")
        >>> train, test = split_by_group(slices, (55 / 80, 25 / 80))
    """
    root = Path(root)
    path = _find_csv(root, table)
    rows = read_csv(path, COLUMNS)
    if not rows:
        raise ValueError(f"{path} must name a file in each row. Received: no row")
    files = _files(root)
    named = dict.fromkeys(row["file"].strip() for row in rows)
    found = [row for row in rows if row["file"].strip() in files]
    if not found:
        raise FileNotFoundError(
            f"Expected the files of {path} below {root}, such as {next(iter(named))}. "
            f"Received: none of {len(named)} on disk"
        )
    warn_set_aside("in the CSV but not on disk", [n for n in named if n not in files])
    unnamed = [n for n in files if n not in named and n.lower().endswith(SUFFIXES)]
    warn_set_aside("on disk but not in the CSV", unnamed)
    addresses = [_addresses(path, row, files) for row in found]
    _check_once(path, [address for of_row in addresses for address in of_row])
    labels = [_label(path, row, class_names) for row in found]
    subjects = [row["subject"].strip() for row in found]
    _check_subjects(path, subjects, labels)
    counts = [len(of_row) for of_row in addresses]
    return ImageTable(
        [root / address for of_row in addresses for address in of_row],
        np.repeat(np.array(labels, np.int64), counts),
        np.repeat(subjects, counts),
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


def _addresses(path: Path, row: dict[str, str], files: dict[str, Path]) -> list[str]:
    """Returns the images of a row, relative to the root."""
    name, text = row["file"].strip(), row.get("slice", "").strip()
    if text and not re.fullmatch(r"\d+(:\d+)?", text):
        raise ValueError(
            f"{path} must have slices as 12, as 10:20 (10 to 19) or empty (all). "
            f"Received: {text!r} of {name}"
        )
    address = f"{name}#{text}" if text else name
    number = _number_of_images(files[name])
    if number is None:
        return [address]
    frames = parse_address(address).frames or range(number)
    if frames[-1] >= number:
        raise ValueError(
            f"{path} must name slices that are there: {name} has {number}, counted "
            f"from 0. Received: {text!r}"
        )
    return [name] if number == 1 else [f"{name}#{frame}" for frame in frames]


def _number_of_images(path: Path) -> int | None:
    """Returns how many images a file has, by its header; `None`: it is unreadable."""
    if path.suffix.lower() in ONE_IMAGE:
        return 1
    try:
        with open_image(path) as file:
            return len(file.frames)
    except ImageReadError:
        return None


def _check_once(path: Path, addresses: list[str]) -> None:
    twice = [name for name, count in Counter(addresses).items() if count > 1]
    if twice:
        raise ValueError(
            f"{path} must name each slice once. Received: {twice[0]} twice"
        )


def _files(root: Path) -> dict[str, Path]:
    """Returns the files by their path below the root; none lies outside."""
    return {
        path.relative_to(root).as_posix(): path
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
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


def _check_subjects(path: Path, subjects: list[str], labels: list[int]) -> None:
    labels_of = {}
    for subject, label in zip(subjects, labels, strict=True):
        labels_of.setdefault(subject, set()).add(label)
    several = [subject for subject, found in labels_of.items() if len(found) > 1]
    if several:
        raise ValueError(
            f"{path} must give all slices of a subject one label. "
            f"Received: several of {several[:3]}"
        )
