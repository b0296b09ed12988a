"""Cascading randomisation: do maps change when the network forgets, layer by layer?

From the last layer with weights to the first, layer after layer is initialised anew,
those before it staying random. After each step the maps are made again and compared
with those of the trained network by `hrcam.sanity.map_similarity`.

Choices: a layer is drawn by its own initialisers (batch normalization goes back to
its initial statistics) and is a step of its own, layers of parallel branches one
after the other. `Normalization` layers are left: they hold statistics of the data
set, not learned weights.

Reference:
    Adebayo et al. (2018), "Sanity checks for saliency maps", NeurIPS,
    https://arxiv.org/abs/1810.03292; that back-projections of the guided kind stay:
    Nie et al. (2018), https://arxiv.org/abs/1805.07039; Sixt et al. (2020), "When
    explanations lie", ICML, https://arxiv.org/abs/1912.09818
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from hrcam._images import check_images
from hrcam.graph import check_graph, walk
from hrcam.sanity.similarity import MapSimilarity, checked_maps, map_similarity


class Randomization(NamedTuple):
    """What `cascading_randomization` returns.

    Attributes:
        layers: Paths of the layers, `"outer/inner"` in nested models, in the order in
            which they were randomised.
        maps: Float32 `(1 + layers, n, height, width)`, as `explain` gave them. Those
            at `k` are of the network whose `layers[:k]` are random: at 0 of the
            trained one, at -1 of the one that is all random.
        similarity: To the maps at 0; arrays `(1 + layers, n)`, so the row 0 is 1.
    """

    layers: tuple[str, ...]
    maps: np.ndarray
    similarity: MapSimilarity


def cascading_randomization(
    model: keras.Model,
    explain: Callable[[keras.Model, np.ndarray], np.ndarray],
    images: np.ndarray,
    *,
    seed: int = 0,
) -> Randomization:
    """Randomises a copy of a network from the last layer on, and compares its maps.

    Args:
        model: A trained functional or Sequential model, nested or not, of one image
            input. It is neither changed nor run.
        explain: Makes maps `(n, height, width)` of a model and the images. It gets
            the same copy at each step, with other weights, so what is compiled for
            it once holds. Fix the class in it, as in `lambda m, x: hrcam.cam(m, x, 1)`;
            `None` would be the class that the random network predicts.
        images: `(n, height, width, channels)`, preprocessed as for training.
        seed: Of the random weights; the same seed gives the same.

    Returns:
        The layers, the maps and their similarity. All maps are kept: 24 images of
        224x224 pixels and 100 layers are 0.5 GB.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If images do not fit, no layer has weights, a layer cannot be
            built anew from its config, or `explain` returns another shape.

    Example:
        >>> def explain(model, images):
        ...     return hrcam.attentive_response_maps(model, images)["response"]
        >>> result = cascading_randomization(classifier, explain, images)
        >>> np.nanmedian(result.similarity.spearman[-1])  # all layers random
    """
    check_graph(model)
    images = check_images(model, images)
    copy = _copied(model)
    layers = _layers_with_weights(copy)
    rng = np.random.default_rng(seed)
    original = checked_maps(explain(copy, images), images)
    map_similarity(original, original)  # what would fail fails now, not at the end
    maps = np.empty((1 + len(layers), *original.shape), np.float32)
    maps[0] = original
    for step, layer in enumerate(layers.values(), start=1):
        _randomize(layer, rng)
        maps[step] = checked_maps(explain(copy, images), images, original.shape)
    return Randomization(tuple(layers), maps, map_similarity(maps, maps[0]))


def _copied(model: keras.Model) -> keras.Model:
    """An uncompiled model of the same layers, names and weights, sharing nothing."""
    inputs = model.inputs[0]
    outputs = model.outputs if len(model.outputs) > 1 else model.outputs[0]
    plain = keras.Model(inputs, outputs, name=model.name)  # the compiling left behind
    rng = np.random.default_rng(0)  # Keras' own seeds would come from a global one
    copy = keras.models.clone_model(
        plain, clone_function=lambda layer: _unbuilt(layer, rng), recursive=True
    )
    copy.set_weights(plain.get_weights())
    return copy


def _layers_with_weights(model: keras.Model) -> dict[str, keras.Layer]:
    """The layers that hold learned weights by path, the last of the graph first."""
    layers: dict[int, tuple[str, keras.Layer]] = {}
    for call in reversed(walk(model)[0]):
        layer = call.operation
        is_data = isinstance(layer, keras.layers.Normalization)
        if getattr(layer, "weights", None) and not is_data:
            layers.setdefault(id(layer), (call.path, layer))
    if not layers:
        raise ValueError(
            "`model` must have a layer with weights. Received: "
            f"{model.name!r}, which has none to randomise."
        )
    return dict(layers.values())


def _randomize(layer: keras.Layer, rng: np.random.Generator) -> None:
    """Gives a layer the weights of a new layer of the same config, in place."""
    fresh = _unbuilt(layer, rng)
    if not fresh.built:
        fresh.build_from_config(layer.get_build_config())
    layer.set_weights(fresh.get_weights())


def _unbuilt(layer: Any, rng: np.random.Generator) -> Any:
    return type(layer).from_config(_reseeded(layer.get_config(), rng))


def _reseeded(config: Any, rng: np.random.Generator) -> Any:
    """A config whose seeds, those of its initialisers above all, are drawn anew."""
    if isinstance(config, dict):
        return {
            key: int(rng.integers(1, 2**31))
            if key == "seed" and isinstance(value, int | None)
            else _reseeded(value, rng)
            for key, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_reseeded(value, rng) for value in config)
    return config
