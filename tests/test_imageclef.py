from pathlib import Path

import numpy as np
import pytest

from hrcam.datasets import imageclef, split_by_group
from hrcam.datasets.imageclef import irma_axes

FOLDER = "ImageCLEFmed2009_train.02"
HEADER = (
    "image_id;irma_code;05_class;05_irma_code_submask;06_class;06_irma_code;"
    "07_irma_code;08_irma_code"
)
CODES = {  # region: 50, 41, 50, 91, 41, 3a
    "1880": "1121-127-500-000",
    "2001": "1121-120-413-700",
    "2002": "1123127500000",
    "3": "1121-4a0-914-700",
    "70": "1121-120-415-700",
    "80": "1121-120-3ab-700",
}


def write(root, codes, *, name=lambda number: f"{number}.png", nested=False):
    folder = root / FOLDER / FOLDER if nested else root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    for number in codes:
        (folder / name(number)).touch()
    write_codes(root, codes)
    return root


def write_codes(root, codes, header=HEADER):
    rows = [rf"{number};{code};12;\N;1;\N;\N;\N" for number, code in codes.items()]
    path = root / "ImageCLEFmed2009_train_codes.02.csv"
    path.write_text("\n".join([header, *rows, ""]))


@pytest.fixture
def root(tmp_path):
    return write(tmp_path, CODES)


def stems(table):
    return [path.stem for path in table.paths]


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        lambda number: f"{number}.png",
        lambda number: f"{int(number):08}.png",
        lambda number: f"{int(number):08}.JPG",
    ],
)
def test_regions_of_all_layouts(tmp_path, name, nested):
    table = imageclef(write(tmp_path, CODES, name=name, nested=nested), min_images=1)

    assert [path.name for path in table.paths] == [name(number) for number in CODES]
    assert table.class_names == ("3a", "41 hand", "50 chest", "91 foot")
    assert table.labels.tolist() == [2, 1, 2, 3, 1, 0]
    assert table.labels.dtype == np.int64
    assert table.groups.tolist() == list(CODES)
    assert table.mask_paths == [None] * 6


def test_padded_numbers_in_the_csv(tmp_path):
    root = write(tmp_path, {"7": "1121-120-941-700"})
    write_codes(root, {"00000007": "1121-120-941-700"})

    table = imageclef(root, min_images=1)

    assert (table.class_names, table.groups.tolist()) == (("94 knee",), ["7"])


def test_columns_are_read_by_name(root):
    rows = "".join(f"x;{code};{number}\n" for number, code in CODES.items())
    path = root / "ImageCLEFmed2009_train_codes.02.csv"
    path.write_text("06_class;irma_code;image_id\n" + rows)

    assert imageclef(root, min_images=1).labels.tolist() == [2, 1, 2, 3, 1, 0]


def test_rarer_regions_are_set_aside(root):
    with pytest.warns(
        UserWarning, match=r"2 images of regions of fewer than 2 images.*\['3', '80'\]"
    ) as got:
        table = imageclef(root, min_images=2)
    assert Path(got[0].filename) == Path(__file__)
    assert table.class_names == ("41 hand", "50 chest")
    assert stems(table) == ["1880", "2001", "2002", "70"]
    assert table.labels.tolist() == [1, 0, 1, 0]


def test_fifty_images_are_a_class_unless_told_otherwise(tmp_path):
    codes = {str(number): "1121-127-500-000" for number in range(100, 150)}
    codes |= {str(number): "1121-127-410-000" for number in range(200, 249)}
    root = write(tmp_path, codes)

    with pytest.warns(UserWarning, match="49 images of regions of fewer than 50"):
        table = imageclef(root)
    assert table.class_names == ("50 chest",)
    train, test = split_by_group(table, (0.9, 0.1))
    assert (len(train), len(test)) == (45, 5)


@pytest.mark.parametrize("code", [r"\N", "", " ", "1121-1", "1121-120-41*-700"])
def test_images_without_a_code_are_set_aside(root, code):
    write_codes(root, CODES | {"2001": code})

    with pytest.warns(
        UserWarning, match=r"1 images without an IRMA code, first \['2001'\]"
    ):
        table = imageclef(root, min_images=1)
    assert stems(table) == ["1880", "2002", "3", "70", "80"]


def test_images_without_a_code_do_not_count(root):
    """41 has two images, one of them without a code; 50 has one left on disk."""
    write_codes(root, CODES | {"2001": r"\N", "70": "1121-120-412-700"})

    with (
        pytest.warns(UserWarning, match="without an IRMA code"),
        pytest.warns(UserWarning, match="3 images of regions of fewer than 2"),
    ):
        assert imageclef(root, min_images=2).class_names == ("50 chest",)


def test_images_that_are_not_on_disk_do_not_count(root):
    (root / FOLDER / "2002.png").unlink()

    with (
        pytest.warns(UserWarning, match=r"1 images in the CSV but not.*\['2002'\]"),
        pytest.warns(UserWarning, match="3 images of regions of fewer than 2"),
    ):
        assert imageclef(root, min_images=2).class_names == ("41 hand",)


def test_warns_of_images_on_disk_only(root):
    (root / FOLDER / "00000099.png").touch()

    with pytest.warns(UserWarning, match=r"1 images on disk but not.*\['99'\]"):
        assert len(imageclef(root, min_images=1)) == 6


def test_warns_of_images_on_disk_twice(root):
    (root / FOLDER / "00000070.png").touch()

    with pytest.warns(UserWarning, match=r"1 images on disk twice.*\['70.png'\]"):
        table = imageclef(root, min_images=1)
    assert table.paths[4].name == "00000070.png"
    assert len(table) == 6


@pytest.mark.parametrize(
    ("min_images", "message"),
    [
        (0, "1 or more. Received: 0"),
        (2.5, "whole number, 1 or more. Received: 2.5"),
        (3, r"leave a class. Received: 3; most images have \[\('50', 2\)"),
    ],
)
def test_rejects(root, min_images, message):
    with pytest.raises(ValueError, match=message):
        imageclef(root, min_images=min_images)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image_id,irma_code\n1,2\n", r"by ';' and .*columns \['image_id,irma_code'\]"),
        ("image_id;code\n1;2\n", r"\['image_id', 'irma_code'\].*\['image_id', 'code'"),
        (HEADER + "\n7;\\N\n007;\\N\n", "name an image once. Received: 7 twice"),
    ],
)
def test_a_csv_that_is_not_as_published(root, text, message):
    (root / "ImageCLEFmed2009_train_codes.02.csv").write_text(text)

    with pytest.raises(ValueError, match=message):
        imageclef(root)


def test_missing_files_say_where_to_ask(root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=rf"Expected {FOLDER} in.*no folder.*RWTH-2016-06143"
    ):
        imageclef(tmp_path / "nowhere")
    (root / "ImageCLEFmed2009_train_codes.02.csv").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"Expected ImageCLEFmed2009_train_codes"
    ):
        imageclef(root)


@pytest.mark.parametrize("code", ["112d-1a7-520-3z9", "112d1a75203z9"])
def test_the_axes_of_a_code(code):
    axes = irma_axes(code)

    assert axes == ("112d", "1a7", "520", "3z9")
    assert (axes.technique, axes.direction) == ("112d", "1a7")
    assert (axes.anatomy, axes.biosystem) == ("520", "3z9")


@pytest.mark.parametrize(
    "code",
    [
        *("", r"\N", "1121-127-500", "1121-127-500-00", "1121-127-500-0000"),
        *("1121-127-500-00A", "1121-127-500-00*", "11211-27-500-000"),
        *("1121_127_500_000", "1121-127-500-000\n", "1121-127-500-00٣"),
        *(1121127500000, None),
    ],
)
def test_codes_that_are_none(code):
    with pytest.raises(
        ValueError, match=r"TTTT-DDD-AAA-BBB, 13 characters.*Received: "
    ):
        irma_axes(code)
