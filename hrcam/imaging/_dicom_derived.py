"""What is ours in a DICOM object: its names, codes, identifiers, times and makers.

Method and class are named in the descriptions, in ASCII, as the source's character set
need not know the letters of a class's name: accents are dropped, and a name with
nothing left is not told (the number of the class is).

Identifiers follow from the source and the content, so that a run repeated gives the
same file; times are those of `SOURCE_DATE_EPOCH` (seconds, UTC) where that is set, or
else now. All objects that one method makes for one class from one series are a series.

Reference:
    Reproducible Builds, SOURCE_DATE_EPOCH specification 1.1,
    https://reproducible-builds.org/specs/source-date-epoch/
"""

import os
import re
import unicodedata
import zlib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from hrcam.imaging._atomic import whole_file
from hrcam.imaging._dicom_source import Source

SCHEME = "99HRCAM"  # a private one, for what the standard has no code for


class Explanation(NamedTuple):
    """What a map is.

    Attributes:
        method: Its method, a key or title of `hrcam.methods.METHODS`.
        class_index: The class that it explains.
        class_name: The class's name, if any.
    """

    method: str
    class_index: int
    class_name: str | None = None

    @property
    def class_text(self) -> str:
        """The class for people, at most 64 characters."""
        name = _plain(self.class_name or "")
        return f"class {self.class_index}{f' ({name})' if name else ''}"[:64].strip()

    @property
    def description(self) -> str:
        """Method and class for people, at most 64 characters."""
        return f"{_plain(self.method)} {self.class_text}"[:64].strip()

    @property
    def key(self) -> str:
        """The method in small letters, digits and underscores."""
        words = _plain(self.method).lower().replace("+", " plus")
        return re.sub("[^a-z0-9]+", "_", words).strip("_")

    @property
    def label(self) -> str:
        """Method and class in 16 characters, A to Z, digits and underscores."""
        end = f"_C{self.class_index}"
        return self.key.upper()[: 16 - len(end)] + end

    @property
    def method_code(self) -> Code:
        """The method itself."""
        return Code(self.key, SCHEME, _plain(self.method))

    @property
    def quantity(self) -> Code:
        """The kind of explanation: of DICOM's CID 217 where it has one."""
        if "grad_cam" in self.key:
            return codes.DCM.GradientWeightedClassActivation
        if "cam" in self.key:
            return codes.DCM.ClassActivation
        if self.key == "attentive_response":
            return codes.DCM.Saliency
        return self.method_code


def identity(
    source: Source, explanation: Explanation, kind: str, content: bytes
) -> dict[str, Any]:
    """Returns the arguments that all of highdicom's classes take.

    Args:
        source: Where the object comes from.
        explanation: What it shows.
        kind: Of object: `"map"` or `"overlay"`.
        content: A hash of all that it shows.
    """
    series = [kind, *map(str, explanation)]
    number = re.fullmatch("0*([1-9][0-9]{0,8})", source.text("InstanceNumber"))
    return {
        "series_instance_uid": generate_uid(
            entropy_srcs=[*series, source.text("SeriesInstanceUID")]
        ),
        "series_number": 1000 + zlib.crc32(" ".join(series).encode()) % 9000,
        "series_description": explanation.description,
        "sop_instance_uid": generate_uid(
            entropy_srcs=[*series, source.text("SOPInstanceUID"), content.hex()]
        ),
        "instance_number": int(number[1]) if number else 1,
        "manufacturer": "hrcam",
        "manufacturer_model_name": "hrcam",
        "software_versions": version("hrcam"),
        # Software has none; every copy of one version is the same device.
        "device_serial_number": version("hrcam"),
    }


def finish(derived: Dataset, source: Source, explanation: Explanation) -> None:
    """Adds patient, study, references and times to what highdicom has made."""
    source.describe(derived)
    derived.ReferencedSeriesSequence = [source.series_reference()]
    derived.DerivationDescription = f"{explanation.description}, by hrcam"
    moment = _moment()
    date, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    for when in ("InstanceCreation", "Content"):
        derived[f"{when}Date"].value, derived[f"{when}Time"].value = date, time
    for equipment in derived.ContributingEquipmentSequence:
        equipment.ContributionDateTime = date + time


def derivation_item(source: Source, explanation: Explanation, frame: int) -> Dataset:
    """Says how, and from which frame, numbered from 0, an image was derived."""
    item = Dataset()
    item.DerivationDescription = explanation.description
    item.DerivationCodeSequence = [code_item(explanation.quantity)]
    item.SourceImageSequence = [source_item(source, frame)]
    return item


def source_item(source: Source, frame: int) -> Dataset:
    """Refers to a frame, pixel for pixel under the derived image."""
    item = source.reference(frame)
    item.SpatialLocationsPreserved = "YES"
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [code_item(purpose)]
    return item


def code_item(code: Code) -> Dataset:
    """Returns a code as an item of a sequence; more than 16 characters are long."""
    item = Dataset()
    setattr(item, "CodeValue" if len(code.value) <= 16 else "LongCodeValue", code.value)
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return item


def save(derived: Dataset, target: Path) -> None:
    """Writes the object whole."""
    # What was copied as bytes is written as bytes, neither decoded nor checked.
    derived.set_original_encoding(False, True, derived._character_set)
    with whole_file(target) as unfinished:
        pydicom.dcmwrite(unfinished, derived)


def _plain(text: str) -> str:
    """Printable ASCII; no backslash, which parts the values of an attribute."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(re.sub(r"[^ -~]|\\", " ", ascii_text).split())


def _moment() -> datetime:
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    return datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now()
