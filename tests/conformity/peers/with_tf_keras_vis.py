"""Maps of tf-keras-vis: its arguments switch resizing, normalisation and ReLU off.

`ReplaceToLinear` takes the softmax away, as its documentation advises for all methods
but Score-CAM.
"""

import exchange
from tf_keras_vis.gradcam import Gradcam
from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
from tf_keras_vis.layercam import Layercam
from tf_keras_vis.scorecam import Scorecam
from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
from tf_keras_vis.utils.scores import CategoricalScore

RAW = {"expand_cam": False, "normalize_cam": False}
SIGNED = {"activation_modifier": None}


def maps(model, layer, images, class_index):
    score = CategoricalScore(class_index.tolist())

    def explain(method, softmax=False, **options):
        made = method(model, None if softmax else ReplaceToLinear())
        return made(
            score,
            images,
            penultimate_layer=layer,
            seek_penultimate_conv_layer=False,
            **options,
        )

    return {
        "grad_cam": explain(Gradcam, **SIGNED, **RAW),
        "grad_cam softmax": explain(Gradcam, softmax=True, **SIGNED, **RAW),
        "as returned": explain(Gradcam),
        "grad_cam_plus_plus": explain(GradcamPlusPlus, **RAW),
        "layer_cam": explain(Layercam, **RAW),
        "hires_cam": explain(Layercam, gradient_modifier=None, **SIGNED, **RAW),
        "score_cam": explain(Scorecam, **RAW),
        "score_cam softmax": explain(Scorecam, softmax=True, **RAW),
    }


exchange.answer("tf_keras_vis", maps, ("tf-keras-vis", "tensorflow"))
