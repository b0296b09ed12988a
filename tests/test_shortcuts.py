import numpy as np
import pytest

from hrcam.metrics import energy_inside
from hrcam.regions import frame_mask
from hrcam.shortcuts import Share, region_shares, shortcut_table

# 4x4, by hand: the left half has 1 + 2 + 3 = 6 of 8, the corner pixel 1, the bottom
# row 3 + 2 = 5; negative values are left out.
MAP = np.array([[1, -9, 0, 0], [2, 0, 0, -1], [0, 0, 0, 0], [3, 0, 0, 2]], float)


def region(rows, columns):
    mask = np.zeros((4, 4), bool)
    mask[rows, columns] = True
    return mask


LEFT = region(slice(None), slice(2))
CORNER = region(0, 0)
BOTTOM = region(3, slice(None))


def maps_with_share(*shares):
    """One map a share: so much on the left half, the rest on the right one."""
    maps = np.zeros((len(shares), 4, 4))
    for one, share in zip(maps, shares, strict=True):
        one[1, 1], one[1, 3] = share, 1 - share
    return maps


def repeat(mask, count):
    return np.repeat(mask[None], count, axis=0)


# ---------------------------------------------------------------------- region_shares


def test_shares_by_hand():
    regions = {"left": LEFT, "corner": CORNER, "bottom": BOTTOM}

    shares = region_shares(MAP[None], {k: v[None] for k, v in regions.items()})

    assert list(shares) == ["left", "corner", "bottom"]
    assert {k: (s.share[0], s.area[0]) for k, s in shares.items()} == {
        "left": (6 / 8, 8 / 16),
        "corner": (1 / 8, 1 / 16),
        "bottom": (5 / 8, 4 / 16),  # they overlap: 12/8 in all
    }
    # 6/8 : 1/2, 1/8 : 1/16, 5/8 : 1/4
    found = [share.enrichment[0] for share in shares.values()]
    assert found == [1.5, 2, 2.5]


def test_shares_are_the_energy_inside():
    rng = np.random.default_rng(0)
    maps, mask = rng.normal(size=(5, 6, 7)), rng.random((5, 6, 7)) > 0.6
    given = maps.copy(), mask.copy()

    shares = region_shares(maps, {"in": mask, "out": ~mask})

    np.testing.assert_array_equal(shares["in"].share, energy_inside(maps, mask))
    for values, one, found in zip(maps, mask, shares["in"].share, strict=True):
        positive = values[values > 0]
        assert found == pytest.approx(values[one & (values > 0)].sum() / positive.sum())
    # A region and the rest make up the map and the image.
    np.testing.assert_allclose(shares["in"].share + shares["out"].share, 1)
    np.testing.assert_allclose(shares["in"].area + shares["out"].area, 1)
    np.testing.assert_array_equal(maps, given[0])
    np.testing.assert_array_equal(mask, given[1])


def test_constant_map_has_enrichment_1_everywhere():
    regions = {"left": LEFT[None], "corner": CORNER[None], "all": LEFT[None] | True}

    for share in region_shares(np.full((1, 4, 4), 7), regions).values():
        assert share.share == share.area
        assert share.enrichment == 1


def test_map_without_a_positive_pixel_is_nan():
    maps = np.stack([MAP, np.zeros((4, 4)), -np.ones((4, 4))])

    shares = region_shares(maps, {"left": repeat(LEFT, 3)})["left"]

    np.testing.assert_array_equal(np.isnan(shares.share), [False, True, True])
    np.testing.assert_array_equal(np.isnan(shares.enrichment), [False, True, True])
    np.testing.assert_array_equal(shares.area, [0.5] * 3)


def test_empty_region_has_no_enrichment():
    (share,) = region_shares(MAP[None], {"none": LEFT[None] & False}).values()

    assert (share.share, share.area) == (0, 0)
    assert np.isnan(share.enrichment)  # and no warning: 0/0 is not computed


# --------------------------------------------------------------------- shortcut_table


def test_row_by_hand():
    regions = {"mask": LEFT[None], "corner": CORNER[None]}

    table = shortcut_table(MAP[None], ["b"], regions)

    # Outside the left half lie 2 of 8, on half of the pixels.
    assert table.rows == [
        {
            "image": 0,
            "class": "b",
            "outside mask share": 0.25,
            "outside mask area": 0.5,
            "outside mask enrichment": 0.5,
            "mask share": 0.75,
            "mask area": 0.5,
            "mask enrichment": 1.5,
            "corner share": 0.125,
            "corner area": 0.0625,
            "corner enrichment": 2.0,
        }
    ]
    assert list(table.rows[0])[2] == "outside mask share"  # the one that decides
    assert table.rank_by == "outside mask"


def test_worst_first_ties_in_the_order_given_and_nan_last():
    inside = (0.5, 0.25, 1, 0.25, 0, 0.5, 0.25)
    maps = maps_with_share(*inside)
    maps[4] = -1

    table = shortcut_table(maps, np.zeros(7, int), {"mask": repeat(LEFT, 7)})

    # Outside: .5, .75, 0, .75, NaN, .5, .75
    assert table.order.tolist() == [1, 3, 6, 0, 5, 2, 4]
    assert [row["image"] for row in table.rows] == [1, 3, 6, 0, 5, 2, 4]
    found = [row["outside mask share"] for row in table.rows]
    np.testing.assert_array_equal(found, [0.75, 0.75, 0.75, 0.5, 0.5, 0, np.nan])


def test_rank_by_a_suspicious_region():
    maps = maps_with_share(0.25, 1, 0.5)
    regions = {"body": repeat(~LEFT, 3), "letters": repeat(LEFT, 3)}

    for expected in ("body", None):
        table = shortcut_table(
            maps, list("abc"), regions, expected=expected, rank_by="body"
        )
        assert table.order.tolist() == [0, 2, 1]
        assert table.rank_by == "body"
        assert list(table.rows[0])[2] == "body share"
        assert ("outside body share" in table.rows[0]) == (expected == "body")
    table = shortcut_table(maps, list("abc"), regions, expected=None, rank_by="letters")
    assert table.order.tolist() == [1, 2, 0]
    found = [key for key in table.rows[0] if key.endswith(" share")]
    assert found == ["letters share", "body share"]


def test_image_whose_region_says_nothing_comes_after_the_others():
    maps = maps_with_share(0.5, 0.5, 0.5, 0.9, 0.5)
    maps[0] = 0
    masks = repeat(LEFT, 5)
    masks[0], masks[1], masks[2] = False, True, False  # outside: all, none, all

    table = shortcut_table(maps, list("baabb"), {"mask": masks})

    # Ranked .5 (4) and .1 (3); then 1 and 2, then 0 without a positive pixel.
    assert table.order.tolist() == [4, 3, 1, 2, 0]
    assert table.rows[3]["outside mask share"] == 1  # stays as it is
    assert [list(row.values())[:4] for row in table.classes] == [
        ["b", 3, 1, 0],
        ["a", 2, 0, 2],
    ]


def test_classes_by_hand():
    # Outside, class 1: .1 .2 .4 .8 and one NaN; class 2: .5; class 0: NaN alone.
    maps = maps_with_share(0.9, 0.5, 0.8, 0.6, 0.2, 0, 0)
    maps[5:] = -1
    names = ("none", "four", "one", "not there")
    labels = [1, 2, 1, 1, 1, 1, 0]

    regions = {"mask": repeat(LEFT, 7)}
    classes = shortcut_table(maps, labels, regions, class_names=names).classes

    assert list(classes[0]) == [
        "class",
        *("images", "undefined", "no region"),
        *("quartile 1", "median", "quartile 3", "median area", "median enrichment"),
    ]
    found = [list(row.values()) for row in classes]
    assert [row[:4] for row in found] == [
        ["one", 1, 0, 0],
        ["four", 5, 1, 0],
        ["none", 1, 1, 0],
    ]
    np.testing.assert_allclose(
        [row[4:] for row in found],
        [
            [0.5, 0.5, 0.5, 0.5, 1],
            # places .75, 1.5, 2.25 of .1 .2 .4 .8: .1 + .75 * .1, .3, .4 + .25 * .4;
            # enrichments .2 .4 .8 1.6
            [0.175, 0.3, 0.5, 0.5, 0.6],
            [np.nan] * 5,
        ],
    )


def test_median_enrichment_is_not_that_of_the_medians():
    maps = maps_with_share(0.9, 0.6, 0.5)  # outside .1, .4, .5
    masks = repeat(LEFT, 3)
    masks[0] = True
    masks[0, 1, 3] = False  # one pixel outside: area 1/16, enrichment 1.6

    (row,) = shortcut_table(maps, list("aaa"), {"mask": masks}).classes

    # Shares .1 .4 .5, areas 1/16 1/2 1/2, enrichments 1.6 .8 1.
    assert row["median"] == pytest.approx(0.4)
    assert row["median area"] == 0.5
    assert row["median enrichment"] == pytest.approx(1)


def test_equal_medians_keep_the_order_of_the_images():
    maps = maps_with_share(0.5, 0.5, 0.5)

    table = shortcut_table(maps, list("bac"), {"mask": repeat(LEFT, 3)})

    assert [row["class"] for row in table.classes] == ["b", "a", "c"]


def test_ids():
    maps = maps_with_share(0.9, 0.1)
    regions = {"mask": repeat(LEFT, 2)}

    found = shortcut_table(maps, [0, 1], regions, ids=["first", "second"]).rows

    assert [row["image"] for row in found] == ["second", "first"]


# -------------------------------------------------------------------------- frame_mask


def test_frame_is_dark_corners_and_the_band():
    images = np.full((2, 20, 10, 3), 0.8)
    images[0, :3, :3] = 0.1  # a corner
    images[0, 8:11, 4:6] = 0.1  # a lesion: not at the border
    images[0, 3, 3] = 0.1  # touches the corner by its edge only
    images[1, 8:11, 4:6] = 0.1  # a lesion where image 0 has one, too
    images[1, 19, 5] = (0.1, 0.1, 0.25)  # mean .15: not below the threshold

    corners = np.zeros((2, 20, 10), bool)
    corners[0, :3, :3] = True
    np.testing.assert_array_equal(frame_mask(images, border=0), corners)

    # 0.1 of 20 rows and of 10 columns: 2 and 1.
    band = np.ones((20, 10), bool)
    band[2:-2, 1:-1] = False
    np.testing.assert_array_equal(frame_mask(images, border=0.1), corners | band)


def test_frame_does_not_run_from_image_to_image():
    images = np.full((2, 8, 8, 1), 0.5)
    images[0] = 0
    images[1, 3:5, 3:5] = 0

    found = frame_mask(images, border=0)

    assert found[0].all()
    assert not found[1].any()


def test_frame_threshold():
    images = np.full((1, 8, 8, 1), 0.5)
    images[0, 0] = 0.3

    assert not frame_mask(images, border=0).any()
    found = frame_mask(images, threshold=0.31, border=0)
    np.testing.assert_array_equal(found.any(axis=2), [[True, *[False] * 7]])


# ------------------------------------------------------------------------------ errors

GOOD = {"mask": LEFT[None]}


@pytest.mark.parametrize(
    ("maps", "regions", "error", "message"),
    [
        (MAP[None], LEFT[None], TypeError, "`regions` must be a dict.*ndarray"),
        (MAP[None], {}, ValueError, "at least one region. Received: an empty dict"),
        (MAP, GOOD, ValueError, r"`maps` .*Received: \(4, 4\).*maps\[None\]"),
        (MAP[None][:0], GOOD, ValueError, r"Received: \(0, 4, 4\)"),
        (MAP[None], {"a": LEFT}, ValueError, r"regions\['a'\].*\(1, 4, 4\).*\(4, 4\)"),
        (MAP[None], {"a": 1 * LEFT[None]}, ValueError, "bool.*int64.*region > 0"),
        (MAP[None] * np.nan, GOOD, ValueError, "`maps` must be finite.*1 maps"),
        (MAP[None] * 1j, GOOD, ValueError, "`maps` must be real.*complex128"),
    ],
)
def test_rejects_maps_and_regions(maps, regions, error, message):
    with pytest.raises(error, match=message):
        region_shares(maps, regions)
    with pytest.raises(error, match=message):
        shortcut_table(
            maps, [0], regions, expected=None, rank_by=next(iter(regions), 0)
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"expected": "lesion"}, r"`expected`.*\['mask'\].*'lesion'"),
        ({"expected": None}, r"`rank_by`.*\['mask'\]. Received: None"),
        ({"rank_by": "ruler"}, r"\['outside mask', 'mask'\]. Received: 'ruler'"),
        ({"labels": [0, 1]}, r"each of the 1 maps.*\(2,\)"),
        ({"labels": [[0, 1]]}, r"\(1, 2\).*argmax"),
        ({"ids": ["a", "b"]}, "`ids`.*each of the 1 maps. Received: 2"),
        ({"class_names": []}, "`labels` must be integers from 0 to -1"),
        ({"labels": [-1], "class_names": ["a"]}, r"from 0 to 0.*\[-1\]"),
        ({"labels": [1], "class_names": ["a"]}, r"Received: \[1\]"),
        ({"labels": ["a"], "class_names": ["a"]}, r"Received: \['a'\]"),
    ],
)
def test_table_rejects(options, message):
    options = {"labels": [0]} | options
    with pytest.raises(ValueError, match=message):
        shortcut_table(MAP[None], regions=GOOD, **options)


def test_name_that_is_made_here_is_rejected():
    regions = GOOD | {"outside mask": LEFT[None]}
    with pytest.raises(ValueError, match=r"must not have 'outside mask'.*Rename"):
        shortcut_table(MAP[None], [0], regions)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.zeros((8, 8, 1)), {}, r"Received: \(8, 8, 1\)"),
        (np.zeros((0, 8, 8, 1)), {}, r"Received: \(0, 8, 8, 1\)"),
        (np.full((1, 8, 8, 1), 255), {}, "from 255 to 255. Divide"),
        (np.full((1, 8, 8, 1), np.nan), {}, "from nan"),
        (np.zeros((1, 8, 8, 1)), {"threshold": 1.1}, "Received: 1.1 and 0.03"),
        (np.zeros((1, 8, 8, 1)), {"border": 0.5}, "Received: 0.15 and 0.5"),
    ],
)
def test_frame_rejects(images, options, message):
    with pytest.raises(ValueError, match=message):
        frame_mask(images, **options)


def test_share_is_a_pair():
    share = Share(np.array([0.5]), np.array([0.25]))
    assert share == (np.array([0.5]), np.array([0.25]))
    assert share.enrichment == 2
