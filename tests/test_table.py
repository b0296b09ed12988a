from pathlib import Path

import numpy as np
import pytest

from hrcam.datasets import ImageTable, split_by_group


def make_table(labels, groups, class_names=("normal", "tumour")):
    paths = [f"{i}.png" for i in range(len(labels))]
    return ImageTable(paths, labels, groups, class_names)


def lesions(num_groups=60, seed=0):
    """1 to 4 images a group, one fifth of the groups of class 1."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(num_groups), rng.integers(1, 5, num_groups))
    return make_table((groups % 5 == 0).astype(int), groups)


def test_columns_have_their_types():
    table = ImageTable(
        ["a.png", "b.png"], [0, 1], [7, "x"], ["n", "t"], ["m.png", None]
    )

    assert table.paths == [Path("a.png"), Path("b.png")]
    assert table.labels.dtype == np.int64
    assert table.groups.tolist() == ["7", "x"]
    assert table.class_names == ("n", "t")
    assert table.mask_paths == [Path("m.png"), None]


def test_unpacks_in_the_order_of_the_contract_and_counts_images():
    table = make_table([0, 1, 1], "abc")

    paths, labels, groups, class_names, mask_paths = table

    assert len(table) == 3
    assert (paths, class_names) == (table.paths, ("normal", "tumour"))
    assert labels is table.labels
    assert groups is table.groups
    assert mask_paths == [None, None, None]


@pytest.mark.parametrize(
    "rows", [[2, 0], np.array([2, 0], np.uint8), np.array([-1, -3])]
)
def test_select_by_number_keeps_rows_together(rows):
    part = ImageTable("abc", [0, 1, 1], "xyz", ("n", "t"), ["p", None, "r"]).select(
        rows
    )

    assert [path.name for path in part.paths] == ["c", "a"]
    assert part.labels.tolist() == [1, 0]
    assert part.groups.tolist() == ["z", "x"]
    assert part.mask_paths == [Path("r"), Path("p")]


def test_select_by_bool():
    table = make_table([0, 1, 1], "abc")

    assert table.select([True, False, True]).groups.tolist() == ["a", "c"]
    assert len(table.select([])) == 0


@pytest.mark.parametrize("rows", [[True, False], [0.0, 1.0], [[0], [1]], 1])
def test_select_rejects(rows):
    with pytest.raises(ValueError, match=r"row numbers, or 3 bools.*Received: "):
        make_table([0, 1, 1], "abc").select(rows)


def test_cannot_be_changed():
    with pytest.raises(AttributeError):
        make_table([0], "a").labels = np.array([1])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (("ab", [0], "xy", "nt"), r"'paths': 2, 'labels': 1, 'groups': 2"),
        (("a", [0], "x", "nt", []), r"'mask_paths': 0"),
        (("ab", [0, 2], "xy", "nt"), r"the 2 `class_names`. Received: \[2\]"),
        (("ab", [0, -1], "xy", "nt"), r"Received: \[-1\]"),
        (("ab", [0.0, 1.0], "xy", "nt"), "integers.*Received: float64"),
        (("ab", [[0], [1]], "xy", "nt"), r"shape \(2, 1\)"),
        (("ab", [0, 1], ["x", None], "nt"), r"no group in rows \[1\]"),
        (("ab", [0, 1], ["x", ""], "nt"), r"no group in rows \[1\]"),
        (("ab", [0, 1], [float("nan"), "x"], "nt"), r"no group in rows \[0\]"),
    ],
)
def test_rejects_columns_that_disagree(columns, message):
    with pytest.raises(ValueError, match=message):
        ImageTable(*columns)


@pytest.mark.parametrize("fractions", [(0.8, 0.2), (0.7, 0.15, 0.15), (0.25,) * 4])
def test_split_keeps_groups_whole_and_shares_close(fractions):
    table = lesions()

    parts = split_by_group(table, fractions)

    groups = [set(part.groups) for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups)) == 60
    names = sorted(path.name for part in parts for path in part.paths)
    assert names == sorted(path.name for path in table.paths)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) / len(table) - fraction) < 0.05
        assert abs(part.labels.mean() - table.labels.mean()) < 0.05


def test_split_keeps_the_order_of_the_images():
    for part in split_by_group(lesions(), (0.5, 0.5)):
        numbers = [int(path.stem) for path in part.paths]
        assert numbers == sorted(numbers)


def test_split_is_a_function_of_the_seed():
    table = lesions()
    first, again, other = (
        split_by_group(table, seed=seed)[1].groups.tolist() for seed in (0, 0, 1)
    )

    assert first == again
    assert first != other


@pytest.mark.parametrize("fractions", [(0.9, 0.1), (0.99, 0.01), (0.6, 0.2, 0.2)])
@pytest.mark.parametrize("num_groups", [3, 4, 5, 11])
def test_no_part_of_a_small_table_is_empty(fractions, num_groups):
    table = make_table([i % 2 for i in range(num_groups)], range(num_groups))

    parts = split_by_group(table, fractions)

    assert all(len(part) for part in parts)
    assert len(parts[0]) == max(len(part) for part in parts)


def test_split_of_a_class_with_one_image():
    parts = split_by_group(make_table([0] * 9 + [1], range(10)), (0.5, 0.5))

    assert [len(part) for part in parts] == [5, 5]


def test_split_in_one():
    assert len(split_by_group(lesions(), [1.0])[0]) == len(lesions())


@pytest.mark.parametrize(
    ("fractions", "message"),
    [
        ((0.8, 0.1), r"sum to 1.*Received: \(0.8, 0.1\)"),
        ((1.2, -0.2), "positive"),
        ((1.0, 0.0), "positive"),
        ((np.nan, 1.0), "positive"),
        ((), "sum to 1"),
        ((0.5, 0.3, 0.2), "3 parts need at least 3 groups. Received: 2 groups in 4"),
    ],
)
def test_split_rejects(fractions, message):
    with pytest.raises(ValueError, match=message):
        split_by_group(make_table([0, 0, 1, 1], "aabb"), fractions)


def test_thirds_sum_to_1_within_rounding():
    assert [len(p) for p in split_by_group(make_table([0] * 6, range(6)), [1 / 3] * 3)]
