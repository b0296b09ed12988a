"""How a signal goes back through an activation, and what a rule is told of it.

* `"deconvnet"`: ReLU on the signal (Zeiler and Fergus,
  https://doi.org/10.1007/978-3-319-10590-1_53)
* `"guided"`: that, and only where the classifier's activation got a positive value
  (Springenberg et al., https://arxiv.org/abs/1412.6806)
* `"gradient"`: times the activation's derivative (Simonyan et al.,
  https://arxiv.org/abs/1312.6034)
* `"linear"`: nothing

An activation inside a convolution gives its output only; what went into it is told from
that where it can be.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import keras
from keras import layers, ops

from hrcam.deconvnet.layers import Derivative, Gate

GATINGS = ("deconvnet", "guided", "gradient", "linear")
Signal = Any


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


# What tells the derivative when only the activation's output is there.
_DERIVATIVE_BY_OUTPUT: dict[str, Callable[[Any], Any]] = {
    "relu": lambda y: y > 0,
    "relu6": lambda y: ops.logical_and(y > 0, y < 6),
    "sigmoid": lambda y: y * (1 - y),
    "tanh": lambda y: 1 - y * y,
}


def through_fused_activation(step: Step, signal: Signal) -> Signal:
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
