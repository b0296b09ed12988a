"""What a Parametric Map says of each of its frames: where it lies, what it explains.

What all frames have in common is said once; positions always one by one. Frames are
indexed by their label, the number of the source's frame, counted from 1 as DICOM does.

Reference:
    DICOM PS3.3, C.7.6.16 and C.7.6.17, https://www.dicomstandard.org
"""

from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from hrcam.imaging._dicom_derived import Explanation, derivation_item
from hrcam.imaging._dicom_source import MACROS, Source


def add_functional_groups(
    derived: Dataset, source: Source, explanation: Explanation, frames: list[int]
) -> None:
    """Replaces the frame that `derived` has by those of the maps.

    Args:
        derived: The Parametric Map, of one frame at any place.
        source: The image that it explains.
        explanation: What it shows.
        frames: The frame of the source that each map belongs to, numbered from 0.
    """
    _index_by_label(derived)
    places = source.geometry(frames)
    common = {
        macro
        for macro in MACROS
        if macro != "PlanePositionSequence"
        and all(place[macro] == places[0][macro] for place in places)
    }
    shared = derived.SharedFunctionalGroupsSequence[0]
    for macro in MACROS:
        shared.pop(macro, None)
    for macro in common:
        setattr(shared, macro, [places[0][macro]])
    items = []
    for number, (frame, place) in enumerate(zip(frames, places, strict=True), start=1):
        item, content = Dataset(), Dataset()
        content.FrameLabel = f"frame {frame + 1}"
        content.DimensionIndexValues = number
        item.FrameContentSequence = [content]
        item.DerivationImageSequence = [derivation_item(source, explanation, frame)]
        for macro in set(MACROS) - common:
            setattr(item, macro, [place[macro]])
        items.append(item)
    derived.PerFrameFunctionalGroupsSequence = items


def _index_by_label(derived: Dataset) -> None:
    own = ["hrcam dimensions", derived.SOPInstanceUID]
    organization, index = generate_uid(entropy_srcs=own), Dataset()
    index.DimensionOrganizationUID = organization
    index.DimensionIndexPointer = tag_for_keyword("FrameLabel")
    index.FunctionalGroupPointer = tag_for_keyword("FrameContentSequence")
    index.DimensionDescriptionLabel = "Frame Label"
    derived.DimensionIndexSequence = [index]
    derived.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
