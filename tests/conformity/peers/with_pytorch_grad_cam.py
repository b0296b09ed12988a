"""Maps of pytorch-grad-cam: `get_cam_image` gives them raw, signed and unresized.

Grad-CAM and HiResCAM are left so, the others rectified, the library's next step.

The library imports torchvision at its top for pictures and for targets of detectors,
and PyTorch's CPU-only installations may have none: where it is missing, empty modules
stand in for it. No method below uses it.
"""

import importlib.util
import sys
import types

import exchange
import numpy as np
from torch_network import TorchNetwork, channels_first

if importlib.util.find_spec("torchvision") is None:
    names = {
        "torchvision": (),
        "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
        "torchvision.transforms.functional": ("resize",),
    }
    for module, contents in names.items():
        sys.modules[module] = types.ModuleType(module)
        for name in contents:
            setattr(sys.modules[module], name, None)

from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM, ScoreCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

METHODS = {
    "grad_cam": GradCAM,
    "grad_cam_plus_plus": GradCAMPlusPlus,
    "hires_cam": HiResCAM,
    "layer_cam": LayerCAM,
    "score_cam": ScoreCAM,
}
SIGNED = ("grad_cam", "hires_cam")


def maps(model, layer, images, class_index):
    network, x = TorchNetwork(model, layer), channels_first(images)
    targets = [ClassifierOutputTarget(int(index)) for index in class_index]
    found = {}
    for name, method in METHODS.items():
        with method(network, [network.features]) as explain:
            kept = explain.activations_and_grads
            if explain.uses_gradients:
                as_returned = explain(x, targets)
                gradient = kept.gradients[0].numpy()
            else:
                kept(x)
                gradient = None
            features = kept.activations[0].numpy()
            signed = explain.get_cam_image(
                x, network.features, targets, features, gradient, False
            )
        found[name] = signed if name in SIGNED else np.maximum(signed, 0)
        if name == "grad_cam":
            found["as returned"] = as_returned
    return found


exchange.answer("pytorch_grad_cam", maps, ("grad-cam", "torch"))
