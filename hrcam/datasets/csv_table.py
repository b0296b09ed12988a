"""Images of your own, listed in a CSV: image, label, and if you have them mask, group.

A CSV says more than folders do: where the mask of an image is, and which images belong
to one patient. A row an image, with a header:

    image,label,mask,group
    scans/0001.png,fractured,masks/0001.png,patient-17
    scans/0002.png,normal,,patient-18
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hrcam.datasets._files import read_csv
from hrcam.datasets._table import ImageTable


def csv_table(
    path: str | Path, *, class_names: Sequence[str] | None = None
) -> ImageTable:
    """Lists the images that a CSV names.

    Args:
        path: The CSV, in UTF-8, with the columns `image` and `label`, and if there
            are any `mask` and `group`; others are not read. Files are relative to the
            folder of the CSV. An empty mask: the image has none. An empty group: the
            image is its own group.
        class_names: The labels in the order of the classes. Default: all that occur,
            sorted, numbers by their value.

    Returns:
        The image table in the order of the CSV.

    Raises:
        FileNotFoundError: If there is no such CSV.
        ValueError: If it is not text, lacks a column, has no row, or a row has no
            image or a label that is not in `class_names`.

    Example:
        >>> table = csv_table("test.csv", class_names=("normal", "fractured"))
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a CSV file. Received: {path}")
    rows = read_csv(path, ("image", "label"))
    images = [row["image"].strip() for row in rows]
    if not rows or not all(images):
        raise ValueError(
            f"{path} must name an image in every row, and have at least one row. "
            f"Received: {len(rows)} rows, {images.count('')} of them without an image"
        )
    labels = [row["label"].strip() for row in rows]
    names = sorted(set(labels), key=_order) if class_names is None else class_names
    unknown = sorted({label for label in labels if label == "" or label not in names})
    if unknown:
        raise ValueError(
            f"Labels of {path} must be among {tuple(names)}. Received: {unknown[:5]}"
        )
    masks = [row.get("mask", "").strip() for row in rows]
    groups = [row.get("group", "").strip() for row in rows]
    return ImageTable(
        [path.parent / image for image in images],
        np.array([list(names).index(label) for label in labels], np.int64),
        [group or image for group, image in zip(groups, images, strict=True)],
        tuple(names),
        [path.parent / mask if mask else None for mask in masks],
    )


def _order(label: str) -> tuple:
    """Numbers by their value, before words."""
    return (0, float(label), label) if label.isdecimal() else (1, 0.0, label)
