"""Data sets as tables of images, and the way from a table to arrays or `tf.data`.

One module a data set, one function named after it. Those that decode or augment need
TensorFlow and are imported when first used; the tables need numpy and scikit-learn.
"""

from importlib import import_module

from hrcam.datasets._table import ImageTable, split_by_group
from hrcam.datasets.csv_table import csv_table
from hrcam.datasets.folder import folder
from hrcam.datasets.fracatlas import fracatlas
from hrcam.datasets.imageclef import imageclef
from hrcam.datasets.isic import isic
from hrcam.datasets.mura import mura
from hrcam.datasets.neuromelanin import crop, neuromelanin
from hrcam.datasets.phantom import Phantom, neuromelanin_phantom
from hrcam.datasets.simulated import simulated

_LAZY = {
    "Augmentation": "_augment",
    "augment_batch": "_augment",
    "drop_unreadable": "_pipeline",
    "image_dataset": "_pipeline",
    "load_images": "_pipeline",
    "load_masks": "_pipeline",
}

__all__ = ["ImageTable", "csv_table", "folder", "fracatlas", "imageclef", "isic"]
__all__ += ["Phantom", "mura", "neuromelanin", "neuromelanin_phantom", "simulated"]
__all__ += ["crop", "split_by_group", *_LAZY]


def __getattr__(name: str):
    if name in _LAZY:
        try:
            module = import_module(f"{__name__}.{_LAZY[name]}")
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise
            raise ModuleNotFoundError(
                f"`hrcam.datasets.{name}` needs TensorFlow, which decodes and augments "
                "images whatever backend Keras has. Received: TensorFlow cannot be "
                "imported. Install it (`pip install tensorflow`), or read the files "
                "yourself: all else takes numpy arrays.",
                name="tensorflow",
            ) from error
        return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
