"""How a signal goes back through each type of Keras layer: one short rule each.

A rule takes the step (the layer's call in the classifier, and what the network of the
way back may record of it) and the signal that arrives at the layer's output. It
returns one signal for each input of the layer, `None` for an input that gets none. A
linear layer's rule is its transpose (adjoint) without bias; what a rectifier does is
the `gating`:

* `"deconvnet"`: ReLU on the signal (Zeiler and Fergus,
  https://doi.org/10.1007/978-3-319-10590-1_53)
* `"guided"`: that, and only where the classifier's activation got a positive value
  (Springenberg et al., arXiv:1412.6806)
* `"gradient"`: times the activation's derivative (Simonyan et al., arXiv:1312.6034)
* `"linear"`: nothing

To add a rule, write such a function and enter it in `RULES` under its layer type.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
from keras import layers, ops

from hrcam.deconvnet.layers import (
    Derivative,
    Flip,
    Gate,
    Switches,
    TransposedAveragePooling2D,
    TransposedBatchNormalization,
    TransposedConv2D,
    TransposedDepthwiseConv2D,
    TransposedNormalization,
    TransposedPointwiseConv2D,
    TransposedUpSampling2D,
    Unpooling2D,
)
from hrcam.deconvnet.unpooling import Windows

GATINGS = ("deconvnet", "guided", "gradient", "linear")
UNPOOLINGS = ("switches", "nearest")


class Step(Protocol):
    """What a rule is told of one call of a layer in the classifier.

    Attributes:
        layer: The classifier's layer.
        name: Its path, as it may be used in the names of new layers.
        gating: One of `GATINGS`.
        unpooling: One of `UNPOOLINGS`.
        input_shapes: Shapes of the inputs, batch axis first.
    """

    layer: keras.layers.Layer
    name: str
    gating: str
    unpooling: str
    input_shapes: Sequence[tuple[int | None, ...]]

    def record(
        self, make: Callable[[Any], Any] | None = None, source: int | None = None
    ) -> Any:
        """Returns, for the way back, what `make` makes of a tensor of the forward pass.

        Args:
            make: A function of the tensor; `None` records the tensor itself.
            source: Number of the layer's input; `None` is its output.
        """


Signal = Any
Rule = Callable[[Step, Signal], list[Signal | None]]


def convolution(step: Step, signal: Signal) -> list[Signal]:
    """`Conv2D`, after its own activation."""
    layer = step.layer
    _check_channels_last(step)
    signal = _through_fused_activation(step, signal)
    windows = _windows(step, layer.kernel_size, layer.dilation_rate)
    channels = step.input_shapes[0][-1]
    return [
        TransposedConv2D(layer, windows, channels, f"{step.name}_transposed")(signal)
    ]


def depthwise_convolution(step: Step, signal: Signal) -> list[Signal]:
    """`DepthwiseConv2D`, after its own activation."""
    layer = step.layer
    _check_channels_last(step)
    signal = _through_fused_activation(step, signal)
    return [_depthwise(step, lambda: layer.kernel)(signal)]


def separable_convolution(step: Step, signal: Signal) -> list[Signal]:
    """`SeparableConv2D`: its 1x1 convolution, then its depthwise one."""
    layer = step.layer
    _check_channels_last(step)
    signal = _through_fused_activation(step, signal)
    pointwise = TransposedPointwiseConv2D(
        lambda: layer.pointwise_kernel,
        signal.shape[1:3],
        step.input_shapes[0][-1] * layer.depth_multiplier,
        f"{step.name}_pointwise_transposed",
    )
    return [_depthwise(step, lambda: layer.depthwise_kernel)(pointwise(signal))]


def batch_normalization(step: Step, signal: Signal) -> list[Signal]:
    """`BatchNormalization`: the scale that it has when not training."""
    if step.layer.axis not in (-1, 3):
        raise ValueError(
            "Batch normalization must be along the last axis, the channels. Received: "
            f"axis={step.layer.axis} in the layer {step.name!r}."
        )
    return [TransposedBatchNormalization(step.layer, f"{step.name}_transposed")(signal)]


def activation(step: Step, signal: Signal) -> list[Signal]:
    """`ReLU`, `Activation`, `LeakyReLU`, ...: what `gating` says."""
    function = getattr(step.layer, "activation", None)
    if getattr(function, "__name__", "") == "linear":
        return [signal]
    _check_elementwise(step, function)
    if step.gating == "gradient":
        derivative = Derivative(step.layer, f"{step.name}_derivative")
        return [_gated(step, signal, step.record(derivative, source=0))]
    return [_rectified(step, signal, source=0)]


def max_pooling(step: Step, signal: Signal) -> list[Signal]:
    """`MaxPooling2D`: unpooling, with switches or nearest."""
    _check_channels_last(step)
    windows = _windows(step, step.layer.pool_size)
    name = f"{step.name}_unpooling"
    layer = Unpooling2D(windows, signal.shape[-1], name)
    if step.unpooling == "nearest":
        return [layer(signal)]
    switches = Switches(windows, f"{step.name}_switches")
    return [layer(signal, step.record(switches, source=0))]


def average_pooling(step: Step, signal: Signal) -> list[Signal]:
    """`AveragePooling2D`: each value spread evenly over its window."""
    _check_channels_last(step)
    windows = _windows(step, step.layer.pool_size)
    name = f"{step.name}_transposed"
    return [TransposedAveragePooling2D(windows, signal.shape[-1], name)(signal)]


def zero_padding(step: Step, signal: Signal) -> list[Signal]:
    """`ZeroPadding2D`: cuts the padding off."""
    _check_channels_last(step)
    name = f"{step.name}_transposed"
    return [layers.Cropping2D(step.layer.padding, name=name, dtype="float32")(signal)]


def cropping(step: Step, signal: Signal) -> list[Signal]:
    """`Cropping2D`: puts zeros where it cut."""
    _check_channels_last(step)
    name = f"{step.name}_transposed"
    return [
        layers.ZeroPadding2D(step.layer.cropping, name=name, dtype="float32")(signal)
    ]


def addition(step: Step, signal: Signal) -> list[Signal]:
    """`Add`: the signal goes to every input."""
    if any(shape[1:] != tuple(signal.shape[1:]) for shape in step.input_shapes):
        raise ValueError(
            "The inputs of an addition must have the shape of its output. Received: "
            f"{[shape[1:] for shape in step.input_shapes]} in the layer {step.name!r}."
        )
    return [signal] * len(step.input_shapes)


def concatenation(step: Step, signal: Signal) -> list[Signal]:
    """`Concatenate`: each input gets its own part of the signal."""
    axis = step.layer.axis % 4
    sizes = [shape[axis] for shape in step.input_shapes]
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes) - 1)]
    return list(ops.split(signal, ends, axis=axis))


def multiplication(step: Step, signal: Signal) -> list[Signal | None]:
    """`Multiply` by a gate, as in squeeze-and-excite; the gate is held fixed.

    The gate is what is smaller than the map: one value a channel, or one a pixel. No
    signal goes back through it, so here `"gradient"` is not the full derivative.
    """
    whole = tuple(signal.shape[1:])
    maps = [n for n, shape in enumerate(step.input_shapes) if shape[1:] == whole]
    if len(maps) != 1:
        raise ValueError(
            "Of the inputs of a multiplication one must be the map and the rest "
            "smaller gates (one value a channel or a pixel). Received: "
            f"{[shape[1:] for shape in step.input_shapes]} in the layer {step.name!r}."
        )
    for source in range(len(step.input_shapes)):
        if source not in maps:
            gate = step.record(source=source)
            signal = Gate(f"{step.name}_gate_{source}")(signal, gate)
    return [signal if n in maps else None for n in range(len(step.input_shapes))]


def identity(step: Step, signal: Signal) -> list[Signal]:
    """Layers that do nothing when not training."""
    return [signal]


def rescaling(step: Step, signal: Signal) -> list[Signal]:
    """`Rescaling`: the scale without the offset."""
    name = f"{step.name}_transposed"
    return [layers.Rescaling(step.layer.scale, name=name, dtype="float32")(signal)]


def normalization(step: Step, signal: Signal) -> list[Signal]:
    """`Normalization`: the deviation without the mean."""
    return [TransposedNormalization(step.layer, f"{step.name}_transposed")(signal)]


def up_sampling(step: Step, signal: Signal) -> list[Signal]:
    """`UpSampling2D`, of any interpolation."""
    _check_channels_last(step)
    _, *size, channels = step.input_shapes[0]
    name = f"{step.name}_transposed"
    return [TransposedUpSampling2D(step.layer, size, channels, name)(signal)]


def flip(step: Step, signal: Signal) -> list[Signal]:
    """`keras.ops.flip`, of channels or pixels."""
    return [Flip(step.layer.axis, f"{step.name}_transposed")(signal)]


RULES: dict[type, Rule] = {
    layers.Activation: activation,
    layers.Add: addition,
    layers.AlphaDropout: identity,
    layers.AveragePooling2D: average_pooling,
    layers.BatchNormalization: batch_normalization,
    layers.Concatenate: concatenation,
    layers.Conv2D: convolution,
    layers.Cropping2D: cropping,
    layers.DepthwiseConv2D: depthwise_convolution,
    layers.Dropout: identity,
    layers.ELU: activation,
    layers.GaussianDropout: identity,
    layers.GaussianNoise: identity,
    layers.Identity: identity,
    layers.LeakyReLU: activation,
    layers.MaxPooling2D: max_pooling,
    layers.Multiply: multiplication,
    layers.Normalization: normalization,
    layers.PReLU: activation,
    layers.RandomFlip: identity,
    layers.RandomRotation: identity,
    layers.RandomTranslation: identity,
    layers.RandomZoom: identity,
    layers.ReLU: activation,
    layers.Rescaling: rescaling,
    layers.SeparableConv2D: separable_convolution,
    layers.SpatialDropout2D: identity,
    layers.UpSampling2D: up_sampling,
    layers.ZeroPadding2D: zero_padding,
}
# What `keras.ops` and operators leave in a graph; Keras does not export these types.
OPERATION_RULES: dict[str, Rule] = {"Add": addition, "Flip": flip, "Relu": activation}


def rule_for(step: Step) -> Rule:
    """Finds the rule of a step's layer type; a subclass has none of its own.

    Raises:
        ValueError: If there is no rule for it.
    """
    kind = type(step.layer)
    if kind in RULES:
        return RULES[kind]
    if kind.__module__.startswith("keras.src.ops") and kind.__name__ in OPERATION_RULES:
        return OPERATION_RULES[kind.__name__]
    known = sorted({*(k.__name__ for k in RULES), *OPERATION_RULES})
    raise ValueError(
        "Every layer between the image and the units must have a rule for the way "
        f"back. Received: the layer {step.name!r} of type {kind.__name__}. Types with "
        f"a rule: {', '.join(known)}. Choose an earlier layer with `layer_name=`, or "
        "add a rule to `hrcam.deconvnet.RULES`."
    )


def _windows(step: Step, kernel, dilation=(1, 1)) -> Windows:
    size = step.input_shapes[0][1:3]
    strides, padding = step.layer.strides, step.layer.padding
    return Windows.of(tuple(kernel), tuple(strides), padding, size, tuple(dilation))


def _depthwise(step: Step, kernel_of: Callable) -> TransposedDepthwiseConv2D:
    layer = step.layer
    dilation = tuple(layer.dilation_rate)
    windows = _windows(step, layer.kernel_size, dilation)
    channels = step.input_shapes[0][-1]
    name = f"{step.name}_transposed"
    return TransposedDepthwiseConv2D(kernel_of, windows, channels, dilation, name)


# What tells the derivative when only the activation's output is there.
_DERIVATIVE_BY_OUTPUT: dict[str, Callable[[Any], Any]] = {
    "relu": lambda y: y > 0,
    "relu6": lambda y: ops.logical_and(y > 0, y < 6),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
}


def _through_fused_activation(step: Step, signal: Signal) -> Signal:
    """Takes a signal back through the activation inside a convolution."""
    name = getattr(step.layer.activation, "__name__", "")
    if name == "linear":
        return signal
    _check_elementwise(step, step.layer.activation)
    if step.gating != "gradient":
        return _rectified(step, signal, source=None, zero=_at_zero(step.layer))
    if name not in _DERIVATIVE_BY_OUTPUT:
        raise ValueError(
            f"`gating='gradient'` needs what went into the activation {name!r} of the "
            f"layer {step.name!r}, which is inside the layer. Received: gating="
            "'gradient'. Use another gating, or make the activation a layer of its own."
        )
    return _gated(step, signal, step.record(_DERIVATIVE_BY_OUTPUT[name]))


def _rectified(
    step: Step, signal: Signal, source: int | None, zero: float = 0.0
) -> Signal:
    """Applies the gating of a rectifier; its input was positive above `zero`."""
    if step.gating == "linear":
        return signal
    signal = layers.ReLU(name=f"{step.name}_rectified", dtype="float32")(signal)
    if step.gating == "deconvnet":
        return signal
    return _gated(step, signal, step.record(lambda x: x > zero, source))


def _at_zero(layer: keras.layers.Layer) -> float:
    """The output of a layer's activation where its input is zero."""
    return float(ops.convert_to_numpy(layer.activation(ops.zeros((1,))))[0])


def _gated(step: Step, signal: Signal, gate: Any) -> Signal:
    return Gate(f"{step.name}_gate")(signal, gate)


def _check_elementwise(step: Step, function: Any) -> None:
    name = getattr(function, "__name__", "")
    if name in ("softmax", "log_softmax", "sparsemax", "glu"):
        raise ValueError(
            "An activation before the units must act on each value by itself. "
            f"Received: {name} in the layer {step.name!r}."
        )


def _check_channels_last(step: Step) -> None:
    if getattr(step.layer, "data_format", "channels_last") != "channels_last":
        raise ValueError(
            "Every layer must have data_format='channels_last'. Received: "
            f"{step.layer.data_format!r} in the layer {step.name!r}."
        )
