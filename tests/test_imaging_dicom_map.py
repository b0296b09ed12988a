"""Parametric Maps and Secondary Captures, read back by pydicom and highdicom."""

import errno
import os
import threading
import tracemalloc
import warnings
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from highdicom.pm.sop import pmread
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from hrcam.imaging.dicom_map import write_parametric_map, write_secondary_capture
from hrcam.imaging.picture import ImageReadError
from hrcam.methods import METHODS

SINGLE = ("CT_small", "MR_small", "MR_small_implicit", "MR_small_bigendian")
WITHOUT_PLACE = ("examples_rgb_color", "SC_rgb_small_odd", "examples_palette")
WHAT = {"method": "hr_cam", "class_index": 3, "class_name": "nodule"}
KEPT = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    "ReferringPhysicianName",
)


@pytest.fixture(autouse=True)
def _fixed_date(monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # 2023-11-14 22:13:20 UTC


@pytest.fixture
def enhanced(tmp_path):
    """An enhanced MR image of four slices, 5 mm apart, stored from the highest down."""
    slices = []
    for number in range(4):
        one = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
        one.SOPInstanceUID = generate_uid(entropy_srcs=["slice", str(number)])
        one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
        one.InstanceNumber = number + 1
        one.ImagePositionPatient = [-10, 20, 30 - 5 * number]
        one.NameOfPhysiciansReadingStudy = "Nobody^"
        slices.append(one)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = LegacyConvertedEnhancedMRImage(
            slices,
            series_instance_uid=generate_uid(entropy_srcs=["series"]),
            series_number=1,
            sop_instance_uid=generate_uid(entropy_srcs=["enhanced"]),
            instance_number=1,
        )
        image.save_as(tmp_path / "enhanced.dcm")
    return tmp_path / "enhanced.dcm"


@pytest.fixture
def edited(tmp_path):
    """`edited(name, **attributes)`: a copy of a file; `None` deletes an attribute."""

    def edit(name, **attributes):
        image = pydicom.dcmread(get_testdata_file(f"{name}.dcm"))
        for keyword, value in attributes.items():
            if value is None:
                del image[keyword]
            else:
                vr = pydicom.datadict.dictionary_VR(keyword)
                tag = pydicom.datadict.tag_for_keyword(keyword)
                image[tag] = pydicom.DataElement(tag, vr, value, validation_mode=0)
        image.save_as(tmp_path / f"{name}.edited.dcm")
        return tmp_path / f"{name}.edited.dcm"

    return edit


def header_of(path):
    return pydicom.dcmread(path, stop_before_pixels=True)


def draw_maps(source, count=1, size=None, seed=0):
    header = header_of(source)
    size = size or (header.Rows, header.Columns)
    return np.random.default_rng(seed).normal(0, 3, (count, *size)).astype("float32")


def write_map(target, source, heatmaps=None, frames=None, **what):
    if heatmaps is None:
        count = int(header_of(source).get("NumberOfFrames", 1))
        heatmaps = draw_maps(source, count)
    write_parametric_map(target, source, heatmaps, frames, **WHAT | what)
    return pydicom.dcmread(target)


def write_overlay(target, source, overlay=None, **what):
    if overlay is None:
        header = header_of(source)
        overlay = np.arange(header.Rows * header.Columns * 3) % 251
        overlay = overlay.reshape(header.Rows, header.Columns, 3).astype("uint8")
    write_secondary_capture(target, source, overlay, **WHAT | what)
    return pydicom.dcmread(target)


def values(dataset, keyword):
    """What is stored, as text, and nothing where it is missing."""
    return str(dataset.get(keyword, "") or "")


@pytest.mark.parametrize("name", SINGLE + WITHOUT_PLACE)
def test_map_pixels_are_bit_equal(tmp_path, name):
    source = get_testdata_file(f"{name}.dcm")
    heatmaps = draw_maps(source)
    written = write_map(tmp_path / "map.dcm", source, heatmaps)
    assert written.FloatPixelData == heatmaps.astype("<f4").tobytes()
    np.testing.assert_array_equal(written.pixel_array, heatmaps[0])
    read = pmread(tmp_path / "map.dcm")
    real = read.get_frames(apply_real_world_transform=True)
    np.testing.assert_array_equal(real, heatmaps)


@pytest.mark.parametrize("name", SINGLE + WITHOUT_PLACE)
def test_overlay_pixels_are_equal(tmp_path, name):
    source = Path(get_testdata_file(f"{name}.dcm"))
    header = header_of(source)
    shape = header.Rows, header.Columns, 3
    overlay = np.random.default_rng(0).integers(0, 256, shape).astype("uint8")
    written = write_overlay(tmp_path / "overlay.dcm", source, overlay[:, ::-1])
    assert not written.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(written.pixel_array, overlay[:, ::-1])


@pytest.mark.parametrize("write", [write_map, write_overlay])
@pytest.mark.parametrize("name", SINGLE + WITHOUT_PLACE)
def test_patient_and_study_are_the_source_s(tmp_path, write, name):
    source = get_testdata_file(f"{name}.dcm")
    before, after = header_of(source), write(tmp_path / "out.dcm", source)
    assert {k: values(after, k) for k in KEPT} == {k: values(before, k) for k in KEPT}
    assert after.get("SpecificCharacterSet") == before.get("SpecificCharacterSet")
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert after.SOPInstanceUID != before.SOPInstanceUID
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID


@pytest.mark.parametrize("write", [write_map, write_overlay])
def test_references(tmp_path, write):
    source = get_testdata_file("CT_small.dcm")
    before, after = header_of(source), write(tmp_path / "out.dcm", source)
    wanted = before.SOPClassUID, before.SOPInstanceUID
    (series,) = after.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == before.SeriesInstanceUID
    items = [after.SourceImageSequence[0], series.ReferencedInstanceSequence[0]]
    if write is write_map:
        (group,) = after.PerFrameFunctionalGroupsSequence
        items.append(group.DerivationImageSequence[0].SourceImageSequence[0])
    for item in items:
        found = item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID
        assert found == wanted
        assert "ReferencedFrameNumber" not in item  # a source of one frame


def test_each_map_lies_on_its_own_frame(tmp_path, enhanced):
    heatmaps = draw_maps(enhanced, 3)
    written = write_map(tmp_path / "map.dcm", enhanced, heatmaps, frames=[2, 0, 3])
    np.testing.assert_array_equal(written.pixel_array, heatmaps)
    groups = written.PerFrameFunctionalGroupsSequence
    sources = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in groups]
    assert [s.ReferencedFrameNumber for s in sources] == [3, 1, 4]
    # Legacy conversion keeps the order of instances: z = 30, 25, 20, 15.
    places = [g.PlanePositionSequence[0].ImagePositionPatient for g in groups]
    frames = header_of(enhanced).PerFrameFunctionalGroupsSequence
    expected = [frames[i].PlanePositionSequence[0] for i in (2, 0, 3)]
    assert places == [place.ImagePositionPatient for place in expected]
    assert sorted(place[2] for place in places) == [15, 20, 30]


def test_map_volume_lies_on_the_source_volume(tmp_path, enhanced):
    """Highdicom's own reading: the same voxel is at the same place in the patient."""
    heatmaps = np.zeros((4, 64, 64), "float32")
    heatmaps[1, 10, 20] = 7
    write_map(tmp_path / "map.dcm", enhanced, heatmaps)
    volume = pmread(tmp_path / "map.dcm").get_volume()
    image = highdicom.imread(enhanced).get_volume()
    np.testing.assert_allclose(volume.affine, image.affine)
    assert volume.frame_of_reference_uid == image.frame_of_reference_uid
    (index,) = np.argwhere(volume.array)
    position = header_of(enhanced).PerFrameFunctionalGroupsSequence[1]
    z = position.PlanePositionSequence[0].ImagePositionPatient[2]
    # MR_small is axial with 0.3125 mm pixels: (-10 + 20 * 0.3125, 20 + 10 * 0.3125, z).
    place = volume.affine @ [*index, 1]
    np.testing.assert_allclose(place[:3], (-3.75, 23.125, z))


def test_frames_without_positions(tmp_path):
    source = get_testdata_file("examples_ybr_color.dcm")  # ultrasound, 30 frames
    heatmaps = draw_maps(source, 3, (6, 8))
    heatmaps = np.repeat(np.repeat(heatmaps, 40, axis=1), 40, axis=2)
    written = write_map(tmp_path / "map.dcm", source, heatmaps, frames=[29, 4, 0])
    np.testing.assert_array_equal(written.pixel_array, heatmaps)
    groups = written.PerFrameFunctionalGroupsSequence
    sources = [g.DerivationImageSequence[0].SourceImageSequence[0] for g in groups]
    assert [s.ReferencedFrameNumber for s in sources] == [30, 5, 1]
    labels = [g.FrameContentSequence[0].FrameLabel for g in groups]
    assert labels == ["frame 30", "frame 5", "frame 1"]
    assert [g.FrameContentSequence[0].DimensionIndexValues for g in groups] == [1, 2, 3]
    assert written.LossyImageCompression == "01"  # as the source says
    assert written.InstanceNumber == 16117  # the source's


def test_nothing_is_invented_where_the_source_has_no_place(tmp_path):
    source = get_testdata_file("examples_rgb_color.dcm")
    first = write_map(tmp_path / "a.dcm", source)
    (group,) = first.PerFrameFunctionalGroupsSequence
    shared = first.SharedFunctionalGroupsSequence[0]
    assert len(group.PlanePositionSequence[0]) == 0
    assert len(shared.PlaneOrientationSequence[0]) == 0
    assert len(shared.PixelMeasuresSequence[0]) == 0
    # Maps of one image share a frame of reference, those of another image do not.
    second = write_map(tmp_path / "b.dcm", source, class_index=1)
    assert second.FrameOfReferenceUID == first.FrameOfReferenceUID
    assert second.SOPInstanceUID != first.SOPInstanceUID
    other = get_testdata_file("examples_palette.dcm")
    other = write_map(tmp_path / "c.dcm", other)
    assert other.FrameOfReferenceUID != first.FrameOfReferenceUID


def test_pixel_spacing_of_a_radiograph_is_the_detector_s(tmp_path, edited):
    source = edited(
        "examples_rgb_color",
        ImagerPixelSpacing=[0.25, 0.5],
        NominalScannedPixelSpacing=[9, 9],
    )
    written = write_map(tmp_path / "map.dcm", source)
    (measures,) = written.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.PixelSpacing == [0.25, 0.5]
    overlay = write_overlay(tmp_path / "overlay.dcm", source)
    assert overlay.PixelSpacing == [0.25, 0.5]
    small = np.zeros((5, 5, 3), "uint8")
    overlay = write_overlay(tmp_path / "small.dcm", source, small)
    assert "PixelSpacing" not in overlay


@pytest.mark.parametrize(
    ("spacing", "kept"),
    [
        (b"0.661468\\0.661468", True),
        (b"+6.6e-01\\00.66147", True),
        (b"0,661468\\0,661468", False),
        (b"0.6.1468\\0.661468", False),
        (b"\\        \\       ", False),
    ],
)
def test_only_numbers_are_taken_for_numbers(tmp_path, spacing, kept):
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    content = content.replace(b"0.661468\\0.661468", spacing)
    (tmp_path / "source.dcm").write_bytes(content)
    write_map(tmp_path / "map.dcm", tmp_path / "source.dcm")
    assert (spacing in (tmp_path / "map.dcm").read_bytes()) == kept


def test_resized_values(tmp_path, edited):
    """Half-pixel bilinear, by hand: 2 to 4 pixels is weights 1, 3/4, 1/4, 0."""
    source = edited("SC_rgb_small_odd", Rows=2, Columns=4)
    heatmaps = np.array([[[0, 4], [8, -4]]], "float32")
    written = write_map(tmp_path / "map.dcm", source, heatmaps)
    assert (written.Rows, written.Columns) == (2, 4)
    expected = [[0, 1, 3, 4], [8, 5, -1, -4]]
    np.testing.assert_array_equal(written.pixel_array, expected)
    # By area where it shrinks: the means of 2x2 blocks.
    heatmaps = np.arange(32, dtype="float32").reshape(1, 4, 8)
    written = write_map(tmp_path / "map.dcm", source, heatmaps)
    expected = [[4.5, 6.5, 8.5, 10.5], [20.5, 22.5, 24.5, 26.5]]
    np.testing.assert_array_equal(written.pixel_array, expected)


def test_window_and_range(tmp_path, edited):
    source = edited("SC_rgb_small_odd", Rows=2, Columns=2)
    heatmaps = np.array([[[-1, 0], [1, 7]]], "float32")
    shared = write_map(tmp_path / "m.dcm", source, heatmaps)[0x52009229][0]
    (window,), (mapping,) = shared[0x00289132], shared[0x00409096]
    assert (window.WindowCenter, window.WindowWidth) == (3, 8)
    assert window.VOILUTFunction == "LINEAR_EXACT"
    assert mapping.DoubleFloatRealWorldValueFirstValueMapped == -1
    assert mapping.DoubleFloatRealWorldValueLastValueMapped == 7
    slope = mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept
    assert slope == (1, 0)
    constant = np.full((1, 2, 2), 0.5, "float32")
    shared = write_map(tmp_path / "m.dcm", source, constant)[0x52009229][0]
    (window,) = shared[0x00289132]
    assert (window.WindowCenter, window.WindowWidth) == (0.5, 1)


@pytest.mark.parametrize(
    ("method", "quantity", "code"),
    [
        ("hr_cam", "130402", "hr_cam"),
        ("HR-CAM", "130402", "hr_cam"),
        ("grad_cam", "130403", "grad_cam"),
        ("Grad-CAM++", "130403", "grad_cam_plus_plus"),
        ("attentive response", "130404", "attentive_response"),
        ("centre prior", "centre_prior", "centre_prior"),
    ],
)
def test_codes(tmp_path, method, quantity, code):
    source = get_testdata_file("MR_small.dcm")
    written = write_map(tmp_path / "map.dcm", source, method=method)
    (mapping,) = written[0x52009229][0].RealWorldValueMappingSequence
    (unit,) = mapping.MeasurementUnitsCodeSequence
    assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("1", "UCUM")
    kind, how, finding = mapping.QuantityDefinitionSequence
    (kind,), (how,) = kind.ConceptCodeSequence, how.ConceptCodeSequence
    assert kind.CodeValue == quantity
    assert kind.CodingSchemeDesignator == ("DCM" if quantity != code else "99HRCAM")
    assert how.get("CodeValue") or how.LongCodeValue == code
    assert how.CodingSchemeDesignator == "99HRCAM"
    assert how.CodeMeaning == method
    assert finding.TextValue == "class 3 (nodule)"
    (derivation,) = written[0x52009230][0].DerivationImageSequence
    assert derivation.DerivationCodeSequence[0].CodeValue == quantity


def test_names(tmp_path):
    source = get_testdata_file("CT_small.dcm")
    written = write_map(tmp_path / "map.dcm", source)
    assert written.ContentLabel == "HR_CAM_C3"
    assert written.SeriesDescription == "hr_cam class 3 (nodule)"
    assert written.ContentDescription == written.SeriesDescription
    long = write_map(
        *(tmp_path / "map.dcm", source),
        method="grad_cam_plus_plus_and_more",
        class_index=1234,
        class_name="Läsion\\骨折\n" + "x" * 99,
    )
    assert long.ContentLabel == "GRAD_CAM_P_C1234"  # 16 characters
    start = "grad_cam_plus_plus_and_more class 1234 (Lasion "
    assert long.SeriesDescription == start + "x" * (64 - len(start))
    unsayable = write_map(tmp_path / "map.dcm", source, class_name="骨折")
    assert unsayable.SeriesDescription == "hr_cam class 3"


def test_every_method_has_a_label_and_a_code(tmp_path):
    source = get_testdata_file("SC_rgb_small_odd.dcm")
    numbers, codes = set(), set()
    for title in (method.title for method in METHODS.values()):
        written = write_map(tmp_path / "map.dcm", source, method=title)
        (mapping,) = written[0x52009229][0].RealWorldValueMappingSequence
        (code,) = mapping.QuantityDefinitionSequence[1].ConceptCodeSequence
        codes.add(code.get("CodeValue") or code.LongCodeValue)
        numbers.add(written.SeriesNumber)
    assert len(codes) == len(numbers) == len(METHODS)
    assert all(1000 <= number < 10000 for number in numbers)


@pytest.mark.parametrize("write", [write_map, write_overlay])
def test_same_bytes_again(tmp_path, write):
    source = get_testdata_file("CT_small.dcm")
    first, again = (tmp_path / f"{name}.dcm" for name in ("first", "again"))
    write(first, source), write(again, source)
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("write", [write_map, write_overlay])
def test_identifiers_follow_from_source_and_content(tmp_path, edited, write):
    target, source = tmp_path / "out.dcm", get_testdata_file("CT_small.dcm")
    first = write(target, source)
    pixels = np.array(first.pixel_array)
    changed = pixels[None] if write is write_map else pixels
    changed.flat[5] += 1
    elsewhere = edited("CT_small", SOPInstanceUID="1.2.3", InstanceNumber="7")
    others = [
        write(target, source, changed),
        write(target, source, class_index=1),
        write(target, source, method="cam"),
        write(target, elsewhere),
    ]
    uids = {x.SOPInstanceUID for x in (first, *others)}
    assert len(uids) == 5
    series = [x.SeriesInstanceUID == first.SeriesInstanceUID for x in others]
    assert series == [True, False, False, True]
    assert others[3].InstanceNumber == 7


@pytest.mark.parametrize("write", [write_map, write_overlay])
def test_all_times_are_the_given_one(tmp_path, monkeypatch, write):
    source = get_testdata_file("CT_small.dcm")
    written = write(tmp_path / "out.dcm", source)
    found = {
        str(x.value)
        for x in written.iterall()
        if x.VR in ("DA", "TM", "DT") and not x.keyword.startswith("Study")
    } - {""}
    assert found == {"20231114", "221320", "20231114221320"}
    monkeypatch.delenv("SOURCE_DATE_EPOCH")
    assert write(tmp_path / "now.dcm", source).ContentDate > "20231114"


@pytest.mark.parametrize("write", [write_map, write_overlay])
def test_nothing_else_of_the_source_gets_through(tmp_path, write):
    """A mark in every text attribute that DICOM has, and in private ones, at any depth.

    What may stay is a list by name: none of these attributes is new here.
    """
    image = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    text_vrs = {"LO", "SH", "LT", "ST", "UT", "PN", "UC", "CS", "AE"}
    technical = {"SpecificCharacterSet", "PhotometricInterpretation"}
    marked = 0
    for tag, (vr, *_, keyword) in pydicom.datadict.DicomDictionary.items():
        if vr in text_vrs and tag >> 16 > 2 and keyword not in {*KEPT, *technical, ""}:
            image.add_new(tag, vr, f"SECRET{marked}")
            marked += 1
    assert marked > 1500
    nested = pydicom.Dataset()
    nested.CodeMeaning = nested.CodeValue = "SECRETnested"
    nested.private_block(0x13, "SECRETowner", create=True).add_new(1, "LO", "SECRETx")
    for keyword in ("AnatomicRegionSequence", "ProcedureCodeSequence"):
        setattr(image, keyword, [nested])
    image.OtherPatientIDsSequence = [nested]
    image.private_block(0x99, "SECRETmaker", create=True).add_new(1, "UT", "SECRETy")
    image.LossyImageCompression = "01"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image.save_as(tmp_path / "source.dcm")
    content = (tmp_path / "source.dcm").read_bytes()
    spacing = b"0.661468\\0.661468"
    assert spacing in content
    content = content.replace(spacing, b"SECRET66\\0.661468")
    (tmp_path / "source.dcm").write_bytes(content)
    assert content.count(b"SECRET") > marked
    written = write(tmp_path / "out.dcm", tmp_path / "source.dcm")
    assert [str(x) for x in written.iterall() if "SECRET" in str(x.value)] == []
    content = (tmp_path / "out.dcm").read_bytes()
    assert b"SECRET" not in content
    assert not [x for x in written.iterall() if x.tag.is_private]


def test_burned_in_names_are_told_as_the_source_tells_them(tmp_path, edited):
    flags = {"BurnedInAnnotation": "YES", "RecognizableVisualFeatures": "NO"}
    source = edited("examples_rgb_color", **flags)
    overlay = write_overlay(tmp_path / "a.dcm", source)
    assert {keyword: overlay[keyword].value for keyword in flags} == flags
    heatmap = write_map(tmp_path / "b.dcm", source)
    assert heatmap.BurnedInAnnotation == "NO"  # a map shows nothing of the source
    silent = write_overlay(tmp_path / "c.dcm", get_testdata_file("CT_small.dcm"))
    assert not flags.keys() & {x.keyword for x in silent}


def test_overlay_is_a_derived_picture(tmp_path):
    source = get_testdata_file("examples_ybr_color.dcm")
    written = write_overlay(tmp_path / "out.dcm", source, frame=4)
    assert written.ImageType == ["DERIVED", "SECONDARY"]
    assert written.SourceImageSequence[0].ReferencedFrameNumber == 5
    assert written.InstanceNumber == 5
    assert written.PatientOrientation in ("", None, [])
    assert written.LossyImageCompression == "01"
    assert written.DerivationCodeSequence[0].CodeValue == "130402"
    assert written.Manufacturer == "hrcam"


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 192", "Müller^Zoë"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎"),
        (None, "Buc^Jerome"),
    ],
)
def test_names_keep_their_letters(tmp_path, edited, character_set, name):
    source = edited("CT_small", SpecificCharacterSet="")
    image = pydicom.dcmread(source)
    del image.SpecificCharacterSet
    if character_set:
        image.SpecificCharacterSet = character_set
    image.PatientName = name
    image.save_as(source)
    for write in (write_map, write_overlay):
        written = write(tmp_path / "out.dcm", source, class_name="Läsion")
        assert str(written.PatientName) == name
        assert written.SeriesDescription == "hr_cam class 3 (Lasion)"


@pytest.mark.parametrize("write", [write_map, write_overlay])
def test_values_against_the_standard_are_kept_without_a_warning(
    tmp_path, edited, write
):
    """Warnings are errors here, in this thread; others must see none, either."""
    source = edited(
        "CT_small",
        PatientID="9" * 70,  # 64 are allowed
        StudyDate="2004.01.19",
        StudyInstanceUID="1.02.3",  # no leading zeros
        PatientSex="unknown",
        PixelSpacing=["0.661468000000000001", "0.5"],  # 16 are allowed
    )
    caught = []

    def work():
        try:
            write(tmp_path / "out.dcm", source)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not caught
    content = (tmp_path / "out.dcm").read_bytes()
    for value in (b"9" * 70, b"2004.01.19", b"1.02.3", b"unknown"):
        assert value in content
    assert b"0.661468000000000001\\0.5" in content


@pytest.mark.parametrize("write", [write_map, write_overlay])
@pytest.mark.parametrize(
    "keyword",
    ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Rows"],
)
def test_what_an_object_cannot_do_without(tmp_path, edited, write, keyword):
    source = edited("CT_small", **{keyword: None})
    given = (
        np.zeros((8, 8, 3), "uint8") if write is write_overlay else np.ones((1, 2, 2))
    )
    with pytest.raises(ImageReadError, match=keyword) as caught:
        write(tmp_path / "out.dcm", source, given)
    assert "CompressedSamples" not in str(caught.value)
    assert not (tmp_path / "out.dcm").exists()


@pytest.mark.parametrize(
    ("heatmaps", "frames", "match"),
    [
        (np.zeros((4, 4)), None, r"`heatmaps` must be \(n, h, w\).*\(4, 4\)"),
        (np.zeros((0, 4, 4)), None, "at least one map"),
        (np.full((1, 4, 4), np.nan), [0], "`heatmaps` must be finite"),
        (np.full((1, 4, 4), -np.inf), [0], "`heatmaps` must be finite"),
        (np.zeros((2, 4, 4)), None, "2 maps a frame of its own, of the 30"),
        (np.zeros((2, 4, 4)), [1, 1], r"Received: \[1, 1\]"),
        (np.zeros((2, 4, 4)), [0, 30], r"Received: \[0, 30\]"),
        (np.zeros((1, 4, 4)), [-1], r"Received: \[-1\]"),
        (np.zeros((1, 4, 4)), [0, 1], r"Received: \[0, 1\]"),
    ],
)
def test_maps_that_do_not_fit(tmp_path, heatmaps, frames, match):
    source = get_testdata_file("examples_ybr_color.dcm")
    with pytest.raises(ValueError, match=match):
        write_map(tmp_path / "map.dcm", source, heatmaps, frames)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overlay", "frame", "match"),
    [
        (np.zeros((4, 4, 3)), 0, "`overlay` must be an RGB picture.*float64"),
        (np.zeros((4, 4), "uint8"), 0, r"Received: uint8 \(4, 4\)"),
        (np.zeros((4, 4, 4), "uint8"), 0, r"Received: uint8 \(4, 4, 4\)"),
        (np.zeros((4, 4, 3), "uint8"), 30, "`frame` must be one of the source's 30"),
        (np.zeros((4, 4, 3), "uint8"), -1, "Received: -1"),
    ],
)
def test_overlays_that_do_not_fit(tmp_path, overlay, frame, match):
    source = get_testdata_file("examples_ybr_color.dcm")
    with pytest.raises(ValueError, match=match):
        write_overlay(tmp_path / "out.dcm", source, overlay, frame=frame)


@pytest.mark.parametrize("frames", [None, [0], [0, 5_000_000]])
def test_frames_that_are_only_claimed_are_not_listed(tmp_path, edited, frames):
    source = edited("CT_small", NumberOfFrames="5000000")
    heatmaps = np.zeros((2, 4, 4), np.float32)

    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="of the 5000000 that the source has"):
            write_map(tmp_path / "map.dcm", source, heatmaps, frames)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most < 2**22  # a list of them has 40 MB


@pytest.mark.parametrize("count", ["1" + 20 * "0", 5000 * "9"])  # beyond C's, int's
@pytest.mark.filterwarnings("ignore:Value exceeds the maximum length")
def test_numbers_of_frames_that_are_none(tmp_path, edited, count):
    source = edited("CT_small")
    data = source.read_bytes()  # in front of Rows
    at = data.index(b"\x28\x00\x10\x00US")
    value = count.encode() + b" " * (len(count) % 2)
    element = b"\x28\x00\x08\x00IS" + len(value).to_bytes(2, "little") + value
    source.write_bytes(data[:at] + element + data[at:])

    with pytest.raises(ImageReadError, match="no valid NumberOfFrames"):
        write_map(tmp_path / "map.dcm", source, np.zeros((1, 4, 4), np.float32))


def test_too_many_open_files_are_no_fault_of_the_source(tmp_path):
    resource = pytest.importorskip("resource")
    source = get_testdata_file("CT_small.dcm")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)

    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        with pytest.raises(OSError, match="open files") as caught:
            write_map(tmp_path / "map.dcm", source, np.zeros((1, 4, 4), np.float32))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    assert caught.value.errno == errno.EMFILE


def test_sources_that_are_none(tmp_path):
    missing, text = tmp_path / "missing.dcm", tmp_path / "text.dcm"
    text.write_text("not an image")
    for source, match in ((missing, "missing"), (text, "damaged|SOPClassUID")):
        with pytest.raises(ImageReadError, match=match):
            write_parametric_map(tmp_path / "m", source, np.ones((1, 2, 2)), **WHAT)


def test_spacing_that_differs_is_told_of_each_frame(tmp_path, enhanced):
    image = pydicom.dcmread(enhanced)
    shared = image.SharedFunctionalGroupsSequence[0]
    (measures,) = shared.PixelMeasuresSequence
    del shared.PixelMeasuresSequence
    for number, groups in enumerate(image.PerFrameFunctionalGroupsSequence, start=1):
        own = pydicom.Dataset()
        own.PixelSpacing, own.SliceThickness = [number, 1], measures.SliceThickness
        groups.PixelMeasuresSequence = [own]
    image.save_as(enhanced)
    written = write_map(tmp_path / "map.dcm", enhanced)
    groups = written.PerFrameFunctionalGroupsSequence
    spacings = [g.PixelMeasuresSequence[0].PixelSpacing for g in groups]
    assert spacings == [[1, 1], [2, 1], [3, 1], [4, 1]]
    shared = written.SharedFunctionalGroupsSequence[0]
    assert "PixelMeasuresSequence" not in shared
    assert "PlaneOrientationSequence" in shared


def test_plain_frames_do_not_all_lie_where_the_first_does(tmp_path):
    source = get_testdata_file("rtdose.dcm")  # 15 frames, and the place of the first
    assert "ImagePositionPatient" in header_of(source)
    written = write_map(tmp_path / "map.dcm", source)
    for group in written.PerFrameFunctionalGroupsSequence:
        assert len(group.PlanePositionSequence[0]) == 0
    (measures,) = written.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert measures.PixelSpacing == header_of(source).PixelSpacing


def test_a_name_in_no_character_set_keeps_its_bytes(tmp_path):
    content = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    name = b"CompressedSamples^CT1"
    content = content.replace(name, b"CompressedSampl\xff\xfe^CT1")
    content = content.replace(b"ISO_IR 100", b"ISO_IR 192")  # UTF-8, which this is not
    (tmp_path / "source.dcm").write_bytes(content)
    for write in (write_map, write_overlay):
        write(tmp_path / "out.dcm", tmp_path / "source.dcm")
        content = (tmp_path / "out.dcm").read_bytes()
        assert b"CompressedSampl\xff\xfe^CT1" in content
