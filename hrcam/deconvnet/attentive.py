"""Attentive response maps of an array of images; see `model` for the method."""

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once
from hrcam._images import check_array
from hrcam.deconvnet.model import build_deconv_model
from hrcam.graph import check_graph
from hrcam.views import image_place, input_names


def attentive_response_maps(
    classifier: keras.Model,
    images: np.ndarray,
    layer_name: str | None = None,
    top_n: int = 25,
    *,
    batch_size: int = 8,
    **options: Any,
) -> dict[str, np.ndarray]:
    """Computes what the strongest units of a layer respond to in each image.

    The network of the way back is built and compiled once a classifier and options,
    and reads the classifier's weights at each call.

    Args:
        classifier: A trained functional or Sequential model, nested or not; the image
            size may vary.
        images: `(batch, height, width, channels)`, preprocessed as for training.
        layer_name: The layer whose channels are the units; `None`: the last one.
        top_n: Units that are projected back.
        batch_size: Images at a time.
        **options: As `build_deconv_model` takes them: `gating`, `unpooling`, `seed`,
            `rank`, `combine`, `preset`, `chunk`, `image_input` (`images` is a dict
            then), and `unit_maps=False` to leave the single maps out (25 of 224x224
            pixels are 5 MB an image and channel).

    Returns:
        A dict of numpy arrays: `units` `(batch, n)` int32, `unit_maps`
        `(batch, n, height, width, channels)` float32, raw and signed, `response`
        `(batch, height, width)` float32, `dominant_unit` `(batch, height, width)`
        int32, index into `units`.

    Raises:
        TypeError: If the layers of `classifier` cannot be reached, or an option's
            name is unknown.
        ValueError: If images or options do not fit, or a layer has no rule.

    Warns:
        UserWarning: If the response of an image has no positive value.

    Example:
        >>> result = attentive_response_maps(classifier, images, top_n=9)
        >>> result["response"].shape == images.shape[:3]
        True
    """
    check_graph(classifier)
    place = image_place(classifier, options.get("image_input"))
    if isinstance(images, Mapping):
        images = images[input_names(classifier)[place]]
    images = check_array(tuple(classifier.inputs[place].shape), images)
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")

    def build() -> Callable:
        size = images.shape[1:3]
        model = build_deconv_model(
            classifier, layer_name, top_n, image_size=size, **options
        )
        return functools.partial(model, training=False)

    key = ("attentive_response_maps", layer_name, top_n, *sorted(options.items()))
    run = compiled_once(classifier, key, build, images.shape[1:], with_class=False)
    result = _run(run, images, batch_size)
    _warn_of_blank(result["response"])
    return result


def _run(run: Callable, images: np.ndarray, batch_size: int) -> dict[str, np.ndarray]:
    """Fills the arrays batch by batch, so that nothing is held twice."""
    result: dict[str, np.ndarray] = {}
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        made = run(ops.convert_to_tensor(images[part]))
        for name, value in made.items():
            value = ops.convert_to_numpy(value)
            if name not in result:
                shape = (len(images), *value.shape[1:])
                result[name] = np.empty(shape, value.dtype)
            result[name][part] = value
    return result


def _warn_of_blank(response: np.ndarray) -> None:
    blank = np.flatnonzero(~(response.max(axis=(1, 2)) > 0))
    if len(blank):
        rest = f" and {len(blank) - 10} more" if len(blank) > 10 else ""
        warnings.warn(
            "The attentive response map has no positive value for the images "
            f"{blank[:10].tolist()}{rest}: no chosen unit responds there.",
            stacklevel=3,
        )
