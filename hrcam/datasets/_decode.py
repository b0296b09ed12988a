"""From the bytes of an image file to pixels, in TensorFlow's graph.

- *Decode*: JPEG, PNG (8 and 16 bit), BMP, GIF (first frame) to [0, 1]: 8-bit values
  divided by 255, 16-bit ones by 65535. Grey is repeated to three channels; colour
  to grey is 0.299 R + 0.587 G + 0.114 B; alpha is dropped. EXIF rotation is not
  applied.
- *Resize*: bilinear with half-pixel centres; when shrinking with antialiasing (the
  kernel widens with the factor), since plain bilinear skips pixels and so makes
  fine structure depend on the file's size. The aspect ratio is not kept.

Training and the served model go through the same two functions.
"""

import tensorflow as tf

GREY_WEIGHTS = (0.299, 0.587, 0.114)
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def decode(data: tf.Tensor) -> tf.Tensor:
    """Returns float32 (height, width, 1 or 3) in [0, 1]."""

    def png():  # decodes 8 bit as value * 257, so that 65535 is the range of both
        return tf.cast(tf.io.decode_png(data, dtype=tf.uint16), tf.float32) / 65535

    def jpeg():
        pixels = tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE")
        return tf.cast(pixels, tf.float32) / 255

    def other():
        pixels = tf.io.decode_image(data, expand_animations=False)
        return tf.cast(pixels, tf.float32) / 255

    cases = [(starts(data, PNG_START), png), (starts(data, JPEG_START), jpeg)]
    image = tf.case(cases, default=other)
    depth = tf.shape(image)[-1]
    return image[..., : depth - 1 + depth % 2]  # 2 and 4: the last one is alpha


def starts(data: tf.Tensor, start: bytes) -> tf.Tensor:
    """Tells whether a file's bytes begin so."""
    return tf.equal(tf.strings.substr(data, 0, len(start)), start)


def fit(image: tf.Tensor, size: tuple[int, int], channels: int) -> tf.Tensor:
    """Returns float32 (height, width, 1 or 3) in [0, 1] of a decoded image."""
    height_width = tf.shape(image)[:2]
    image = tf.broadcast_to(image, tf.concat([height_width, [3]], axis=0))
    if channels == 1:
        image = tf.tensordot(image, tf.constant(GREY_WEIGHTS), 1)[..., None]
    image = tf.image.resize(image, size, antialias=True)
    return tf.clip_by_value(tf.ensure_shape(image, (*size, channels)), 0, 1)
