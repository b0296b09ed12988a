"""Random changes of images in training: flips, shift and rotation.

They are one affine map, bilinear, mirrored at the border. Every image gets its own
draw, a function of (seed, epoch, row) only, and not of Keras' or TensorFlow's global
seed.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

NUM_DRAWS = 5  # flip x, flip y, shift x, shift y, rotate


@dataclass(frozen=True)
class Augmentation:
    """How far images are changed at random in training.

    Attributes:
        flip: Mirror left-right and up-down, each with probability one half.
        shift: Largest shift, as a fraction of height and width, in [0, 1].
        rotate: Largest rotation in degrees, either way.
    """

    flip: bool = False
    shift: float = 0.0
    rotate: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        if not (0 <= self.shift <= 1 and 0 <= self.rotate <= 180):
            raise ValueError(
                "`shift` must be a fraction in [0, 1] and `rotate` degrees in "
                f"[0, 180]. Received: {self}"
            )


def augment_batch(
    images: np.ndarray, seed: int, augment: Augmentation, *, epoch: int = 0
) -> np.ndarray:
    """Augments an array as `image_dataset` augments files.

    Args:
        images: `(n, height, width, channels)` float, any range. Not changed.
        seed: Of the draws; with `epoch`, the draws of `image_dataset` in that
            epoch for row i of its table.
        augment: Random changes.
        epoch: Another number, another draw.

    Returns:
        float32 array of the same shape.

    Raises:
        ValueError: If the array has another shape.
        TypeError: If `augment` is not an `Augmentation`.
    """
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            "`images` must be (n, height, width, channels). "
            f"Received: shape {images.shape}"
        )
    check_augment(augment)
    draws = draw_changes(len(images), seed, epoch)
    return transform(tf.cast(images, tf.float32), draws, augment).numpy()


def draw_changes(count: int, seed: int, epoch: int | tf.Tensor) -> tf.Tensor:
    """Returns uniform draws in [0, 1), one row an image."""
    # Odd, so that the order of the images and their changes never share a seed.
    return tf.random.stateless_uniform((count, NUM_DRAWS), [seed, 2 * epoch + 1])


def transform(images: tf.Tensor, draws: tf.Tensor, augment: Augmentation) -> tf.Tensor:
    """Applies flips, shift and rotation of each image as one affine map."""
    if augment == Augmentation():
        return images
    height, width = (tf.cast(side, tf.float32) for side in images.shape[1:3])
    flip = tf.where(draws[:, :2] < 0.5, -1.0, 1.0) if augment.flip else 1.0
    flip_x, flip_y = tf.unstack(flip * tf.ones_like(draws[:, :2]), axis=1)
    x = (draws[:, 2] * 2 - 1) * augment.shift * width
    y = (draws[:, 3] * 2 - 1) * augment.shift * height
    angle = (draws[:, 4] * 2 - 1) * (augment.rotate * np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # Where output pixel p comes from: F R (p - center - shift) + center.
    a, b, c, d = flip_x * cos, -flip_x * sin, flip_y * sin, flip_y * cos
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    from_x = center_x - a * (center_x + x) - b * (center_y + y)
    from_y = center_y - c * (center_x + x) - d * (center_y + y)
    zero = tf.zeros_like(angle)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([a, b, from_x, c, d, from_y, zero, zero], axis=1),
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def check_augment(augment: Augmentation) -> None:
    """Raises `TypeError` for anything but an `Augmentation`."""
    if not isinstance(augment, Augmentation):
        raise TypeError(
            "`augment` must be an `Augmentation`, such as "
            f"`Augmentation(flip=True, shift=0.1, rotate=20)`. Received: {augment!r}"
        )
