"""What differs between Keras' backends: compiling, and derivatives by feature maps."""

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import keras

_COMPILED: WeakKeyDictionary[keras.Model, dict[Any, Callable]] = WeakKeyDictionary()


def compiled_once(
    model: keras.Model,
    key: Any,
    build: Callable[[], Callable],
    image_shape: tuple[int, ...],
) -> Callable:
    """Returns the compiled function of a (model, key), made by `build` at first use.

    It is kept as long as the model lives, and it reads the weights at each call, so
    training on does not make it stale. What `build` returns must not hold the model.

    Args:
        model: The model that the function belongs to.
        key: What makes the function differ from others of the model.
        build: Makes the function `(images, class_index) -> tensors`.
        image_shape: `(height, width, channels)`; any batch size fits.
    """
    functions = _COMPILED.setdefault(model, {})
    key = (key, tuple(image_shape))
    if key not in functions:
        functions[key] = _compile(build(), image_shape)
    return functions[key]


def _compile(function: Callable, image_shape: tuple[int, ...]) -> Callable:
    """Compiles on TensorFlow, without retracing for another batch size."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    images = tf.TensorSpec((None, *image_shape), tf.float32)
    class_index = tf.TensorSpec((None,), tf.int32)
    return tf.function(function, input_signature=[images, class_index], autograph=False)


def gradient_by_features(
    function: Callable[[Any], tuple[Any, Any]], images: Any
) -> tuple[Any, Any]:
    """Differentiates a score by feature maps that are computed on the way to it.

    Args:
        function: images -> (features, score), the score a scalar.
        images: Tensor `(batch, height, width, channels)`.

    Returns:
        The features and the derivative of the score by them, of the same shape.

    Raises:
        RuntimeError: On another backend than TensorFlow.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise RuntimeError(
            "Maps with gradients need the TensorFlow backend so far. "
            f"Received: {backend!r}. Set KERAS_BACKEND=tensorflow."
        )
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(images)  # a frozen network has no other watched tensor
        features, score = function(images)
    return features, tape.gradient(score, features)
