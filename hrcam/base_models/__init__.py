"""Networks to explain; one module a family, functional builders with named blocks."""

from hrcam.base_models._weights import load_weights
from hrcam.base_models.anatomy import build_deeper_net, build_shallow_net
from hrcam.base_models.resnet import build_resnet50
from hrcam.base_models.small import build_small_net
from hrcam.base_models.vgg import build_vgg16, build_vgg19

__all__ = [
    "build_deeper_net",
    "build_resnet50",
    "build_shallow_net",
    "build_small_net",
    "build_vgg16",
    "build_vgg19",
    "load_weights",
]
