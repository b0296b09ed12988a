"""Does a map depend on what the network has learned? Cascading randomisation.

From the last layer with weights to the first, layer after layer is initialised anew,
those before it staying random. After each step the maps are made again and compared
with those of the trained network. A map that explains the network must change with
it; one that stays shows the image (its edges, say), whatever the network has learned.

Per image, with a the map of the trained network and b that of the randomised one,

* Spearman's rank correlation of a and b, and that of |a| and |b|, over all pixels:
  1 is the same order, 0 none. Maps of an empty background correlate by it alone, so
  look at a control, too: `hrcam.maps.controls.edge_magnitude`, another image's map;
* SSIM of a and b, each min-max normalised: 7x7 windows, data range 1.

Choices: a layer is drawn by its own initialisers (batch normalization goes back to
its initial statistics) and is a step of its own, layers of parallel branches one
after the other. `Normalization` layers are left: they hold statistics of the data
set, not learned weights. NaN is the score of a map that is constant (but for
rounding) or not finite; such maps are counted.

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
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from hrcam._images import check_images
from hrcam.graph import check_graph, walk
from hrcam.normalize import min_max_normalize


class MapSimilarity(NamedTuple):
    """How similar maps are to others, by image; NaN where a map is blank.

    Attributes:
        spearman: Float64 `(..., n)` in [-1, 1], rank correlation of the raw maps.
        spearman_absolute: The same of the absolute maps.
        ssim: Float64 `(..., n)` in [-1, 1], of the min-max normalised maps.
    """

    spearman: np.ndarray
    spearman_absolute: np.ndarray
    ssim: np.ndarray

    def summary(self) -> dict[str, dict[str, list]]:
        """Sums the scores up over the images, which are the last axis.

        Returns:
            Measure -> `lower quartile`, `median`, `upper quartile` (NaN left out;
            `None` if all are) and `undefined` (how many are NaN), lists `(...)`.
        """
        pairs = zip(self._fields, self, strict=True)
        return {name: _summary(scores) for name, scores in pairs}


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
    original = _checked_maps(explain(copy, images), images)
    map_similarity(original, original)  # what would fail fails now, not at the end
    maps = np.empty((1 + len(layers), *original.shape), np.float32)
    maps[0] = original
    for step, layer in enumerate(layers.values(), start=1):
        _randomize(layer, rng)
        maps[step] = _checked_maps(explain(copy, images), images, original.shape)
    return Randomization(tuple(layers), maps, map_similarity(maps, maps[0]))


def map_similarity(maps: np.ndarray, reference: np.ndarray) -> MapSimilarity:
    """Compares maps with others of the same images.

    Args:
        maps: Real numbers `(..., n, height, width)`, raw.
        reference: Real numbers `(n, height, width)`, raw; at least 7x7 pixels.

    Returns:
        Rank correlations and SSIM, `(..., n)` each; see the module.

    Raises:
        ValueError: If the shapes do not fit, or maps are smaller than 7x7 pixels.
    """
    maps, reference = np.asarray(maps), np.asarray(reference)
    if reference.ndim != 3 or maps.shape[-3:] != reference.shape:
        raise ValueError(
            "`maps` must have shape (..., n, height, width) and `reference` the last "
            f"three of it. Received: {maps.shape} and {reference.shape}."
        )
    similarity = MapSimilarity(*np.empty((3, *maps.shape[:-2])))
    for index in np.ndindex(maps.shape[:-2]):
        pair = maps[index], reference[index[-1]]
        similarity.spearman[index] = _if_varied(_spearman, *pair)
        similarity.spearman_absolute[index] = _if_varied(_spearman, *np.abs(pair))
        similarity.ssim[index] = _if_varied(_ssim, *pair)
    return similarity


def _if_varied(score: Callable, *pair: np.ndarray) -> float:
    return score(*pair) if _varies(pair[0]) and _varies(pair[1]) else np.nan


def _spearman(one: np.ndarray, other: np.ndarray) -> float:
    return spearmanr(one, other, axis=None).statistic


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    pair = min_max_normalize(one), min_max_normalize(other)
    return structural_similarity(*pair, data_range=1.0)


def _varies(one_map: np.ndarray) -> bool:
    """Whether a map is finite, and not constant but for rounding in float32."""
    low, high = float(one_map.min()), float(one_map.max())
    rounding = 8 * np.finfo(np.float32).eps * max(abs(low), abs(high))
    return bool(np.isfinite(high - low)) and high - low > rounding


def _summary(scores: np.ndarray) -> dict[str, list]:
    quartiles = np.full((3, *scores.shape[:-1]), None)
    for index in np.ndindex(scores.shape[:-1]):
        defined = scores[index][~np.isnan(scores[index])]
        if len(defined):
            quartiles[:, *index] = np.quantile(defined, (0.25, 0.5, 0.75))
    names = ("lower quartile", "median", "upper quartile")
    summary = dict(zip(names, quartiles.tolist(), strict=True))
    return summary | {"undefined": np.isnan(scores).sum(axis=-1).tolist()}


def _checked_maps(
    maps: Any, images: np.ndarray, shape: tuple[int, ...] | None = None
) -> np.ndarray:
    maps = np.asarray(maps)
    fits = maps.ndim == 3 and len(maps) == len(images) and maps.dtype.kind in "biuf"
    if not fits or (shape is not None and maps.shape != shape):
        expected = shape or (len(images), "height", "width")
        raise ValueError(
            f"`explain` must return real maps of shape {expected}, one an image. "
            f"Received: {maps.dtype} of shape {maps.shape}."
        )
    return maps


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
