"""Image files in and out, with their values and geometry kept.

Reading: PNG, JPEG, TIFF, BMP, GIF, DICOM and NIfTI, 8 and 16 bit. Writing: maps as
arrays, TIFF, pictures, NIfTI volumes and DICOM objects that lie on their source.
"""

from hrcam.imaging.picture import ImageReadError, Picture
from hrcam.imaging.read import Limits, open_image, parse_address, read_image
from hrcam.imaging.write import overlay, resize_map

__all__ = [
    "ImageReadError",
    "Limits",
    "Picture",
    "open_image",
    "overlay",
    "parse_address",
    "read_image",
    "resize_map",
]
