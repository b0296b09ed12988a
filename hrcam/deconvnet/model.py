"""The transposed network: a model that projects its own units back to the image.

A unit f is one channel of a convolution's output z_L. Its back-projection is

    R(x | f) = G_1 U_1 G_2 U_2 ... G_L^f z_L                            (Eq. 2)

with G the transposed convolutions, whose kernels are the classifier's own, and U the
unpooling with the switches recorded for this image. The n units with the strongest
maps are projected back; the attentive response map is the maximum over units at each
pixel, and the dominant unit is the one that has it (Eq. 3).

Choices, each an argument: what a rectifier does on the way back, unpooling, whether
the whole map or its peak is projected, the strength of a unit, and how units are
combined. `preset="authors_code"` chooses what the authors' public Keras code does,
which differs from the printed paper (the default) in all but the ranking.

Reference:
    Kumar, Menkovski, Taylor, Wong (2018), "Understanding anatomy classification
    through attentive response maps", ISBI, https://arxiv.org/abs/1611.06284
"""

from numbers import Integral
from typing import Any

import keras

from hrcam.deconvnet.back_projector import build_back_projector
from hrcam.deconvnet.gating import GATINGS
from hrcam.deconvnet.projection import BackProjection, TopUnits
from hrcam.deconvnet.rules import UNPOOLINGS
from hrcam.graph import (
    calls_before,
    check_graph,
    layer_outputs,
    tensors_by_number,
    walk,
)
from hrcam.layer_selection import feature_layers
from hrcam.views import image_place, input_names, inputs_before

CHOICES = {
    "gating": GATINGS,
    "unpooling": UNPOOLINGS,
    "seed": ("map", "peak"),
    "rank": ("sum", "max"),
    "combine": ("max", "sum"),
}
PRESETS = {
    "paper": {
        "gating": "deconvnet",
        "unpooling": "switches",
        "seed": "map",
        "rank": "sum",
        "combine": "max",
    },
    "authors_code": {
        "gating": "guided",
        "unpooling": "nearest",
        "seed": "peak",
        "rank": "sum",
        "combine": "sum",
    },
}


def build_deconv_model(
    classifier: keras.Model,
    layer_name: str | None = None,
    top_n: int = 25,
    gating: str | None = None,
    unpooling: str | None = None,
    seed: str | None = None,
    rank: str | None = None,
    *,
    combine: str | None = None,
    preset: str = "paper",
    unit_maps: bool = True,
    chunk: int = 5,
    image_size: tuple[int, int] | None = None,
    image_input: str | None = None,
) -> "DeconvModel":
    """Builds the model that makes attentive response maps.

    Args:
        classifier: A trained functional or Sequential model, nested or not. Its
            layers are shared, not copied: training it on changes the maps. It is not
            changed.
        layer_name: The layer whose channels are the units; inner layers of nested
            models as `"outer/inner"`. `None`: the last of `feature_layers`.
        top_n: How many units are projected back.
        gating: What a rectifier does on the way back: `"deconvnet"` (ReLU on the
            signal; the paper), `"guided"` (that, and only where it was active),
            `"gradient"` (its derivative) or `"linear"` (nothing).
        unpooling: `"switches"` (the paper) or `"nearest"`.
        seed: What is projected: the unit's whole `"map"` (the paper) or its `"peak"`.
        rank: A unit's strength: the `"sum"` (the paper's code) or `"max"` of its map.
        combine: `"max"` (the paper) or `"sum"` over units.
        preset: `"paper"` or `"authors_code"` (guided, nearest, peak, sum, sum): what
            the arguments left at `None` are.
        unit_maps: Whether the single maps are an output; without them the memory does
            not grow with `top_n`.
        chunk: Units that are projected at a time: more need more memory.
        image_size: (height, width), if `classifier` takes images of any size.
        image_input: Name of the image, if `classifier` has several inputs; the layer
            must need this one alone.

    Returns:
        A model, image `(batch, height, width, channels)` -> dict of
        `units` `(batch, n)` int32, channel numbers, the strongest first;
        `unit_maps` `(batch, n, height, width, channels)` float32, raw and signed;
        `response` `(batch, height, width)` float32, the maximum over units and image
        channels (with `combine="sum"` the sum);
        `dominant_unit` `(batch, height, width)` int32, index into `units` of the unit
        with the largest value.
        It saves to `.keras` and exports as other models do.

    Raises:
        TypeError: If the layers of `classifier` cannot be reached.
        ValueError: If an option is unknown, `top_n` is more than the units, the layer
            is none with 4-D output, a layer has no rule for the way back, or the
            image size is not fixed.

    Example:
        >>> model = build_deconv_model(classifier, top_n=9)
        >>> result = model.predict(images)
        >>> result["response"].shape == images.shape[:3]
        True
    """
    given = {
        "gating": gating,
        "unpooling": unpooling,
        "seed": seed,
        "rank": rank,
        "combine": combine,
    }
    options = _checked_options(preset, given)
    trunk = _cut_at(classifier, layer_name, image_size, image_input)
    top_n = _checked_count("top_n", top_n, trunk.outputs[0].shape[-1])
    chunk = min(_checked_count("chunk", chunk), top_n)
    return DeconvModel(trunk, top_n, options, unit_maps, chunk)


def _checked_options(preset: str, given: dict[str, str | None]) -> dict[str, str]:
    """Fills the options left at `None` from a preset, and checks all.

    Raises:
        ValueError: If the preset or an option is unknown.
    """
    if preset not in PRESETS:
        raise ValueError(
            f"`preset` must be one of {tuple(PRESETS)}. Received: {preset!r}"
        )
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if value not in CHOICES[name]:
            raise ValueError(
                f"`{name}` must be one of {CHOICES[name]}. Received: {value!r}"
            )
    return PRESETS[preset] | chosen


def _cut_at(
    classifier: keras.Model,
    layer_name: str | None,
    image_size: tuple[int, int] | None = None,
    image_input: str | None = None,
) -> keras.Model:
    """Cuts a classifier at the layer whose channels are the units.

    Raises:
        ValueError: If the layer is unknown, its output not 4-D or computed from
            another input, or if the image size is not fixed.
    """
    check_graph(classifier)
    if layer_name is None:
        layer_name = feature_layers(classifier, image_input)[-1]
    features = layer_outputs(classifier, [layer_name])[0]
    if len(features.shape) != 4:
        raise ValueError(
            "`layer_name` must name a layer with an output of shape (batch, height, "
            f"width, units). Received: {layer_name!r}, whose output is "
            f"{tuple(features.shape)}."
        )
    image = image_place(classifier, image_input)
    number = calls_before(classifier, layer_name)[-1].outputs[0]
    if inputs_before(classifier, number) != [image]:
        raise ValueError(
            f"The layer {layer_name!r} must need no input but the image "
            f"{input_names(classifier)[image]!r}. Choose among "
            f"{feature_layers(classifier, image_input)}."
        )
    trunk = keras.Model(classifier.inputs[image], features)
    _, *size, channels = trunk.inputs[0].shape
    if None not in size:
        return trunk
    if image_size is None:
        raise ValueError(
            "`image_size` is needed, since `classifier` takes images of any size. "
            f"Received: None, and the input {trunk.inputs[0].shape}."
        )
    image = keras.Input((*image_size, channels), name="sized_image")
    return keras.Model(image, trunk(image))


@keras.saving.register_keras_serializable("hrcam")
class DeconvModel(keras.Model):
    """Image -> attentive response map; see `build_deconv_model`.

    Args:
        trunk: The classifier up to the layer of the units.
        top_n: How many units are projected back.
        options: A value for each of `gating`, `unpooling`, `seed`, `rank`, `combine`.
        unit_maps: Whether the single maps are an output.
        chunk: Units at a time.
    """

    def __init__(self, trunk, top_n, options, unit_maps=True, chunk=5, **kwargs):
        forward = tensors_by_number(trunk)
        projector, records = build_back_projector(
            trunk, options["gating"], options["unpooling"], forward
        )
        image = trunk.inputs[0]
        features = forward.get(walk(trunk)[2][0], trunk.outputs[0])
        select = TopUnits(top_n, options["rank"], name="top_units")
        project = BackProjection(
            projector,
            seed=options["seed"],
            combine=options["combine"],
            unit_maps=unit_maps,
            chunk=chunk,
            name="back_projection",
        )
        units = select(features)
        outputs = {"units": units} | project(features, units, *records)
        super().__init__(image, outputs, **kwargs)
        self._config = {
            "top_n": top_n,
            "options": options,
            "unit_maps": unit_maps,
            "chunk": chunk,
        }
        self._trunk_of = lambda: trunk  # a closure is not tracked
        self._projector_of = lambda: projector

    @property
    def projector(self) -> keras.Model:
        """The transposed layers: seeds of one image's units -> maps at the image."""
        return self._projector_of()

    def summary(self, *args, **kwargs):
        """Prints the layers of the classifier, then the transposed ones."""
        super().summary(*args, **kwargs)
        self.projector.summary(*args, **kwargs)

    def get_config(self):
        """Returns the trunk and the options."""
        trunk = keras.saving.serialize_keras_object(self._trunk_of())
        return {"name": self.name, "trunk": trunk, **self._config}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        """Builds the model anew around the saved trunk."""
        trunk = keras.saving.deserialize_keras_object(
            config.pop("trunk"), custom_objects
        )
        return cls(trunk, **config)


def _checked_count(name: str, value: Any, most: int | None = None) -> int:
    known = f" in [1, {most}], the units of the layer" if most else " of at least 1"
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < 1 or (most and value > most):
        raise ValueError(f"`{name}` must be an integer{known}. Received: {value!r}")
    return int(value)
