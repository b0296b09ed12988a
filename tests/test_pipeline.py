import re
import shutil

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
import tensorflow as tf

from hrcam.datasets import (
    Augmentation,
    ImageTable,
    _reader,
    augment_batch,
    drop_unreadable,
    image_dataset,
    load_images,
    load_masks,
)

ALL = Augmentation(flip=True, shift=0.2, rotate=30)


def write(path, pixels):
    """Writes with OpenCV, whose colour order is BGR; returns the path."""
    pixels = np.asarray(pixels)
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, *range(3, pixels.shape[-1])]]
    assert cv2.imwrite(str(path), pixels)
    return path


def make_table(paths, masks=None):
    rows = len(paths)
    return ImageTable(
        paths, np.arange(rows), np.arange(rows), "abcdefghij"[:rows], masks
    )


@pytest.fixture
def table(tmp_path):
    """Ten 6x6 images; image i is noise around the grey level 20 i."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 50, (10, 6, 6)).astype(np.uint8)
    return make_table(
        [
            write(tmp_path / f"{i}.png", 20 * i + pixels)
            for i, pixels in enumerate(noise)
        ]
    )


def batches(dataset):
    """One epoch: images, labels."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


GREY = np.array([[0, 51], [128, 255]])
COLOUR = np.stack([GREY, GREY[::-1], GREY.T], axis=-1)  # red, green and blue differ


@pytest.mark.parametrize("ending", ["png", "bmp"])
@pytest.mark.parametrize("channels", [1, 3])
def test_8_bit_grey_is_divided_by_255(tmp_path, ending, channels):
    path = write(tmp_path / f"image.{ending}", GREY.astype(np.uint8))

    images = load_images([path], 2, channels)

    assert images.dtype == np.float32
    assert images.shape == (1, 2, 2, channels)
    for channel in range(channels):
        np.testing.assert_allclose(images[0, ..., channel], GREY / 255, atol=1e-6)


@pytest.mark.parametrize("ending", ["png", "bmp"])
def test_colour_keeps_its_channels(tmp_path, ending):
    path = write(tmp_path / f"image.{ending}", COLOUR.astype(np.uint8))

    np.testing.assert_allclose(load_images([path], 2)[0], COLOUR / 255, atol=1e-6)
    # Luma by hand for one pixel, (red, green, blue) = (0, 128, 0).
    np.testing.assert_allclose(
        load_images([path], 2, channels=1)[0, 0, 0, 0], 0.587 * 128 / 255, atol=1e-6
    )


def test_16_bit_keeps_its_levels(tmp_path):
    levels = np.array([[0, 1], [30001, 65535]], np.uint16)
    path = write(tmp_path / "image.png", levels)

    # 1 / 65535 would be 0 after a cut to 8 bit.
    np.testing.assert_allclose(
        load_images([path], 2, 1)[0, ..., 0], levels / 65535, rtol=1e-6
    )


def test_alpha_is_dropped(tmp_path):
    pixels = np.dstack([COLOUR, np.full((2, 2), 7)]).astype(np.uint8)

    images = load_images([write(tmp_path / "image.png", pixels)], 2)

    np.testing.assert_allclose(images[0], COLOUR / 255, atol=1e-6)


def test_grey_with_alpha(tmp_path):
    pixels = np.dstack([GREY, np.full((2, 2), 7)]).astype(np.uint8)
    (tmp_path / "image.png").write_bytes(tf.io.encode_png(pixels).numpy())

    images = load_images([tmp_path / "image.png"], 2, 1)

    np.testing.assert_allclose(images[0, ..., 0], GREY / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(tmp_path, channels):
    """Flat colour survives JPEG to about a level."""
    flat = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    path = write(tmp_path / "image.jpg", flat)

    actual = load_images([path], 16, channels)[0, 5, 5]

    grey = [0.299 * 200 + 0.587 * 100 + 0.114 * 50]
    expected = grey if channels == 1 else [200, 100, 50]
    np.testing.assert_allclose(actual * 255, expected, atol=2)


def test_enlarging_is_bilinear_with_half_pixel_centres(tmp_path):
    path = write(tmp_path / "image.png", np.array([[0, 255]], np.uint8))

    # Samples at -0.25, 0.25, 0.75, 1.25 of [0, 1], clamped.
    np.testing.assert_allclose(
        load_images([path], (1, 4), 1)[0, 0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6
    )


def test_shrinking_uses_every_pixel(tmp_path):
    stripes = np.tile(np.array([255, 0, 0, 0], np.uint8), (16, 4))
    path = write(tmp_path / "image.png", stripes)

    # Plain bilinear looks at pixels 1 and 2 of each 4: all 0. The triangle of an
    # antialiased one weighs pixels by their distance d from the centre as 1 - d/4:
    # at 2.5 and 1.5 on either side, .375 + .625 of a total of 4, away from the ends.
    actual = load_images([path], 4, 1)[0, ..., 0]
    np.testing.assert_allclose(actual[1:3, 1:3], (0.625 + 0.375) / 4, atol=1e-5)


def test_height_comes_first(tmp_path):
    path = write(tmp_path / "image.png", np.zeros((4, 4), np.uint8))

    assert load_images([path], (2, 6)).shape == (1, 2, 6, 3)


def test_dataset_is_the_array(table):
    images, labels = batches(image_dataset(table, 5, channels=1, batch_size=4))

    np.testing.assert_array_equal(images, load_images(table, 5, 1))
    assert labels.tolist() == list(range(10))
    assert (images.dtype, labels.dtype) == (np.float32, np.int64)
    assert 0 <= images.min() < 0.1
    assert 0.7 < images.max() <= 1


def test_dataset_knows_its_length_and_shapes(table):
    dataset = image_dataset(table, (5, 4), batch_size=4, shuffle=True, augment=ALL)

    assert dataset.cardinality() == 3
    assert [len(labels) for _, labels in dataset] == [4, 4, 2]
    assert dataset.element_spec[0].shape.as_list() == [None, 5, 4, 3]


def test_shuffle_differs_by_epoch_and_repeats_by_seed(table):
    def epochs(seed):
        dataset = image_dataset(table, 2, shuffle=True, seed=seed)
        return [batches(dataset)[1].tolist() for _ in range(3)]

    first = epochs(0)
    tf.random.set_seed(99)  # the global seed has no say

    assert first == epochs(0)
    assert first != epochs(1)
    assert len({tuple(order) for order in first}) == 3
    assert all(sorted(order) == list(range(10)) for order in first)


def test_shuffle_keeps_images_and_labels_together(table):
    images, labels = batches(image_dataset(table, 6, channels=1, shuffle=True))

    np.testing.assert_array_equal(images, load_images(table, 6, 1)[labels])


def test_augmentation_differs_by_epoch_and_repeats_by_seed(table):
    def epochs(seed):
        dataset = image_dataset(table, 6, augment=ALL, batch_size=3, seed=seed)
        return np.array([batches(dataset)[0] for _ in range(2)])

    first = epochs(0)

    np.testing.assert_array_equal(first, epochs(0))
    assert np.abs(first - epochs(1)).max() > 0.1
    assert (np.abs(first[0] - first[1]).max(axis=(1, 2, 3)) > 1e-3).all()
    assert (np.ptp(first[0] - load_images(table, 6), axis=(1, 2, 3)) > 1e-3).all()


def test_augmentation_belongs_to_the_image_not_to_its_place(table):
    plain = image_dataset(table, 6, augment=ALL)
    shuffled = image_dataset(table, 6, augment=ALL, shuffle=True, batch_size=3)

    for _ in range(2):
        images, labels = batches(shuffled)
        np.testing.assert_allclose(images, batches(plain)[0][labels], atol=1e-6)


def test_augment_batch_is_the_augmentation_of_the_dataset(table):
    dataset = image_dataset(table, 6, augment=ALL, seed=4)
    arrays = load_images(table, 6)
    given = arrays.copy()

    for epoch in range(2):
        np.testing.assert_allclose(
            batches(dataset)[0], augment_batch(arrays, 4, ALL, epoch=epoch), atol=1e-6
        )
    np.testing.assert_array_equal(arrays, given)


def test_masks_are_cut_at_half_of_the_range(tmp_path):
    levels = np.array([[0, 3], [127, 128]], np.uint8)
    masks = [
        write(tmp_path / "a.png", levels),
        None,
        write(tmp_path / "c.png", levels.astype(np.uint16) * 257),
        write(tmp_path / "d.png", np.dstack([levels, 0 * levels, 0 * levels])),
        write(tmp_path / "e.png", 0 * levels),
    ]

    actual = load_masks(make_table("abcde", masks), 2)

    assert actual.dtype == bool
    # 127 / 255 is below one half, 128 / 255 above. A red mask counts as a white one.
    cut = [[False, False], [False, True]]
    none = np.zeros((2, 2), bool)
    np.testing.assert_array_equal(actual, [cut, none, cut, cut, none])


def test_masks_are_enlarged_by_nearest(tmp_path):
    mask = write(tmp_path / "a.png", np.array([[0, 255]], np.uint8))

    np.testing.assert_array_equal(
        load_masks(make_table("a", [mask]), (1, 4)), [[[False, False, True, True]]]
    )


def test_no_mask_at_all():
    assert not load_masks(make_table("ab"), 3).any()


def test_masks_of_0_and_1_saved_as_8_bit(tmp_path):
    mask = write(tmp_path / "a.png", np.array([[0, 1]], np.uint8))

    with pytest.raises(
        ValueError, match=r"1 masks of at most 0.0039.*Save them as 0/2"
    ):
        load_masks(make_table("a", [mask]), 2)


def test_drop_unreadable_gives_reasons(tmp_path, table):
    whole = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    for ending in ("png", "jpg"):
        path = write(tmp_path / f"cut.{ending}", whole)
        path.write_bytes(path.read_bytes()[:600])
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not an image at all")
    bad = [tmp_path / name for name in
           ("cut.png", "cut.jpg", "empty.png", "text.png", "none.png")]  # fmt: skip
    paths = [table.paths[0], *bad, table.paths[1]]

    readable, reasons = drop_unreadable(make_table(paths))

    assert readable.paths == table.paths[:2]
    assert readable.labels.tolist() == [0, 6]
    assert list(reasons) == bad
    assert list(reasons.values())[2:5:2] == ["empty", "missing"]
    assert all(reasons.values())
    assert not any("{{" in reason for reason in reasons.values())  # TensorFlow's nodes
    assert "nknown image file format" in reasons[tmp_path / "text.png"]
    for path in bad:  # the pipeline agrees
        with pytest.raises((ValueError, FileNotFoundError), match=path.name):
            load_images([table.paths[0], path], 4)


# ------------------------------------------------------------ TIFF, DICOM and NIfTI


def save_volume(path, values):
    """Stored so that slice k is shown as `values[:, :, k]`, from A and from R."""
    stored = np.asarray(values).transpose(1, 0, 2)
    nibabel.save(nibabel.Nifti1Image(stored, np.diag((-1, -1, 1, 1))), path)
    return path


@pytest.fixture
def scans(tmp_path, table):
    """PNG, two slices of a volume, TIFF, DICOM twice: with suffix and without."""
    values = np.arange(36).reshape(3, 4, 3).astype(np.int16)
    save_volume(tmp_path / "scan.nii.gz", values)
    levels = np.array([[0, 1], [30001, 65535]], np.uint16)
    write(tmp_path / "image.tif", levels)
    for name in ("ct.dcm", "IM_0001"):
        shutil.copy(pydicom.data.get_testdata_file("CT_small.dcm"), tmp_path / name)
    names = ("scan.nii.gz#2", "scan.nii.gz#0", "image.tif", "ct.dcm", "IM_0001")
    return make_table([table.paths[3], *(tmp_path / name for name in names)])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_slice_has_the_scale_of_its_volume(tmp_path, channels):
    values = np.arange(36).reshape(3, 4, 3).astype(np.int16)
    path = save_volume(tmp_path / "scan.nii", values)

    images = load_images([f"{path}#2", f"{path}#0"], (3, 4), channels)

    # Slice 2 is 2, 5, ..., 35 and slice 0 is 0, 3, ..., 33 of 0 to 35.
    for channel in range(channels):
        np.testing.assert_allclose(
            images[0, ..., channel], values[..., 2] / 35, rtol=1e-6
        )
        np.testing.assert_allclose(
            images[1, ..., channel], values[..., 0] / 35, rtol=1e-6
        )


def test_dicom_has_the_scale_of_its_bits(scans):
    image = load_images(scans.paths[4:5], 128, 1)[0, ..., 0]

    stored = pydicom.dcmread(scans.paths[4]).pixel_array  # 16 bits with a sign
    np.testing.assert_allclose(image, (stored + 32768.0) / 65535, atol=1e-6)
    assert len(np.unique(image)) > 256


def test_tiff_keeps_its_levels(scans):
    np.testing.assert_allclose(
        load_images(scans.paths[3:4], 2, 1)[0, ..., 0],
        np.array([[0, 1], [30001, 65535]]) / 65535,
        rtol=1e-6,
    )


def test_kinds_of_files_are_mixed(scans):
    """One array, one dataset; each image as when it is alone."""
    together = load_images(scans, 5, 1)
    images, labels = batches(image_dataset(scans, 5, channels=1, batch_size=4))

    np.testing.assert_array_equal(images, together)
    assert labels.tolist() == list(range(6))
    for image, path in zip(together, scans.paths, strict=True):
        np.testing.assert_array_equal(image, load_images([path], 5, 1)[0])
    np.testing.assert_array_equal(together[4], together[5])
    readable, reasons = drop_unreadable(scans)
    assert (readable.paths, reasons) == (scans.paths, {})


def test_shuffled_and_augmented_scans(scans):
    dataset = image_dataset(scans, 8, channels=1, shuffle=True)
    images, labels = batches(dataset)

    np.testing.assert_array_equal(images, load_images(scans, 8, 1)[labels])
    changed = image_dataset(scans, 8, channels=1, augment=ALL)
    assert batches(changed)[0].shape == (6, 8, 8, 1)


def test_python_is_only_in_the_graph_that_needs_it(table, scans):
    def operations(paths):
        read = tf.function(_reader.reader(paths))
        graph = read.get_concrete_function(tf.TensorSpec((), tf.int64)).graph
        graph = graph.as_graph_def()
        return [node.op for f in graph.library.function for node in f.node_def]

    assert not any("PyFunc" in op for op in operations(table.paths))
    assert any("PyFunc" in op for op in operations(scans.paths))


def test_a_volume_is_opened_once_for_slices_in_order(tmp_path, monkeypatch):
    values = np.arange(3 * 4 * 40).reshape(3, 4, 40).astype(np.int16)
    path = save_volume(tmp_path / "scan.nii.gz", values)
    opened = []
    original = _reader.open_image
    monkeypatch.setattr(
        _reader, "open_image", lambda p: opened.append(p) or original(p)
    )
    reader = _reader._OpenFile()

    slices = [reader.read(f"{path}#{k}".encode())[..., 0] for k in range(40)]

    np.testing.assert_allclose(np.stack(slices, -1), values / values.max(), rtol=1e-6)
    assert opened == [path]
    save_volume(path, values[..., :2] + 7)  # another file under the name
    assert reader.read(f"{path}#1".encode()).max() == 1
    assert len(opened) == 2


def test_masks_of_a_volume(tmp_path):
    inside = np.zeros((2, 3, 2), np.uint8)
    inside[0, 1, 1] = 1
    path = save_volume(tmp_path / "mask.nii", inside)

    masks = load_masks(make_table("ab", [f"{path}#0", f"{path}#1"]), (2, 3))

    np.testing.assert_array_equal(masks, np.moveaxis(inside, -1, 0) > 0)


def test_scans_that_cannot_be_read(tmp_path, table):
    volume = save_volume(tmp_path / "scan.nii", np.full((2, 2, 2), [1.0, np.nan]))
    (tmp_path / "cut.nii").write_bytes(volume.read_bytes()[:360])
    (tmp_path / "text.dcm").write_text("not an image at all")
    (tmp_path / "empty.dcm").touch()
    reasons = {
        "scan.nii": "2 images, where one is wanted.*scan.nii#0",
        "scan.nii#1": "4 values of slice 1 are NaN",
        "scan.nii#2": "no image 2; it has 2",
        "scan.nii#1:1": "start < stop",
        "cut.nii": "cut off",
        "none.nii#3": "missing",
        "text.dcm": "DICOM",
        "empty.dcm": "empty",
    }
    bad = [tmp_path / name for name in reasons]

    readable, dropped = drop_unreadable(
        make_table([table.paths[0], *bad[:4], volume.with_name("scan.nii#0"), *bad[4:]])
    )

    assert readable.paths == [table.paths[0], tmp_path / "scan.nii#0"]
    assert list(dropped) == bad
    for path, expected in zip(bad, reasons.values(), strict=True):
        assert re.search(expected, dropped[path])
        with pytest.raises((ValueError, FileNotFoundError), match=expected):
            load_images([table.paths[0], path], 4)
        if not path.name.startswith(("none", "scan.nii#1:")):
            with pytest.raises(tf.errors.InvalidArgumentError, match=expected):
                batches(image_dataset(make_table([table.paths[0], path]), 4))


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"image_size": 0}, ValueError, r"\(height, width\). Received: 0"),
        ({"image_size": (2, 2, 3)}, ValueError, r"Received: \(2, 2, 3\)"),
        ({"image_size": 2.5}, ValueError, "Received: 2.5"),
        ({"channels": 2}, ValueError, "1 or 3. Received: 2"),
        ({"augment": {"flip": True}}, TypeError, r"Augmentation\(flip=True.*Received"),
    ],
)
def test_image_dataset_rejects(table, kwargs, error, message):
    with pytest.raises(error, match=message):
        image_dataset(table, **{"image_size": 4, **kwargs})


def test_files_that_are_not_there(table):
    with pytest.raises(ValueError, match="At least one image"):
        image_dataset(table.select([]), 4)
    with pytest.raises(FileNotFoundError, match=r"2 files. Received: 2 missing.*'x'"):
        image_dataset(make_table("xy"), 4)
    with pytest.raises(FileNotFoundError, match="1 missing, first"):
        load_masks(make_table("xy", [None, "z"]), 4)
