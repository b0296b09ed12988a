import runpy
import shutil
from argparse import Namespace
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pydicom
import pytest

import hrcam.imaging._nifti
from hrcam.datasets import (
    crop,
    drop_unreadable,
    load_images,
    neuromelanin,
    split_by_group,
)

ROWS = [
    "b/s2_01.png,s2,patient,3T",
    "b/s2_02.PNG,s2,patient,3T",
    "s1_01.png,s1,control,3T",
    "s3_01.jpg,s3,1,3T",
]


def write(root, rows=ROWS, header="file,subject,label,scanner", name="slices.csv"):
    for row in rows:
        path = root / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / name).write_text("\n".join([header, *rows, ""]))
    return root


@pytest.fixture
def root(tmp_path):
    return write(tmp_path)


def test_slices_subjects_and_labels(root):
    table = neuromelanin(root)

    assert [path.relative_to(root).as_posix() for path in table.paths] == [
        row.split(",")[0] for row in ROWS
    ]
    assert table.class_names == ("control", "patient")
    assert table.labels.tolist() == [1, 1, 0, 1]
    assert table.groups.tolist() == ["s2", "s2", "s1", "s3"]
    assert table.mask_paths == [None] * 4
    for part in split_by_group(table, (0.5, 0.5)):
        assert np.sum(part.groups == "s2") in (0, 2)


def test_which_csv(root):
    (root / "other.csv").write_text("file,subject,label\ns1_01.png,s1,0\n")
    (root / "._slices.csv").touch()

    with pytest.raises(FileNotFoundError, match=r"`table=`.*'other.csv', 'slices.csv'"):
        neuromelanin(root)
    with pytest.raises(FileNotFoundError, match=r"Expected the CSV no.csv in `root`"):
        neuromelanin(root, "no.csv")
    assert len(neuromelanin(root, "slices.csv")) == 4


def test_other_class_names(tmp_path):
    root = write(tmp_path, ["a.png,1,PD", "b.png,2,HC", "c.png,3,2"])

    table = neuromelanin(root, class_names=("HC", "PD", "MSA"))

    assert table.labels.tolist() == [1, 0, 2]
    assert table.class_names == ("HC", "PD", "MSA")


def test_files_without_rows_and_rows_without_files(root):
    (root / "s1_01.png").rename(root / "s9_01.png")
    (root / "._s9_02.png").touch()

    with (
        pytest.warns(UserWarning, match=r"1 images in the CSV.*'s1_01.png'") as got,
        pytest.warns(UserWarning, match=r"1 images on disk but not.*'s9_01.png'"),
    ):
        assert neuromelanin(root).groups.tolist() == ["s2", "s2", "s3"]
    assert Path(got[0].filename) == Path(__file__)


def test_no_slice_on_disk(root):
    for path in root.rglob("*.*"):
        if path.suffix != ".csv":
            path.unlink()

    with pytest.raises(FileNotFoundError, match=r"such as b/s2_01.png.*none of 4"):
        neuromelanin(root)


def test_a_row_cannot_leave_the_root(tmp_path):
    (tmp_path / "secret.png").touch()
    root = write(tmp_path / "root", ["a.png,1,0"])
    (root / "slices.csv").write_text(
        f"file,subject,label\na.png,1,0\n../secret.png,2,1\n{tmp_path}/secret.png,3,1\n"
    )

    with pytest.warns(UserWarning, match="2 images in the CSV but not on disk"):
        assert neuromelanin(root).groups.tolist() == ["1"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("x.png,s1,ill", r"\('control', 'patient'\).*'ill' of x.png"),
        ("x.png,s1,2", r"numbers \['0', '1'\].*Received: '2'"),
        ("x.png,s1,patient", r"one label. Received: several of \['s1'\]"),
        ("s1_01.png,s1,control", "once. Received: s1_01.png twice"),
        ("x.png,,control", "Every image needs a group"),
    ],
)
def test_rejects_rows(tmp_path, row, message):
    root = write(tmp_path, [*ROWS, row])

    with pytest.raises(ValueError, match=message):
        neuromelanin(root)


def test_rejects_csvs(root):
    (root / "slices.csv").write_text("file,label\na.png,1\n")
    with pytest.raises(ValueError, match=r"\['file', 'subject', 'label'\].*Received"):
        neuromelanin(root)
    (root / "slices.csv").write_text("file,subject,label\n")
    with pytest.raises(ValueError, match="Received: no row"):
        neuromelanin(root)
    (root / "slices.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold one CSV.*Received: \[\]"):
        neuromelanin(root)


# ------------------------------------------------------------------------ scanner files


def save_volume(path, num_slices=4):
    """Axial slices of 3 rows and 2 columns, slice k full of k."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.broadcast_to(np.arange(num_slices, dtype=np.int16), (2, 3, num_slices))
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), path)


def scanner_files(root, rows, header="file,subject,label,slice"):
    save_volume(root / "s1.nii.gz")
    save_volume(root / "deep/s2.nii", 12)
    save_volume(root / "one.nii", 1)
    for name in ("s3.dcm", "IM_0001"):
        shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm"), root / name)
    frames = pydicom.dcmread(root / "s3.dcm")
    frames.NumberOfFrames = 2
    frames.PixelData *= 2
    frames.save_as(root / "two.dcm")
    cv2.imwrite(str(root / "s4.tif"), np.zeros((4, 4), np.uint16))
    cv2.imwrite(str(root / "s5.png"), np.zeros((4, 4), np.uint16))
    (root / "slices.csv").write_text("\n".join([header, *rows]))
    return root


ALL_KINDS = [
    "s5.png,s5,0,",
    "s1.nii.gz,s1,patient,",
    "deep/s2.nii,s2,control, 9:11 ",
    "one.nii,s6,patient,",
    "IM_0001,s3,1,",
    "s3.dcm,s3,1,",
    "two.dcm,s7,0,",
    "deep/s2.nii,s2,0,1",
    "s4.tif,s4,1,0",
]


def test_slices_of_every_kind_of_file(tmp_path):
    root = scanner_files(tmp_path, ALL_KINDS)

    table = neuromelanin(root)

    assert [path.relative_to(root).as_posix() for path in table.paths] == [
        "s5.png", "s1.nii.gz#0", "s1.nii.gz#1", "s1.nii.gz#2", "s1.nii.gz#3",
        "deep/s2.nii#9", "deep/s2.nii#10", "one.nii", "IM_0001", "s3.dcm", "two.dcm#0",
        "two.dcm#1", "deep/s2.nii#1", "s4.tif"
    ]  # fmt: skip
    assert table.labels.tolist() == [0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 0, 1]
    groups = "s5 s1 s1 s1 s1 s2 s2 s6 s3 s3 s7 s7 s2 s4"
    assert table.groups.tolist() == groups.split()
    images = load_images(table, (3, 2), 1)
    np.testing.assert_allclose(images[2], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(images[6], 10 / 11, rtol=1e-6)
    np.testing.assert_array_equal(images[10], images[11])


def test_without_the_column_every_slice(tmp_path):
    root = scanner_files(tmp_path, ["s1.nii.gz,s1,0"], "file,subject,label")

    with pytest.warns(UserWarning, match=r"6 images on disk.*'deep/s2.nii', 'one.nii'"):
        assert len(neuromelanin(root)) == 4


def test_slices_are_counted_by_the_header(tmp_path, monkeypatch):
    root = scanner_files(tmp_path, ALL_KINDS)

    def read(*given):
        raise AssertionError("values were read")

    monkeypatch.setattr(hrcam.imaging._nifti, "_copy", read)
    monkeypatch.setattr(hrcam.imaging._nifti.NiftiFile, "read", read)
    assert len(neuromelanin(root)) == 14


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["s1.nii.gz,s1,0,4"], r"s1.nii.gz has 4, counted from 0. Received: '4'"),
        (["s1.nii.gz,s1,0,2:5"], "Received: '2:5'"),
        (["s1.nii.gz,s1,0,0:99999999999"], "s1.nii.gz has 4"),
        (["s5.png,s1,0,1"], r"s5.png has 1, counted from 0. Received: '1'"),
        (["s1.nii.gz,s1,0,3:3"], "start < stop. Received: s1.nii.gz#3:3"),
        (["s1.nii.gz,s1,0,10:20:00"], r"\(all\). Received: '10:20:00' of s1.nii.gz"),
        (["s1.nii.gz,s1,0,-1"], "Received: '-1'"),
        (["s1.nii.gz,s1,0,2", "s1.nii.gz,s1,0,1:3"], "once. Received: s1.nii.gz#2 twi"),
        (["one.nii,s1,0,", "one.nii,s1,0,0"], "once. Received: one.nii twice"),
        (["s1.nii.gz,s1,0,2", "s1.nii.gz,s1,1,3"], r"several of \['s1'\]"),
    ],
)
@pytest.mark.filterwarnings("ignore:Set aside")
def test_rejects_slices(tmp_path, rows, message):
    with pytest.raises(ValueError, match=message):
        neuromelanin(scanner_files(tmp_path, rows))


@pytest.mark.filterwarnings("ignore:Set aside")
def test_unreadable_files_stay_for_drop_unreadable(tmp_path):
    rows = ["s1.nii.gz,s1,0,1:3", "bad.nii,s2,1,", "bad.nii,s2,1,3:5", "bad.dcm,s2,1,"]
    root = scanner_files(tmp_path, rows)
    (root / "bad.nii").write_bytes((root / "deep/s2.nii").read_bytes()[:200])
    (root / "bad.dcm").write_text("no image")

    table, reasons = drop_unreadable(neuromelanin(root))

    assert [path.name for path in table.paths] == ["s1.nii.gz#1", "s1.nii.gz#2"]
    assert [path.name for path in reasons] == ["bad.nii", "bad.nii#3:5", "bad.dcm"]


def test_the_example_reads_scanner_files(tmp_path, capsys):
    """Its first step; the others are run on slices in `test_examples_papers`."""
    rows = ["two.dcm,s7,control,", "deep/s2.nii,s2,patient,1:4", "s1.nii.gz,s1,0,5:7"]
    root = scanner_files(tmp_path, rows)
    (root / "s1.nii.gz").write_bytes(b"cut off")
    script = Path(__file__).parent.parent / "examples" / "neuromelanin.py"
    load = runpy.run_path(str(script))["load"]
    options = {"simulate": False, "data_dir": root, "table": None, "image_size": 8}

    with pytest.warns(UserWarning, match="on disk but not in the CSV"):
        loaded = load(Namespace(**options, box=(0.25, 0.25, 0.75, 0.75)))

    images, labels, groups, structures = loaded
    assert images.shape == (5, 8, 8, 1)
    np.testing.assert_allclose(images[2:, 4, 4, 0], np.array([1, 2, 3]) / 11, rtol=1e-6)
    assert labels.tolist() == [0, 0, 1, 1, 1]
    assert groups.tolist() == ["s7", "s7", "s2", "s2", "s2"]
    assert structures is None
    assert "Left out s1.nii.gz#5:7: " in capsys.readouterr().out


# -------------------------------------------------------------------------------- box


def test_crop_by_hand():
    image = np.arange(40).reshape(1, 4, 10, 1)

    # Columns 0.2 * 10 = 2 up to 0.5 * 10 = 5, rows 0.25 * 4 = 1 up to 3.
    got = crop(image, (0.2, 0.25, 0.5, 0.75))

    assert got[0, ..., 0].tolist() == [[12, 13, 14], [22, 23, 24]]
    np.testing.assert_array_equal(crop(image[..., 0], (0, 0, 1, 1)), image[..., 0])
    assert crop(image, (0.98, 0.98, 1, 1)).tolist() == [[[[39]]]]  # one pixel at least


@pytest.mark.parametrize("size", [32, 96, 97, 224])
def test_images_loaded_larger_have_the_size_wanted_inside_the_box(size):
    rng = np.random.default_rng(0)
    for _ in range(50):
        (left, right), (top, bottom) = (np.sort(rng.uniform(0, 1, 2)) for _ in "xy")
        full = (round(size / (bottom - top)), round(size / (right - left)))
        if max(full) < 5000:
            images = np.broadcast_to(np.float32(0), (1, *full, 1))
            assert crop(images, (left, top, right, bottom)).shape == (1, size, size, 1)


def test_the_box_shows_the_same_at_every_size(tmp_path):
    """A bright square in the file fills its box, however large the image is loaded."""
    image = np.zeros((40, 60), np.uint8)
    image[10:20, 30:45] = 255
    cv2.imwrite(str(tmp_path / "a.png"), image)
    box = (30 / 60, 10 / 40, 45 / 60, 20 / 40)

    for height, width in ((40, 60), (80, 120)):
        inside = crop(load_images([tmp_path / "a.png"], (height, width), 1), box)
        assert inside.shape[1:3] == (height / 4, width / 4)
        assert inside[0, 1:-1, 1:-1].min() == 1


@pytest.mark.parametrize(
    ("images", "box", "message"),
    [
        (np.zeros((4, 4)), (0, 0, 1, 1), r"Received: shape \(4, 4\)"),
        (np.zeros((1, 4, 4)), (0, 0, 1), "left < right.*Received"),
        (np.zeros((1, 4, 4)), (0.5, 0, 0.5, 1), "fractions with"),
        (np.zeros((1, 4, 4)), (0, 0.6, 1, 0.5), "fractions with"),
        (np.zeros((1, 4, 4)), (10, 10, 20, 20), "divide pixels by width"),
        (np.zeros((1, 4, 4)), (0, 0, float("nan"), 1), "fractions with"),
    ],
)
def test_crop_rejects(images, box, message):
    with pytest.raises(ValueError, match=message):
        crop(images, box)
