import numpy as np
import pytest
import tensorflow as tf

from hrcam.datasets import Augmentation, augment_batch
from hrcam.datasets._augment import draw_changes, transform

NAMES = (
    *("flip_x", "flip_y", "shift_x", "shift_y", "rotate"),
    *("crop", "crop_x", "crop_y", "shear", "stretch_x", "stretch_y"),
)


def changed(image, augment, **chosen):
    """One image (height, width) by draws of our choice; the others change nothing."""
    draws = {"flip_x": 0.9, "flip_y": 0.9, "crop": 0.0} | chosen
    row = [[draws.get(name, 0.5) for name in NAMES]]
    images = tf.constant(image, tf.float32)[None, ..., None]
    return transform(images, tf.constant(row), augment).numpy()[0, ..., 0]


def test_flips_are_exact_and_all_four_occur():
    image = np.arange(12.0).reshape(1, 3, 4, 1)
    flips = [image, image[:, ::-1], image[:, :, ::-1], image[:, ::-1, ::-1]]

    actual = augment_batch(np.repeat(image, 40, axis=0), 0, Augmentation(flip=True))

    found = [[np.array_equal(a, flip[0]) for flip in flips] for a in actual]
    assert (np.sum(found, axis=1) == 1).all()
    assert (np.sum(found, axis=0) >= 3).all()


def test_shift_is_a_fraction_of_each_side_and_mirrors_at_the_border():
    rows, columns = np.mgrid[:8.0, :16.0]
    ramps = np.tile(np.stack([rows, columns], axis=-1), (64, 1, 1, 1)) + 5

    actual = augment_batch(ramps, 0, Augmentation(shift=0.25))

    # Row 4, column 8 is farther from the border than 0.25 * 8 = 2 and 0.25 * 16 = 4.
    moved = actual[:, 4, 8] - ramps[:, 4, 8]
    for axis, most in enumerate((2, 4)):
        assert -most <= moved[:, axis].min() < -0.7 * most
        assert 0.7 * most < moved[:, axis].max() <= most
    # Mirrored: nothing but the values of the ramp itself comes in, 5 and more.
    assert actual.min() > 5 - 1e-4
    assert actual[..., 1].max() < 20 + 1e-4


def test_rotation_turns_about_the_centre():
    rows, columns = np.mgrid[-10.0:11, -10:11]
    ramps = np.tile(np.stack([rows, columns], axis=-1), (64, 1, 1, 1))

    turned = augment_batch(ramps, 0, Augmentation(rotate=45))

    # The output at p shows R p: from one step right (cos, sin) of the angle follow,
    # and every pixel near the centre is the same R times its own place.
    sin, cos = np.moveaxis(turned[:, 10, 11], -1, 0)[..., None, None]
    np.testing.assert_allclose(cos**2 + sin**2, 1, atol=1e-4)
    expected = np.stack([sin * columns + cos * rows, cos * columns - sin * rows], -1)
    near = (slice(None), slice(6, 15), slice(6, 15))
    np.testing.assert_allclose(turned[near], expected[near], atol=1e-3)
    degrees = np.rad2deg(np.arcsin(sin))
    assert -45.1 < degrees.min() < -35
    assert 35 < degrees.max() < 45.1


@pytest.mark.parametrize(
    ("at", "row"),
    [
        # Half of the 8 pixels: a window 4 wide that begins at 0, 2 or 4. Output pixel i
        # is at begin - 0.5 + (i + 0.5) / 2, and beyond the border is the first again.
        (0.0, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3.25]),
        (0.5, [1.75, 2.25, 2.75, 3.25, 3.75, 4.25, 4.75, 5.25]),
        (1.0, [3.75, 4.25, 4.75, 5.25, 5.75, 6.25, 6.75, 7]),
    ],
)
def test_crop_scales_a_window_up(at, row):
    columns, crop = np.tile(np.arange(8.0), (4, 1)), Augmentation(crop=0.5)

    # A draw of 1 asks for all of the 0.5.
    across = changed(columns, crop, crop=1.0, crop_x=at, crop_y=0.2)
    np.testing.assert_allclose(across, [row] * 4, atol=1e-5)
    down = changed(columns.T, crop, crop=1.0, crop_x=0.2, crop_y=at)
    np.testing.assert_allclose(down, np.transpose([row] * 4), atol=1e-5)


def test_crop_cuts_up_to_its_fraction():
    columns = np.tile(np.arange(101.0), (101, 1))

    # 0.4 of 0.5: the window keeps 0.8, so that 50 output pixels show 40.
    half = changed(columns, Augmentation(crop=0.5), crop=0.4)
    np.testing.assert_allclose(half[7, [0, 50, 100]], [10, 50, 90], atol=1e-4)


def test_a_crop_never_leaves_the_image():
    rows, columns = np.mgrid[:16.0, :16.0]
    ramps = np.tile(np.stack([rows, columns], axis=-1), (256, 1, 1, 1))

    corners = augment_batch(ramps, 0, Augmentation(crop=0.6))[:, [0, -1], [0, -1]]

    cut = 1 - (corners[:, 1] - corners[:, 0]) / 15
    assert np.abs(cut[:, 0] - cut[:, 1]).max() < 0.03  # but for the border, see above
    assert cut.min() < 0.05
    assert 0.55 < cut.max() < 0.62
    # The same window mirrored at the border would turn back: ramps stay ascending.
    assert (corners[:, 1] > corners[:, 0] + 5).all()
    # And the windows lie everywhere: at the start, at the end, in x as in y.
    large = corners[cut[:, 0] > 0.4]
    assert (large[:, 0].min(axis=0) < 1).all()
    assert (large[:, 1].max(axis=0) > 14).all()
    assert abs(np.corrcoef(large[:, 0].T)[0, 1]) < 0.5


def test_shear_leans_the_columns_about_the_centre():
    columns = np.tile(np.arange(-10.0, 11), (5, 1))

    # A draw of 1 is +45 degrees: a row k below the centre comes from k further right.
    leaning = changed(columns, Augmentation(shear=45), shear=1.0)
    down = np.arange(-2.0, 3)[:, None]
    inner = (slice(None), slice(3, -3))
    np.testing.assert_allclose(leaning[inner], (columns + down)[inner], atol=1e-4)
    # 0.25 is half of the way to the other side: tan(-10 degrees) = -0.17633.
    leaning = changed(columns, Augmentation(shear=20), shear=0.25)
    np.testing.assert_allclose(
        leaning[inner], (columns - 0.17633 * down)[inner], atol=1e-4
    )
    # Rows stay rows.
    rows = np.tile(np.arange(5.0)[:, None], 21)
    sheared = changed(rows, Augmentation(shear=45), shear=1.0)
    np.testing.assert_allclose(sheared, rows, atol=1e-4)


@pytest.mark.parametrize(
    ("draw", "factor"),
    # stretch = 1: from 1/2 to 2, by the logarithm: a draw of 3/4 is the root of 2.
    [(1.0, 2), (0.75, 2**0.5), (0.5, 1), (0.25, 0.5**0.5), (0.0, 0.5)],
)
def test_stretch_scales_each_axis_about_the_centre(draw, factor):
    rows, columns = np.mgrid[-10.0:11, -8.0:9]
    stretch = Augmentation(stretch=1)

    near = (slice(6, 15), slice(5, 12))
    wide = changed(columns, stretch, stretch_x=draw)
    np.testing.assert_allclose(wide[near], columns[near] / factor, atol=1e-4)
    tall = changed(rows, stretch, stretch_y=draw)
    np.testing.assert_allclose(tall[near], rows[near] / factor, atol=1e-4)
    # The other axis stays as it is.
    for image, other in ((columns, "stretch_y"), (rows, "stretch_x")):
        same = changed(image, stretch, **{other: draw})
        np.testing.assert_allclose(same[near], image[near], atol=1e-4)


def test_stretch_by_less_than_double():
    columns = np.tile(np.arange(-10.0, 11), (3, 1))

    wide = changed(columns, Augmentation(stretch=0.25), stretch_x=1.0)

    np.testing.assert_allclose(wide, columns / 1.25, atol=1e-4)


@pytest.mark.parametrize("name", ["shear", "stretch_x", "stretch_y"])
def test_a_change_and_its_opposite_undo_each_other(name):
    rows, columns = np.mgrid[-12.0:13, -12.0:13]
    image = rows + 30 * columns  # every pixel by its own place; exact if bilinear
    augment = Augmentation(shear=20, stretch=0.5)

    there = changed(image, augment, **{name: 0.8})
    back = changed(there, augment, **{name: 0.2})

    near = (slice(6, 19), slice(6, 19))
    assert np.abs(there - image)[near].max() > 0.5
    np.testing.assert_allclose(back[near], image[near], atol=2e-3)


def test_all_changes_are_one_after_the_other():
    """One map, read off two ramps, against the same steps taken one by one."""
    rows, columns = np.mgrid[-20.0:21, -30.0:31]
    augment = Augmentation(True, shift=0.1, rotate=40, crop=0.4, shear=30, stretch=0.5)
    draws = {"flip_x": 0.1, "shift_x": 0.7, "shift_y": 0.2, "rotate": 0.8} | {
        "crop": 0.5, "crop_x": 0.4, "crop_y": 0.6, "shear": 0.9,
        "stretch_x": 0.3, "stretch_y": 0.8,
    }  # fmt: skip

    def source(point):  # (x, y) from the centre, of the output; backwards
        x, y = point[0] - 0.4 * 0.1 * 61, point[1] + 0.6 * 0.1 * 41  # shift
        cos, sin = np.cos(np.deg2rad(0.6 * 40)), np.sin(np.deg2rad(0.6 * 40))
        x, y = cos * x - sin * y, sin * x + cos * y
        x = -x  # flipped left-right only
        x, y = x / 1.5**-0.4, y / 1.5**0.6  # stretch
        x = x + np.tan(np.deg2rad(0.8 * 30)) * y  # shear
        # crop: 0.2 of 61 and 41 is cut; the window's centre lies 0.1 of the cut off.
        return 0.8 * x - 0.1 * 0.2 * 61, 0.8 * y + 0.1 * 0.2 * 41

    for ramp, axis in ((columns, 0), (rows, 1)):
        actual = changed(ramp, augment, **draws)
        for x, y in [(0, 0), (8, 0), (0, 6), (-5, 3)]:
            expected = source((x, y))[axis]
            assert actual[20 + y, 30 + x] == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize("name", ["crop", "shear", "stretch"])
def test_a_change_belongs_to_seed_epoch_and_row(name):
    images = np.random.default_rng(0).uniform(size=(1, 9, 9, 1)).repeat(6, axis=0)
    augment = Augmentation(**{name: 0.9})

    first = augment_batch(images, 3, augment, epoch=2)
    tf.random.set_seed(99)  # the global seed has no say

    np.testing.assert_array_equal(first, augment_batch(images, 3, augment, epoch=2))
    fewer = augment_batch(images[:4], 3, augment, epoch=2)
    np.testing.assert_array_equal(first[:4], fewer)
    assert np.abs(first - augment_batch(images, 4, augment, epoch=2)).max() > 1e-3
    assert np.abs(first - augment_batch(images, 3, augment, epoch=1)).max() > 1e-3
    assert np.ptp(first, axis=0).max() > 1e-3


def test_draws_are_even_and_of_their_own():
    draws = draw_changes(2000, 0, 0).numpy()

    assert draws.shape == (2000, len(NAMES))
    assert np.abs(draws.mean(axis=0) - 0.5).max() < 0.03
    correlation = np.corrcoef(draws.T) - np.eye(len(NAMES))
    assert np.abs(correlation).max() < 0.1
    # Two draws from one seed would hold the same numbers, if in other rows.
    assert len(np.unique(draws)) > 0.99 * draws.size


def test_flip_shift_and_rotation_are_those_of_earlier_versions():
    draws = draw_changes(4, 7, 3)

    # 2 * epoch + 1
    first = tf.random.stateless_uniform((4, 5), [7, 7])
    np.testing.assert_array_equal(draws[:, :5], first)
    image = np.arange(12.0).reshape(1, 3, 4, 1)
    augment = Augmentation(flip=True, shift=0.2, rotate=30)
    actual = augment_batch(image, 7, augment, epoch=3)[0, ..., 0]
    np.testing.assert_allclose(
        actual,
        [
            [8.566143, 9.4985008, 10.4308586, 10.0751848],
            [7.8888111, 7.3750172, 6.8612251, 6.3457546],
            [3.9547749, 3.2840505, 2.770257, 2.6401405],
        ],
        atol=1e-4,
    )


def test_no_change_asked_none_made():
    images = np.random.default_rng(0).uniform(size=(2, 3, 3, 1)).astype("float32")

    np.testing.assert_array_equal(augment_batch(images, 0, Augmentation()), images)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"shift": 2}, {"shift": -0.1}, {"rotate": 200}, {"rotate": -1}),
        *({"crop": 1}, {"crop": -0.1}, {"shear": 46}, {"shear": -1}),
        *({"stretch": 1.1}, {"stretch": -0.1}, {"crop": float("nan")}),
    ],
)
def test_augmentation_rejects(wrong):
    with pytest.raises(ValueError, match=r"in \[0, 180\]. Received: Augmentation"):
        Augmentation(**wrong)


def test_limits_belong_to_the_ranges():
    Augmentation(shift=1, rotate=180, crop=0.99, shear=45, stretch=1)


def test_augment_batch_rejects():
    with pytest.raises(ValueError, match=r"Received: shape \(3, 3\)"):
        augment_batch(np.zeros((3, 3)), 0, Augmentation(flip=True))
    with pytest.raises(TypeError, match="Received: None"):
        augment_batch(np.zeros((1, 3, 3, 1)), 0, None)
