"""A study: the maps of several methods, scored image by image and kept as they come.

Images are loaded a chunk at a time, each method maps the chunk, and what counts of the
maps (scores, and how many pixels reach each threshold) goes to a small file a method
and chunk. So memory does not grow with the images, a study that was stopped goes on
where it was, and methods can be added to it later. The maps themselves are not kept.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
from rich.progress import Progress

from hrcam.evaluation import score_maps
from hrcam.faithfulness import average_drop_gain, insertion_deletion
from hrcam.normalize import min_max_normalize
from hrcam.study.scores import ImageScores, filled, joined, read, write
from hrcam.sweep import threshold_counts

Load = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Study(NamedTuple):
    """What is compared on what.

    Attributes:
        methods: Title -> function of `(images, class_index)`, see
            `hrcam.methods.explainers`.
        load: Row numbers -> images `(rows, height, width, channels)` in [0, 1] and
            masks `(rows, height, width)` bool. All of one size.
        class_index: `(n,)`, the class to explain in each image.
        groups: `(n,)` patients or lesions; `None`: each image is its own.
        limits: Title -> how many images, from the first on, that method maps; the rest
            is left out and counted. `None`: all map all.
        further: More scores of `(images, maps, class_index)`, name -> `(rows,)`, such
            as `faithfulness_scores`; `None`: none.
    """

    methods: Mapping[str, Callable[[np.ndarray, Any], np.ndarray]]
    load: Load
    class_index: np.ndarray
    groups: np.ndarray | None = None
    limits: Mapping[str, int] | None = None
    further: Callable[[np.ndarray, np.ndarray, np.ndarray], dict] | None = None


def score_study(
    study: Study,
    directory: str | Path,
    *,
    chunk_size: int = 32,
    progress: bool = False,
) -> dict[str, ImageScores]:
    """Maps and scores every image by every method.

    Args:
        study: What to compare.
        directory: Where scores are kept, in `parts`; those found there are not
            computed again. See `hrcam.report.claim_directory` for keeping studies
            apart.
        chunk_size: Images at a time. Another one starts anew.
        progress: Whether to show a bar.

    Returns:
        Title -> scores of all images.

    Raises:
        ValueError: If there is no image, or images, masks, maps or classes do not fit.
        OSError: If a file cannot be written; what is kept stays.
    """
    classes = np.asarray(study.class_index)
    if classes.ndim != 1 or not len(classes):
        raise ValueError(
            "`class_index` must be (n,), one class an image, n at least 1. "
            f"Received: {classes.shape}"
        )
    parts = Path(directory, "parts")
    limits = study.limits or {}
    pieces: dict[str, list[ImageScores]] = {title: [] for title in study.methods}
    starts = range(0, len(classes), chunk_size)
    with Progress(disable=not progress) as bar:
        task = bar.add_task("Maps", total=len(starts) * len(pieces))
        for start in starts:
            rows = np.arange(start, min(start + chunk_size, len(classes)))
            loaded = None
            for title, method in study.methods.items():
                bar.update(task, description=f"Maps: {title}")
                file = parts / _file_name(title) / f"{start}-{rows[-1]}.npz"
                count = min(len(rows), max(0, limits.get(title, len(classes)) - start))
                piece = read(file, count) if count else None
                if piece is None and count:
                    loaded = loaded or study.load(rows)
                    part = (values[:count] for values in (*loaded, classes[rows]))
                    piece = _score(method, *part, study.further)
                    write(file, piece)
                pieces[title].append(filled(piece, len(rows)))
                bar.advance(task)
    return {title: joined(found) for title, found in pieces.items()}


def faithfulness_scores(
    classifier: keras.Model, white: float = 1.0, steps: int = 20
) -> Callable[[np.ndarray, np.ndarray, np.ndarray], dict[str, np.ndarray]]:
    """Makes the `further` of a study that scores whether the network follows the maps.

    Args:
        classifier: Whose class probability is followed.
        white: What white was in its training; images come in [0, 1].
        steps: Of insertion and deletion, a forward pass each.

    Returns:
        A function whose scores are insertion, deletion, drop and gain; see
        `hrcam.faithfulness`.
    """

    def score(images, maps, class_index):
        shown = images * white
        curves = insertion_deletion(classifier, shown, maps, class_index, steps=steps)
        masked = average_drop_gain(classifier, shown, maps, class_index)
        return {
            "insertion": curves.insertion_auc,
            "deletion": curves.deletion_auc,
            "drop": masked.drop,
            "gain": masked.gain,
        }

    return score


def quiet_maps(method: Callable, images: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Maps without a warning for each blank one of thousands: a study counts them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*no positive value", UserWarning)
        return method(images, classes)


def _score(method, images, masks, classes, further) -> ImageScores:
    raw = quiet_maps(method, images, classes)
    return ImageScores(
        score_maps({"": raw}, masks)[""],
        *threshold_counts(min_max_normalize(raw), masks),
        ~(raw.max(axis=(1, 2)) > 0),
        np.ones(len(raw), bool),
        {} if further is None else further(images, raw, classes),
    )


def _file_name(title: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in title)
