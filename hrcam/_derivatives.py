"""Derivatives on each of Keras' backends: by feature maps, and value by value."""

from collections.abc import Callable
from typing import Any

import keras


def gradient_by_features(
    function: Callable[[Any], tuple[list[Any], Any, Any]], images: Any
) -> tuple[list[Any], list[Any], Any]:
    """Differentiates a score by feature maps that are computed on the way to it.

    Args:
        function: images -> (features, score, rest): a list of tensors, a scalar, and
            a tensor that is passed on.
        images: Tensor `(batch, height, width, channels)`.

    Returns:
        The features, the derivatives of the score by them, of the same shapes (zero
        where a gradient is stopped), and the rest.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return _gradient_in_jax(function, images)
    if backend == "torch":
        import torch

        with torch.enable_grad():
            images = images.detach().requires_grad_()  # a frozen network records, too
            features, score, rest = function(images)
            gradients = torch.autograd.grad(score, features, allow_unused=True)
        features = [f.detach() for f in features]  # what is kept holds no graph
        zeros = keras.ops.zeros_like
        gradients = [
            zeros(f) if g is None else g
            for f, g in zip(features, gradients, strict=True)
        ]
        return features, gradients, rest.detach()
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(images)  # a frozen network has no other watched tensor
        features, score, rest = function(images)
    unused = tf.UnconnectedGradients.ZERO
    return features, tape.gradient(score, features, None, unused), rest


def _gradient_in_jax(function: Callable, images: Any) -> tuple[list, list, Any]:
    """Derivatives by values half-way: by zeros that are added to them where they arise.

    JAX differentiates by arguments only. So the function's program is cut behind each
    step that makes a feature map, and the zeros are added between the parts.
    """
    import jax
    from jax.extend.core import Literal

    program, shapes = jax.make_jaxpr(function, return_shape=True)(images)
    steps, count = program.jaxpr, len(shapes[0])
    asked = steps.outvars[:count]
    places = list(dict.fromkeys(asked))  # two layers share one, as around dropout
    parts = _parts_in_jax(steps, places)

    def run(zeros):
        added = dict(zip(places, zeros, strict=True))
        values = dict(zip(steps.constvars, program.consts, strict=True))
        image = steps.invars[0]  # a layer that changes nothing gives it on as it is
        values[image] = images + added[image] if image in added else images
        for part, needs, gives in parts:
            made = part(*(values[variable] for variable in needs))
            values |= {
                variable: value + added[variable] if variable in added else value
                for variable, value in zip(gives, made, strict=True)
            }
        *features, score, rest = (
            v.val if isinstance(v, Literal) else values[v] for v in steps.outvars
        )
        return score, (features, rest)

    zeros = [keras.ops.zeros(v.aval.shape, v.aval.dtype) for v in places]
    gradients, (features, rest) = jax.grad(run, has_aux=True)(zeros)
    by_place = dict(zip(places, gradients, strict=True))
    return features, [by_place[v] for v in asked], rest


def _parts_in_jax(steps: Any, places: list) -> list[tuple[Callable, list, list]]:
    """Cuts a program behind the steps that make the variables `places`.

    Returns:
        For each part its function, the variables that it reads, and those it makes.
    """
    from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun

    parts, part = [], []
    for step in steps.eqns:
        part.append(step)
        if step is steps.eqns[-1] or set(places).intersection(step.outvars):
            gives = list(dict.fromkeys(v for s in part for v in s.outvars))
            read = [v for s in part for v in s.invars if not isinstance(v, Literal)]
            needs = [v for v in dict.fromkeys(read) if v not in set(gives)]
            own = steps.replace(constvars=[], invars=needs, outvars=gives, eqns=part)
            parts.append((jaxpr_as_fun(ClosedJaxpr(own, [])), needs, gives))
            part = []
    return parts


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
