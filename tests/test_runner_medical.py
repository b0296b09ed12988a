"""Volumes and DICOM files through the runner: what is written lies on its source."""

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.orientations import (
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from pydicom.data import get_testdata_file
from tiny_models import make_flat_model

from hrcam.imaging import open_image, resize_map
from hrcam.runner import explain_files, read_manifest

pytestmark = pytest.mark.filterwarnings("ignore:.*has no positive value")
SHAPE = (9, 7, 5)  # right to left, front to back, foot to head


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "base.keras"
    make_flat_model(3, seed=281).save(path)
    return path


@pytest.fixture
def volume(tmp_path):
    """Int16, stored from left to right (LAS), 2 x 3 x 4 mm, not at the origin."""
    affine = np.array([[-2, 0, 0, 8], [0, 3, 0, -5], [0, 0, 4, 7], [0, 0, 0, 1.0]])
    values = np.random.default_rng(0).integers(0, 2000, SHAPE).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_volume_of_maps_lies_on_the_scan(model, volume, tmp_path):
    done = explain_files(
        model,
        [volume],
        tmp_path / "out",
        methods=["edge_magnitude"],
        formats=["nifti", "npy", "png"],
        class_index=1,
        batch_size=2,
    )

    assert (done.images, done.set_aside) == (5, {})
    source = nibabel.load(volume)
    made = nibabel.load(tmp_path / "out" / "scan.nii.gz.edge_magnitude.class_1.nii")
    np.testing.assert_array_equal(made.affine, source.affine)
    assert made.shape == SHAPE
    assert made.get_data_dtype() == np.float32
    values = made.get_fdata()
    for z in range(5):
        raw = np.load(tmp_path / "out" / f"scan.nii.gz.frame{z}.edge_magnitude.npy")
        shown = resize_map(raw, (7, 9))  # rows from the front, columns from the right
        # Stored first axis runs to the left, so column i is voxel i; the second runs
        # to the front, so row j is voxel 6 - j.
        np.testing.assert_allclose(values[:, :, z], shown[::-1].T, atol=1e-6)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SPL", "AIR", "PSR"])
def test_marked_voxel_lands_where_it_was(model, tmp_path, codes):
    """A bright block is where the control that follows edges is high, in the world."""
    values = np.zeros((24, 20, 16), np.float32)
    values[14:18, 4:8, 9:12] = 1
    affine = np.diag([2.0, 3, 4, 1])
    affine[:3, 3] = 10, -20, 5
    centre = affine @ [15.5, 5.5, 10, 1]
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(codes))
    stored = nibabel.apply_orientation(values, turn)
    affine = affine @ inv_ornt_aff(turn, values.shape)
    nibabel.save(nibabel.Nifti1Image(stored, affine), tmp_path / "a.nii")

    explain_files(
        model,
        [tmp_path / "a.nii"],
        tmp_path / "out",
        methods=["edge_magnitude"],
        formats=["nifti"],
        class_index=0,
    )

    made = nibabel.load(tmp_path / "out" / "a.nii.edge_magnitude.class_0.nii")
    heat = np.nan_to_num(made.get_fdata())
    voxels = np.argwhere(heat > 0.5 * heat.max())
    world = (made.affine @ np.c_[voxels, np.ones(len(voxels))].T).mean(axis=1)
    assert np.abs(world - centre)[:3].max() < 3  # mm; the block has 8 x 12 x 12


def test_each_predicted_class_has_its_volume(model, volume, tmp_path):
    explain_files(model, [volume], tmp_path / "out", formats=["nifti"])

    records = read_manifest(tmp_path / "out")["scan.nii.gz"]
    names = {f"scan.nii.gz.grad_cam.class_{r['class']}.nii" for r in records}
    assert {name for record in records for name in record["files"]} == names
    filled = sum(
        np.isfinite(nibabel.load(tmp_path / "out" / name).get_fdata()) for name in names
    )
    np.testing.assert_array_equal(filled, 1)  # each slice in one of them


def test_some_slices(model, volume, tmp_path):
    inputs = [f"{volume}#1:3", f"{volume}#4"]
    done = explain_files(model, inputs, tmp_path / "out", class_index=0)

    assert done.images == 3
    assert sorted(path.name for path in (tmp_path / "out").glob("*.npy")) == [
        "scan.nii.gz#1-2.frame1.grad_cam.npy",
        "scan.nii.gz#1-2.frame2.grad_cam.npy",
        "scan.nii.gz#4.grad_cam.npy",
    ]
    assert [r["frame"] for r in read_manifest(tmp_path / "out")["scan.nii.gz#1:3"]] == [
        1,
        2,
    ]


def test_slice_that_is_not_there(model, volume, tmp_path):
    done = explain_files(model, [f"{volume}#3:6"], tmp_path / "out")

    (reason,) = done.set_aside.values()
    assert reason == "5 images, numbered from 0; asked for 3 to 5"


def test_slice_with_nan_is_set_aside_and_the_others_are_not(model, tmp_path):
    values = np.random.default_rng(0).random(SHAPE)
    values[3, 3, 2] = np.nan
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "a.nii")

    done = explain_files(
        model, [tmp_path / "a.nii"], tmp_path / "out", formats=["nifti"], class_index=0
    )

    assert done.images == 4
    assert list(done.set_aside) == ["a.nii#2"]
    made = nibabel.load(tmp_path / "out" / "a.nii.grad_cam.class_0.nii").get_fdata()
    assert np.isfinite(made).all(axis=(0, 1)).tolist() == [
        True,
        True,
        False,
        True,
        True,
    ]
    again = explain_files(
        model, [tmp_path / "a.nii"], tmp_path / "out", formats=["nifti"], class_index=0
    )
    assert (again.images, list(again.set_aside)) == (4, ["a.nii#2"])  # tried again


def test_dicom(model, tmp_path):
    """The raw map, resized to the source, is in the Parametric Map to the bit."""
    source = get_testdata_file("CT_small.dcm")
    done = explain_files(
        model,
        [source],
        tmp_path / "out",
        formats=["dicom", "npy"],
        class_index=2,
        class_names=["a", "b", "c"],
        values="window",
    )

    assert (done.images, done.set_aside) == (1, {})
    raw = np.load(tmp_path / "out" / "CT_small.dcm.grad_cam.npy")
    made = pydicom.dcmread(tmp_path / "out" / "CT_small.dcm.grad_cam.class_2.dcm")
    capture = pydicom.dcmread(tmp_path / "out" / "CT_small.dcm.grad_cam.dcm")
    original = pydicom.dcmread(source)
    np.testing.assert_array_equal(made.pixel_array, resize_map(raw, (128, 128)))
    assert capture.pixel_array.shape == (128, 128, 3)
    for written in (made, capture):
        assert written.StudyInstanceUID == original.StudyInstanceUID
        assert written.PatientID == original.PatientID
    assert "CT_small.dcm" in read_manifest(tmp_path / "out")


def test_frames_of_dicom(model, tmp_path):
    source = get_testdata_file("SC_rgb_rle_2frame.dcm")
    with open_image(source) as file:
        count = len(file.frames)

    explain_files(
        model,
        [source],
        tmp_path / "out",
        formats=["dicom"],
        class_index=0,
        batch_size=4,
    )

    made = next((tmp_path / "out").glob("*.class_0.dcm"))
    header = pydicom.dcmread(made, stop_before_pixels=True)
    assert int(header.NumberOfFrames) == count
    assert len([*(tmp_path / "out").glob("*.grad_cam.dcm")]) == count


def test_manifest_and_messages_hold_no_patient_data(model, tmp_path):
    source = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    source.PatientName, source.PatientID = "Secret^Name", "SECRET-ID"
    source.StudyDescription = source.InstitutionName = "SECRET"
    source.save_as(tmp_path / "good.dcm")
    source.BitsAllocated = 12
    source.save_as(tmp_path / "bad.dcm")

    done = explain_files(model, [tmp_path], tmp_path / "out", formats=["png"])

    assert list(done.set_aside) == ["bad.dcm"]
    written = (tmp_path / "out" / "manifest.jsonl").read_text().lower()
    assert "good.dcm" in written
    assert "secret" not in written + str(done).lower()


def test_formats_that_do_not_go_with_a_source_are_left_out(model, volume, tmp_path):
    ct = get_testdata_file("CT_small.dcm")
    explain_files(
        model, [volume, ct], tmp_path / "out", formats=["png", "nifti", "dicom"]
    )

    files = {
        source.rpartition("/")[2]: {name.rpartition(".")[2] for name in r[-1]["files"]}
        for source, r in read_manifest(tmp_path / "out").items()
    }
    assert files == {"scan.nii.gz": {"png", "nii"}, "CT_small.dcm": {"png", "dcm"}}
