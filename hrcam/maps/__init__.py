"""Maps; one module a method, one function named after it."""

from hrcam.maps.cam import cam
from hrcam.maps.grad_cam import grad_cam
from hrcam.maps.hr_cam import hr_cam

__all__ = ["cam", "grad_cam", "hr_cam"]
