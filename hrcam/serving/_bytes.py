"""From the bytes of PNG and JPEG files to the model's input, in the graph."""

from collections.abc import Callable

import tensorflow as tf

from hrcam.datasets._decode import JPEG_START, PNG_START, decode, fit, starts


def decoder(
    shape: tuple[int, int, int], preprocess: Callable | float | None, max_pixels: int
) -> Callable:
    """Makes the function bytes `(b,)` -> float32 `(b, height, width, channels)`.

    Bytes that are no PNG or JPEG, or broken, or of too many pixels are an
    `InvalidArgumentError` of the call.
    """
    height, width, channels = shape

    def load(data):
        is_png, is_jpeg = starts(data, PNG_START), starts(data, JPEG_START)
        known = tf.debugging.Assert(
            is_png | is_jpeg, ["image_bytes must be of a PNG or JPEG file"]
        )
        with tf.control_dependencies([known]):
            pixels = tf.cond(
                is_png, lambda: _png_pixels(data), lambda: _jpeg_pixels(data)
            )
        small = tf.debugging.assert_less_equal(
            pixels, tf.constant(max_pixels, tf.int64), "image_bytes has too many pixels"
        )
        with tf.control_dependencies([small]):
            return fit(decode(tf.identity(data)), (height, width), channels)

    def load_all(image_bytes):
        spec = tf.TensorSpec(shape, tf.float32)
        # One after another: each is as large as its file says while it is decoded.
        images = tf.map_fn(
            load, image_bytes, fn_output_signature=spec, parallel_iterations=1
        )
        if preprocess is None:
            return images
        if not callable(preprocess):
            return images * float(preprocess)
        return tf.ensure_shape(preprocess(images), (None, *shape))

    return load_all


def _png_pixels(data: tf.Tensor) -> tf.Tensor:
    """Width times height, from the header: two 4-byte numbers behind 16 bytes."""
    whole = tf.strings.join([data, bytes(24)])  # of a cut file the sides are zero
    header = tf.io.decode_raw(tf.strings.substr(whole, 16, 8), tf.uint8)
    sides = tf.reshape(tf.cast(header, tf.int64), (2, 4))
    return tf.reduce_prod(tf.reduce_sum(sides * [2**24, 2**16, 2**8, 1], axis=1))


def _jpeg_pixels(data: tf.Tensor) -> tf.Tensor:
    shape = tf.io.extract_jpeg_shape(data)
    return tf.reduce_prod(tf.cast(shape[:2], tf.int64))
