"""What differs between Keras' backends: compiling, loops, and TensorFlow's files."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import keras
import numpy as np

# The outputs that a model had, and its functions; they live as long as the model.
_COMPILED: WeakKeyDictionary[keras.Model, tuple[list, dict[Any, Callable]]] = (
    WeakKeyDictionary()
)


def compiled_once(
    model: keras.Model,
    key: Any,
    build: Callable[[], Callable],
    image_shape: tuple[int, ...],
    with_class: bool = True,
    others: Sequence[np.ndarray] = (),
    variables: Sequence[keras.Variable] | None = None,
) -> Callable:
    """Returns the compiled function of a (model, key), made by `build` at first use.

    It is kept as long as the model lives, and it reads the weights at each call, so
    training on does not make it stale; a Sequential that gets another last layer gets
    new functions. What `build` returns must not hold the model.

    Args:
        model: The model that the function belongs to.
        key: What makes the function differ from others of the model.
        build: Makes the function of images, and of one class an image `with_class`,
            and of `others`.
        image_shape: `(height, width, channels)`; any batch size fits.
        with_class: Whether the function takes int32 classes `(batch,)`, too.
        others: Further inputs, to see their shapes and types.
        variables: All weights that the function reads; `None`: those of the model.
    """
    known = _COMPILED.get(model)
    if known is None or [*map(id, known[0])] != [*map(id, model.outputs)]:
        known = _COMPILED[model] = (list(model.outputs), {})
    functions = known[1]
    shapes = [(other.shape[1:], other.dtype.name) for other in others]
    key = (key, tuple(image_shape), *shapes)
    if key not in functions:
        specs = [(tuple(image_shape), "float32")]
        specs += [((), "int32")] if with_class else []
        weights = model.variables if variables is None else list(variables)
        functions[key] = _compile(build(), weights, [*specs, *shapes])
    return functions[key]


def _compile(
    function: Callable, variables: list[keras.Variable], specs: list[tuple]
) -> Callable:
    """Compiles a function of tensors of such (shape of one, type), as the backend can.

    TensorFlow: one graph for all batch sizes. JAX: one program a batch size, that
    takes the weights as arguments (a program keeps what it is not given). Torch: as
    it is, without a record for derivatives.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        signature = [tf.TensorSpec((None, *shape), dtype) for shape, dtype in specs]
        compiled = tf.function(function, input_signature=signature, autograph=False)
        # The one concrete function: called through `compiled`, TensorFlow would warn
        # of retracing after some models, though each is traced once.
        return compiled.get_concrete_function()
    if backend == "jax":
        import jax

        @jax.jit
        def with_weights(values, *tensors):
            with keras.StatelessScope(zip(variables, values, strict=True)):
                return function(*tensors)

        return lambda *tensors: with_weights([v.value for v in variables], *tensors)
    import torch

    return torch.no_grad()(function)


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


def checked_data_set(dataset: Any, units: int) -> Any:
    """A `tf.data.Dataset` whose labels are checked and made classes on the way."""
    if len(getattr(dataset, "element_spec", ())) != 2:
        return dataset
    import tensorflow as tf

    classes = 2 if units == 1 else units

    def check(images, labels):
        if labels.shape.rank == 2 and labels.shape[1] is None:
            labels = tf.ensure_shape(labels, (None, units))
        if labels.shape.rank == 2 and labels.shape[1] > 1:
            ones = tf.reduce_sum(tf.cast(labels, tf.float32), axis=1)
            one = tf.debugging.assert_equal(
                ones, 1.0, "A row of labels must be one-hot: of one class, not several."
            )
            with tf.control_dependencies([one]):
                labels = tf.argmax(labels, axis=1)
        elif labels.shape.rank == 2:
            labels = labels[:, 0]
        message = f"Labels must be in [0, {classes}), the classes of the model."
        limit = tf.cast(classes, labels.dtype)
        with tf.control_dependencies(
            [tf.debugging.assert_less(labels, limit, message)]
        ):
            return images, tf.identity(labels)

    return dataset.map(check)


def image_summaries(log_dir: str | Path) -> Callable[[str, bytes, int], None]:
    """Opens an event file for TensorBoard.

    Args:
        log_dir: Its folder; made where it does not exist.

    Returns:
        A function of a tag, a PNG file's content and a step, which adds the picture
        and flushes.

    Raises:
        ImportError: If TensorFlow is not installed.
    """
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ImportError(
            "`log_dir` needs TensorFlow, which writes TensorBoard's files whatever "
            f"backend Keras has. Received: {str(log_dir)!r}, and TensorFlow cannot be "
            "imported. Install it (`pip install tensorflow`), or leave `log_dir` out: "
            "the PNG files do without."
        ) from error
    writer = tf.summary.create_file_writer(str(log_dir), filename_suffix=".heatmaps")
    # What `tf.summary.image` writes; that needs the package of TensorBoard itself.
    metadata = tf.compat.v1.SummaryMetadata(
        plugin_data={"plugin_name": "images"}, data_class="DATA_CLASS_BLOB_SEQUENCE"
    )

    def write(tag, png, step):
        sizes = (int.from_bytes(png[at : at + 4], "big") for at in (16, 20))
        values = tf.constant([*(str(size).encode() for size in sizes), png])
        # Keras' TensorBoard callback may have switched recording off for this step.
        with writer.as_default(), tf.summary.record_if(True):
            tf.summary.write(tag, values, step, metadata)
        writer.flush()

    return write
