from pathlib import Path

import numpy as np
import pytest

from hrcam.datasets import mura, split_by_group

IMAGES = {
    "train": [
        "XR_SHOULDER/patient00001/study1_positive/image1.png",
        "XR_SHOULDER/patient00001/study1_positive/image2.png",
        "XR_WRIST/patient00001/study1_negative/image1.png",
        "XR_WRIST/patient00002/study1_positive/image1.png",
        "XR_WRIST/patient00002/study2_negative/image1.png",
    ],
    "valid": ["XR_WRIST/patient11185/study1_positive/image1.png"],
}


def write(root):
    """The published layout."""
    for split, names in IMAGES.items():
        for name in names:
            path = root / split / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        write_csvs(root, split, names)
    return root


def write_csvs(root, split, names):
    names = [f"MURA-v1.1/{split}/{name}" for name in names]
    (root / f"{split}_image_paths.csv").write_text("\n".join([*names, ""]))
    studies = dict.fromkeys(name.rsplit("/", 1)[0] for name in names)
    rows = [f"{study}/,{int('positive' in study)}" for study in studies]
    (root / f"{split}_labeled_studies.csv").write_text("\n".join([*rows, ""]))


@pytest.fixture
def root(tmp_path):
    return write(tmp_path / "MURA-v1.1")


def names(table, root):
    return [path.relative_to(root / "train").as_posix() for path in table.paths]


def test_images_labels_and_patients(root):
    table = mura(root)

    assert names(table, root) == IMAGES["train"]
    assert table.class_names == ("normal", "abnormal")
    assert table.labels.tolist() == [1, 1, 0, 1, 0]
    assert table.labels.dtype == np.int64
    one, two = "patient00001", "patient00002"
    assert table.groups.tolist() == [one, one, one, two, two]
    assert table.mask_paths == [None] * 5
    # One patient's shoulder and wrist never lie on both sides of a split.
    for part in split_by_group(table, (0.5, 0.5)):
        assert len(set(part.groups)) == 1


def test_the_folder_around_it_and_a_renamed_one(root):
    assert mura(root.parent).paths == mura(root).paths
    renamed = root.rename(root.parent / "mura")
    assert names(mura(renamed), renamed) == IMAGES["train"]


def test_the_other_split(root):
    table = mura(root, "valid")

    assert table.groups.tolist() == ["patient11185"]
    assert table.labels.tolist() == [1]
    assert not set(table.groups) & set(mura(root, "train").groups)


def test_parts(root):
    table = mura(root, parts=("WRIST",))

    assert names(table, root) == IMAGES["train"][2:]
    assert table.labels.tolist() == [0, 1, 0]
    both = mura(root, parts=("WRIST", "SHOULDER"))
    assert names(both, root) == IMAGES["train"]


def test_the_label_is_that_of_the_csv_not_of_the_folder(root):
    path = root / "train_labeled_studies.csv"
    path.write_text(
        path.read_text().replace("study1_positive/,1", "study1_positive/,0")
    )

    assert mura(root).labels.tolist() == [0] * 5


def test_hidden_files_are_not_images(root):
    folder = root / "train" / "XR_WRIST" / "patient00002" / "study1_positive"
    (folder / "._image1.png").touch()
    (root / "train" / "XR_WRIST" / "._patient00002").touch()

    assert names(mura(root), root) == IMAGES["train"]


def test_a_half_unpacked_folder(root):
    mura(root).paths[3].unlink()

    with pytest.warns(
        UserWarning, match=r"1 images in the CSV but not on disk.*patient00002/study1"
    ) as got:
        assert mura(root).labels.tolist() == [1, 1, 0, 0]
    assert Path(got[0].filename) == Path(__file__)
    for path in (root / "train" / "XR_WRIST").rglob("*.png"):
        path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"Expected 3 images named by train_im.*is the archive"
    ):
        mura(root, parts=("WRIST",))


def test_warns_of_images_on_disk_only(root):
    extra = root / "train" / "XR_WRIST" / "patient00003" / "study1_negative"
    extra.mkdir(parents=True)
    (extra / "image1.png").touch()

    with pytest.warns(UserWarning, match=r"1 images on disk but not.*patient00003"):
        assert len(mura(root)) == 5


def test_a_study_without_a_label_is_set_aside(root):
    path = root / "train_labeled_studies.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join(rows[1:]))

    with pytest.warns(UserWarning, match=r"2 images of a study without a label"):
        assert mura(root).labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"split": "test"}, r"one of \('train', 'valid'\). Received: 'test'"),
        ({"parts": ("KNEE",)}, r"'ELBOW', 'FINGER'.*Received: \('KNEE',\)"),
        ({"parts": "WRIST"}, r"in a tuple. Received: 'WRIST'"),
        ({"parts": ()}, r"Received: \(\)"),
    ],
)
def test_rejects(root, kwargs, message):
    with pytest.raises(ValueError, match=message):
        mura(root, **kwargs)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("image_paths", "", "1 columns and no header. Received: no row"),
        ("image_paths", "a,b\n", r"Received: \['a', 'b'\]"),
        ("image_paths", "train/x.png\n", "split/XR_PART/patient.*'train/x.png'"),
        ("image_paths", "M/t/X/p/s/i.png\nM/t/X/p/s/i.png\n", "once.*i.png twice"),
        ("labeled_studies", "M/t/XR_HAND/p/s/,2\n", "labels 0 or 1. Received: '2'"),
        ("labeled_studies", "M/t/XR_HAND/p/s/\n", "2 columns and no header"),
    ],
)
def test_csvs_that_are_not_as_published(root, name, text, message):
    (root / f"train_{name}.csv").write_text(text)

    with pytest.raises(ValueError, match=message):
        mura(root)


def test_missing_files_say_where_to_ask(root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"train_image_paths.csv.*no folder.*stanfordmlgroup"
    ):
        mura(tmp_path / "nowhere")
    (root / "valid").rename(root / "elsewhere")
    with pytest.raises(FileNotFoundError, match=r"Expected valid in `root`.*stanford"):
        mura(root, "valid")
    (root / "train_labeled_studies.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"Expected train_labeled_studies.csv"):
        mura(root)
