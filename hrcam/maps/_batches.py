"""What map functions share: checks, batches, and a warning for blank maps."""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from keras import ops


def check_class_index(
    class_index: int | Sequence[int] | np.ndarray | None, batch: int, classes: int
) -> np.ndarray:
    """Returns one class an image, int32 `(batch,)`; -1 stands for the predicted one.

    Raises:
        ValueError: If it is no integer, not one an image, or not in [0, classes).
    """
    if class_index is None:
        return np.full(batch, -1, "int32")
    index = np.asarray(class_index)
    if index.dtype.kind not in "iu" or index.shape not in ((), (batch,)):
        raise ValueError(
            f"`class_index` must be an int, one int for each of {batch} images, or "
            f"None for the predicted class. Received: {class_index!r}"
        )
    outside = (index < 0) | (index >= classes)
    if outside.any():
        raise ValueError(
            f"`class_index` must be in [0, {classes}), the classes of the model. "
            f"Received: {np.unique(index[outside]).tolist()}"
        )
    return np.broadcast_to(index, (batch,)).astype("int32")


def compute_maps(
    method: str,
    function: Callable,
    inputs: Sequence[np.ndarray],
    class_index: np.ndarray,
    batch_size: int,
) -> np.ndarray:
    """Runs `function` over batches and warns of maps without a positive value.

    Args:
        method: Name of the method, for the warning.
        function: `(images, class_index, *others) -> (maps, classes, scores)`; maps
            `(batch, height, width)` or `(batch, layers, height, width)`.
        inputs: Checked images, and the model's other inputs if it has some.
        class_index: Checked classes.
        batch_size: Images at a time.

    Returns:
        The maps of all images, float32.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")
    maps, classes = [], []
    for start in range(0, len(class_index), batch_size):
        part = slice(start, start + batch_size)
        images, *others = [ops.convert_to_tensor(x[part]) for x in inputs]
        index = ops.convert_to_tensor(class_index[part])
        made, chosen, _ = function(images, index, *others)
        maps.append(ops.convert_to_numpy(made))
        classes.append(ops.convert_to_numpy(chosen))
    result = np.concatenate(maps)
    _warn_of_blank_maps(method, result, np.concatenate(classes))
    return result


def _warn_of_blank_maps(method: str, maps: np.ndarray, classes: np.ndarray) -> None:
    whole = maps.sum(axis=1) if maps.ndim == 4 else maps
    blank = np.flatnonzero(~(whole.max(axis=(1, 2)) > 0))
    if len(blank):
        named = ", ".join(f"image {i} (class {classes[i]})" for i in blank[:10])
        rest = f" and {len(blank) - 10} more" if len(blank) > 10 else ""
        warnings.warn(
            f"The {method} map has no positive value for {named}{rest}: nothing in the "
            "image argues for that class. A picture or min-max of it shows the least "
            "negative place, not evidence.",
            stacklevel=4,
        )
