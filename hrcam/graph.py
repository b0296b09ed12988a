"""The graph of a model: its calls in order, and the outputs of its inner layers.

Models inside models are walked as one graph; the path of an inner layer is
"outer/inner". All that is read of Keras' inside is read in `_nodes`.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import keras
from keras import KerasTensor, tree

# The last walk of a model, with the outputs it had then; it lives as long as the model.
_WALKS: WeakKeyDictionary[keras.Model, tuple] = WeakKeyDictionary()


class Call(NamedTuple):
    """One call of a layer or operation in the flattened graph.

    Attributes:
        path: Name of the operation, behind the names of the models around it.
        operation: The layer or operation itself.
        inputs: Numbers of the tensors that it reads.
        outputs: Numbers of the tensors that it makes.
        shapes: Shapes of those tensors, batch axis first, `None` where unknown.
    """

    path: str
    operation: Any
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    shapes: tuple[tuple[int | None, ...], ...]


def is_graph(operation: Any) -> bool:
    """Tells whether an operation is a model whose layers can be walked."""
    if isinstance(operation, keras.Sequential):
        return operation.built and bool(operation.layers)
    return isinstance(operation, keras.Model) and hasattr(operation, "_nodes_by_depth")


def check_graph(model: keras.Model) -> None:
    """Raises an error unless `model` is functional or a built Sequential.

    Raises:
        TypeError: If `model` is no Keras model, or a subclassed or unbuilt one.
    """
    if is_graph(model):
        return
    kind = type(model).__name__
    if isinstance(model, keras.Sequential):
        reason = "It is not built: give it an `keras.Input` as its first layer."
    elif isinstance(model, keras.Model):
        reason = (
            "The layers of a subclassed model cannot be reached: use "
            "`hrcam.as_functional(model, input_shape)`, or rebuild it as a functional "
            "model around the same layers."
        )
    else:
        reason = "For a file, use `hrcam.load_model(path)` first."
    raise TypeError(
        "`model` must be a functional or built Sequential Keras model. "
        f"Received: an object of type {kind}. {reason}"
    )


def walk(model: keras.Model) -> tuple[list[Call], tuple[int, ...], tuple[int, ...]]:
    """Lists the calls of a model and of the models inside it, in graph order.

    Nothing is called again and nothing in the model changes.

    Args:
        model: A functional or built Sequential model, nested or not.

    Returns:
        The calls, and the numbers of the model's input and output tensors.
    """
    check_graph(model)
    known = _WALKS.get(model)
    if known is None or [*map(id, known[0])] != [*map(id, model.outputs)]:
        known = _WALKS[model] = (list(model.outputs), _walk_all(model))
    return known[1]


def _walk_all(
    model: keras.Model,
) -> tuple[list[Call], tuple[int, ...], tuple[int, ...]]:
    calls: list[Call] = []
    counter = itertools.count()
    inputs = [(next(counter), tensor) for tensor in model.inputs]
    outputs = _walk(model, inputs, "", calls, counter)
    return calls, tuple(n for n, _ in inputs), tuple(n for n, _ in outputs)


def _walk(
    model: keras.Model,
    inputs: list[tuple[int, KerasTensor]],
    prefix: str,
    calls: list[Call],
    counter: Iterator[int],
) -> list[tuple[int, KerasTensor]]:
    """Appends the calls of one model; a tensor is a (number, spec) pair."""
    keys = [id(tensor) for tensor in model.inputs]
    numbers = {key: number for key, (number, _) in zip(keys, inputs, strict=True)}
    specs = {key: spec for key, (_, spec) in zip(keys, inputs, strict=True)}
    for node in _nodes(model):
        operation, tensors = node.operation, node.input_tensors
        path = prefix + operation.name
        if is_graph(operation):
            arriving = [(numbers[id(t)], specs[id(t)]) for t in tensors]
            arriving = arriving[: len(operation.inputs)]
            made = _walk(operation, arriving, f"{path}/", calls, counter)
        else:
            made = [(next(counter), spec) for spec in _output_specs(node, specs)]
            reads = tuple(numbers[id(t)] for t in tensors)
            makes = tuple(number for number, _ in made)
            shapes = tuple(tuple(spec.shape) for _, spec in made)
            calls.append(Call(path, operation, reads, makes, shapes))
        for tensor, (number, spec) in zip(node.outputs, made, strict=True):
            numbers[id(tensor)], specs[id(tensor)] = number, spec
    return [(numbers[id(t)], specs[id(t)]) for t in model.outputs]


def _output_specs(node: Any, specs: dict[int, KerasTensor]) -> list[KerasTensor]:
    """Specs of a call's outputs; computed anew where an outer model fixes the size."""
    if all(specs[id(t)].shape == t.shape for t in node.input_tensors):
        return node.outputs
    args, kwargs = node.arguments.fill_in(specs)
    return tree.flatten(node.operation.compute_output_spec(*args, **kwargs))


def _nodes(model: keras.Model) -> Iterator[Any]:
    """Yields a model's call records, inputs first: the one use of Keras' inside."""
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs, model.outputs)
    for depth in sorted(model._nodes_by_depth, reverse=True):
        yield from (n for n in model._nodes_by_depth[depth] if not n.is_input)


def numbers_before(model: keras.Model, number: int) -> set[int]:
    """Numbers of the tensors that a tensor is computed from, with its own."""
    makers = {made: call for call in walk(model)[0] for made in call.outputs}
    seen, waiting = set(), [number]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting += makers[number].inputs if number in makers else ()
    return seen


def calls_before(model: keras.Model, path: str) -> list[Call]:
    """The calls that a layer's output is computed by, its own last."""
    calls, _, _ = walk(model)
    target = next(call.outputs[0] for call in calls if call.path == path)
    before = numbers_before(model, target)
    return [call for call in calls if before.intersection(call.outputs)]


def final_activation(model: keras.Model, output: int = 0) -> str:
    """Names the activation that an output of a model has gone through last.

    Layers that change no value when not training are looked through, such as the
    linear `Activation` in float32 at the end of a model of mixed precision.

    Returns:
        `"softmax"`, `"sigmoid"`, `"linear"`, ...; `""` for an operation without one.
    """
    calls, _, outputs = walk(model)
    makers = {number: call for call in calls for number in call.outputs}
    call = makers[outputs[output]]
    while changes_nothing(call.operation) and call.inputs[0] in makers:
        call = makers[call.inputs[0]]
    kind = type(call.operation).__name__.lower()
    return kind if kind in ("softmax", "sigmoid") else activation_name(call.operation)


def changes_nothing(operation: Any) -> bool:
    """Tells whether a layer gives its input on as it is when not training."""
    kind = type(operation).__name__
    linear = kind == "Activation" and activation_name(operation) == "linear"
    return linear or kind in ("Identity", "Dropout")


def activation_name(operation: Any) -> str:
    """Name of a layer's activation; `""` for an operation without one."""
    return getattr(getattr(operation, "activation", None), "__name__", "")


def tap(model: keras.Model, names: Sequence[str]) -> keras.Model:
    """Builds a model from the input of `model` to the outputs of named layers.

    The layers and weights are those of `model`. Only where a wanted layer lies
    inside a nested model, that model is wrapped anew and what follows it is called
    again.

    Args:
        model: A functional or built Sequential model, nested or not.
        names: Paths of layers.

    Returns:
        A model whose output is a dict, name -> tensor.

    Raises:
        ValueError: If a path names no layer, or one that is called several times.
    """
    check_graph(model)
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    return keras.Model(
        inputs, dict(zip(names, layer_outputs(model, names), strict=True))
    )


def tensors_by_number(model: keras.Model) -> dict[int, KerasTensor]:
    """Symbolic tensors of a model's whole graph by their numbers in `walk`.

    Nested models are wrapped as in `tap`. Tensors of layers that are called several
    times, and all but the first output of a layer, are left out.
    """
    calls, inputs, _ = walk(model)
    times = Counter(call.path for call in calls)
    once = [call for call in calls if times[call.path] == 1]
    tensors = _layer_outputs(model, [call.path for call in once])
    numbers = [call.outputs[0] for call in once]
    return {
        **dict(zip(inputs, model.inputs, strict=True)),
        **dict(zip(numbers, tensors, strict=True)),
    }


def layer_outputs(model: keras.Model, names: Sequence[str]) -> list[KerasTensor]:
    """Symbolic outputs of named layers, connected to the inputs of `model`.

    See `tap` for the arguments and errors.
    """
    _check_names(model, names)
    return _layer_outputs(model, list(names))


def _layer_outputs(
    model: keras.Model, names: list[str], whole: bool = False
) -> list[KerasTensor]:
    """Outputs of the named layers; if `whole`, behind those of the model itself."""
    inside: dict[str, list[str]] = {}
    for name in names:
        outer, _, inner = name.partition("/")
        if inner:
            inside.setdefault(outer, []).append(inner)
    found: dict[str, KerasTensor] = {}
    tensors = {id(t): t for t in model.inputs}
    for node in _nodes(model):
        operation = node.operation
        args, kwargs = node.arguments.fill_in(tensors)
        if operation.name in inside:
            inner_names = inside[operation.name]
            outputs, taps = _call_wrapped(operation, inner_names, args, kwargs)
            found |= {
                f"{operation.name}/{inner}": t
                for inner, t in zip(inner_names, taps, strict=True)
            }
        elif all(tensors[id(t)] is t for t in node.input_tensors):
            outputs = node.outputs
        else:
            outputs = tree.flatten(operation(*args, **kwargs))
        tensors |= {id(t): o for t, o in zip(node.outputs, outputs, strict=True)}
        if operation.name in names:
            found[operation.name] = outputs[0]
        if not whole and len(found) == len(set(names)):
            break
    own = [tensors[id(t)] for t in model.outputs] if whole else []
    return own + [found[name] for name in names]


def _call_wrapped(
    model: keras.Model, names: list[str], args: Any, kwargs: Any
) -> tuple[list[KerasTensor], list[KerasTensor]]:
    """Calls a nested model so that inner layers are outputs, too."""
    count = len(model.outputs)
    wrapped = keras.Model(
        model.inputs, _layer_outputs(model, names, whole=True), name=model.name
    )
    outputs = wrapped(*args, **kwargs)
    return outputs[:count], outputs[count:]


def _check_names(model: keras.Model, names: Sequence[str]) -> None:
    calls, _, _ = walk(model)
    count: dict[str, int] = {}
    shape: dict[str, tuple] = {}
    for call in calls:
        count[call.path] = count.get(call.path, 0) + 1
        shape[call.path] = call.shapes[0]
    missing = [name for name in names if name not in count]
    if missing:
        known = [name for name in count if len(shape[name]) == 4]
        raise ValueError(
            f"Every layer name must be a layer of the model {model.name!r}. "
            f"Received: {missing}. Its layers with feature maps are: {known}. "
            "`hrcam.describe_layers(model)` tells more of each."
        )
    shared = [name for name in names if count[name] > 1]
    if shared:
        raise ValueError(
            "A named layer must be called once in the model, or its output is not one "
            f"tensor. Received: {shared}, called {[count[s] for s in shared]} times."
        )
