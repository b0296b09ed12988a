"""FracAtlas: radiographs of the hand, leg, hip and shoulder; fractures are outlined.

4,083 radiographs in the published version, 717 of them with fractures, from three
hospitals in Bangladesh; 922 fractures are outlined as polygons. CC BY 4.0. Abedeen
et al. (2023), Scientific Data 10:521, doi:10.1038/s41597-023-02432-4, where it says
how to get it; nothing is downloaded here. Some JPEGs of the release are truncated:
`drop_unreadable` finds them.

**Groups.** No patient is named. Neighbouring numbers may show one patient, so a group
is a block of neighbouring numbers, and `split_by_group` keeps blocks whole. That is
our choice. It does not guarantee that a patient is on one side only: images of one
patient may lie on both sides of a border between blocks, or far apart.
"""

import re
from pathlib import Path

import numpy as np

from hrcam.datasets._files import IMAGE_SUFFIXES, present, read_csv, warn_set_aside
from hrcam.datasets._polygons import draw_polygons, jpeg_size, read_coco, write_mask
from hrcam.datasets._table import ImageTable

SOURCE = "https://doi.org/10.1038/s41597-023-02432-4"
BODY_PARTS = ("hand", "leg", "hip", "shoulder")
FRACTURE = ("not fractured", "fractured")
FOLDERS = ("Non_fractured", "Fractured")
NUMBER = re.compile(r"/IMG(\d+)\.\w+$")
FLAGS = (*BODY_PARTS, "mixed", "fractured")
POLYGONS = "Annotations/COCO JSON/COCO_fracture_masks.json"


def fracatlas(
    root: str | Path,
    target: str = "body_part",
    *,
    block_size: int = 25,
    mask_dir: str | Path | None = None,
) -> ImageTable:
    """Lists the images of FracAtlas.

    Args:
        root: The folder that holds `dataset.csv`, `images/Fractured` and
            `images/Non_fractured`; for masks also `Annotations/COCO JSON/
            COCO_fracture_masks.json`.
        target: `"body_part"`: images of exactly one of hand, leg, hip and shoulder
            that are not marked `mixed`; the others are left out. `"fracture"`: all
            images, not fractured or fractured.
        block_size: Image numbers in a group: image 1234 is in group 49 of 25 each.
        mask_dir: A folder of your own for masks of the fractures, made if need be:
            `<image>.png`, 0 or 255, of the image file's size, drawn anew at every
            call from the polygons. Default: no masks.

    Returns:
        The image table in the order of the CSV. Groups: blocks of neighbouring
        numbers, see above. Masks: of images with a polygon, if `mask_dir` is given.

    Raises:
        ValueError: If `target` or `block_size` is not as above, if the CSV lacks a
            column, names an image twice or has other flags than 0 and 1, or if the
            JSON is not COCO.
        FileNotFoundError: If a folder or a file is missing.

    Warns:
        UserWarning: If images are set aside: in the CSV but not on disk (in the
            folder of their flag `fractured`), on disk but not in the CSV, or not
            named IMG and a number. If masks are: of images that are not listed as
            fractured, or whose file does not tell its size.

    Reference:
        Abedeen et al. (2023), https://doi.org/10.1038/s41597-023-02432-4
    """
    _check(target, block_size)
    root = Path(root)
    flags = _read_flags(present(root, "dataset.csv", SOURCE))
    files = _image_files(root)
    warn_set_aside("in the CSV but not on disk", [n for n in flags if n not in files])
    warn_set_aside("on disk but not in the CSV", [n for n in files if n not in flags])
    names = [name for name in flags if name in files]
    odd = [name for name in names if not NUMBER.search(name)]
    warn_set_aside("not named IMG and a number", odd)
    files = {name: files[name] for name in names if name not in odd}
    masks = {} if mask_dir is None else _draw_masks(root, files, Path(mask_dir))
    label_of, class_names = _labels({name: flags[name] for name in files}, target)
    return ImageTable(
        [files[name] for name in label_of],
        np.array(list(label_of.values()), np.int64),
        [int(NUMBER.search(name)[1]) // block_size for name in label_of],
        class_names,
        [masks.get(name) for name in label_of],
    )


def _check(target: str, block_size: int) -> None:
    if target not in ("body_part", "fracture"):
        raise ValueError(
            f"`target` must be 'body_part' or 'fracture'. Received: {target!r}"
        )
    if not isinstance(block_size, (int, np.integer)) or block_size < 1:
        raise ValueError(
            "`block_size` must be a whole number of images, 1 or more. "
            f"Received: {block_size!r}"
        )


def _read_flags(path: Path) -> dict[str, dict[str, int]]:
    """Returns the flags of each image by its folder and name, `Fractured/IMG1.jpg`."""
    flags = {}
    for row in read_csv(path, ("image_id", *FLAGS)):
        values = {flag: row[flag].strip() for flag in FLAGS}
        image_id = row["image_id"].strip()
        if not set(values.values()) <= {"0", "1"}:
            raise ValueError(
                f"{path} must have flags 0 or 1. Received: {image_id!r} with {values}"
            )
        names = [f"{folder}/{image_id}" for folder in FOLDERS]
        if any(name in flags for name in names):
            raise ValueError(
                f"{path} must name an image once. Received: {image_id!r} twice"
            )
        values = {flag: int(value) for flag, value in values.items()}
        flags[names[values["fractured"]]] = values
    return flags


def _image_files(root: Path) -> dict[str, Path]:
    """Returns the images by folder and name; a name in the CSV cannot leave them."""
    return {
        f"{folder}/{path.name}": path
        for folder in FOLDERS
        for path in sorted(present(root, f"images/{folder}", SOURCE).iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES
    }


def _labels(
    flags: dict[str, dict[str, int]], target: str
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Returns the class index of each image of the target, and the class names."""
    if target == "fracture":
        return {name: row["fractured"] for name, row in flags.items()}, FRACTURE
    parts = {name: [row[part] for part in BODY_PARTS] for name, row in flags.items()}
    return {
        name: marks.index(1)
        for name, marks in parts.items()
        if sum(marks) == 1 and not flags[name]["mixed"]
    }, BODY_PARTS


def _draw_masks(root: Path, files: dict[str, Path], mask_dir: Path) -> dict[str, Path]:
    """Writes the masks of the fractured images; returns their files by image."""
    polygons = {
        f"{FOLDERS[1]}/{name}": rings
        for name, rings in read_coco(present(root, POLYGONS, SOURCE)).items()
        if rings
    }
    sizes = {name: jpeg_size(files[name]) for name in polygons if name in files}
    other = [name for name in polygons if name not in sizes]
    unsized = [name for name, size in sizes.items() if size is None]
    warn_set_aside("of images not listed as fractured", other, "masks", stacklevel=4)
    warn_set_aside("of images of unknown size", unsized, "masks", stacklevel=4)
    masks = {}
    for name, size in sizes.items():
        if size is not None:
            masks[name] = mask_dir / f"{files[name].stem}.png"
            write_mask(masks[name], draw_polygons(polygons[name], size))
    return masks
