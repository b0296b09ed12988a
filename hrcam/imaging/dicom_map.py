"""Maps as DICOM: Parametric Maps of raw values, and overlays as Secondary Capture.

A Parametric Map holds one float32 frame for each explained frame of its source, on the
source's own grid, in the source's own patient, study and frame of reference, and each
with a reference to the frame that it explains. Values are raw: slope 1, intercept 0, no
units. DICOM has codes for visual explanations (PS3.16, CID 217: class activation,
gradient-weighted class activation, saliency); a method that fits none has its own name
as a private code. The exact method is coded beside, and the class told in words, as no
code knows the classes of a network.

Choices that are ours:

* The window shows lowest to highest value of all frames; of constant maps, a width of
  1 around the value.
* Frames lie in the order of the maps, indexed by a label each, so that images without
  positions, and several frames at one position (cine), are no special cases.
* Rows x Columns are the source's: a map of another size is resized, bilinear with
  half-pixel centres (by area along a side that shrinks).
* What comes from the source, and what does not: `_dicom_source`.

Reference:
    DICOM PS3.3, A.75 and C.8.32, https://www.dicomstandard.org
    Bridge et al. (2022), "Highdicom: a Python library for standardized encoding of
    image annotations and machine learning model outputs in pathology and radiology",
    Journal of Digital Imaging 35, https://doi.org/10.1007/s10278-022-00683-y
"""

import hashlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import highdicom
import numpy as np
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodeContentItem, TextContentItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from hrcam.imaging._dicom_derived import (
    SCHEME,
    Explanation,
    finish,
    identity,
    save,
)
from hrcam.imaging._dicom_source import COPIED, Source
from hrcam.imaging._functional_groups import add_functional_groups
from hrcam.imaging._quiet import quiet
from hrcam.imaging._secondary_capture import write_secondary_capture
from hrcam.imaging.write import resize_map

__all__ = ["write_parametric_map", "write_secondary_capture"]

_BLANK_UIDS = (
    "SOPInstanceUID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
)


@quiet("pydicom", "highdicom")
def write_parametric_map(
    target: Path,
    source: Path,
    heatmaps: np.ndarray,
    frames: Sequence[int] | None = None,
    *,
    method: str,
    class_index: int,
    class_name: str | None = None,
) -> None:
    """Writes raw maps of one DICOM file as a Parametric Map.

    Args:
        target: The file to write.
        source: The DICOM image that the maps explain.
        heatmaps: Raw maps `(n, h, w)`, finite, of any size.
        frames: Which frame of the source each map belongs to, numbered from 0; `None`:
            all, in their order.
        method: Its name, a key or title of `hrcam.methods.METHODS`.
        class_index: The class that the maps explain.
        class_name: The class's name.

    Raises:
        ImageReadError: If the source cannot be read, or lacks identifiers or its size.
        ValueError: If maps and frames do not fit.

    Example:
        >>> write_parametric_map(  # doctest: +SKIP
        ...     "map.dcm", "ct.dcm", heatmaps, method="hr_cam", class_index=1
        ... )
    """
    origin = Source(source)
    explanation = Explanation(method, int(class_index), class_name)
    frames = _check(heatmaps, frames, origin.frames)
    pixels = _float_pixels(heatmaps, origin.size)
    with pixels.getbuffer() as content:
        limits = _value_range(content)
        digest = hashlib.sha256(repr((frames, origin.size)).encode())
        digest.update(content)
    arguments = identity(origin, explanation, "map", digest.digest())
    derived = _one_frame(explanation, limits, arguments)
    finish(derived, origin, explanation)
    derived.FrameOfReferenceUID = origin.frame_of_reference()
    derived.PositionReferenceIndicator = None
    derived.SourceImageSequence = [origin.reference()]
    derived.Rows, derived.Columns = origin.size
    derived.NumberOfFrames = len(frames)
    derived.FloatPixelData = pixels
    add_functional_groups(derived, origin, explanation, frames)
    save(derived, target)


def _check(heatmaps: np.ndarray, frames: Sequence[int] | None, count: int) -> list[int]:
    """Returns a frame for each map."""
    if heatmaps.ndim != 3 or heatmaps.size == 0:
        raise ValueError(
            "`heatmaps` must be (n, h, w), with at least one map. "
            f"Received: shape {heatmaps.shape}"
        )
    checked = range(count) if frames is None else [int(i) for i in frames]
    fits = len(checked) == len(heatmaps)  # before `count`, a mere claim, is listed
    if not fits or len({i for i in checked if 0 <= i < count}) != len(checked):
        raise ValueError(
            f"`frames` must give each of {len(heatmaps)} maps a frame of its own, of "
            f"the {count} that the source has, numbered from 0; None is all of them. "
            f"Received: {frames}"
        )
    return list(checked)


def _float_pixels(heatmaps: np.ndarray, size: tuple[int, int]) -> BytesIO:
    """The only copy of the maps; it is written from here."""
    pixels = BytesIO()
    for heatmap in heatmaps:
        pixels.write(np.ascontiguousarray(resize_map(heatmap, size), "<f4"))
    pixels.seek(0)
    return pixels


def _value_range(content: memoryview) -> tuple[float, float]:
    values = np.frombuffer(content, "<f4")
    low, high = float(values.min()), float(values.max())  # NaN, if one is
    if not np.isfinite((low, high)).all():
        raise ValueError("`heatmaps` must be finite. Received: NaN or infinite values")
    return low, high


def _one_frame(
    explanation: Explanation, limits: tuple[float, float], arguments: dict
) -> ParametricMap:
    """All that does not depend on the source, around one pixel at no real place."""
    blank = Dataset()
    blank.SOPClassUID = SecondaryCaptureImageStorage
    for keyword in _BLANK_UIDS:
        setattr(blank, keyword, arguments["sop_instance_uid"])
    for keyword in COPIED:
        setattr(blank, keyword, "")
    blank.Rows = blank.Columns = blank.SliceThickness = 1
    blank.PixelSpacing, blank.ImagePositionPatient = [1, 1], [0, 0, 0]
    blank.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    low, high = limits
    window = highdicom.VOILUTTransformation(
        window_center=(low + high) / 2,
        window_width=high - low or 1.0,
        voi_lut_function="LINEAR_EXACT",  # LINEAR needs a width of 1 or more
    )
    return ParametricMap(
        [blank],
        np.zeros((1, 1, 1), np.float32),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(explanation, limits)],
        voi_lut_transformations=[window],
        content_label=explanation.label,
        content_description=explanation.description,
        coding_schemes=[
            highdicom.coding_schemes.CodingSchemeIdentificationItem(
                SCHEME, name="hrcam explanation methods"
            )
        ],
        **arguments,
    )


def _mapping(
    explanation: Explanation, limits: tuple[float, float]
) -> RealWorldValueMapping:
    """What the values are: a quantity, of a method, for a class."""
    mapping = RealWorldValueMapping(
        lut_label=explanation.label,
        lut_explanation=explanation.description,
        unit=codes.UCUM.NoUnits,
        value_range=limits,
        quantity_definition=explanation.quantity,
    )
    mapping.QuantityDefinitionSequence += [
        CodeContentItem(codes.SCT.MeasurementMethod, explanation.method_code),
        TextContentItem(codes.DCM.Finding, explanation.class_text),
    ]
    return mapping
