"""Which layers HR-CAM pools: the last feature map at each resolution.

HR-CAM pools "the feature maps of the pre-max-pool layers". In a network without
max-pooling that is the last feature map before the resolution drops, so it is found
in the graph itself, not in a table of names:

* Each call has a stage: the largest stage of its inputs times its own stride.
* A call is a cut if no tensor made before it is used after it: everything that the
  network still knows about the image passes through it.
* The feature layer of a stage is its last cut that holds feature maps: 4-D, at or
  after a convolution, and not padding, pooling, cropping, resizing, dropout or
  reshaping.
* A stage without a cut, as where each cell reads the two before it, has instead the
  call of that kind beside which the fewest other tensors are still needed; of several
  the one that sees most of the image, then the one with most maps, then the last.

Source of the pooled layers: Shinde et al. (2021), section "HR-CAMs",
https://doi.org/10.7717/peerj-cs.622. The rule for other networks is our choice.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras

from hrcam.graph import Call, walk
from hrcam.views import image_place

_NO_FEATURE_WORDS = (
    "Padding", "Pool", "Cropping", "UpSampling", "Dropout", "Resize", "Resizing",
    "Reshape", "Rescaling", "Normalization", "Noise", "Random", "Pad",
)  # fmt: skip
_REORDERED = ("Permute", "Transpose")  # 4-D, but no longer (height, width, channels)
_REDUCTIONS = ("Mean", "Max", "Min", "Sum", "Amax", "Amin")


_JOINED = (
    " that needs the image alone: they follow a layer that joins it with other inputs. "
    "`hrcam.grad_cam` explains such a layer by `layer_name`."
)


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


def describe_layers(
    model: keras.Model, image_input: str | None = None
) -> list[FeatureLayer]:
    """Lists every layer that holds feature maps, in graph order.

    Args:
        model: A functional or built Sequential model, nested or not; channels last.
        image_input: Name of the image, if the model has several inputs; layers that
            depend on the others are left out. `None`: the only 4-D one.

    Returns:
        One `FeatureLayer` a layer; `chosen` marks those of `feature_layers`.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If `image_input` is unknown, or needed.
    """
    calls, inputs, _ = walk(model)
    image = inputs[image_place(model, image_input)]
    foreign = set(inputs) - {image}
    # A tensor that is only pooled afterwards (a head, a gate) hides no pixel.
    last_use = {
        n: i for i, call in enumerate(calls) if _is_spatial(call) for n in call.inputs
    }
    stages = dict.fromkeys(inputs, 0) | {image: 1}
    fields = dict.fromkeys(inputs, 1)
    convolved = dict.fromkeys(inputs, False)
    needed_until = {image: last_use.get(image, -1)}
    found: list[tuple[FeatureLayer, int]] = []
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
        if foreign.intersection(call.inputs):
            foreign.update(call.outputs)
        elif stage and has_convolution and _holds_features(call):
            _, *size, channels = call.shapes[0]
            beside = sum(last > i for last in needed_until.values())
            layer = FeatureLayer(
                call.path, tuple(size), channels, stage, field, not beside, False
            )
            found.append((layer, beside))
        if stage:
            needed_until |= {n: last_use.get(n, -1) for n in call.outputs}
    times = Counter(call.path for call in calls)
    chosen = _last_of_each_stage([f for f in found if times[f[0].name] == 1])
    return [layer._replace(chosen=layer.name in chosen) for layer, _ in found]


def feature_layers(model: keras.Model, image_input: str | None = None) -> list[str]:
    """Names the last feature map at each resolution, shallow to deep.

    Args:
        model: A functional or built Sequential model, nested or not; channels last.
        image_input: Name of the image, if the model has several inputs.

    Returns:
        Paths of the layers that `build_hrcam_model` pools by default. For VGG-19:
        `block1_conv2, block2_conv2, block3_conv4, block4_conv4, block5_conv4`.

    Raises:
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If no layer holds convolved feature maps, or if `image_input` is
            unknown, or needed.

    Example:
        >>> feature_layers(build_resnet50())[0]
        'conv1_relu'
    """
    names = [
        layer.name for layer in describe_layers(model, image_input) if layer.chosen
    ]
    if not names:
        raise ValueError(
            "`model` must have a convolution with an output of shape (batch, height, "
            f"width, channels). Received: {model.name!r}, which has none"
            + (_JOINED if len(model.inputs) > 1 else ".")
        )
    return names


def _last_of_each_stage(layers: Sequence[tuple[FeatureLayer, int]]) -> set[str]:
    """Each stage's layer; layers come with the number of tensors needed beside them."""
    stages: dict[int, tuple[tuple, FeatureLayer]] = {}
    for layer, beside in layers:
        most = () if layer.is_cut else (layer.receptive_field, layer.channels)
        rank = (-beside, *most)
        if layer.stride not in stages or rank >= stages[layer.stride][0]:
            stages[layer.stride] = (rank, layer)
    return {layer.name for _, layer in stages.values()}


def _is_convolution(operation: Any) -> bool:
    return "Conv" in type(operation).__name__


def _holds_features(call: Call) -> bool:
    name = type(call.operation).__name__
    normalises = name.endswith("BatchNormalization") or name.endswith(
        ("LayerNormalization", "GroupNormalization")
    )
    unfit = any(word in name for word in _NO_FEATURE_WORDS) and not normalises
    return len(call.shapes[0]) == 4 and not unfit and name not in _REORDERED


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
