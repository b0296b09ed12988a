"""From a table of image files to arrays and `tf.data`: decode and resize.

How a file becomes pixels is in `_reader`. Masks: nearest, without antialiasing.

Random changes are elsewhere (`_augment`).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf

from hrcam.datasets._augment import Augmentation, check_augment, draw_changes, transform
from hrcam.datasets._decode import fit
from hrcam.datasets._reader import reader, why_unreadable
from hrcam.datasets._table import ImageTable
from hrcam.imaging import parse_address


def image_dataset(
    table: ImageTable,
    image_size: int | tuple[int, int],
    *,
    channels: int = 3,
    batch_size: int = 32,
    shuffle: bool = False,
    augment: Augmentation | None = None,
    seed: int = 0,
) -> tf.data.Dataset:
    """Makes the `tf.data.Dataset` of a table, for `fit` and `predict`.

    Each pass over the dataset is an epoch with its own order (`shuffle`) and its
    own augmentation; a dataset made again with the same seed repeats them.

    Args:
        table: The images.
        image_size: Side in pixels, or (height, width).
        channels: 1 or 3.
        batch_size: Images a batch; the last one may be shorter.
        shuffle: A new order each epoch, over the whole table.
        augment: Random changes, such as `Augmentation(flip=True, rotate=20)`.
        seed: Of order and augmentation.

    Returns:
        Dataset of (images float32 `(batch, height, width, channels)` in [0, 1],
        labels int64 `(batch,)`), of known length.

    Raises:
        ValueError: If the table is empty, or the size or channels are impossible.
        FileNotFoundError: If files are missing.
        TypeError: If `augment` is not an `Augmentation`.

    Example:
        >>> train = image_dataset(table, 224, shuffle=True)
        >>> model.fit(train, epochs=10, shuffle=False)  # Keras warns without
    """
    size = _checked_size(image_size, channels)
    _check_files(table.paths)
    augment = Augmentation() if augment is None else augment
    check_augment(augment)
    read, labels = reader(table.paths), tf.constant(table.labels)

    def load(row, draws):
        return fit(read(row), size, channels), labels[row], draws

    def finish(images, batch_labels, draws):
        return transform(images, draws, augment), batch_labels

    dataset = _rows(len(table), shuffle, seed)
    dataset = dataset.apply(tf.data.experimental.assert_cardinality(len(table)))
    dataset = dataset.map(load, tf.data.AUTOTUNE, deterministic=True)
    return dataset.batch(batch_size).map(finish).prefetch(tf.data.AUTOTUNE)


def load_images(
    table_or_paths: ImageTable | Sequence[str | Path],
    image_size: int | tuple[int, int],
    channels: int = 3,
) -> np.ndarray:
    """Decodes images into one array, in their order.

    Args:
        table_or_paths: A table, or image files; `file#number` is one image of a file
            with several.
        image_size: Side in pixels, or (height, width).
        channels: 1 or 3.

    Returns:
        float32 `(n, height, width, channels)` in [0, 1].

    Raises:
        ValueError: If there is no image, a file is not one, or the size or
            channels are impossible.
        FileNotFoundError: If files are missing.
    """
    size = _checked_size(image_size, channels)
    is_table = isinstance(table_or_paths, ImageTable)
    paths = table_or_paths.paths if is_table else [Path(p) for p in table_or_paths]
    _check_files(paths)
    return _decode_all(paths, (*size, channels), lambda x: fit(x, size, channels))


def load_masks(table: ImageTable, image_size: int | tuple[int, int]) -> np.ndarray:
    """Decodes masks into one array; a pixel is true above half of the file's range.

    Published masks are not strictly 0/255 (JPEG remains, resized edges). The range
    is that of the file's type, 255 or 65535; of colours the brightest counts.

    Args:
        table: The images with their `mask_paths`.
        image_size: Side in pixels, or (height, width); nearest neighbour.

    Returns:
        bool `(n, height, width)`; all false for an image without a mask file.

    Raises:
        ValueError: If a file is not an image, or holds no pixel above half of the
            range but some above 0 (a 0/1 mask saved as 8 bit, most likely).
        FileNotFoundError: If mask files are missing.
    """
    size = _checked_size(image_size, channels=1)
    masks = np.zeros((len(table), *size), bool)
    rows = [row for row, path in enumerate(table.mask_paths) if path is not None]
    if not rows:
        return masks
    paths = [table.mask_paths[row] for row in rows]
    _check_files(paths)
    levels = _decode_all(paths, (*size, 2), lambda pixels: _fit_mask(pixels, size))
    peak = levels[:, 0, 0, 1]  # of the file, before the resize
    faint = [str(p) for p, top in zip(paths, peak, strict=True) if 0 < top <= 0.5]
    if faint:
        raise ValueError(
            "A mask must have pixels above half of its file's range, or only 0. "
            f"Received: {len(faint)} masks of at most {peak[peak > 0].min():.2g} of "
            f"the range, first {faint[:3]}. Save them as 0/255"
        )
    masks[rows] = levels[..., 0] > 0
    return masks


def drop_unreadable(table: ImageTable) -> tuple[ImageTable, dict[Path, str]]:
    """Decodes every image and sets aside those that `image_dataset` cannot read.

    Args:
        table: The images; masks are not looked at.

    Returns:
        The table of the readable images, in order, and the reason for each other
        file: missing, empty, or the decoder's message (truncated, not an image).
    """
    with ThreadPoolExecutor() as pool:
        reasons = list(pool.map(why_unreadable, table.paths))
    readable = np.array([reason is None for reason in reasons], bool)
    named = zip(table.paths, reasons, strict=True)
    return table.select(readable), {path: why for path, why in named if why}


def _fit_mask(pixels: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Returns (height, width, 2): 1 inside and 0 outside; the file's highest value."""
    level = tf.reduce_max(pixels, axis=-1, keepdims=True)
    inside = tf.image.resize(tf.cast(level > 0.5, tf.float32), size, method="nearest")
    return tf.concat([inside, tf.fill((*size, 1), tf.reduce_max(level))], axis=-1)


def _decode_all(paths: list[Path], shape: tuple, finish) -> np.ndarray:
    """Returns float32 (n, *shape): one allocation, filled as the files arrive."""
    arrays = np.empty((len(paths), *shape), np.float32)
    read = reader(paths)
    files = tf.data.Dataset.range(len(paths)).map(
        lambda row: finish(read(row)), tf.data.AUTOTUNE, deterministic=True
    )
    row = -1
    try:
        for row, array in enumerate(files.prefetch(tf.data.AUTOTUNE)):
            arrays[row] = array.numpy()
    except tf.errors.InvalidArgumentError as error:  # the order is kept: the next one
        raise ValueError(
            f"Every file must be a readable image. Received: {paths[row + 1]} "
            f"({why_unreadable(paths[row + 1])}). `drop_unreadable` sets such aside"
        ) from error
    return arrays


def _rows(count: int, shuffle: bool, seed: int) -> tf.data.Dataset:
    """Yields (row, draws) of one epoch; each pass over it is the next epoch."""
    with tf.device("CPU:0"):
        passes = tf.Variable(-1, dtype=tf.int64, trainable=False)

    def epoch_rows(_):
        epoch = passes.assign_add(1)
        rows = tf.range(count, dtype=tf.int64)
        if shuffle:
            rows = tf.random.experimental.stateless_shuffle(rows, [seed, 2 * epoch])
        draws = tf.gather(draw_changes(count, seed, epoch), rows)
        return tf.data.Dataset.from_tensor_slices((rows, draws))

    return tf.data.Dataset.from_tensors(0).flat_map(epoch_rows)


def _check_files(paths: Sequence[Path]) -> None:
    if not len(paths):
        raise ValueError("At least one image is needed. Received: none")
    missing = [str(path) for path in paths if not parse_address(path).path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"Expected {len(paths)} files. Received: {len(missing)} missing, first "
            f"{missing[:3]}. `drop_unreadable` sets aside images that are missing"
        )


def _checked_size(image_size, channels: int) -> tuple[int, int]:
    sides = np.atleast_1d(np.asarray(image_size))
    if sides.shape not in ((1,), (2,)) or sides.dtype.kind != "i" or sides.min() < 1:
        raise ValueError(
            "`image_size` must be a side in pixels or (height, width). "
            f"Received: {image_size!r}"
        )
    if channels not in (1, 3):
        raise ValueError(f"`channels` must be 1 or 3. Received: {channels!r}")
    return int(sides[0]), int(sides[-1])
