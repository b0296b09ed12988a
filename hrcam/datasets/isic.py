"""ISIC: dermoscopy images of skin lesions, the challenges of 2017 and 2019.

**2017**: 2,000 training images of one lesion each; melanoma, seborrheic keratosis
or (neither) nevus; a lesion mask for every image. CC0. Codella et al. (2018),
arXiv:1710.05006.

**2019**: 25,331 training images of 8 classes: MEL (melanoma) 4,522, NV (nevus) 12,875,
BCC 3,323, AK 867, BKL 2,624, DF 239, VASC 253, SCC 628; a ninth, UNK, is empty in
training. Often several images show one lesion; of 2,084 images it is not known which.
CC BY-NC 4.0: not for commercial use. Tschandl et al. (2018), doi:10.1038/sdata.2018.161
(HAM10000); Codella et al., arXiv:1710.05006; Combalia et al., arXiv:1908.02288
(BCN20000). It has no masks of its own; those of HAM10000
(doi:10.7910/DVN/DBW86T) cover 10,015 of its images.

Both are given out at https://challenge.isic-archive.com/data; nothing is downloaded
here.
"""

import warnings
from pathlib import Path

import numpy as np

from hrcam.datasets._files import present, read_csv, there, warn_set_aside
from hrcam.datasets._table import ImageTable

SOURCE = "https://challenge.isic-archive.com/data"
IMAGES = {2017: "ISIC-2017_Training_Data", 2019: "ISIC_2019_Training_Input"}
TRUTH = {
    2017: "ISIC-2017_Training_Part3_GroundTruth.csv",
    2019: "ISIC_2019_Training_GroundTruth.csv",
}
METADATA = "ISIC_2019_Training_Metadata.csv"
MASKS = {
    2017: "ISIC-2017_Training_Part1_GroundTruth",
    2019: "HAM10000_segmentation*",
}
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
MASK_ENDING = "_segmentation"


def isic(
    root: str | Path,
    year: int | None = None,
    positive: str | None = None,
    *,
    mask_root: str | Path | None = None,
) -> ImageTable:
    """Lists the training images of ISIC 2017 or 2019.

    Args:
        root: The folder that holds, for 2017, `ISIC-2017_Training_Data` and
            `ISIC-2017_Training_Part3_GroundTruth.csv`; for 2019,
            `ISIC_2019_Training_Input` and the `_GroundTruth` and `_Metadata` CSVs.
            Image folders may be nested (`Input/Input`, as in some mirrors).
        year: 2017, 2019, or `None` for the one whose CSV is there.
        positive: A class name, such as `"melanoma"` (2017) or `"MEL"` (2019), to
            set against the rest: the classes are then `("rest", positive)`.
        mask_root: Folder with masks `<image>_segmentation.png`. Default:
            `ISIC-2017_Training_Part1_GroundTruth` or `HAM10000_segmentation*`
            in `root`. Masks are optional.

    Returns:
        The image table in the order of the CSV. Classes of 2017: nevus,
        melanoma, seborrheic_keratosis; of 2019: the CSV's columns without UNK.
        Groups: 2019's lesion (the image itself where the lesion is not known);
        2017's image.

    Raises:
        ValueError: If `year` or `positive` is unknown, if both years are there, or if
            a CSV lacks a column or names an image twice.
        FileNotFoundError: If a folder or a CSV is missing, or if the folder holds
            none of the images that the CSV names.

    Warns:
        UserWarning: If images are set aside: in the CSV but not on disk (half
            unpacked), on disk but not in the CSV, or not of exactly one known class.
            Hidden files are not images. Also if images of 2019 are not in the
            metadata: each is then a lesion of its own.
    """
    root = Path(root)
    year = _year(root, year)
    files = _files_by_name(present(root, IMAGES[year], SOURCE))
    label_of, class_names = _read_truth(present(root, TRUTH[year], SOURCE), year)
    names = [name for name in label_of if name in files]
    if not names:
        raise FileNotFoundError(
            f"Expected {len(label_of)} images named by {TRUTH[year]}, found none: is "
            f"the archive unpacked? {there(root / IMAGES[year], SOURCE)}"
        )
    warn_set_aside(
        "in the CSV but not on disk", [n for n in label_of if n not in files]
    )
    warn_set_aside(
        "on disk but not in the CSV", [n for n in files if n not in label_of]
    )
    warn_set_aside(
        "not of exactly one class", [n for n in names if label_of[n] is None]
    )
    names = [name for name in names if label_of[name] is not None]
    labels = np.array([label_of[name] for name in names], np.int64)
    if positive is not None:
        labels = (labels == _index_of(positive, class_names)).astype(np.int64)
        class_names = ("rest", positive)
    masks = _find_masks(root, year, mask_root)
    return ImageTable(
        [files[name] for name in names],
        labels,
        _groups(root, year, names),
        class_names,
        [masks.get(name.removesuffix("_downsampled")) for name in names],
    )


def _year(root: Path, year: int | None) -> int:
    if year is not None:
        if year not in TRUTH:
            raise ValueError(f"`year` must be 2017 or 2019. Received: {year!r}")
        return year
    found = [year for year, name in TRUTH.items() if (root / name).is_file()]
    if len(found) > 1:
        raise ValueError(
            f"{root} holds both ISIC 2017 and 2019: say which with `year=`. "
            "Received: year=None"
        )
    if not found:
        raise FileNotFoundError(
            f"Expected {' or '.join(TRUTH.values())} in `root`. {there(root, SOURCE)}"
        )
    return found[0]


def _files_by_name(folder: Path) -> dict[str, Path]:
    """Returns the image files of a folder, nested or not, by image name."""
    return {
        path.stem: path
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in IMAGE_SUFFIXES
        and not path.stem.endswith("_superpixels")
        and not path.name.startswith(".")
    }


def _find_masks(root: Path, year: int, mask_root: str | Path | None) -> dict[str, Path]:
    """Returns the mask files by image name."""
    if mask_root is not None and not Path(mask_root).is_dir():
        raise FileNotFoundError(
            f"`mask_root` must be a folder of masks. {there(Path(mask_root), SOURCE)}"
        )
    folders = [mask_root] if mask_root else sorted(root.glob(MASKS[year]))
    return {
        path.stem.removesuffix(MASK_ENDING): path
        for folder in folders
        for path in sorted(Path(folder).rglob(f"*{MASK_ENDING}.png"))
    }


def _read_truth(path: Path, year: int) -> tuple[dict[str, int | None], tuple[str, ...]]:
    """Returns the class index of each image, `None` unless of one class."""
    rows = read_csv(path)
    columns = list(rows[0]) if rows else []
    key = "image_id" if year == 2017 else "image"
    names = [name for name in columns if name not in (key, "UNK")]
    if year == 2017:
        names = ["melanoma", "seborrheic_keratosis"]
    if not names or not {key, *names} <= set(columns):
        raise ValueError(
            f"{path} must have the column {key!r} and one column a class. "
            f"Received: columns {columns}"
        )
    label_of = {}
    for row in rows:
        marks = [float(row[name]) for name in names]
        if year == 2017:  # neither of the two is the third class
            marks.insert(0, 1 - sum(marks))
        if row[key] in label_of:
            raise ValueError(
                f"{path} must name an image once. Received: {row[key]} twice"
            )
        one_hot = sorted(marks) == [0] * (len(marks) - 1) + [1]
        label_of[row[key]] = marks.index(1) if one_hot else None
    return label_of, ("nevus", *names) if year == 2017 else tuple(names)


def _groups(root: Path, year: int, names: list[str]) -> list[str]:
    if year == 2017:
        return names
    rows = read_csv(present(root, METADATA, SOURCE), ("image", "lesion_id"))
    lesion_of = {row["image"]: row["lesion_id"].strip() for row in rows}
    unknown = [name for name in names if name not in lesion_of]
    if unknown:
        warnings.warn(
            f"{len(unknown)} images are not in {METADATA} and count as lesions of "
            f"their own, first {unknown[:3]}",
            stacklevel=3,
        )
    return [lesion_of.get(name) or name for name in names]


def _index_of(positive: str, class_names: tuple[str, ...]) -> int:
    if positive not in class_names:
        raise ValueError(
            f"`positive` must be one of {class_names}. Received: {positive!r}"
        )
    return class_names.index(positive)
