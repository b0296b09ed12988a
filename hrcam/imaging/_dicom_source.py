"""What a derived DICOM object takes from the file that it is derived from.

Taken: who the patient is and which study it is (the required attributes of the Patient
and General Study modules), laterality, the frame of reference with pixel spacing and
planes, whether the image was ever compressed with loss, and references. It is a list of
what to copy, so that nothing else can slip through: no private tag, no comment,
institution, device or description, and no text of a code.

* `ReferringPhysicianName` stays: the study module requires it, and an archive compares
  it among the objects of a study. `StudyDescription`, which may be absent, does not.
* What the source does not have, or not as what it should be, stays empty.
* Texts are copied as bytes, undecoded, with their character set: a name is never
  changed, and a value against the standard raises no warning.
* Pixel spacing is that of the image plane, or else that of the detector or the scanner
  (`ImagerPixelSpacing`, `NominalScannedPixelSpacing`), to which the standard equates it
  where nothing was calibrated; where there is none, none is stated.
* Positions are kept where all frames have one, with an orientation; or else both are
  present and empty, as the standard permits for derived frames.
* An image without a frame of reference (a photo, a radiograph), which a map must have,
  gets one of its own: an identifier that relates it to nothing but its maps.

Reference:
    DICOM PS3.3, C.7.1.1, C.7.2.1, C.7.4.1, C.7.6.16.2, https://www.dicomstandard.org
"""

import re
from pathlib import Path

import pydicom
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import generate_uid

from hrcam.imaging.picture import ImageReadError
from hrcam.imaging.read import FAULTS_OF_THE_MACHINE

COPIED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_NUMBER = r" *[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)? *"
# What the values of the others look like; one that does not is taken as missing.
_SHAPES = {
    "UI": r"[0-9.]+",
    "IS": r"[-+0-9]+",
    "DS": rf"{_NUMBER}(\\{_NUMBER})*",
    "Laterality": "R|L",
    "PatientOrientation": r"[ACDEFHLMPRTV]+\\[ACDEFHLMPRTV]+",
    "BurnedInAnnotation": "YES|NO",
    "RecognizableVisualFeatures": "YES|NO",
    "LossyImageCompression": "00|01",
    "LossyImageCompressionMethod": r"[ISO0-9_\\]+",
}
_LOSSY = ("LossyImageCompressionRatio", "LossyImageCompressionMethod")
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
MACROS = {
    "PixelMeasuresSequence": ("PixelSpacing", "SliceThickness", "SpacingBetweenSlices"),
    "PlaneOrientationSequence": ("ImageOrientationPatient",),
    "PlanePositionSequence": ("ImagePositionPatient",),
}
_PLANES = ("PlaneOrientationSequence", "PlanePositionSequence")
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_REST = (
    "Laterality",
    "SpecificCharacterSet",
    "InstanceNumber",
    "PatientOrientation",
    "FrameOfReferenceUID",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BurnedInAnnotation",
    "RecognizableVisualFeatures",
    "LossyImageCompression",
)
_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
_READ = [
    *(*COPIED, *_LOSSY, *_SPACINGS, *_UIDS, *_REST, *_GROUPS),
    *(keyword for keywords in MACROS.values() for keyword in keywords),
]

Geometry = dict[str, pydicom.Dataset]


class Source:
    """The header of a DICOM image.

    Attributes:
        frames: How many it has.
        size: Rows and columns.
    """

    def __init__(self, path: Path):
        """Reads what is taken from it; no pixels.

        Raises:
            ImageReadError: If it cannot be read, or lacks what no derived object can
                do without.
        """
        self._path = Path(path)
        self._header = _read(self._path)
        for keyword in _UIDS:
            if not self.text(keyword):
                raise ImageReadError(path, f"it has no {keyword}")
        self.size = self._count("Rows"), self._count("Columns")
        self.frames = self._count("NumberOfFrames", missing="1")

    def text(self, keyword: str) -> str:
        """Returns a value as the file has it, or "" if it has none that is valid."""
        return _text(self._header, keyword)

    def describe(self, derived: pydicom.Dataset) -> None:
        """Copies patient, study and character set to the root of an object."""
        for keyword in COPIED:
            derived[keyword] = self._raw(keyword)
        derived["StudyInstanceUID"] = self.element("StudyInstanceUID")
        derived["Laterality"] = self.element("Laterality")
        if self.text("LossyImageCompression") == "01":  # it stays so, once it was
            for keyword in ("LossyImageCompression", *_LOSSY):
                if self.text(keyword):
                    derived[keyword] = self.element(keyword)
        derived.pop("SpecificCharacterSet", None)
        if self._header.get("SpecificCharacterSet"):
            derived["SpecificCharacterSet"] = self._header["SpecificCharacterSet"]

    def frame_of_reference(self) -> str:
        """Returns the source's own, or else one that only its maps share."""
        own = ["hrcam frame of reference", self.text("SOPInstanceUID")]
        return self.text("FrameOfReferenceUID") or generate_uid(entropy_srcs=own)

    def reference(self, frame: int | None = None) -> pydicom.Dataset:
        """Refers to the source, or to one of its frames, numbered from 0."""
        item = pydicom.Dataset()
        item["ReferencedSOPClassUID"] = self.element(
            "ReferencedSOPClassUID", "SOPClassUID"
        )
        item["ReferencedSOPInstanceUID"] = self.element(
            "ReferencedSOPInstanceUID", "SOPInstanceUID"
        )
        if frame is not None and self.frames > 1:
            item.ReferencedFrameNumber = frame + 1
        return item

    def series_reference(self) -> pydicom.Dataset:
        """Refers to the source by its series."""
        item = pydicom.Dataset()
        item["SeriesInstanceUID"] = self.element("SeriesInstanceUID")
        item.ReferencedInstanceSequence = [self.reference()]
        return item

    def geometry(self, frames: list[int]) -> list[Geometry]:
        """Returns what is known of where frames lie, by the macro that holds it.

        Macros of which nothing is known are empty: spacing for the frames that have
        none, orientation and position for all frames if one has none.
        """
        found = [{name: self._macro(name, i) for name in MACROS} for i in frames]
        if not all(geometry[name] for geometry in found for name in _PLANES):
            for geometry in found:
                geometry.update((name, pydicom.Dataset()) for name in _PLANES)
        return found

    def _macro(self, name: str, frame: int) -> pydicom.Dataset:
        group, item = self._group(name, frame), pydicom.Dataset()
        for keyword in MACROS[name]:
            names = _SPACINGS if keyword == "PixelSpacing" else (keyword,)
            texts = filter(None, (_text(group, name) for name in names))
            if text := next(texts, ""):
                item[keyword] = _element(keyword, text)
        return item

    def _group(self, name: str, frame: int) -> pydicom.Dataset:
        """The dataset that holds the attributes of a macro for one frame."""
        for groups, index in zip(_GROUPS, (frame, 0), strict=True):
            items = self._header.get(groups) or []
            if index < len(items) and items[index].get(name):
                return items[index][name][0]
        # A plain multi-frame image has, if any, the plane of its first frame.
        lost = name in _PLANES and self.frames > 1
        return pydicom.Dataset() if lost else self._header

    def _raw(self, keyword: str):
        """An element with the bytes of the source, or an empty one."""
        tag, vr = tag_for_keyword(keyword), dictionary_VR(keyword)
        element = self._header.get_item(tag)
        if element is None or not element.is_raw:  # missing, or empty
            return pydicom.DataElement(tag, vr, "")
        value = element.value + b" " * (len(element.value) % 2)
        return element._replace(
            VR=vr, value=value, is_implicit_VR=False, is_little_endian=True
        )

    def element(self, keyword: str, source: str = "") -> pydicom.DataElement:
        return _element(keyword, self.text(source or keyword))

    def _count(self, keyword: str, missing: str = "") -> int:
        """A whole number above 0, of ten digits at most, as DICOM has them."""
        binary = dictionary_VR(keyword) == "US"
        value = self._header.get(keyword) if binary else self.text(keyword) or missing
        if not re.fullmatch("0*[1-9][0-9]{0,9}", str(value)):
            raise ImageReadError(self._path, f"it has no valid {keyword}")
        return int(value)


def _read(path: Path) -> pydicom.Dataset:
    try:
        header = pydicom.dcmread(
            path, stop_before_pixels=True, force=True, specific_tags=_READ
        )
        for groups in _GROUPS:
            header.get(groups)  # decoded when asked for
        return header
    except FileNotFoundError:
        raise ImageReadError(path, "missing") from None
    except Exception as error:  # damaged files raise almost anything
        if isinstance(error, OSError) and error.errno in FAULTS_OF_THE_MACHINE:
            raise
        reason = f"damaged, or no DICOM file ({type(error).__name__})"
        raise ImageReadError(path, reason) from error


def _text(dataset: pydicom.Dataset, keyword: str) -> str:
    element = dataset.get_item(tag_for_keyword(keyword)) if keyword in dataset else None
    value = element.value if element is not None else b""
    if isinstance(value, bytes):
        value = value.decode("ascii", "replace")
    text = str(value or "").strip(" \0")
    shape = _SHAPES.get(keyword) or _SHAPES[dictionary_VR(keyword)]
    return text if re.fullmatch(shape, text) else ""


def _element(keyword: str, text: str) -> pydicom.DataElement:
    """An element that has the source's value, right or wrong, without a warning."""
    tag, vr = tag_for_keyword(keyword), dictionary_VR(keyword)
    return pydicom.DataElement(tag, vr, text, validation_mode=IGNORE)
