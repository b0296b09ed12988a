"""ImageCLEF 2009 medical annotation (IRMA): radiographs of all regions of the body.

12,677 training images, each with an IRMA code that says how it was taken and what it
shows. Kumar et al. (2018) tell 24 regions apart: the first two characters of the
code's anatomical axis, of which 24 have at least 50 training images. The largest,
the chest, has 4,629 of 12,536 images: 36.9 % is what guessing gets.

The data must not be given on. They are to be asked for at RWTH Aachen University,
https://doi.org/10.18154/RWTH-2016-06143 (Deserno and Ott, "15,363 IRMA images of 193
categories for ImageCLEFmed 2009"), under its terms; nothing is downloaded here.

No patient is named, so every image is its own group, and nobody can know whether
images of one patient are on both sides of a split. The paper's split is
`split_by_group(table, (0.9, 0.1))`.
"""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hrcam.datasets._files import IMAGE_SUFFIXES, present, read_csv, warn_set_aside
from hrcam.datasets._table import ImageTable

SOURCE = "https://doi.org/10.18154/RWTH-2016-06143"
IMAGES = "ImageCLEFmed2009_train.02"
CODES = "ImageCLEFmed2009_train_codes.02.csv"
REGION_NAMES = {"41": "hand", "50": "chest", "91": "foot", "94": "knee"}
AXES = (4, 3, 3, 3)  # characters
CODE = re.compile("-?".join(f"([0-9a-z]{{{length}}})" for length in AXES))


class IrmaCode(NamedTuple):
    """The four axes of an IRMA code; see `irma_axes`."""

    technique: str
    direction: str
    anatomy: str
    biosystem: str


def irma_axes(code: str) -> IrmaCode:
    """Takes an IRMA code apart.

    Args:
        code: `TTTT-DDD-AAA-BBB`, 13 characters 0-9 and a-z; dashes may be missing.

    Returns:
        The axes: technique (4 characters), direction, anatomy and biological system
        (3 each).

    Raises:
        ValueError: If it is no such code.

    Example:
        >>> irma_axes("1121-127-700-500").anatomy
        '700'
    """
    match = CODE.fullmatch(code) if isinstance(code, str) else None
    if match is None:
        raise ValueError(
            "`code` must be TTTT-DDD-AAA-BBB, 13 characters 0-9 and a-z, with or "
            f"without dashes. Received: {code!r}"
        )
    return IrmaCode(*match.groups())


def imageclef(root: str | Path, *, min_images: int = 50) -> ImageTable:
    """Lists the training images of ImageCLEF 2009, by region of the body.

    Args:
        root: The folder that holds `ImageCLEFmed2009_train.02` (nested twice or not)
            and `ImageCLEFmed2009_train_codes.02.csv`. Images are found by their
            number, padded with zeros or not.
        min_images: A region is a class when it has so many images, on disk and with
            a code. The default gives the 24 classes of the paper.

    Returns:
        The image table in the order of the CSV. Classes: the first two characters
        of the anatomical axis in ascending order, with a name where the paper has
        one: `"41 hand"`, `"50 chest"`, `"91 foot"`, `"94 knee"`. Groups: the image.

    Raises:
        ValueError: If `min_images` is below 1 or above the images of every region,
            or if the CSV lacks a column or names an image twice.
        FileNotFoundError: If the folder or the CSV is missing.

    Warns:
        UserWarning: If images are set aside: in the CSV but not on disk, on disk but
            not in the CSV, on disk twice, without an IRMA code, or of a rarer
            region.

    Reference:
        Kumar et al. (2018), ISBI, https://arxiv.org/abs/1611.06284;
        Tommasi et al. (2010), "Overview of the CLEF 2009 medical image annotation
        track", https://doi.org/10.1007/978-3-642-15751-6_9
    """
    if not isinstance(min_images, (int, np.integer)) or min_images < 1:
        raise ValueError(
            f"`min_images` must be a whole number, 1 or more. Received: {min_images!r}"
        )
    root = Path(root)
    files, twice = _files_by_number(present(root, IMAGES, SOURCE))
    codes = _read_codes(present(root, CODES, SOURCE))
    warn_set_aside("in the CSV but not on disk", [n for n in codes if n not in files])
    warn_set_aside("on disk but not in the CSV", [n for n in files if n not in codes])
    warn_set_aside("on disk twice", twice)
    codes = {name: code for name, code in codes.items() if name in files}
    region_of = {name: code.anatomy[:2] for name, code in codes.items() if code}
    warn_set_aside("without an IRMA code", [n for n in codes if n not in region_of])
    counts = Counter(region_of.values())
    regions = sorted(r for r, count in counts.items() if count >= min_images)
    if not regions:
        raise ValueError(
            "`min_images` must leave a class. "
            f"Received: {min_images}; most images have {counts.most_common(5)}"
        )
    rare = [name for name, region in region_of.items() if region not in regions]
    warn_set_aside(f"of regions of fewer than {min_images} images", rare)
    names = [name for name, region in region_of.items() if region in regions]
    return ImageTable(
        [files[name] for name in names],
        np.array([regions.index(region_of[name]) for name in names], np.int64),
        names,
        [" ".join([r, REGION_NAMES.get(r, "")]).strip() for r in regions],
    )


def _files_by_number(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Returns the first file of each image number, and the names of the others."""
    files, twice = {}, []
    for path in sorted(folder.rglob("*")):
        is_image = path.suffix.lower() in IMAGE_SUFFIXES
        if is_image and files.setdefault(_number(path.stem), path) != path:
            twice.append(path.name)
    return files, twice


def _number(name: str) -> str:
    """Returns a name without the zeros with which some copies pad it."""
    return name.strip().lstrip("0") or "0"


def _read_codes(path: Path) -> dict[str, IrmaCode | None]:
    """Returns the code of each image number, `None` where there is none."""
    codes = {}
    for row in read_csv(path, ("image_id", "irma_code"), delimiter=";"):
        name, code = _number(row["image_id"]), row["irma_code"].strip()
        if name in codes:
            raise ValueError(f"{path} must name an image once. Received: {name} twice")
        codes[name] = irma_axes(code) if CODE.fullmatch(code) else None
    return codes
