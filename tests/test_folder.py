from pathlib import Path

import cv2
import numpy as np
import pytest

from hrcam.datasets import folder, load_images


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "images"
    touch(root, "tumour/b.PNG", "tumour/p1/day2/a.bmp", "tumour/p1/a.jpeg")
    touch(root, "normal/a.jpg")
    return root


def names(table, root):
    return [path.relative_to(root).as_posix() for path in table.paths]


def test_one_folder_a_class(root):
    table = folder(root)

    assert names(table, root) == [
        "normal/a.jpg",
        "tumour/b.PNG",
        "tumour/p1/a.jpeg",
        "tumour/p1/day2/a.bmp",
    ]
    assert table.class_names == ("normal", "tumour")
    assert table.labels.tolist() == [0, 1, 1, 1]
    assert table.labels.dtype == np.int64
    assert table.groups.tolist() == names(table, root)  # "a" alone would be three
    assert table.mask_paths == [None] * 4


def test_classes_in_an_order_of_their_own(root):
    table = folder(str(root), class_names=["tumour", "normal"])

    assert table.class_names == ("tumour", "normal")
    assert table.labels.tolist() == [0, 0, 0, 1]
    assert names(table, root)[-1] == "normal/a.jpg"


def test_groups_of_ones_own(root):
    table = folder(root, group_of=lambda path: path.stem)

    assert table.groups.tolist() == ["a", "b", "a", "a"]
    with pytest.raises(ValueError, match=r"no group in rows \[0, 1, 2, 3\]"):
        folder(root, group_of=lambda path: None)


def test_a_class_folder_may_be_a_link(root, tmp_path):
    touch(tmp_path / "elsewhere", "deep/c.png")
    (root / "linked").symlink_to(tmp_path / "elsewhere")

    assert names(folder(root), root)[0] == "linked/deep/c.png"


@pytest.mark.parametrize("ending", [".jpg", ".jpeg", ".png", ".bmp"])
def test_what_is_listed_can_be_read(tmp_path, ending):
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a" / f"x{ending}"), np.full((2, 2), 255, np.uint8))

    np.testing.assert_array_equal(load_images(folder(tmp_path), 2, 1), 1)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tumour/.b.png", "1 files that are hidden"),
        ("tumour/.cache/b.png", "1 files that are hidden"),
        (".git/b.png", "1 files that are hidden"),
        (".DS_Store", "1 files that are hidden"),
        ("tumour/b.txt", "1 files that are not .jpg, .*, .bmp, .tif, .*, .ima"),
        ("tumour/p1/b.nii", "1 files that are not .jpg, .*, .ima"),
        ("b.png", "1 files that are in no class folder"),
        ("labels.csv", "1 files that are in no class folder"),
    ],
)
def test_warns_of_what_is_set_aside(root, name, message):
    touch(root, name)

    with pytest.warns(UserWarning, match=rf"{message}, first \['{name}'\]") as got:
        table = folder(root)
    assert len(got) == 1
    assert Path(got[0].filename) == Path(__file__)
    assert (len(table), table.class_names) == (4, ("normal", "tumour"))


def test_warns_of_folders_that_are_not_asked_for(root):
    with pytest.warns(UserWarning, match=r"3 files that are in no class folder"):
        assert folder(root, class_names=["normal"]).labels.tolist() == [0]


def test_a_class_without_an_image(root):
    (root / "none").mkdir()

    with pytest.raises(ValueError, match=r"hold an image .*Received: none in \['none'"):
        folder(root)
    assert len(folder(root, class_names=("normal", "tumour"))) == 4


@pytest.mark.filterwarnings("ignore:Set aside")
def test_a_class_of_other_files_only(root):
    touch(root, "none/a.txt", "none/.b.png")

    with pytest.raises(ValueError, match=r"none in \['none'\]"):
        folder(root)


@pytest.mark.parametrize(
    "class_names", [["normal", "x"], ["normal", "normal"], [], ["../images"], [".git"]]
)
def test_class_names_that_are_not_there(root, class_names):
    touch(root, ".git/a.png")

    with pytest.raises(ValueError, match=r"\['normal', 'tumour'\]. Received: \["):
        folder(root, class_names=class_names)


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"`root` must be a folder.*nowhere"):
        folder(tmp_path / "nowhere")
    touch(tmp_path, "a.png", ".git/b.png")
    with pytest.raises(FileNotFoundError, match="Received: no sub-folder"):
        folder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must be a folder.*a\.png"):
        folder(tmp_path / "a.png")
