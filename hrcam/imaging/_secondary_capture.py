"""An overlay as a DICOM Secondary Capture: for viewers that show no Parametric Map.

The picture has 8 bits a colour and no compression. It is a picture *of* the source: if
the source says that names are burned into its pixels, or that a face can be seen, the
picture says so, too; where the source says nothing of it, nor does the picture. Its
pixels have the source's spacing where it has the source's size.

Reference:
    DICOM PS3.3, A.8.1, https://www.dicomstandard.org
"""

import hashlib
from pathlib import Path

import numpy as np
from highdicom.sc import SCImage
from pydicom.uid import ExplicitVRLittleEndian

from hrcam.imaging._dicom_derived import (
    Explanation,
    code_item,
    finish,
    identity,
    save,
    source_item,
)
from hrcam.imaging._dicom_source import Source
from hrcam.imaging._quiet import quiet

_OF_THE_PIXELS = ("BurnedInAnnotation", "RecognizableVisualFeatures")


@quiet("pydicom", "highdicom")
def write_secondary_capture(
    target: Path,
    source: Path,
    overlay: np.ndarray,
    *,
    frame: int = 0,
    method: str,
    class_index: int,
    class_name: str | None = None,
) -> None:
    """Writes a picture of a map over its image as a Secondary Capture.

    Args:
        target: The file to write.
        source: The DICOM image that the map explains.
        overlay: RGB, uint8 `(h, w, 3)`.
        frame: Which frame of the source it shows, numbered from 0.
        method: Its name, a key or title of `hrcam.methods.METHODS`.
        class_index: The class that the map explains.
        class_name: The class's name.

    Raises:
        ImageReadError: If the source cannot be read, or lacks identifiers or its size.
        ValueError: If `overlay` is no such picture, or the source has no such frame.
    """
    origin = Source(source)
    _check(overlay, frame, origin)
    explanation = Explanation(method, int(class_index), class_name)
    overlay = np.ascontiguousarray(overlay)
    content = hashlib.sha256(repr((frame, overlay.shape)).encode())
    content.update(overlay)
    arguments = identity(origin, explanation, "overlay", content.digest())
    if origin.frames > 1:
        arguments["instance_number"] = frame + 1
    derived = SCImage(
        overlay,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),  # highdicom wants one; replaced below
        study_instance_uid=arguments["sop_instance_uid"],  # so is this
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **arguments,
    )
    finish(derived, origin, explanation)
    _describe_picture(derived, origin, explanation, frame)
    save(derived, target)


def _check(overlay: np.ndarray, frame: int, source: Source) -> None:
    picture = overlay.ndim == 3 and overlay.shape[2] == 3 and overlay.size > 0
    if not picture or overlay.dtype != np.uint8:
        raise ValueError(
            "`overlay` must be an RGB picture, uint8 (h, w, 3). "
            f"Received: {overlay.dtype} {overlay.shape}"
        )
    if not 0 <= frame < source.frames:
        raise ValueError(
            f"`frame` must be one of the source's {source.frames}, numbered from 0. "
            f"Received: {frame}"
        )


def _describe_picture(
    derived: SCImage, source: Source, explanation: Explanation, frame: int
) -> None:
    derived["PixelData"].VR = "OB"
    derived.ImageType = ["DERIVED", "SECONDARY"]
    derived.ConversionType = "WSD"  # made on a workstation
    derived.DateOfSecondaryCapture = derived.ContentDate
    derived.TimeOfSecondaryCapture = derived.ContentTime
    derived.SourceImageSequence = [source_item(source, frame)]
    derived.DerivationCodeSequence = [code_item(explanation.quantity)]
    derived["PatientOrientation"] = source.element("PatientOrientation")
    for keyword in _OF_THE_PIXELS:
        if source.text(keyword):
            derived[keyword] = source.element(keyword)
    (geometry,) = source.geometry([frame])
    measures = geometry["PixelMeasuresSequence"]
    if (derived.Rows, derived.Columns) == source.size and "PixelSpacing" in measures:
        derived["PixelSpacing"] = measures["PixelSpacing"]
