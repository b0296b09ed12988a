"""The way back through a network, as a model: `rules` applied from output to image."""

import itertools
from collections import Counter
from collections.abc import Callable

import keras
from keras import layers

from hrcam.deconvnet.rules import rule_for
from hrcam.graph import Call, tensors_by_number, walk


def build_back_projector(
    trunk: keras.Model,
    gating: str,
    unpooling: str,
    forward: dict[int, keras.KerasTensor] | None = None,
) -> tuple[keras.Model, list[keras.KerasTensor]]:
    """Builds the way back through a network, from its output to its image.

    It works on one image at a time; its batch axis is the units.

    Args:
        trunk: A functional model of one input and one output, nested or not.
        gating: What a rectifier does.
        unpooling: `"switches"` or `"nearest"`.
        forward: The tensors of the forward pass that records are taken from; `None`
            is `tensors_by_number(trunk)`.

    Returns:
        The model, [signals `(units, *output shape)`, what was recorded of the image
        ...] -> `(units, *image shape)`; and the symbolic tensors of the forward pass
        to record, `(batch, ...)`, connected to the input of `trunk`.

    Raises:
        ValueError: If a layer has no rule, or cannot be followed.
    """
    calls, (image,), (output,) = walk(trunk)
    shapes = {image: tuple(trunk.inputs[0].shape)}
    shapes |= dict(
        zip(
            itertools.chain(*(call.outputs for call in calls)),
            itertools.chain(*(call.shapes for call in calls)),
            strict=True,
        )
    )
    recorder = _Recorder(forward or tensors_by_number(trunk))
    seed = keras.Input(shapes[output][1:], name="signal", dtype="float32")
    arrived: dict[int, list] = {output: [seed]}
    times: Counter[str] = Counter()
    for call in reversed(calls):
        signals = [s for number in call.outputs for s in arrived.pop(number, [])]
        if not signals:
            continue
        times[call.path] += 1
        step = _Step(call, times[call.path], shapes, gating, unpooling, recorder)
        backward = rule_for(step)(step, _total(signals, step.name))
        for number, signal in zip(call.inputs, backward, strict=True):
            if signal is not None:
                arrived.setdefault(number, []).append(signal)
    maps = _total(arrived[image], "image")
    inputs = [seed, *recorder.inputs]
    return keras.Model(inputs, maps, name="back_projector"), recorder.tensors


class _Recorder:
    """Collects what the way back needs of the forward pass."""

    def __init__(self, forward: dict[int, keras.KerasTensor]):
        self._forward = forward
        self.tensors: list[keras.KerasTensor] = []
        self.inputs: list[keras.KerasTensor] = []

    def record(self, number: int, make: Callable | None, name: str):
        if number not in self._forward:
            raise ValueError(
                "A layer that the way back must know the values of must be called "
                f"once. Received: the layer {name!r} is called several times, or what "
                "it reads is."
            )
        tensor = self._forward[number]
        tensor = tensor if make is None else make(tensor)
        self.tensors.append(tensor)
        recorded = keras.Input(
            tensor.shape[1:],
            batch_size=1,
            dtype=tensor.dtype,
            name=f"{name}_recorded_{len(self.inputs)}",
        )
        self.inputs.append(recorded)
        return recorded


class _Step:
    """One call of the classifier; see `rules.Step`."""

    def __init__(self, call: Call, time, shapes, gating, unpooling, recorder):
        self.layer, self.name = call.operation, call.path.replace("/", ".")
        if time > 1:  # the layer is called several times
            self.name += f".{time}"
        self.gating, self.unpooling = gating, unpooling
        self.input_shapes = [shapes[number] for number in call.inputs]
        self._call, self._recorder = call, recorder

    def record(self, make=None, source=None):
        numbers = self._call.outputs if source is None else self._call.inputs
        return self._recorder.record(numbers[source or 0], make, self.name)


def _total(signals: list, name: str):
    """Adds up the signals that arrive at one tensor."""
    if len(signals) == 1:
        return signals[0]
    return layers.Add(name=f"{name}_total", dtype="float32")(signals)
