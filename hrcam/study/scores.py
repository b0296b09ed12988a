"""Scores of a method's maps image by image, and the small files that keep them."""

import os
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hrcam.evaluation import THRESHOLDS, MapScores
from hrcam.sweep import SWEEP


class ImageScores(NamedTuple):
    """Scores of one method, one row an image.

    Attributes:
        scores: As `hrcam.evaluation.score_maps` gives them.
        found_inside: `(n, t)` pixels of the mask that reach each of the thresholds
            of `hrcam.sweep`.
        found_outside: `(n, t)` pixels beside the mask that do.
        inside: `(n,)` pixels of the mask.
        outside: `(n,)` pixels beside it.
        blank: `(n,)` bool, whether the raw map has no positive value.
        mapped: `(n,)` bool; false beyond the study's limit for the method.
        further: Name -> `(n,)`, see `Study`.
    """

    scores: MapScores
    found_inside: np.ndarray
    found_outside: np.ndarray
    inside: np.ndarray
    outside: np.ndarray
    blank: np.ndarray
    mapped: np.ndarray
    further: dict[str, np.ndarray]

    def columns(self) -> dict[str, np.ndarray]:
        """Every score by its name, `(n,)` each; NaN where it is undefined."""
        named = {
            f"{name} {threshold:g}": getattr(self.scores, name)[:, number]
            for name in ("sensitivity", "specificity")
            for number, threshold in enumerate(THRESHOLDS)
        }
        for name in MapScores._fields[2:]:
            named[name.replace("_", " ")] = getattr(self.scores, name)
        return named | self.further

    def reasons(self) -> np.ndarray:
        """Why a score of an image may be undefined, `(n,)` str; "" for no reason."""
        reasons = np.where(self.blank, "blank map", "")
        reasons = np.where(self.outside == 0, "mask fills the image", reasons)
        reasons = np.where(self.inside == 0, "empty mask", reasons)
        return np.where(self.mapped, reasons, "not mapped")


def read(file: Path, count: int) -> ImageScores | None:
    """One chunk's scores; `None` where there are not `count`, or the file is broken."""
    try:
        with file.open("rb") as opened, np.load(opened) as archive:
            kept = dict(archive)
        scores = MapScores(*(kept.pop(name) for name in MapScores._fields))
        counts = [kept.pop(name) for name in ImageScores._fields[1:-1]]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return ImageScores(scores, *counts, kept) if len(counts[0]) == count else None


def write(file: Path, piece: ImageScores) -> None:
    """Writes beside the file and renames, so a kill leaves no half of one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".tmp")
    counts = {name: getattr(piece, name) for name in ImageScores._fields[1:-1]}
    with unfinished.open("wb") as opened:
        np.savez(opened, **piece.scores._asdict(), **counts, **piece.further)
    os.replace(unfinished, file)


def filled(piece: ImageScores | None, length: int) -> ImageScores:
    """Scores of `length` images: NaN (counts: 0) for those that were not mapped."""
    if piece is None:
        columns, t = len(THRESHOLDS), len(SWEEP)
        shapes = [(0, columns)] * 2 + [(0,)] * (len(MapScores._fields) - 2)
        scores = MapScores(*(np.empty(shape) for shape in shapes))
        counts = [np.empty(shape, int) for shape in ((0, t), (0, t), (0,), (0,))]
        piece = ImageScores(scores, *counts, *np.empty((2, 0), bool), {})
    missing = length - len(piece.inside)

    def fill(values):
        rest = np.full((missing, *values.shape[1:]), np.nan)
        if values.dtype.kind != "f":
            rest = np.zeros_like(rest, values.dtype)
        return np.concatenate([values, rest])

    return ImageScores(
        MapScores(*map(fill, piece.scores)),
        *map(fill, piece[1:-1]),
        {name: fill(values) for name, values in piece.further.items()},
    )


def joined(pieces: list[ImageScores]) -> ImageScores:
    """Scores of all images from those of the chunks, in their order."""
    scores = zip(*(piece.scores for piece in pieces), strict=True)
    counts = zip(*(piece[1:-1] for piece in pieces), strict=True)
    return ImageScores(
        MapScores(*(np.concatenate(column) for column in scores)),
        *(np.concatenate(column) for column in counts),
        {
            name: np.concatenate([_further(piece, name) for piece in pieces])
            for name in pieces[0].further
        },
    )


def _further(piece: ImageScores, name: str) -> np.ndarray:
    nothing = np.full(len(piece.inside), np.nan)  # of a chunk that was not mapped
    return piece.further.get(name, nothing)
