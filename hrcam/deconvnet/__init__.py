"""The transposed network and attentive response maps."""

from hrcam.deconvnet.attentive import attentive_response_maps
from hrcam.deconvnet.model import PRESETS, DeconvModel, build_deconv_model
from hrcam.deconvnet.rules import RULES

__all__ = [
    "PRESETS",
    "RULES",
    "DeconvModel",
    "attentive_response_maps",
    "build_deconv_model",
]
