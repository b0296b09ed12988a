"""Maps; one module a method, one function named after it."""

from hrcam.maps.cam import cam
from hrcam.maps.fused_layer_cam import fused_layer_cam
from hrcam.maps.grad_cam import grad_cam
from hrcam.maps.grad_cam_plus_plus import grad_cam_plus_plus
from hrcam.maps.hires_cam import hires_cam
from hrcam.maps.hr_cam import hr_cam
from hrcam.maps.layer_cam import layer_cam
from hrcam.maps.mean_grad_cam import mean_grad_cam
from hrcam.maps.refine_cam import refine_cam
from hrcam.maps.score_cam import score_cam

__all__ = [
    "cam",
    "fused_layer_cam",
    "grad_cam",
    "grad_cam_plus_plus",
    "hires_cam",
    "hr_cam",
    "layer_cam",
    "mean_grad_cam",
    "refine_cam",
    "score_cam",
]
