"""Maps that come with the prediction, from one forward pass."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from hrcam.graph import final_activation
from hrcam.maps.cam import cam_function
from hrcam.maps.grad_cam import grad_cam_function
from hrcam.maps.hr_cam import hr_cam_function

# `(model, size)` -> function of (images, class_index or -1) that returns (maps,
# classes, scores before softmax).
MAP_FUNCTIONS = {
    "hr_cam": hr_cam_function,
    "cam": cam_function,
    "grad_cam": grad_cam_function,
}


def probabilities_of_scores(model: keras.Model) -> Callable[[Any], Any]:
    """The function from a map function's scores to the model's probabilities.

    Logits become probabilities, too: of several units by softmax, of one by sigmoid.

    Raises:
        ValueError: If the model ends in another activation.
    """
    kind, units = final_activation(model), model.outputs[0].shape[-1]
    if kind not in ("softmax", "sigmoid", "linear"):
        raise ValueError(
            "`model` must end in softmax, sigmoid or logits. Received: "
            f"{model.name!r}, which ends in {kind or 'another layer'}"
        )
    if units == 1:  # the scores of a sigmoid unit are (-z, z)
        return lambda scores: ops.sigmoid(scores[:, 1:])
    return ops.sigmoid if kind == "sigmoid" else ops.softmax
