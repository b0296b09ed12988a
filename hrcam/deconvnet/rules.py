"""How a signal goes back through each type of Keras layer: one short rule each.

A rule takes the step (the layer's call in the classifier, and what the network of the
way back may record of it) and the signal that arrives at the layer's output. It
returns one signal for each input of the layer, `None` for an input that gets none. A
linear layer's rule is its transpose (adjoint) without bias; what a rectifier does is
in `gating`.

To add a rule, write such a function and enter it in `RULES` under its layer type.
"""

from collections.abc import Callable

from keras import layers, ops

from hrcam.deconvnet.gating import Signal, Step, activation, through_fused_activation
from hrcam.deconvnet.layers import (
    Flip,
    Gate,
    Scaling,
    Switches,
    TransposedAveragePooling2D,
    TransposedBatchNormalization,
    TransposedConv2D,
    TransposedDepthwiseConv2D,
    TransposedLayerNormalization,
    TransposedNormalization,
    TransposedPointwiseConv2D,
    TransposedUpSampling2D,
    Unpooling2D,
)
from hrcam.deconvnet.unpooling import Windows

UNPOOLINGS = ("switches", "nearest")
Rule = Callable[[Step, Signal], list[Signal | None]]


def convolution(step: Step, signal: Signal) -> list[Signal]:
    """`Conv2D`, after its own activation."""
    layer = step.layer
    _check_channels_last(step)
    signal = through_fused_activation(step, signal)
    windows = _windows(step, layer.kernel_size, layer.dilation_rate)
    channels = step.input_shapes[0][-1]
    return [
        TransposedConv2D(layer, windows, channels, f"{step.name}_transposed")(signal)
    ]


def depthwise_convolution(step: Step, signal: Signal) -> list[Signal]:
    """`DepthwiseConv2D`, after its own activation."""
    layer = step.layer
    _check_channels_last(step)
    signal = through_fused_activation(step, signal)
    return [_depthwise(step, lambda: layer.kernel)(signal)]


def separable_convolution(step: Step, signal: Signal) -> list[Signal]:
    """`SeparableConv2D`: its 1x1 convolution, then its depthwise one."""
    layer = step.layer
    _check_channels_last(step)
    signal = through_fused_activation(step, signal)
    pointwise = TransposedPointwiseConv2D(
        lambda: layer.pointwise_kernel,
        signal.shape[1:3],
        step.input_shapes[0][-1] * layer.depth_multiplier,
        f"{step.name}_pointwise_transposed",
    )
    return [_depthwise(step, lambda: layer.depthwise_kernel)(pointwise(signal))]


def dense(step: Step, signal: Signal) -> list[Signal]:
    """`Dense` along the channels, after its own activation: a 1x1 convolution."""
    layer = step.layer
    signal = through_fused_activation(step, signal)
    channels = step.input_shapes[0][-1]
    name = f"{step.name}_transposed"
    return [
        TransposedPointwiseConv2D(
            lambda: layer.kernel[None, None], signal.shape[1:3], channels, name
        )(signal)
    ]


def batch_normalization(step: Step, signal: Signal) -> list[Signal]:
    """`BatchNormalization`: the scale that it has when not training."""
    if step.layer.axis not in (-1, 3):
        raise ValueError(
            "Batch normalization must be along the last axis, the channels. Received: "
            f"axis={step.layer.axis} in the layer {step.name!r}."
        )
    return [TransposedBatchNormalization(step.layer, f"{step.name}_transposed")(signal)]


def layer_normalization(step: Step, signal: Signal) -> list[Signal]:
    """`LayerNormalization`: its derivative at this image, with any gating."""
    layer, name = step.layer, f"{step.name}_transposed"
    if layer.rms_scaling or layer.axis not in ([-1], [3]):
        raise ValueError(
            "Layer normalization must be along the last axis, the channels, without "
            f"`rms_scaling`. Received: axis={layer.axis}, rms_scaling="
            f"{layer.rms_scaling} in the layer {step.name!r}."
        )
    values = step.record(source=0)
    return [TransposedLayerNormalization(layer, name)(signal, values)]


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


def scaled_addition(step: Step, signal: Signal) -> list[Signal]:
    """Inception-ResNet's `CustomScaleLayer`: x + scale * y."""
    name = f"{step.name}_transposed"
    scaled = layers.Rescaling(step.layer.scale, name=name, dtype="float32")(signal)
    return [signal, scaled]


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


def layer_scale(step: Step, signal: Signal) -> list[Signal]:
    """ConvNeXt's `LayerScale`: a trained factor a channel."""
    layer = step.layer
    return [Scaling(lambda: layer.gamma, f"{step.name}_transposed")(signal)]


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
    layers.Dense: dense,
    layers.DepthwiseConv2D: depthwise_convolution,
    layers.Dropout: identity,
    layers.ELU: activation,
    layers.GaussianDropout: identity,
    layers.GaussianNoise: identity,
    layers.Identity: identity,
    layers.LayerNormalization: layer_normalization,
    layers.LeakyReLU: activation,
    layers.MaxPooling2D: max_pooling,
    layers.Multiply: multiplication,
    layers.Normalization: normalization,
    layers.PReLU: activation,
    layers.RandomBrightness: identity,
    layers.RandomContrast: identity,
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
# What `keras.ops`, operators and `keras.applications` leave in a graph; Keras does not
# export these types.
UNEXPORTED_RULES: dict[str, Rule] = {
    "Add": addition,
    "CustomScaleLayer": scaled_addition,
    "Flip": flip,
    "LayerScale": layer_scale,
    "Relu": activation,
    "StochasticDepth": identity,
}


def rule_for(step: Step) -> Rule:
    """Finds the rule of a step's layer type; a subclass has none of its own.

    Raises:
        ValueError: If there is no rule for it.
    """
    kind = type(step.layer)
    if kind in RULES:
        return RULES[kind]
    of_keras = kind.__module__.startswith(("keras.src.ops", "keras.src.applications"))
    if of_keras and kind.__name__ in UNEXPORTED_RULES:
        return UNEXPORTED_RULES[kind.__name__]
    known = sorted({*(k.__name__ for k in RULES), *UNEXPORTED_RULES})
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


def _check_channels_last(step: Step) -> None:
    if getattr(step.layer, "data_format", "channels_last") != "channels_last":
        raise ValueError(
            "Every layer must have data_format='channels_last'. Received: "
            f"{step.layer.data_format!r} in the layer {step.name!r}."
        )
