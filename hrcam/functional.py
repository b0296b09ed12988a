"""A functional model of a subclassed one: its own `call`, run once on symbols.

The layers inside a subclassed `keras.Model` cannot be reached, because what connects
them is Python code. Run on a symbolic input (`keras.Input`), that code leaves the
graph of the layers that it called. The graph is that of inference: `training` is
`None` when `call` runs, so what stands under `if training:` is left out, and what is
passed on to a layer as `training=training` follows the functional model's own mode.

A block that is a subclassed layer or model itself stays one step of the graph.
"""

import inspect
from collections.abc import Sequence

import keras

from hrcam.graph import check_graph, is_graph


def as_functional(
    model: keras.Model, input_shape: Sequence[int | None] | None = None
) -> keras.Model:
    """Makes a functional model of a subclassed one, with the same layers and weights.

    Args:
        model: A subclassed model of one image input, trained or at least called once.
            It is not changed; the layers are shared, so training one trains both.
        input_shape: `(height, width, channels)`, height and width may be `None`.
            `None`: that of the first images that the model was called on.

    Returns:
        An uncompiled functional model of the same predictions, which saves without
        the class; a functional or built Sequential `model` itself.

    Raises:
        TypeError: If `model` is no model, or its `call` cannot run on symbols.
        ValueError: If `model` was never called or has weights outside its layers, or
            if `input_shape` is no image's, or neither given nor known.

    Example:
        >>> model = as_functional(subclassed, (224, 224, 3))
        >>> heatmaps = grad_cam(model, images, layer_name="backbone/conv5_block3_out")
    """
    if is_graph(model):
        return model
    if isinstance(model, keras.Sequential) or not isinstance(model, keras.Model):
        check_graph(model)
    if not model.built:
        raise ValueError(
            "`model` must have its weights: call it on an image, `model(images[:1])`, "
            f"or open them first. Received: {type(model).__name__}, never called."
        )
    _check_weights(model)
    shape = _image_shape(model, input_shape)
    image = keras.Input(shape)
    options = inspect.signature(model.call).parameters.keys() & {"training"}
    try:
        outputs = model.call(image, **dict.fromkeys(options))
        functional = keras.Model(image, outputs, name=model.name)
    except Exception as error:  # the user's code, which may fail in any way
        reason = (str(error).splitlines() or [""])[0]
        raise TypeError(
            "`model` must have a `call` that runs on a symbolic image, `call("
            f"keras.Input({shape}))`. Received: {type(model).__name__}, whose call "
            f"raised {type(error).__name__}: {reason} Use layers and `keras.ops` in "
            "it, not `tf.` or numpy functions, nor Python's `if` and `for` on values; "
            "or rebuild it as a functional model around the same layers."
        ) from error
    return functional


def _image_shape(
    model: keras.Model, input_shape: Sequence[int | None] | None
) -> tuple[int | None, ...]:
    """The given shape, or that of the first call without its batch axis."""
    built_with = (model.get_build_config() or {}).get("input_shape")
    shape = input_shape
    if shape is None and isinstance(built_with, tuple | list):
        shape = built_with[1:]
    if not isinstance(shape, tuple | list) or len(shape) != 3 or shape[-1] is None:
        raise ValueError(
            "`input_shape` must be (height, width, channels) of the one image that "
            f"the model takes. Received: {input_shape}, for {type(model).__name__} "
            f"that was built with {built_with}."
        )
    return tuple(shape)


def _check_weights(model: keras.Model) -> None:
    in_layers = {id(weight) for layer in model.layers for weight in layer.weights}
    own = [weight.path for weight in model.weights if id(weight) not in in_layers]
    if own:
        raise ValueError(
            "`model` must keep its weights in layers, as a functional model has no "
            f"others. Received: {type(model).__name__} with {own} of its own: move "
            "them into a layer that `call` uses."
        )
