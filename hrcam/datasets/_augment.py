"""Random changes of images in training: crop, shear, stretch, flip, rotate, shift.

They are one affine map, bilinear, mirrored at the border. Every image gets its own
draw, a function of (seed, epoch, row) only, and not of Keras' or TensorFlow's global
seed.

The six are those of Kumar et al. (2018), https://arxiv.org/abs/1611.06284, which
names the kinds only: how far each goes, and their order, is our choice. An image is
cropped, sheared and stretched about its centre, flipped, rotated and shifted.
"""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

NUM_DRAWS = 5  # flip x, flip y, shift x, shift y, rotate
NUM_LATER_DRAWS = 6  # crop, crop x, crop y, shear, stretch x, stretch y
# (a, b, x, c, d, y), each (n,): pixel (p, q) -> (a p + b q + x, c p + d q + y).
Affine = tuple[tf.Tensor, ...]


@dataclass(frozen=True)
class Augmentation:
    """How far images are changed at random in training.

    Attributes:
        flip: Mirror left-right and up-down, each with probability one half.
        shift: Largest shift, as a fraction of height and width, in [0, 1].
        rotate: Largest rotation in degrees, either way, in [0, 180].
        crop: Largest fraction of height and width cut away, the same of both, in
            [0, 1). The window lies anywhere in the image and is scaled back up.
        shear: Largest angle by which columns lean, in degrees, either way, in
            [0, 45].
        stretch: Largest relative change of the scale, in [0, 1]: height and width
            are scaled each by a factor of 1 / (1 + stretch) to 1 + stretch, even in
            its logarithm.
    """

    flip: bool = False
    shift: float = 0.0
    rotate: float = 0.0
    crop: float = 0.0
    shear: float = 0.0
    stretch: float = 0.0

    def __post_init__(self) -> None:
        """Checks the ranges."""
        most = {"shift": 1, "rotate": 180, "shear": 45, "stretch": 1}
        if not (
            all(0 <= getattr(self, name) <= value for name, value in most.items())
            and 0 <= self.crop < 1
        ):
            raise ValueError(
                "`shift` and `stretch` must be in [0, 1], `crop` in [0, 1), `shear` "
                f"degrees in [0, 45], `rotate` in [0, 180]. Received: {self}"
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
    """Returns uniform draws in [0, 1), `(count, 11)`, one row an image."""
    # Odd, so that the order of the images and their changes never share a seed.
    seeds = tf.stack([tf.cast(seed, tf.int64), 2 * tf.cast(epoch, tf.int64) + 1])
    draws = tf.random.stateless_uniform((count, NUM_DRAWS), seeds)
    # Of a seed of their own: what was drawn before they were there stays as it was.
    seeds = tf.random.experimental.stateless_fold_in(seeds, NUM_DRAWS)
    later = tf.random.stateless_uniform((count, NUM_LATER_DRAWS), seeds)
    return tf.concat([draws, later], axis=1)


def transform(images: tf.Tensor, draws: tf.Tensor, augment: Augmentation) -> tf.Tensor:
    """Applies all changes of each image as one affine map."""
    if augment == Augmentation():
        return images
    height, width = (tf.cast(side, tf.float32) for side in images.shape[1:3])
    draws = tf.unstack(draws, NUM_DRAWS + NUM_LATER_DRAWS, axis=1)
    # Each says where an output pixel comes from: the last change comes first.
    source = _flip_shift_rotate(draws[:5], augment, height, width)
    source = _compose(_shear_stretch(draws[8:], augment, height, width), source)
    source = _compose(_crop(draws[5:8], augment, height, width), source)
    zero = tf.zeros_like(source[0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack([*source, zero, zero], axis=1),
        output_shape=images.shape[1:3],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _compose(outer: Affine, inner: Affine) -> Affine:
    """Returns the map `outer(inner(pixel))`."""
    a, b, x, c, d, y = outer
    p, q, u, r, s, v = inner
    return (
        *(a * p + b * r, a * q + b * s, a * u + b * v + x),
        *(c * p + d * r, c * q + d * s, c * u + d * v + y),
    )


def _flip_shift_rotate(draws, augment: Augmentation, height, width) -> Affine:
    flips = [tf.where(draw < 0.5, -1.0, 1.0) for draw in draws[:2]]
    flip_x, flip_y = flips if augment.flip else [tf.ones_like(draws[0])] * 2
    x = (draws[2] * 2 - 1) * augment.shift * width
    y = (draws[3] * 2 - 1) * augment.shift * height
    angle = (draws[4] * 2 - 1) * (augment.rotate * np.pi / 180)
    cos, sin = tf.cos(angle), tf.sin(angle)
    # F R (pixel - center - shift) + center.
    a, b, c, d = flip_x * cos, -flip_x * sin, flip_y * sin, flip_y * cos
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    from_x = center_x - a * (center_x + x) - b * (center_y + y)
    from_y = center_y - c * (center_x + x) - d * (center_y + y)
    return a, b, from_x, c, d, from_y


def _shear_stretch(draws, augment: Augmentation, height, width) -> Affine:
    lean = tf.tan((draws[0] * 2 - 1) * (augment.shear * np.pi / 180))
    most = np.log1p(augment.stretch)
    a, d = (tf.exp((1 - 2 * draw) * most) for draw in draws[1:])  # 1 / the factor
    b, c = lean * d, tf.zeros_like(lean)
    center_x, center_y = (width - 1) / 2, (height - 1) / 2
    return a, b, (1 - a) * center_x - b * center_y, c, d, (1 - d) * center_y


def _crop(draws, augment: Augmentation, height, width) -> Affine:
    cut = augment.crop * draws[0]
    zero = tf.zeros_like(cut)
    # The window's corner is draw * cut * side; pixel 0 lies half a pixel inside.
    x, y = cut * (draws[1] * width - 0.5), cut * (draws[2] * height - 0.5)
    return 1 - cut, zero, x, zero, 1 - cut, y


def check_augment(augment: Augmentation) -> None:
    """Raises `TypeError` for anything but an `Augmentation`."""
    if not isinstance(augment, Augmentation):
        raise TypeError(
            "`augment` must be an `Augmentation`, such as "
            f"`Augmentation(flip=True, shift=0.1, rotate=20)`. Received: {augment!r}"
        )
