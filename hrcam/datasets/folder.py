"""Images of your own: one folder a class.

`root/<class>/<anything>/<image>`. A label is all that folders say; who the images
belong to is yours to say with `group_of`, since images of one patient on both sides of
a split make every score too good.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from hrcam.datasets._files import IMAGE_SUFFIXES, warn_set_aside
from hrcam.datasets._table import ImageTable


def folder(
    root: str | Path,
    *,
    class_names: Sequence[str] | None = None,
    group_of: Callable[[Path], str] | None = None,
    mask_root: str | Path | None = None,
) -> ImageTable:
    """Lists the images of a folder with one sub-folder a class.

    Args:
        root: The folder of the class folders. Images (.jpg, .jpeg, .png, .bmp, .tif,
            .tiff, .dcm, .dicom, .ima) may be nested below these. NIfTI volumes are not
            taken: name their slices in a CSV (`csv_table`), as `scan.nii.gz#12`.
        class_names: Class folders in the order of their labels; others are set
            aside. Default: all, sorted by name.
        group_of: Gives the group (patient, lesion) of an image by its path, such as
            `lambda path: path.parent.name`. Default: each image is its own group.
        mask_root: Folder of the masks, which lie in it as the images do in `root`:
            that of `root/a/1.jpg` is `mask_root/a/1.png`. Default: no masks.

    Returns:
        The image table, by class and then sorted by path.

    Raises:
        ValueError: If `class_names` names a class twice or one without a folder, or
            if a class has no image.
        FileNotFoundError: If `root` is no folder or has no class folder, or
            `mask_root` is no folder.

    Warns:
        UserWarning: If files are set aside: hidden ones (a name in their path begins
            with a dot), not images, or not in the folder of a class.

    Example:
        >>> table = folder(root, group_of=lambda path: path.stem.split("_")[0])
    """
    root = Path(root)
    class_names = _class_names(root, class_names)
    images_of, hidden, others, elsewhere = _sort_out(root, class_names)
    warn_set_aside("that are hidden", hidden, "files")
    warn_set_aside(f"that are not {', '.join(IMAGE_SUFFIXES)}", others, "files")
    warn_set_aside("that are in no class folder", elsewhere, "files")
    empty = [name for name, images in images_of.items() if not images]
    if empty:
        raise ValueError(
            f"Every class folder of {root} must hold an image "
            f"({', '.join(IMAGE_SUFFIXES)}). Received: none in {empty}"
        )
    paths = [path for images in images_of.values() for path in images]
    counts = [len(images) for images in images_of.values()]
    if group_of is None:
        groups = [path.relative_to(root).as_posix() for path in paths]
    else:
        groups = [group_of(path) for path in paths]
    labels = np.repeat(np.arange(len(counts)), counts)
    masks = None if mask_root is None else _masks(root, paths, Path(mask_root))
    return ImageTable(paths, labels, groups, class_names, masks)


def _masks(root: Path, paths: list[Path], mask_root: Path) -> list[Path | None]:
    if not mask_root.is_dir():
        raise FileNotFoundError(
            f"`mask_root` must be a folder of masks. Received: {mask_root}"
        )
    masks = [mask_root / path.relative_to(root).with_suffix(".png") for path in paths]
    return [mask if mask.is_file() else None for mask in masks]


def _class_names(root: Path, wanted: Sequence[str] | None) -> tuple[str, ...]:
    if not root.is_dir():
        raise FileNotFoundError(
            f"`root` must be a folder with one sub-folder a class. Received: {root}"
        )
    there = {path.name for path in root.iterdir() if path.is_dir()}
    there = sorted(name for name in there if not name.startswith("."))
    if not there:
        raise FileNotFoundError(
            f"{root} must have one sub-folder a class. Received: no sub-folder"
        )
    names = tuple(there if wanted is None else wanted)
    if not names or len(set(names)) < len(names) or not set(names) <= set(there):
        raise ValueError(
            f"`class_names` must name sub-folders of {root}, each once: {there[:20]}. "
            f"Received: {wanted!r}"
        )
    return names


def _sort_out(root: Path, class_names: tuple[str, ...]) -> tuple:
    """Returns images by class, and the files set aside: hidden, no image, elsewhere."""
    images_of = {name: [] for name in class_names}
    hidden, others, elsewhere = [], [], []
    for path in _files(root):
        name = path.relative_to(root)
        if any(part.startswith(".") for part in name.parts):
            hidden.append(name.as_posix())
        elif len(name.parts) == 1 or name.parts[0] not in images_of:
            elsewhere.append(name.as_posix())
        elif path.suffix.lower() not in IMAGE_SUFFIXES:
            others.append(name.as_posix())
        else:
            images_of[name.parts[0]].append(path)
    return images_of, hidden, others, elsewhere


def _files(root: Path) -> Iterator[Path]:
    """Yields the files at any depth, sorted by path."""
    for top in sorted(root.iterdir()):  # a class folder may be a link
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if not path.is_dir():
                yield path
