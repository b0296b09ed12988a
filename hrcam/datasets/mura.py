"""MURA: radiographs of the upper limb, normal or abnormal.

40,005 images of seven parts of the arm in version 1.1, 36,808 to train and 3,197 to
validate; a hidden test set is not given out. Radiologists at Stanford called whole
*studies* (all views of one visit) normal or abnormal: an image of an abnormal study
need not show anything itself, and abnormal is not the same as fractured. There are
no masks. Rajpurkar et al. (2017), https://arxiv.org/abs/1712.06957.

The data are given to people who register and accept Stanford's research use agreement:
research only, not to be given on. Nothing is downloaded here.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrcam.datasets._files import present, there, warn_set_aside
from hrcam.datasets._table import ImageTable

SOURCE = "https://stanfordmlgroup.github.io/competitions/mura"
FOLDER = "MURA-v1.1"
SPLITS = ("train", "valid")
PARTS = ("ELBOW", "FINGER", "FOREARM", "HAND", "HUMERUS", "SHOULDER", "WRIST")
CLASS_NAMES = ("normal", "abnormal")


def mura(
    root: str | Path, split: str = "train", *, parts: Sequence[str] | None = None
) -> ImageTable:
    """Lists the images of one split of MURA v1.1.

    Args:
        root: The folder `MURA-v1.1`, which holds `train`, `valid` and four CSVs, or
            the folder that holds it.
        split: `"train"`, or `"valid"`, which the papers test on.
        parts: Parts of the arm to keep, such as `("WRIST",)`. Default: all of ELBOW,
            FINGER, FOREARM, HAND, HUMERUS, SHOULDER, WRIST.

    Returns:
        The image table in the order of the CSV. Labels: of the study (its folder is
        `path.parent`). Groups: the patient, whose number is the same in all parts of
        the arm and in one split only.

    Raises:
        ValueError: If `split` or `parts` is unknown, or a CSV is not as published.
        FileNotFoundError: If a CSV or folder is missing, or if the folder holds none
            of the images that the CSV names.

    Warns:
        UserWarning: If images are set aside: in the CSV but not on disk (half
            unpacked), on disk but not in the CSV, or of a study without a label.
            Hidden files, which the published archive holds as well, are not images.

    Example:
        >>> train = mura(root, parts=("WRIST",))

    Reference:
        Rajpurkar et al. (2017), https://arxiv.org/abs/1712.06957
    """
    if split not in SPLITS:
        raise ValueError(f"`split` must be one of {SPLITS}. Received: {split!r}")
    parts = _checked_parts(parts)
    root = Path(root)
    root = root / FOLDER if (root / FOLDER).is_dir() else root
    names = _image_names(present(root, f"{split}_image_paths.csv", SOURCE))
    label_of = _study_labels(present(root, f"{split}_labeled_studies.csv", SOURCE))
    names = [name for name in names if _part(name) in parts]
    files = _files(present(root, split, SOURCE), root, parts)
    found = [name for name in names if name in files]
    if not found:
        raise FileNotFoundError(
            f"Expected {len(names)} images named by {split}_image_paths.csv below "
            f"`root`, found none: is the archive unpacked? {there(root, SOURCE)}"
        )
    listed = set(names)
    warn_set_aside("in the CSV but not on disk", [n for n in names if n not in files])
    warn_set_aside("on disk but not in the CSV", [n for n in files if n not in listed])
    unknown = [name for name in found if _study(name) not in label_of]
    warn_set_aside("of a study without a label", unknown)
    found = [name for name in found if _study(name) in label_of]
    return ImageTable(
        [files[name] for name in found],
        np.array([label_of[_study(name)] for name in found], np.int64),
        [name.split("/")[2] for name in found],
        CLASS_NAMES,
    )


def _checked_parts(parts: Sequence[str] | None) -> tuple[str, ...]:
    chosen = PARTS if parts is None else parts
    if isinstance(chosen, str) or not chosen or not set(chosen) <= set(PARTS):
        raise ValueError(
            f"`parts` must be some of {PARTS}, in a tuple. Received: {parts!r}"
        )
    return tuple(chosen)


def _image_names(path: Path) -> list[str]:
    """Returns `train/XR_HAND/patient00001/study1_positive/image1.png`, ..."""
    names = [_below_root(path, row[0], 5) for row in _rows(path, 1)]
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise ValueError(f"{path} must name an image once. Received: {name} twice")
    return names


def _study_labels(path: Path) -> dict[str, int]:
    """Returns the label of each study by its folder below the root."""
    labels = {}
    for name, label in _rows(path, 2):
        if label.strip() not in ("0", "1"):
            raise ValueError(
                f"{path} must have labels 0 or 1. Received: {label!r} of {name}"
            )
        labels[_below_root(path, name, 4)] = int(label)
    return labels


def _rows(path: Path, columns: int) -> list[list[str]]:
    """Returns the rows of a CSV without header."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    wrong = [row for row in rows if len(row) != columns]
    if wrong or not rows:
        raise ValueError(
            f"{path} must have {columns} columns and no header. "
            f"Received: {wrong[0] if wrong else 'no row'}"
        )
    return rows


def _below_root(path: Path, name: str, depth: int) -> str:
    """Returns a name of the CSV without the root folder, which may be renamed."""
    pieces = name.strip().strip("/").split("/")[1:]
    if len(pieces) != depth:
        raise ValueError(
            f"{path} must name {FOLDER}/split/XR_PART/patient/study/image. "
            f"Received: {name!r}"
        )
    return "/".join(pieces)


def _files(folder: Path, root: Path, parts: tuple[str, ...]) -> dict[str, Path]:
    """Returns the image files by their path below the root, sorted."""
    return {
        path.relative_to(root).as_posix(): path
        for part in sorted(parts)
        for path in sorted((folder / f"XR_{part}").rglob("*.png"))
        if not path.name.startswith(".")
    }


def _part(name: str) -> str:
    return name.split("/")[1].removeprefix("XR_")


def _study(name: str) -> str:
    return name.rsplit("/", 1)[0]
