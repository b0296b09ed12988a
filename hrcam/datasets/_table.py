"""A data set as a table: where the images are, what they show, who they belong to.

Decoding is elsewhere (`_pipeline`); this module needs numpy and scikit-learn only.
"""

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

MAX_FOLDS = 100
NUM_DEALS = 300


@dataclass(frozen=True, eq=False)
class ImageTable:
    """The images of a data set; row i of every column is image i.

    `len(table)` is the number of images. `table.select(rows)` picks images. The
    table unpacks like a tuple, in the order of its columns:
    `paths, labels, groups, class_names, mask_paths = table`.

    Attributes:
        paths: `n` image files.
        labels: `(n,)` int64, index into `class_names`.
        groups: `(n,)` str: patient, subject or lesion. Images of one group never
            belong on both sides of a split.
        class_names: One name a class.
        mask_paths: `n` mask files, `None` where an image has none.
            Default: no masks.

    Raises:
        ValueError: If the columns differ in length, if a label is not an index
            into `class_names`, or if a group is missing.
    """

    paths: list[Path]
    labels: np.ndarray
    groups: np.ndarray
    class_names: tuple[str, ...]
    mask_paths: list[Path | None] | None = None

    def __post_init__(self) -> None:
        """Converts every column to its own type and checks that they agree."""
        paths = [Path(path) for path in self.paths]
        masks = [None] * len(paths) if self.mask_paths is None else self.mask_paths
        columns = {
            "paths": paths,
            "labels": _as_labels(self.labels, len(self.class_names)),
            "groups": _as_groups(self.groups),
            "class_names": tuple(self.class_names),
            "mask_paths": [None if mask is None else Path(mask) for mask in masks],
        }
        counts = {k: len(v) for k, v in columns.items() if k != "class_names"}
        if len(set(counts.values())) > 1:
            raise ValueError(
                f"The columns must have one row an image. Received: rows {counts}"
            )
        for name, column in columns.items():
            object.__setattr__(self, name, column)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.paths)

    def __iter__(self) -> Iterator:
        """Yields the five columns, so that a table unpacks as a tuple does."""
        columns = (self.paths, self.labels, self.groups)
        return iter((*columns, self.class_names, self.mask_paths))

    def select(self, rows: Sequence[int] | np.ndarray) -> "ImageTable":
        """Returns the table of some of the images, in the order given.

        Args:
            rows: Row numbers, or one bool an image.

        Raises:
            ValueError: If bools are not one an image, or rows are not integers.
            IndexError: If a row number is not in the table.
        """
        rows = np.asarray(rows)
        if rows.dtype == bool and rows.shape == (len(self),):
            rows = np.flatnonzero(rows)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise ValueError(
                f"`rows` must be row numbers, or {len(self)} bools, one an image. "
                f"Received: {rows.dtype} of shape {rows.shape}"
            )
        rows = rows.astype(np.int64)
        return ImageTable(
            [self.paths[row] for row in rows],
            self.labels[rows],
            self.groups[rows],
            self.class_names,
            [self.mask_paths[row] for row in rows],
        )


def split_by_group(
    table: ImageTable, fractions: Sequence[float] = (0.8, 0.2), seed: int = 0
) -> list[ImageTable]:
    """Splits a table so that no group (patient, lesion) is in two parts.

    Folds of whole groups with about equal class counts come from scikit-learn's
    `StratifiedGroupKFold`; each part gets the number of folds that its fraction
    asks for, dealt so that the classes come out best. Fractions and class shares
    are met as closely as the groups allow.

    Args:
        table: The images.
        fractions: One share of the images for each part; they sum to 1.
        seed: The same seed gives the same parts.

    Returns:
        One table a part. Images keep their order.

    Raises:
        ValueError: If the fractions are not positive or do not sum to 1, or if
            there are fewer groups than parts.

    Example:
        >>> train, test = split_by_group(table, (0.8, 0.2), seed=0)
    """
    shares = np.asarray(fractions, float)
    if shares.ndim != 1 or not (shares > 0).all() or not np.isclose(shares.sum(), 1):
        raise ValueError(
            "`fractions` must be positive and sum to 1, such as (0.7, 0.15, 0.15). "
            f"Received: {fractions}"
        )
    num_groups = len(np.unique(table.groups))
    if num_groups < len(shares):
        raise ValueError(
            f"{len(shares)} parts need at least {len(shares)} groups. "
            f"Received: {num_groups} groups in {len(table)} images"
        )
    if len(shares) == 1:
        return [table.select(np.arange(len(table)))]
    folds_of_part = _folds_of_part(shares, min(num_groups, MAX_FOLDS))
    fold = _fold_of_row(table, folds_of_part.sum(), seed)
    part = _part_of_fold(fold, table.labels, folds_of_part, seed)[fold]
    return [table.select(part == number) for number in range(len(shares))]


def _folds_of_part(shares: np.ndarray, most: int) -> np.ndarray:
    """Returns whole numbers of folds in the ratio of the shares, as few as do."""

    def rounded(total):
        folds = np.maximum(np.rint(shares * total), 1).astype(int)
        folds[folds.argmax()] += total - folds.sum()
        return folds

    def error(total):
        return np.abs(rounded(total) / total - shares).max()

    totals = range(len(shares), most + 1)
    return rounded(min(totals, key=lambda total: (round(error(total), 3), total)))


def _fold_of_row(table: ImageTable, num_folds: int, seed: int) -> np.ndarray:
    """Returns the fold of each image, by scikit-learn."""
    # A class of fewer images than folds cannot be in each: no error for us. When
    # every class is that small, scikit-learn refuses: then labels do not count.
    labels = table.labels
    if np.bincount(labels).max() < num_folds:
        labels = np.zeros_like(labels)
    folds = StratifiedGroupKFold(num_folds, shuffle=True, random_state=seed)
    fold = np.empty(len(table), int)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        for number, (_, rows) in enumerate(folds.split(labels, labels, table.groups)):
            fold[rows] = number
    return fold


def _part_of_fold(
    fold: np.ndarray, labels: np.ndarray, folds_of_part: np.ndarray, seed: int
) -> np.ndarray:
    """Deals the folds to the parts: of many random deals, the best by class.

    A class of fewer groups than folds is not in every fold; dealt in order, a part
    might get none of it.
    """
    rng = np.random.default_rng(seed)
    parts = np.repeat(np.arange(len(folds_of_part)), folds_of_part)
    counts = np.zeros((len(parts), labels.max() + 2))
    np.add.at(counts, (fold, labels), 1)
    counts[:, -1] = np.bincount(fold, minlength=len(parts))  # all classes: the size
    wanted = np.outer(folds_of_part / len(parts), counts.sum(axis=0))

    def error(deal):
        got = np.eye(len(folds_of_part))[deal].T @ counts
        return np.sum(np.abs(got - wanted) / np.maximum(counts.sum(axis=0), 1))

    deals = [parts, *(rng.permutation(parts) for _ in range(NUM_DEALS))]
    return min(deals, key=error)


def _as_labels(labels, num_classes: int) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.ndim != 1 or (labels.size and labels.dtype.kind not in "iub"):
        raise ValueError(
            "`labels` must be integers of shape (n,). "
            f"Received: {labels.dtype} of shape {labels.shape}"
        )
    labels = labels.astype(np.int64)
    wrong = labels[(labels < 0) | (labels >= num_classes)]
    if wrong.size:
        raise ValueError(
            f"`labels` must be indices into the {num_classes} `class_names`. "
            f"Received: {wrong[:5].tolist()}"
        )
    return labels


def _as_groups(groups) -> np.ndarray:
    def is_missing(group):
        return group in (None, "") or (isinstance(group, float) and math.isnan(group))

    missing = [row for row, group in enumerate(groups) if is_missing(group)]
    if missing:
        raise ValueError(
            "Every image needs a group; an image of its own is its own group (its "
            f"file name, for example). Received: no group in rows {missing[:5]}"
        )
    return np.asarray([str(group) for group in groups], dtype=np.str_)
