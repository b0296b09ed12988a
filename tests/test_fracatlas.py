import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hrcam.datasets import drop_unreadable, fracatlas, load_masks, split_by_group
from hrcam.datasets._polygons import draw_polygons, jpeg_size, read_coco, write_mask

HEADER = "image_id,hand,leg,hip,shoulder,mixed,hardware,multiscan,fractured,frontal\n"
ROWS = [
    "IMG0000003.jpg,1,0,0,0,0,0,1,1,1",
    "IMG0000024.jpg,0,1,0,0,0,0,1,0,1",
    "IMG0000025.jpg,0,0,1,0,0,0,1,0,1",
    "IMG0000049.jpg,0,0,0,1,0,1,1,1,1",
    "IMG0000050.jpg,1,1,0,0,1,0,1,1,1",  # two regions
    "IMG0000051.jpg,0,1,0,0,1,0,1,0,1",  # one, but marked mixed
    "IMG0000052.jpg,0,0,0,0,0,0,1,0,1",  # none
]
HEIGHT, WIDTH = 8, 10
PARTS = ["IMG0000003", "IMG0000024", "IMG0000025", "IMG0000049"]
BOX = [4, 4, 12, 4, 12, 10, 4, 10]  # in an original twice as high and wide


def polygons(*rings_of_image, size=(2 * WIDTH, 2 * HEIGHT)):
    """COCO of (file name, polygon, polygon, ...); the ids are not their places."""
    images = [
        {"id": 70 - i, "file_name": name, "width": size[0], "height": size[1]}
        for i, (name, *_) in enumerate(rings_of_image)
    ]
    annotations = [
        {"id": 0, "image_id": 70 - i, "category_id": 0, "segmentation": [ring]}
        for i, (_, *rings) in enumerate(rings_of_image)
        for ring in rings
    ]
    return {"images": images, "annotations": annotations}


def write_csv(root, rows):
    (root / "dataset.csv").write_text(HEADER + "\n".join(rows) + "\n")


def write_json(root, coco):
    path = root / "Annotations" / "COCO JSON" / "COCO_fracture_masks.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(coco if isinstance(coco, str) else json.dumps(coco))


def image_path(root, number, fractured):
    folder = "Fractured" if fractured else "Non_fractured"
    return root / "images" / folder / f"IMG{number:07}.jpg"


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "FracAtlas"
    for row in ROWS:
        path = image_path(root, int(row[3:10]), row.split(",")[8] == "1")
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH), np.uint8))
    write_csv(root, ROWS)
    write_json(root, polygons(("IMG0000049.jpg", BOX), ("IMG0000003.jpg", BOX)))
    return root


def stems(table):
    return [path.stem for path in table.paths]


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_body_part(root):
    table = fracatlas(root)

    assert stems(table) == PARTS
    assert table.class_names == ("hand", "leg", "hip", "shoulder")
    assert table.labels.tolist() == [0, 1, 2, 3]
    assert table.labels.dtype == np.int64
    assert table.groups.tolist() == ["0", "0", "1", "1"]  # 3, 24 | 25, 49
    assert table.mask_paths == [None] * 4
    assert table.paths[0] == root / "images" / "Fractured" / "IMG0000003.jpg"
    assert table.paths[1] == root / "images" / "Non_fractured" / "IMG0000024.jpg"


def test_fracture(root):
    table = fracatlas(root, "fracture")

    assert len(table) == 7
    assert table.class_names == ("not fractured", "fractured")
    assert table.labels.tolist() == [1, 0, 0, 1, 1, 0, 0]


def test_groups_are_blocks_of_numbers(root):
    blocks = fracatlas(root, "fracture", block_size=10).groups

    assert blocks.tolist() == ["0", "2", "2", "4", "5", "5", "5"]
    parts = split_by_group(fracatlas(root, "fracture", block_size=10), (0.5, 0.5))
    assert not set(parts[0].groups) & set(parts[1].groups)


def test_masks_of_half_the_size(root, tmp_path):
    masks = tmp_path / "deep" / "masks"

    table = fracatlas(root, mask_dir=masks)

    # [4, 12] x [4, 10] of the original is [2, 6] x [2, 5] here: 4 x 3 pixels.
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[2:5, 2:6] = 255
    assert table.mask_paths == [
        masks / "IMG0000003.png", None, None, masks / "IMG0000049.png"
    ]  # fmt: skip
    np.testing.assert_array_equal(read(masks / "IMG0000003.png"), expected)
    assert sorted(path.name for path in masks.iterdir()) == [
        "IMG0000003.png",
        "IMG0000049.png",
    ]
    np.testing.assert_array_equal(
        load_masks(table, (HEIGHT, WIDTH)).sum(axis=(1, 2)), [12, 0, 0, 12]
    )


def test_masks_follow_the_target(root, tmp_path):
    """The two-region image 50 is fractured and has no polygon; 49 has two."""
    box = [0, 0, 4, 0, 4, 4, 0, 4]
    write_json(root, polygons(("IMG0000050.jpg",), ("IMG0000049.jpg", BOX, box)))

    table = fracatlas(root, "fracture", mask_dir=tmp_path)

    assert [path and path.name for path in table.mask_paths] == [
        *(None, None, None, "IMG0000049.png", None, None, None)
    ]
    assert (read(tmp_path / "IMG0000049.png") == 255).sum() == 12 + 4


def test_masks_are_drawn_anew(root, tmp_path):
    (tmp_path / "IMG0000003.png").write_text("stale")
    fracatlas(root, mask_dir=tmp_path)
    assert (read(tmp_path / "IMG0000003.png") == 255).sum() == 12

    write_json(root, polygons(("IMG0000049.jpg", BOX)))
    assert fracatlas(root, mask_dir=tmp_path).mask_paths[0] is None  # though it lies
    write_json(root, polygons(("IMG0000003.jpg", [0, 0, 4, 0, 4, 4, 0, 4])))
    fracatlas(root, mask_dir=tmp_path)
    assert (read(tmp_path / "IMG0000003.png") == 255).sum() == 4


def test_a_failed_write_leaves_the_mask_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    write_mask(path, np.zeros((2, 2), np.uint8))

    def fails(self, data):
        self.touch()
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="disk full"):
        write_mask(path, np.full((2, 2), 255, np.uint8))
    assert read(path).max() == 0
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------------------- drawing


def drawn(points, size=(6, 6), scale=6):
    return draw_polygons([np.array(points, float) / scale], size)


def test_a_pixel_counts_from_half_of_its_area():
    # [1.45, 4.45] x [2, 4]: columns 1 and 4 are covered by 0.55 and 0.45.
    box = [(1.45, 2), (4.45, 2), (4.45, 4), (1.45, 4)]
    expected = np.zeros((6, 6), np.uint8)
    expected[2:4, 1:4] = 255

    assert drawn(box).dtype == np.uint8
    np.testing.assert_array_equal(drawn(box), expected)
    np.testing.assert_array_equal(drawn([(y, x) for x, y in box]), expected.T)


def test_a_slanted_edge():
    mask = drawn([(0, 0), (5.4, 0), (0, 5.4)])

    # Of the pixels with row + column = 4 all but a corner of 0.6^2 / 2 is inside; of
    # those with 5 no more than 0.4^2 / 2.
    rows, columns = np.mgrid[:6, :6]
    np.testing.assert_array_equal(mask == 255, rows + columns <= 4)


def test_width_and_height_have_their_own_scale():
    points = np.array([(0, 0), (0.5, 0), (0.5, 0.25), (0, 0.25)])

    mask = draw_polygons([points], (4, 20))

    expected = np.zeros((4, 20), np.uint8)
    expected[:1, :10] = 255
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
    ("points", "pixels"),
    [
        ([(2.4, 3.4), (2.6, 3.4), (2.6, 3.6)], [(3, 2)]),  # a crumb
        ([(2.5, 3.5)] * 3, [(3, 2)]),  # a point
        ([(1.5, 2.5), (4.5, 2.5), (1.5, 2.5)], [(2, 1), (2, 2), (2, 3), (2, 4)]),
        ([(6, 6)] * 3, [(5, 5)]),  # in the far corner
        ([(6, 1.5), (6, 2.5), (6, 1.5)], [(1, 5), (2, 5)]),  # on the far edge
    ],
)
def test_the_smallest_finding_is_marked(points, pixels):
    assert [tuple(at) for at in np.argwhere(drawn(points))] == pixels


def test_what_hangs_over_the_border_is_cut():
    mask = drawn([(-3, 4), (2, 4), (2, 9), (-3, 9)])

    expected = np.zeros((6, 6), np.uint8)
    expected[4:, :2] = 255
    np.testing.assert_array_equal(mask, expected)


def test_area_of_a_circle():
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = 0.5 + 0.3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)

    assert (draw_polygons([circle], (100, 80)) > 0).mean() == pytest.approx(
        np.pi * 0.09, rel=0.01
    )


@pytest.mark.parametrize("settings", [[], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]])
@pytest.mark.parametrize("shape", [(5, 300), (300, 5, 3)])
def test_jpeg_size(tmp_path, settings, shape):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.zeros(shape, np.uint8), settings)
    data = path.read_bytes()

    assert jpeg_size(path) == shape[:2]
    path.write_bytes(data[: len(data) // 2 + 200])  # truncated: the header is there
    assert jpeg_size(path) == shape[:2]
    # Segments that hold what looks like a size, and fill bytes before the marker: a
    # comment, and those with markers amid the ones that do hold it.
    decoy = b"\xff\xc0\x00\x11\x08\x00\x01\x00\x01"
    for marker in (b"\xfe", b"\xc4", b"\xc8", b"\xcc"):
        segment = b"\xff\xff\xff" + marker + (len(decoy) + 2).to_bytes(2, "big") + decoy
        path.write_bytes(data[:2] + segment + data[2:])
        assert jpeg_size(path) == shape[:2]


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xc0\x00", b"\x89PNG", b"\xff\xd8abcdef"]
)
def test_jpeg_size_of_something_else(tmp_path, data):
    (tmp_path / "a.jpg").write_bytes(data)

    assert jpeg_size(tmp_path / "a.jpg") is None


# ----------------------------------------------------------------- set aside, refused


def test_warns_of_images_in_the_csv_only(root):
    image_path(root, 24, False).unlink()

    with pytest.warns(
        UserWarning, match=r"1 images in the CSV but.*\['Non_fractured/IMG0000024.jpg"
    ) as got:
        assert stems(fracatlas(root)) == [*PARTS[:1], *PARTS[2:]]
    assert Path(got[0].filename) == Path(__file__)


def test_warns_of_images_on_disk_only(root):
    image_path(root, 999, True).touch()
    (root / "images" / "Fractured" / "notes.txt").touch()  # no image: no word

    with pytest.warns(UserWarning, match=r"1 images on disk but.*IMG0000999") as got:
        assert stems(fracatlas(root)) == PARTS
    assert len(got) == 1


def test_an_image_in_the_folder_of_the_other_class(root):
    image_path(root, 24, False).rename(image_path(root, 24, True))

    with pytest.warns(UserWarning, match="Set aside") as got:
        assert len(fracatlas(root, "fracture")) == 6
    assert [str(warning.message) for warning in got] == [
        "Set aside 1 images in the CSV but not on disk, first "
        "['Non_fractured/IMG0000024.jpg']",
        "Set aside 1 images on disk but not in the CSV, first "
        "['Fractured/IMG0000024.jpg']",
    ]


@pytest.mark.parametrize(
    "name", ["../x.jpg", "../../images/Non_fractured/IMG0000024.jpg"]
)
def test_a_path_in_the_csv_cannot_leave_the_folder(root, name):
    (root / "images" / "x.jpg").touch()
    write_csv(root, [*ROWS, f"{name},1,0,0,0,0,0,1,0,1"])

    with pytest.warns(UserWarning, match="1 images in the CSV but not on disk"):
        assert stems(fracatlas(root)) == PARTS


@pytest.mark.parametrize("name", ["scan.jpg", "IMG12a.jpg", "aIMG0000012.jpg"])
def test_warns_of_images_without_a_number(root, name):
    (root / "images" / "Non_fractured" / name).touch()
    write_csv(root, [*ROWS, f"{name},1,0,0,0,0,0,1,0,1"])

    with pytest.warns(UserWarning, match="1 images not named IMG and a number"):
        assert stems(fracatlas(root)) == PARTS


@pytest.mark.parametrize(
    "name",
    ["../IMG0000003.jpg", "IMG0000024.jpg", "IMG0009999.jpg", "/etc/IMG0000003.jpg"],
)
def test_masks_of_images_not_listed_as_fractured(root, tmp_path, name):
    write_json(root, polygons((name, BOX), ("IMG0000049.jpg", BOX)))
    masks = tmp_path / "masks"

    with pytest.warns(
        UserWarning, match="Set aside 1 masks of images not listed as fractured"
    ) as got:
        table = fracatlas(root, mask_dir=masks)
    assert Path(got[0].filename) == Path(__file__)
    assert [path.name for path in table.mask_paths if path] == ["IMG0000049.png"]
    assert [path.name for path in masks.iterdir()] == ["IMG0000049.png"]


def test_masks_of_images_of_unknown_size(root, tmp_path):
    image_path(root, 3, True).write_bytes(b"")

    with pytest.warns(UserWarning, match="1 masks of images of unknown size.*0000003"):
        table = fracatlas(root, mask_dir=tmp_path)
    assert [path and path.name for path in table.mask_paths] == [
        *(None, None, None, "IMG0000049.png")
    ]
    # Listing does not decode; whoever wants to know asks.
    readable, reasons = drop_unreadable(table)
    assert (stems(readable), list(reasons.values())) == (PARTS[1:], ["empty"])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"target": "bone"}, "'body_part' or 'fracture'. Received: 'bone'"),
        ({"block_size": 0}, "1 or more. Received: 0"),
        ({"block_size": 2.5}, "whole number of images.*Received: 2.5"),
    ],
)
def test_rejects(root, kwargs, message):
    with pytest.raises(ValueError, match=message):
        fracatlas(root, **kwargs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"dataset.csv must .*Received: columns \[\]"),
        ("image_id,hand,leg\n", r"dataset.csv.*'shoulder'.*columns \['image_id', 'ha"),
        (HEADER.replace(",", ";"), "separated by ','"),
        (HEADER + "IMG1.jpg,1,0\n", "flags 0 or 1. Received: 'IMG1.jpg' with"),
        (HEADER + "IMG1.jpg,2,0,0,0,0,0,1,0,1\n", "0 or 1. .*'hand': '2'"),
        (
            HEADER + "IMG1.jpg,1,0,0,0,0,0,1,0,1\nIMG1.jpg,1,0,0,0,0,0,1,1,1\n",
            "name an image once. Received: 'IMG1.jpg' twice",
        ),
        (b"image_id\n\xff\xfe", "dataset.csv must be a CSV in UTF-8"),
    ],
)
def test_a_csv_that_is_not_as_published(root, text, message):
    data = text if isinstance(text, bytes) else text.encode()
    (root / "dataset.csv").write_bytes(data)

    with pytest.raises(ValueError, match=message):
        fracatlas(root)


def image(**other):
    return {"id": 1, "file_name": "IMG1.jpg", "width": 20, "height": 16} | other


@pytest.mark.parametrize(
    "coco",
    [
        "{not json",
        "[]",
        "{}",
        {"images": [image()]},
        {"images": [{"id": 1}], "annotations": []},
        {"images": 3, "annotations": []},
        {"images": [image()], "annotations": [{"image_id": 1}]},
        {"images": [image()], "annotations": [{"image_id": 2, "segmentation": [BOX]}]},
        {"images": [image()], "annotations": [{"image_id": 1, "segmentation": 5}]},
        # Run lengths, as COCO has them for crowds.
        {
            "images": [image()],
            "annotations": [
                {"image_id": 1, "segmentation": {"counts": [1, 2], "size": [16, 20]}}
            ],
        },
    ],
)
def test_a_json_that_is_not_coco(root, tmp_path, coco):
    write_json(root, coco)

    with pytest.raises(
        ValueError, match=r"COCO_fracture_masks.json must be COCO JSON.*Received: \w+:"
    ):
        fracatlas(root, mask_dir=tmp_path / "masks")
    assert not (tmp_path / "masks").exists()
    assert len(fracatlas(root)) == 4  # without masks it is not read


@pytest.mark.parametrize(
    ("size", "ring", "message"),
    [
        ({}, [1, 2, 3, 4], "polygon .* of IMG1.jpg"),
        ({}, [1, 2, 3, 4, 5], "reshape"),
        ({}, [1, 2, 3, 4, 5, float("nan")], "polygon .* of IMG1.jpg"),
        ({}, [21, 0, 30, 0, 25, 5], "outside of IMG1.jpg"),
        ({}, [1, -9, 5, -1, 9, -9], "outside of IMG1.jpg"),
        ({"width": 0}, BOX, r"size \[0.0, 16.0\] of IMG1.jpg"),
        ({"height": -16}, BOX, "size"),
        ({"width": "wide"}, BOX, "could not convert"),
    ],
)
def test_polygons_that_cannot_be(tmp_path, size, ring, message):
    path = tmp_path / "a.json"
    annotations = [{"image_id": 1, "segmentation": [ring]}]
    path.write_text(json.dumps({"images": [image(**size)], "annotations": annotations}))

    with pytest.raises(ValueError, match=f"a.json must be COCO.*{message}"):
        read_coco(path)


def test_missing_files_say_where_the_data_are(root, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"Expected dataset.csv.*no folder.*10.1038/s41597-023"
    ):
        fracatlas(tmp_path / "nowhere")
    (root / "images" / "Fractured").rename(root / "images" / "fract")
    with pytest.raises(FileNotFoundError, match=r"Expected images/Fractured.*'images'"):
        fracatlas(root)


def test_masks_need_the_polygons(root, tmp_path):
    (root / "Annotations").rename(root / "annotated")

    assert len(fracatlas(root)) == 4
    with pytest.raises(FileNotFoundError, match=r"COCO_fracture_masks.json in `root`"):
        fracatlas(root, mask_dir=tmp_path)


@pytest.mark.data
def test_real_fracatlas(tmp_path):
    root = Path(os.environ.get("HRCAM_DATA", "")) / "data" / "fracatlas"
    if "HRCAM_DATA" not in os.environ or not root.is_dir():
        pytest.skip("set HRCAM_DATA to the folder that holds data/fracatlas")

    parts = fracatlas(root)

    assert np.bincount(parts.labels).tolist() == [1256, 2097, 179, 98]
    table = fracatlas(root, "fracture", mask_dir=tmp_path)
    assert np.bincount(table.labels).tolist() == [3307, 717]
    fractured = table.select(table.labels == 1)
    assert None not in fractured.mask_paths
    assert table.mask_paths.count(None) == 3307
    areas = [(read(path) > 0).mean() for path in fractured.mask_paths]
    assert min(areas) > 0
    assert 0.001 < np.median(areas) < 0.01
    for path, mask in list(zip(fractured.paths, fractured.mask_paths, strict=True))[:9]:
        assert read(path).shape[:2] == read(mask).shape
    train, test = split_by_group(parts)
    assert not set(train.groups) & set(test.groups)
    assert abs(len(test) / len(parts) - 0.2) < 0.02
    assert np.bincount(test.labels, minlength=4).min() > 5
