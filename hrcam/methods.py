"""Every method by name, as `hrcam evaluate` and the examples choose them.

A method explains one of two networks: the classifier (CAM, Grad-CAM and their kin), or
the HR-CAM model whose head was trained on the classifier's frozen features (HR-CAM).
Controls explain nothing: they look at the image, or not even at that.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import keras
import numpy as np

from hrcam import maps
from hrcam.deconvnet import attentive_response_maps
from hrcam.layer_selection import describe_layers, feature_layers
from hrcam.maps import controls

Explain = Callable[[Any, np.ndarray, Any], np.ndarray]

UNITS = 25  # as in the paper; all, where there are fewer
SCORE_CAM_CHANNELS = 64  # a forward pass each; all 2,048 of ResNet-50 take 30 times it


class Method(NamedTuple):
    """One way to make a map.

    Attributes:
        title: Its name in tables and pictures.
        explains: `"classifier"`, `"hrcam"` (the HR-CAM model) or `"image"` (neither).
        explain: `(model, images, class_index) -> (batch, height, width)`.
    """

    title: str
    explains: str
    explain: Explain


def _grad_cam_before_last(model, images, class_index=None):
    return maps.grad_cam(model, images, class_index, feature_layers(model)[-2])


def _attentive_response(model, images, class_index=None):
    (last,) = [x for x in describe_layers(model) if x.name == feature_layers(model)[-1]]
    units = min(UNITS, last.channels)
    return attentive_response_maps(model, images, top_n=units, unit_maps=False)[
        "response"
    ]


METHODS = {
    "hr_cam": Method("HR-CAM", "hrcam", maps.hr_cam),
    "hr_cam_contrast": Method(
        "HR-CAM contrast", "hrcam", partial(maps.hr_cam, contrast=True)
    ),
    "cam": Method("CAM", "classifier", maps.cam),
    "grad_cam": Method("Grad-CAM", "classifier", maps.grad_cam),
    "grad_cam_before_last": Method(
        "Grad-CAM, block before", "classifier", _grad_cam_before_last
    ),
    "grad_cam_plus_plus": Method("Grad-CAM++", "classifier", maps.grad_cam_plus_plus),
    "hires_cam": Method("HiResCAM", "classifier", maps.hires_cam),
    "layer_cam": Method("LayerCAM", "classifier", maps.layer_cam),
    "fused_layer_cam": Method("LayerCAM fused", "classifier", maps.fused_layer_cam),
    "score_cam": Method(
        f"Score-CAM, {SCORE_CAM_CHANNELS} channels",
        "classifier",
        partial(maps.score_cam, max_channels=SCORE_CAM_CHANNELS),
    ),
    "refine_cam": Method("RefineCAM", "classifier", maps.refine_cam),
    "mean_grad_cam": Method("mean of Grad-CAMs", "classifier", maps.mean_grad_cam),
    "attentive_response": Method(
        "attentive response", "classifier", _attentive_response
    ),
    "centre_prior": Method("centre prior", "image", controls.centre_prior),
    "image_darkness": Method("image darkness", "image", controls.image_darkness),
    "edge_magnitude": Method("edge magnitude", "image", controls.edge_magnitude),
    "random_smooth": Method("random smooth map", "image", controls.random_smooth),
}
COSTLY = ("score_cam", "attentive_response")  # tens of passes an image


def explainers(
    names: Iterable[str],
    classifier: keras.Model | None = None,
    hrcam_model: keras.Model | None = None,
    *,
    white: float = 1.0,
) -> dict[str, Callable[[np.ndarray, Any], np.ndarray]]:
    """Binds methods to the networks that they explain.

    Args:
        names: Keys of `METHODS`.
        classifier: The trained base model.
        hrcam_model: Its HR-CAM model.
        white: What the networks were trained to see as white: images in [0, 1] are
            multiplied by it before a network explains them.

    Returns:
        Title -> function of images in [0, 1] and class index, in the order of `names`.

    Raises:
        ValueError: If a name is unknown, or its network is not given.
    """
    models = {"classifier": classifier, "hrcam": hrcam_model, "image": None}
    bound = {}
    for name in names:
        if name not in METHODS:
            raise ValueError(
                f"Methods must be among {', '.join(METHODS)}. Received: {name!r}"
            )
        title, explains, explain = METHODS[name]
        if explains != "image" and models[explains] is None:
            wanted = {"classifier": "the classifier", "hrcam": "an HR-CAM model"}
            raise ValueError(
                f"{name!r} explains {wanted[explains]}, which is not given. "
                f"Received: methods {list(names)}. Give it, or leave {name!r} out."
            )
        scale = 1.0 if explains == "image" else white
        bound[title] = partial(_explain, explain, models[explains], scale)
    return bound


def _explain(explain, model, scale, images, class_index=None):
    return explain(model, images if scale == 1 else images * scale, class_index)
