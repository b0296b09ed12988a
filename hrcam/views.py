"""What is explained of a model with several outputs or inputs: one output, one image.

The maps of this package explain the scores of one output, and lie on one image. Of a
model with more, `view` makes a model with the named output alone, whose first input is
the named image; the layers are the model's own. Inputs that the output does not depend
on are left out.
"""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import keras

from hrcam.graph import check_graph, numbers_before, walk

_VIEWS: WeakKeyDictionary[keras.Model, dict[tuple, keras.Model]] = WeakKeyDictionary()


def view(
    model: keras.Model,
    images: Any,
    output: str | None = None,
    image_input: str | None = None,
) -> tuple[keras.Model, Any]:
    """Chooses one output and one image of a model, and sorts what it is given.

    Args:
        model: A functional or built Sequential model.
        images: What the user gave: an array, or input name -> array.
        output: Name of the output; `None` if there is only one.
        image_input: Name of the image; `None` if only one input is 4-D.

    Returns:
        A model of one output, `model` itself where it is that already, made once and
        kept; and its inputs: an array, or a list of arrays whose first is the image.

    Raises:
        TypeError: If the layers of `model` cannot be reached, or `images` is a list.
        ValueError: If a name is unknown, or missing where there are several.
    """
    check_graph(model)
    names, place = input_names(model), image_place(model, image_input)
    wanted = output_place(model, output)
    if len(model.inputs) == 1:
        order = [0]
    else:
        needed = inputs_before(model, walk(model)[2][wanted])
        order = [place, *(n for n in needed if n != place)]
    viewed = _view(model, wanted, order)
    if isinstance(images, Mapping):
        missing = [names[n] for n in order if names[n] not in images]
        if missing:
            raise ValueError(
                f"`images` must have an array for each of {[names[n] for n in order]}. "
                f"Received: {sorted(images)}, without {missing}"
            )
        images = [images[names[n]] for n in order]
        return viewed, images[0] if len(images) == 1 else images
    if len(order) > 1:
        raise TypeError(
            f"`images` must be a dict with the inputs {[names[n] for n in order]}, as "
            f"{model.name!r} needs them all. Received: {type(images).__name__}"
        )
    return viewed, images


def _view(model: keras.Model, wanted: int, order: list[int]) -> keras.Model:
    if len(model.outputs) == 1 and order == [*range(len(model.inputs))]:
        return model
    views = _VIEWS.setdefault(model, {})
    key = (id(model.outputs[wanted]), *order)
    if key not in views:
        inputs = [model.inputs[n] for n in order]
        views[key] = keras.Model(
            inputs[0] if len(inputs) == 1 else inputs,
            model.outputs[wanted],
            name=model.name,
        )
    return views[key]


def input_names(model: keras.Model) -> list[str]:
    """Names of the inputs: the keys of a dict of inputs, or the input layers' names."""
    if not isinstance(model, keras.Sequential) and isinstance(model.input, Mapping):
        return sorted(model.input)  # the order of `model.inputs`
    return [tensor.name for tensor in model.inputs]


def output_names(model: keras.Model) -> list[str]:
    """Names of the outputs: the keys of a dict of outputs, or the layers' names."""
    if not isinstance(model, keras.Sequential) and isinstance(model.output, Mapping):
        return sorted(model.output)
    calls, _, outputs = walk(model)
    makers = {number: call.path for call in calls for number in call.outputs}
    return [makers.get(number, "") for number in outputs]


def image_place(model: keras.Model, image_input: str | None = None) -> int:
    """Place of the image among the model's inputs.

    Raises:
        ValueError: If the name is unknown, or not given where several inputs, or
            none, are `(batch, height, width, channels)`.
    """
    names = input_names(model)
    if image_input is not None:
        return _place("image_input", image_input, names)
    if len(names) == 1:
        return 0
    images = [n for n, tensor in enumerate(model.inputs) if len(tensor.shape) == 4]
    if len(images) != 1:
        raise ValueError(
            "`image_input` must name the input that the map lies on, where not just "
            f"one is (batch, height, width, channels). Received: None; the inputs of "
            f"{model.name!r} are {_described(names, model.inputs)}."
        )
    return images[0]


def inputs_before(model: keras.Model, number: int) -> list[int]:
    """Places of the inputs that a tensor of `graph.walk` is computed from."""
    before = numbers_before(model, number)
    return [place for place, made in enumerate(walk(model)[1]) if made in before]


def output_place(model: keras.Model, output: str | None = None) -> int:
    """Place of the output to explain.

    Raises:
        ValueError: If the name is unknown, or missing where there are several.
    """
    if output is None and len(model.outputs) == 1:
        return 0
    names = output_names(model)
    if output is None:
        raise ValueError(
            f"`output` must name the output to explain, as {model.name!r} has "
            f"several. Received: None; the outputs are "
            f"{_described(names, model.outputs)}."
        )
    return _place("output", output, names)


def _place(argument: str, name: str, names: list[str]) -> int:
    if names.count(name) == 1:
        return names.index(name)
    kind = argument.removeprefix("image_")
    advice = "" if name not in names else " Give the model a dict of them."
    raise ValueError(
        f"`{argument}` must name one {kind} of the model. Received: {name!r}; its "
        f"{kind}s are {names}.{advice}"
    )


def _described(names: list[str], tensors: list[Any]) -> str:
    shapes = [tuple(tensor.shape) for tensor in tensors]
    return ", ".join(f"{n!r} {s}" for n, s in zip(names, shapes, strict=True))
