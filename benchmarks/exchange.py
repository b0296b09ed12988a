"""What the peers' environments are given, in a folder; needs no TensorFlow.

`classifier.keras` is the network, `reference.npz` an image and what hrcam makes of it:
`image` `(1, size, size, 1)`; `layer`, the name of the units' layer, and its `features`
`(1, rows, columns, channels)`; `units` `(n,)`, the strongest; and for each seed, `map`
and `peak`, the back-projections of those units `(n, size, size)`, gating "deconvnet".
"""

from pathlib import Path
from typing import Any

import numpy as np

SEEDS = ("map", "peak")


def save(folder: Path, classifier: Any, arrays: dict[str, np.ndarray]) -> None:
    """Writes both files."""
    classifier.save(folder / "classifier.keras")
    np.savez(folder / "reference.npz", **arrays)


def load(folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
    """Reads both, the classifier with the Keras backend of this process."""
    import keras

    classifier = keras.saving.load_model(folder / "classifier.keras", compile=False)
    with np.load(folder / "reference.npz") as arrays:
        return classifier, dict(arrays)


def peaks(reference: dict[str, np.ndarray]) -> list[tuple[int, int, int, float]]:
    """(row, column, channel, value) of the first peak of each unit's map."""
    found = []
    for unit in reference["units"]:
        maps = reference["features"][0, :, :, unit]
        row, column = np.unravel_index(maps.argmax(), maps.shape)
        found.append((int(row), int(column), int(unit), float(maps[row, column])))
    return found


def difference(maps: np.ndarray, ours: np.ndarray) -> float:
    """Largest difference of a unit's map from ours, as a share of the range of ours."""
    maps = np.reshape(maps, ours.shape)
    largest = np.abs(maps - ours).max(axis=(1, 2))
    return float((largest / np.ptp(ours, axis=(1, 2))).max())
