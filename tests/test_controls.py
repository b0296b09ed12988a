"""Controls that know nothing of the model."""

import numpy as np
import pytest

from hrcam.maps.controls import edge_magnitude, random_smooth


@pytest.fixture
def noise_images():
    return np.random.default_rng(0).integers(0, 256, (4, 56, 42, 3)).astype("float32")


def test_edge_magnitude_golden():
    """A step from 0 to 1 between columns 2 and 3: 1 + 2 + 1 at both sides of it."""
    images = np.zeros((2, 4, 6, 2))
    images[1, :, 3:] = 1
    maps = edge_magnitude(None, images)
    assert (maps[0] == 0).all()
    np.testing.assert_allclose(maps[1], np.tile([0.0, 0, 4, 4, 0, 0], (4, 1)))


def test_random_smooth_is_normalised_and_smooth(noise_images):
    """A step between neighbours is small beside the range, in white noise it is not.

    Noise under a Gaussian of deviation s has steps of deviation 1 / (sqrt(2) s) times
    its own: s is 4 rows (56 / 14) and 3 columns (42 / 14), so 0.18 and 0.24.
    """
    maps = random_smooth(None, noise_images)
    assert maps.shape == (4, 56, 42)
    assert maps.dtype == np.float32
    assert (maps.min(axis=(1, 2)) == 0).all()
    assert (maps.max(axis=(1, 2)) == 1).all()
    down = np.diff(maps, axis=1).std() / maps.std()
    across = np.diff(maps, axis=2).std() / maps.std()
    assert 0.12 < down < 0.24 < 1.2 * across < 0.4


def test_random_smooth_differs_by_image_and_seed(noise_images):
    maps = random_smooth(None, noise_images)
    other = random_smooth(None, noise_images, seed=1)
    pairs = [(maps[0], maps[1]), (maps[2], maps[3]), (maps[0], other[0])]
    for one, two in pairs:
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.5
    np.testing.assert_array_equal(maps, random_smooth(None, noise_images, 1))


def test_random_smooth_does_not_depend_on_the_batch(noise_images):
    maps = random_smooth(None, noise_images, seed=3)
    alone = random_smooth(None, noise_images[2:3].astype("uint8"), seed=3)
    np.testing.assert_array_equal(alone[0], maps[2])
    backwards = random_smooth(None, noise_images[::-1], seed=3)
    np.testing.assert_array_equal(backwards[::-1], maps)
