"""Maps of Xplique: rectified; its own steps, called one by one, leave out the resizing.

Its documentation advises the scores before the softmax.
"""

import exchange
import keras
import numpy as np
from xplique.attributions import GradCAM, GradCAMPP


def maps(model, layer, images, class_index):
    model.layers[-1].activation = keras.activations.linear
    targets = np.eye(model.output_shape[-1], dtype="float32")[class_index]

    def explain(method):
        made = method(model, conv_layer=layer)
        features, gradient = made._gradient(images, targets)
        return made._apply_weights(made._compute_weights(gradient, features), features)

    return {
        "grad_cam": explain(GradCAM),
        "grad_cam_plus_plus": explain(GradCAMPP),
        "as returned": GradCAM(model, conv_layer=layer)(images, targets)[..., 0],
    }


exchange.answer("xplique", maps, ("xplique", "tensorflow"))
