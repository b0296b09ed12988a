"""The DICOM objects against the standard, as `dciodvfy` checks it.

Debian has it in dicom3tools. An error counts that the source does not have itself.
"""

import shutil
import subprocess
import warnings

import numpy as np
import pydicom
import pytest
from highdicom.legacy import LegacyConvertedEnhancedMRImage
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from hrcam.imaging.dicom_map import write_parametric_map, write_secondary_capture

WHAT = {"method": "hr_cam", "class_index": 1, "class_name": "nodule"}
SOURCES = (
    "CT_small",
    "MR_small",
    "MR_small_bigendian",
    "693_J2KI",  # CT with positions, but no frame of reference
    "SC_rgb_small_odd",
    "examples_rgb_color",
    "examples_palette",
    "examples_ybr_color",  # ultrasound, 30 frames
    "enhanced",
)

pytestmark = [
    pytest.mark.conformity,
    pytest.mark.skipif(
        shutil.which("dciodvfy") is None,
        reason="dciodvfy is not installed; Debian has it in dicom3tools",
    ),
]


@pytest.fixture(params=SOURCES)
def source(request, tmp_path):
    if request.param == "enhanced":
        return make_enhanced(tmp_path / "enhanced.dcm")
    return get_testdata_file(f"{request.param}.dcm")


def make_enhanced(path):
    slices = []
    for number in range(3):
        one = pydicom.dcmread(get_testdata_file("MR_small.dcm"))
        one.SOPInstanceUID = generate_uid(entropy_srcs=["slice", str(number)])
        one.InstanceNumber = number + 1
        one.ImagePositionPatient = [-10, 20, 30 - 5 * number]
        slices.append(one)
    uids = [generate_uid(entropy_srcs=[name]) for name in ("series", "instance")]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = LegacyConvertedEnhancedMRImage(slices, uids[0], 1, uids[1], 1)
        image.save_as(path)
    return path


def errors_of(path):
    done = subprocess.run(
        ["dciodvfy", path], capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).splitlines()
    assert len(lines) > 0  # at least the name of the object
    return {line for line in lines if line.startswith("Error")}


def header_of(source):
    header = pydicom.dcmread(source, stop_before_pixels=True)
    return int(header.get("NumberOfFrames", 1)), header.Rows, header.Columns


def test_errors_are_seen(tmp_path):
    image = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    del image.StudyInstanceUID
    image.save_as(tmp_path / "broken.dcm")
    assert any(
        "StudyInstanceUID" in line for line in errors_of(tmp_path / "broken.dcm")
    )


def test_parametric_map(tmp_path, source):
    heatmaps = np.random.default_rng(0).normal(size=header_of(source))
    target = tmp_path / "map.dcm"
    write_parametric_map(target, source, heatmaps.astype("float32"), **WHAT)
    assert errors_of(target) - errors_of(source) == set()


@pytest.mark.parametrize("method", ["attentive response", "centre prior"])
def test_parametric_map_of_other_codes(tmp_path, method):
    source, target = get_testdata_file("CT_small.dcm"), tmp_path / "map.dcm"
    heatmaps = np.zeros((1, 8, 8), "float32")
    write_parametric_map(target, source, heatmaps, **WHAT | {"method": method})
    assert errors_of(target) - errors_of(source) == set()


def test_secondary_capture(tmp_path, source):
    frames, height, width = header_of(source)
    overlay = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    target, frame = tmp_path / "overlay.dcm", frames - 1
    write_secondary_capture(
        target, source, overlay.astype("uint8"), frame=frame, **WHAT
    )
    assert errors_of(target) - errors_of(source) == set()
