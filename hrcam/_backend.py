"""What differs between Keras' backends: compiling, and derivatives by feature maps."""

import functools
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

_COMPILED: WeakKeyDictionary[keras.Model, dict[Any, Callable]] = WeakKeyDictionary()


def compiled_once(
    model: keras.Model,
    key: Any,
    build: Callable[[], Callable],
    image_shape: tuple[int, ...],
    with_class: bool = True,
) -> Callable:
    """Returns the compiled function of a (model, key), made by `build` at first use.

    It is kept as long as the model lives, and it reads the weights at each call, so
    training on does not make it stale. What `build` returns must not hold the model.

    Args:
        model: The model that the function belongs to.
        key: What makes the function differ from others of the model.
        build: Makes the function of images, and of one class an image `with_class`.
        image_shape: `(height, width, channels)`; any batch size fits.
        with_class: Whether the function takes int32 classes `(batch,)`, too.
    """
    functions = _COMPILED.setdefault(model, {})
    key = (key, tuple(image_shape))
    if key not in functions:
        functions[key] = _compile(build(), image_shape, with_class)
    return functions[key]


def _compile(
    function: Callable, image_shape: tuple[int, ...], with_class: bool
) -> Callable:
    """Compiles on TensorFlow, without retracing for another batch size."""
    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    signature = [tf.TensorSpec((None, *image_shape), tf.float32)]
    if with_class:
        signature.append(tf.TensorSpec((None,), tf.int32))
    compiled = tf.function(function, input_signature=signature, autograph=False)
    # The one concrete function: called through `compiled`, TensorFlow would warn of
    # retracing after some models, though each is traced once.
    return compiled.get_concrete_function()


def predict_batch(model: keras.Model, images: Any) -> np.ndarray:
    """Runs a functional model on one batch in inference mode.

    Unlike `predict_on_batch` it is not traced again for a shorter last batch.
    """
    images = keras.ops.convert_to_tensor(images, "float32")

    def build():
        same_graph = keras.Model(model.inputs[0], model.outputs[0])
        return functools.partial(same_graph, training=False)

    run = compiled_once(model, "predict", build, images.shape[1:], with_class=False)
    return keras.ops.convert_to_numpy(run(images))


def gradient_by_features(
    function: Callable[[Any], tuple[list[Any], Any]], images: Any
) -> tuple[list[Any], list[Any]]:
    """Differentiates a score by feature maps that are computed on the way to it.

    Args:
        function: images -> (features, score): a list of tensors, and a scalar.
        images: Tensor `(batch, height, width, channels)`.

    Returns:
        The features and the derivatives of the score by them, of the same shapes;
        `None` for features that the score does not depend on.

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


def map_in_turn(function: Callable[[Any], Any], count: Any, like: Any) -> Any:
    """Stacks the results of a function of 0, 1, ..., computed one after another.

    TensorFlow's own loops start the next results early, each with its memory.

    Args:
        function: int32 number -> tensors, in a dict or alone.
        count: How many numbers; may be known when it runs only.
        like: One result's `KerasTensor`s.

    Returns:
        The results of all numbers, stacked along a new first axis.
    """
    numbers = keras.ops.arange(count, dtype="int32")
    if keras.backend.backend() != "tensorflow":
        return keras.ops.map(function, numbers)
    import tensorflow as tf

    specs = keras.tree.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), like)
    return tf.map_fn(
        function, numbers, fn_output_signature=specs, parallel_iterations=1
    )


def fold_in_turn(function: Callable[[Any, Any], Any], count: int, start: Any) -> Any:
    """Takes a state through a function of 0, 1, ..., one after another.

    Args:
        function: (int32 number, state) -> state.
        count: How many numbers.
        start: The first state, a tuple of tensors.

    Returns:
        The last state.
    """
    if keras.backend.backend() != "tensorflow":
        return keras.ops.fori_loop(0, count, function, start)
    import tensorflow as tf

    return tf.while_loop(
        lambda number, _: number < count,
        lambda number, state: (number + 1, function(number, state)),
        (0, start),
        parallel_iterations=1,
    )[1]


def elementwise_derivative(function: Callable[[Any], Any], x: Any) -> Any:
    """Differentiates a function that acts on each value by itself.

    Args:
        function: x -> y of the same shape.
        x: Tensor of any shape.

    Returns:
        dy/dx at each value, of the shape of x.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        return tape.gradient(y, x)
    if backend == "jax":
        import jax

        y, backward = jax.vjp(function, x)
        return backward(keras.ops.ones_like(y))[0]
    import torch

    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        return torch.autograd.grad(y.sum(), x)[0]


def checked_data_set(dataset: Any, units: int) -> Any:
    """A `tf.data.Dataset` whose labels are checked and made classes on the way."""
    import tensorflow as tf

    classes = 2 if units == 1 else units

    def check(images, labels):
        if labels.shape.rank == 2:
            one_hot = labels.shape[1] not in (None, 1)
            labels = tf.argmax(labels, axis=1) if one_hot else labels[:, 0]
        message = f"Labels must be in [0, {classes}), the classes of the model."
        limit = tf.cast(classes, labels.dtype)
        with tf.control_dependencies(
            [tf.debugging.assert_less(labels, limit, message)]
        ):
            return images, tf.identity(labels)

    if len(getattr(dataset, "element_spec", ())) != 2:
        return dataset
    return dataset.map(check)
