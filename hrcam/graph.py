"""The graph of a model: its calls in order, its feature layers, its inner tensors.

HR-CAM pools "the feature maps of the pre-max-pool layers". In a network without
max-pooling that is the last feature map before the resolution drops, so it is found
in the graph itself, not in a table of names:

* Each call has a stage: the largest stage of its inputs times its own stride.
* A call is a cut if no tensor made before it is used after it: everything that the
  network still knows about the image passes through it.
* The feature layer of a stage is its last cut that holds feature maps: 4-D, at or
  after a convolution, and not padding, pooling, cropping, resizing, dropout or
  reshaping. A stage without a cut falls back to its last call of that kind.

Models inside models are walked as one graph. The path of an inner layer is
"outer/inner".

Source of the pooled layers: Shinde et al. (2021), section "HR-CAMs",
https://doi.org/10.7717/peerj-cs.622. The rule for other networks is our choice.
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

_NO_FEATURE_WORDS = (
    "Padding", "Pool", "Cropping", "UpSampling", "Dropout", "Resize", "Resizing",
    "Reshape", "Rescaling", "Normalization", "Noise", "Random", "Pad",
)  # fmt: skip


_REDUCTIONS = ("Mean", "Max", "Min", "Sum", "Amax", "Amin")


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


class FeatureLayer(NamedTuple):
    """A layer with feature maps, as `describe_layers` lists it.

    Attributes:
        name: Path of the layer.
        size: `(height, width)` of its maps in pixels, `None` where it varies.
        channels: Number of feature maps.
        stride: Image pixels from one pixel of the map to the next.
        receptive_field: Side of the image square that one pixel sees, in pixels;
            gates (squeeze-and-excite) are left out.
        is_cut: Whether everything that follows is computed from it alone.
        chosen: Whether `feature_layers` chooses it.
    """

    name: str
    size: tuple[int | None, int | None]
    channels: int
    stride: int
    receptive_field: int
    is_cut: bool
    chosen: bool


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
            "The layers of a subclassed model cannot be reached: rebuild it as a "
            "functional model around the same layers."
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


def describe_layers(model: keras.Model) -> list[FeatureLayer]:
    """Lists every layer that holds feature maps, in graph order.

    Args:
        model: A functional or built Sequential model, nested or not; channels last.

    Returns:
        One `FeatureLayer` a layer; `chosen` marks those of `feature_layers`.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
    """
    calls, inputs, _ = walk(model)
    # A tensor that is only pooled afterwards (a head, a gate) hides no pixel.
    last_use = {
        n: i for i, call in enumerate(calls) if _is_spatial(call) for n in call.inputs
    }
    stages = dict.fromkeys(inputs, 1)
    fields = dict.fromkeys(inputs, 1)
    convolved = dict.fromkeys(inputs, False)
    open_until = max((last_use.get(n, -1) for n in inputs), default=-1)
    found: list[FeatureLayer] = []
    for i, call in enumerate(calls):
        spatial = [n for n in call.inputs if stages.get(n, 0)]
        before = max((stages[n] for n in spatial), default=0)
        stage = _stage(call, before)
        field = max((fields[n] for n in spatial), default=1)
        field += _reach(call.operation) * before
        has_convolution = _is_convolution(call.operation) or any(
            convolved[n] for n in call.inputs
        )
        for number in call.outputs:
            stages[number], fields[number] = stage, field
            convolved[number] = has_convolution
        if stage and has_convolution and _holds_features(call):
            _, *size, channels = call.shapes[0]
            found.append(
                FeatureLayer(
                    call.path,
                    tuple(size),
                    channels,
                    stage,
                    field,
                    open_until <= i,
                    False,
                )
            )
        if stage:
            uses = [last_use.get(n, -1) for n in call.outputs]
            open_until = max(open_until, *uses)
    times = Counter(call.path for call in calls)
    chosen = _last_of_each_stage([f for f in found if times[f.name] == 1])
    return [layer._replace(chosen=layer.name in chosen) for layer in found]


def feature_layers(model: keras.Model) -> list[str]:
    """Names the last feature map at each resolution, shallow to deep.

    Args:
        model: A functional or built Sequential model, nested or not; channels last.

    Returns:
        Paths of the layers that `build_hrcam_model` pools by default. For VGG-19:
        `block1_conv2, block2_conv2, block3_conv4, block4_conv4, block5_conv4`.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If no layer holds convolved feature maps.

    Example:
        >>> feature_layers(build_resnet50())[0]
        'conv1_relu'
    """
    names = [layer.name for layer in describe_layers(model) if layer.chosen]
    if not names:
        raise ValueError(
            "`model` must have a convolution with an output of shape (batch, height, "
            f"width, channels). Received: {model.name!r}, which has none."
        )
    return names


def _last_of_each_stage(layers: Sequence[FeatureLayer]) -> set[str]:
    stages: dict[int, FeatureLayer] = {}
    for layer in layers:
        best = stages.get(layer.stride)
        if best is None or layer.is_cut or not best.is_cut:
            stages[layer.stride] = layer
    return {layer.name for layer in stages.values()}


def _is_convolution(operation: Any) -> bool:
    return "Conv" in type(operation).__name__


def _holds_features(call: Call) -> bool:
    name = type(call.operation).__name__
    normalises = name.endswith("BatchNormalization") or name.endswith(
        ("LayerNormalization", "GroupNormalization")
    )
    unfit = any(word in name for word in _NO_FEATURE_WORDS) and not normalises
    return len(call.shapes[0]) == 4 and not unfit


def _is_spatial(call: Call) -> bool:
    """Whether a call's output still has an image's pixels."""
    name = type(call.operation).__name__
    pools = name.startswith("Global") or name in _REDUCTIONS
    return len(call.shapes[0]) == 4 and not pools


def _stage(call: Call, before: int) -> int:
    """Stride of a call's output against the image; 0 once the pixels are gone."""
    if not _is_spatial(call):
        return 0
    operation = call.operation
    name = type(operation).__name__
    factor = max(_pair(getattr(operation, "strides", 1)))
    if name.startswith("UpSampling"):
        return max(1, before // max(_pair(operation.size)))
    if "Transpose" in name:
        return max(1, before // factor)
    return before * factor


def _reach(operation: Any) -> int:
    """How many input pixels a call's window reaches beyond one."""
    window = getattr(operation, "kernel_size", getattr(operation, "pool_size", 1))
    dilation = getattr(operation, "dilation_rate", 1)
    pairs = zip(_pair(window), _pair(dilation), strict=True)
    return max((w - 1) * d for w, d in pairs)


def _pair(value: Any) -> tuple[int, int]:
    if value is None:
        return (1, 1)
    return (value, value) if isinstance(value, int) else tuple(value)[-2:]


def final_activation(model: keras.Model) -> str:
    """Names the activation that a model's one output has gone through last.

    Returns:
        `"softmax"`, `"sigmoid"`, `"linear"`, ...; `""` for an operation without one.
    """
    calls, _, outputs = walk(model)
    call = next(c for c in reversed(calls) if outputs[0] in c.outputs)
    kind = type(call.operation).__name__.lower()
    if kind in ("softmax", "sigmoid"):
        return kind
    return getattr(getattr(call.operation, "activation", None), "__name__", "")


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
