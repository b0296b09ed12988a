import os
from pathlib import Path

import numpy as np
import pytest

from hrcam.datasets import isic, load_masks, split_by_group

TRUTH_2019 = """image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK
ISIC_1,0.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_2_downsampled,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0
ISIC_3,0.0,0.0,0.0,0.0,0.0,0.0,0.0,1.0,0.0
"""
METADATA_2019 = """image,age_approx,anatom_site_general,lesion_id,sex
ISIC_3,55.0,anterior torso,HAM_0000001,female
ISIC_1,30.0,,HAM_0000001,male
ISIC_2_downsampled,,,,
"""


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def root_2017(tmp_path):
    images = tmp_path / "ISIC-2017_Training_Data"
    touch(images, "ISIC_1.jpg", "ISIC_2.jpg", "ISIC_3.JPG", "ISIC_1_superpixels.png")
    masks = tmp_path / "ISIC-2017_Training_Part1_GroundTruth"
    touch(masks, "ISIC_1_segmentation.png", "ISIC_3_segmentation.png")
    (tmp_path / "ISIC-2017_Training_Part3_GroundTruth.csv").write_text(
        "image_id,melanoma,seborrheic_keratosis\n"
        "ISIC_3,0.0,1.0\nISIC_1,0.0,0.0\nISIC_2,1.0,0.0\n"
    )
    return tmp_path


@pytest.fixture
def root_2019(tmp_path):
    images = tmp_path / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input"
    touch(images, "ISIC_1.jpg", "ISIC_2_downsampled.jpg", "ISIC_3.jpg")
    masks = tmp_path / "HAM10000_segmentations_lesion_tschandl"
    touch(masks, "ISIC_2_segmentation.png", "ISIC_3_segmentation.png")
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(TRUTH_2019)
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text(METADATA_2019)
    return tmp_path


def mask_names(table):
    return [path and path.name for path in table.mask_paths]


def test_2017(root_2017):
    table = isic(root_2017)

    assert [path.name for path in table.paths] == [
        "ISIC_3.JPG",
        "ISIC_1.jpg",
        "ISIC_2.jpg",
    ]
    assert table.class_names == ("nevus", "melanoma", "seborrheic_keratosis")
    assert table.labels.tolist() == [2, 0, 1]
    assert table.groups.tolist() == ["ISIC_3", "ISIC_1", "ISIC_2"]
    assert mask_names(table) == [
        "ISIC_3_segmentation.png",
        "ISIC_1_segmentation.png",
        None,
    ]


def test_2019(root_2019):
    table = isic(root_2019)

    assert [path.stem for path in table.paths] == [
        "ISIC_1",
        "ISIC_2_downsampled",
        "ISIC_3",
    ]
    assert table.class_names == ("MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC")
    assert table.labels.tolist() == [1, 0, 7]
    # Two images of one lesion; the image without a lesion is its own group.
    assert table.groups.tolist() == ["HAM_0000001", "ISIC_2_downsampled", "HAM_0000001"]
    assert mask_names(table) == [
        None,
        "ISIC_2_segmentation.png",
        "ISIC_3_segmentation.png",
    ]


def test_one_against_the_rest(root_2017):
    table = isic(root_2017, positive="melanoma")

    assert table.class_names == ("rest", "melanoma")
    assert table.labels.tolist() == [0, 0, 1]


def test_one_against_the_rest_2019(root_2019):
    assert isic(root_2019, 2019, positive="MEL").labels.tolist() == [0, 1, 0]


def test_masks_elsewhere(root_2019, tmp_path):
    touch(tmp_path / "elsewhere", "deep/ISIC_1_segmentation.png")

    table = isic(root_2019, mask_root=tmp_path / "elsewhere")

    assert mask_names(table) == ["ISIC_1_segmentation.png", None, None]


def test_the_same_year_without_masks(root_2017):
    for path in root_2017.glob("*Part1*/*"):
        path.unlink()

    assert mask_names(isic(root_2017)) == [None, None, None]


def test_warns_of_images_in_the_csv_only(root_2017):
    (root_2017 / "ISIC-2017_Training_Data/ISIC_3.JPG").unlink()

    with pytest.warns(
        UserWarning, match=r"1 images in the CSV but.*\['ISIC_3'\]"
    ) as got:
        assert isic(root_2017).labels.tolist() == [0, 1]
    assert Path(got[0].filename) == Path(__file__)


def test_warns_of_images_on_disk_only(root_2017):
    touch(root_2017 / "ISIC-2017_Training_Data", "ISIC_9.jpg")

    with pytest.warns(UserWarning, match=r"1 images on disk but not.*\['ISIC_9'\]"):
        assert len(isic(root_2017)) == 3


@pytest.mark.parametrize(
    "row", ["ISIC_1,0,0,0,0,0,0,0,0,1", "ISIC_1,1,1,0,0,0,0,0,0,0"]
)
def test_warns_of_images_of_no_class_or_two(root_2019, row):
    lines = TRUTH_2019.splitlines()
    lines[1] = row
    (root_2019 / "ISIC_2019_Training_GroundTruth.csv").write_text("\n".join(lines))

    with pytest.warns(UserWarning, match=r"1 images not of exactly one class"):
        assert isic(root_2019).labels.tolist() == [0, 7]


def test_a_half_unpacked_folder(root_2019):
    images = root_2019 / "ISIC_2019_Training_Input" / "ISIC_2019_Training_Input"
    (images / "ISIC_1.jpg").unlink()
    with pytest.warns(UserWarning, match=r"1 images in the CSV but.*\['ISIC_1'\]"):
        assert isic(root_2019).labels.tolist() == [0, 7]
    for path in images.iterdir():
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"Expected 3 images named by ISIC_2019_.*unpacked\?"
    ):
        isic(root_2019)


def test_hidden_files_are_not_images(root_2019):
    """Archives packed on macOS hold a file `._x.jpg` beside x.jpg."""
    touch(root_2019 / "ISIC_2019_Training_Input", "._ISIC_1.jpg", ".ISIC_9.jpg")
    touch(root_2019 / "HAM10000_segmentations_x", "._ISIC_1_segmentation.png")

    table = isic(root_2019)

    assert [path.name[0] for path in table.paths] == ["I", "I", "I"]
    assert mask_names(table)[0] is None


def test_images_that_the_metadata_does_not_know(root_2019):
    lines = METADATA_2019.splitlines()
    (root_2019 / "ISIC_2019_Training_Metadata.csv").write_text("\n".join(lines[:2]))

    with pytest.warns(
        UserWarning, match=r"2 images are not in ISIC_2019_Tr.*first \['ISIC_1'"
    ) as got:
        table = isic(root_2019)
    assert table.groups.tolist() == ["ISIC_1", "ISIC_2_downsampled", "HAM_0000001"]
    assert Path(got[0].filename) == Path(__file__)


def test_metadata_without_lesions(root_2019):
    (root_2019 / "ISIC_2019_Training_Metadata.csv").write_text("image,sex\nISIC_1,f\n")

    with pytest.raises(ValueError, match=r"columns \['image', 'lesion_id'\].*'sex'"):
        isic(root_2019)


def test_an_image_named_twice(root_2019):
    again = TRUTH_2019.splitlines()[1].replace("0.0,1.0", "1.0,0.0", 1)
    (root_2019 / "ISIC_2019_Training_GroundTruth.csv").write_text(TRUTH_2019 + again)

    with pytest.raises(ValueError, match=r"an image once. Received: ISIC_1 twice"):
        isic(root_2019)


def test_all_nine_columns_give_eight_classes_in_their_order(tmp_path):
    """Image k is of class k, as the published one-hot columns say; UNK stays out."""
    names = ["MEL", "NV", "BCC", "AK", "BKL", "DF", "VASC", "SCC"]
    rows = [f"I{k}," + ",".join(f"{k == i:.1f}" for i in range(9)) for k in range(8)]
    rows = [row.replace("True", "1.0").replace("False", "0.0") for row in rows]
    truth = "\n".join([f"image,{','.join(names)},UNK", *rows, ""])
    (tmp_path / "ISIC_2019_Training_GroundTruth.csv").write_text(truth)
    metadata = ["image,lesion_id", *(f"I{k},L{k // 2}" for k in range(8))]
    (tmp_path / "ISIC_2019_Training_Metadata.csv").write_text("\n".join(metadata))
    touch(tmp_path / "ISIC_2019_Training_Input", *(f"I{k}.jpg" for k in range(8)))

    table = isic(tmp_path)

    assert table.class_names == tuple(names)
    assert table.labels.tolist() == list(range(8))
    assert table.groups.tolist() == ["L0", "L0", "L1", "L1", "L2", "L2", "L3", "L3"]
    for part in split_by_group(table, (0.5, 0.5)):  # lesions stay whole
        assert all(np.sum(part.groups == lesion) == 2 for lesion in set(part.groups))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"year": 2018}, "2017 or 2019. Received: 2018"),
        ({"positive": "MEL"}, r"'nevus', 'melanoma'.*Received: 'MEL'"),
    ],
)
def test_rejects(root_2017, kwargs, message):
    with pytest.raises(ValueError, match=message):
        isic(root_2017, **kwargs)


def test_both_years_in_one_folder(root_2017, root_2019):
    with pytest.raises(ValueError, match="say which with `year=`"):
        isic(root_2017)
    assert len(isic(root_2017, 2017)) == len(isic(root_2019, 2019)) == 3


def test_a_csv_with_other_columns(root_2017):
    (root_2017 / "ISIC-2017_Training_Part3_GroundTruth.csv").write_text(
        "image,x\na,1\n"
    )

    with pytest.raises(
        ValueError, match=r"column 'image_id'.*columns \['image', 'x'\]"
    ):
        isic(root_2017)


def test_missing_folders_say_where_the_data_are(tmp_path, root_2019):
    with pytest.raises(FileNotFoundError, match=r"with no folder.*challenge.isic-arch"):
        isic(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"Expected ISIC-2017_Training_Data .*"
                       r"\['HAM10000_segm.*challenge.isic-archive.com"):  # fmt: skip
        isic(root_2019, 2017)
    with pytest.raises(FileNotFoundError, match="`mask_root` must be a folder"):
        isic(root_2019, mask_root=tmp_path / "nowhere")
    (root_2019 / "ISIC_2019_Training_Metadata.csv").unlink()
    with pytest.raises(FileNotFoundError, match="Expected ISIC_2019_Training_Metadata"):
        isic(root_2019)


@pytest.mark.data
def test_real_isic_2017():
    root = Path(os.environ.get("HRCAM_DATA", "")) / "data" / "isic2017"
    if "HRCAM_DATA" not in os.environ or not root.is_dir():
        pytest.skip("set HRCAM_DATA to the folder that holds data/isic2017")

    table = isic(root)

    assert np.bincount(table.labels).tolist() == [1372, 374, 254]
    assert None not in table.mask_paths
    train, test = split_by_group(table)
    assert (len(train), len(test)) == (1600, 400)
    area = load_masks(table.select(range(50)), 64).mean(axis=(1, 2))
    assert 0.01 < np.median(area) < 0.5
