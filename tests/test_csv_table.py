from pathlib import Path

import pytest

from hrcam.datasets import csv_table


def written(tmp_path, text):
    path = tmp_path / "list.csv"
    path.write_text(text)
    return path


def test_columns_by_name_relative_to_the_csv(tmp_path):
    path = written(
        tmp_path,
        "group,label,note,mask,image\n"
        "p2,sick,x,m/1.png,a/1.png\n"
        ",well,,,a/2.png\n"
        f"p2,sick,,,{Path('/elsewhere/3.png')}\n",
    )

    table = csv_table(path)

    assert table.class_names == ("sick", "well")
    assert table.labels.tolist() == [0, 1, 0]
    assert table.groups.tolist() == ["p2", "a/2.png", "p2"]
    assert table.paths[:2] == [tmp_path / "a/1.png", tmp_path / "a/2.png"]
    assert table.paths[2] == Path("/elsewhere/3.png")
    assert table.mask_paths == [tmp_path / "m/1.png", None, None]


def test_numbers_are_sorted_by_value_and_names_can_be_given(tmp_path):
    path = written(tmp_path, "image,label\n1.png,10\n2.png,9\n3.png,10\n")

    table = csv_table(path)

    assert table.class_names == ("9", "10")
    assert table.labels.tolist() == [1, 0, 1]
    assert table.mask_paths == [None] * 3
    assert csv_table(path, class_names=("10", "9", "8")).labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image\n1.png\n", "columns"),
        ("image,label\n", "0 rows"),
        ("image,label\n,a\n", "1 of them without an image"),
        ("image,label\n1.png,\n", r"Received: \[''\]"),
    ],
)
def test_bad_csv_is_explained(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        csv_table(written(tmp_path, text))


def test_unknown_label_and_missing_file(tmp_path):
    path = written(tmp_path, "image,label\n1.png,a\n2.png,b\n")
    with pytest.raises(ValueError, match=r"among \('a', 'c'\). Received: \['b'\]"):
        csv_table(path, class_names=("a", "c"))
    with pytest.raises(FileNotFoundError, match="must be a CSV file"):
        csv_table(tmp_path / "none.csv")
