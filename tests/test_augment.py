import numpy as np
import pytest

from hrcam.datasets import Augmentation, augment_batch


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


def test_no_change_asked_none_made():
    images = np.random.default_rng(0).uniform(size=(2, 3, 3, 1)).astype("float32")

    np.testing.assert_array_equal(augment_batch(images, 0, Augmentation()), images)


@pytest.mark.parametrize("wrong", [{"shift": 2}, {"shift": -0.1}, {"rotate": 200}])
def test_augmentation_rejects(wrong):
    with pytest.raises(ValueError, match=r"in \[0, 180\]. Received: Augmentation"):
        Augmentation(**wrong)


def test_augment_batch_rejects():
    with pytest.raises(ValueError, match=r"Received: shape \(3, 3\)"):
        augment_batch(np.zeros((3, 3)), 0, Augmentation(flip=True))
    with pytest.raises(TypeError, match="Received: None"):
        augment_batch(np.zeros((1, 3, 3, 1)), 0, None)
