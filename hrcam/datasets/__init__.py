"""Data sets as tables of images, and the way from a table to arrays or `tf.data`.

One module a data set, one function named after it. The functions that decode need
TensorFlow and are imported when first used; the tables need numpy and scikit-learn.
"""

from hrcam.datasets._table import ImageTable, split_by_group
from hrcam.datasets.isic import isic
from hrcam.datasets.simulated import simulated

_PIPELINE = (
    "Augmentation",
    "augment_batch",
    "drop_unreadable",
    "image_dataset",
    "load_images",
    "load_masks",
)

__all__ = ["ImageTable", "isic", "simulated", "split_by_group"]
__all__ += _PIPELINE


def __getattr__(name: str):
    if name in _PIPELINE:
        from hrcam.datasets import _pipeline

        return getattr(_pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
