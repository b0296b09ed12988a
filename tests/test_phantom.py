import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hrcam.datasets import neuromelanin_phantom
from hrcam.datasets.phantom import draw_subject
from hrcam.separation import separation_score, structures_found

SUBJECTS, SLICES, SIZE = 40, 3, 48


@pytest.fixture(scope="module")
def data():
    return neuromelanin_phantom(SUBJECTS, SLICES, SIZE, seed=3)


def test_contract(data):
    n = SUBJECTS * SLICES
    assert data.images.shape == (n, SIZE, SIZE, 1)
    assert data.images.dtype == np.float32
    assert data.images.min() >= 0
    assert data.images.max() <= 1
    assert data.masks.dtype == bool
    assert data.structures.shape == (n, SIZE, SIZE)
    np.testing.assert_array_equal(data.masks, data.structures > 0)
    assert data.labels.dtype == np.int64
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 1] * (SUBJECTS // 2)
    assert data.groups[:4].tolist() == ["subject000"] * 3 + ["subject001"]
    assert len(set(data.groups)) == SUBJECTS


def test_two_structures_one_on_each_side_of_the_midline(data):
    for one in data.structures:
        assert set(np.unique(one)) == {0, 1, 2}
        assert ndimage.label(one > 0, np.ones((3, 3)))[1] == 2
        left, right = (np.argwhere(one == k)[:, 1].mean() for k in (1, 2))
        assert left < right
        assert right - left > SIZE / 5
    area = data.masks.mean(axis=(1, 2))
    assert area.min() > 0.012
    assert area.max() < 0.035


def test_a_smaller_set_is_the_beginning_of_a_larger_one(data):
    few = neuromelanin_phantom(4, SLICES, SIZE, seed=3)
    for part, whole in zip(few, data, strict=True):
        np.testing.assert_array_equal(part, whole[: 4 * SLICES])
    other = neuromelanin_phantom(4, SLICES, SIZE, seed=4)
    assert all((a != b).any() for a, b in zip(few.images, other.images, strict=True))


def test_the_global_random_state_is_neither_used_nor_changed():
    before = np.random.get_state()[1].copy()
    neuromelanin_phantom(2, 1, 32)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("seed", range(8))
def test_the_class_is_drawn_in_the_structures_only(seed):
    """The same subject, once as a control and once as a patient."""
    control, patient = (
        draw_subject(np.random.default_rng(seed), 2, 64, label) for label in (0, 1)
    )

    np.testing.assert_array_equal(control[1], patient[1])
    change = control[0] - patient[0]
    # An edge is soft over up to 2 pixels beyond the tips.
    grown = ndimage.binary_dilation(control[1] > 0, np.ones((1, 3, 3)), iterations=3)
    assert not change[~grown].any()
    for number in (1, 2):  # each side fades by 0.5 to 1 of about 0.24, bias and all
        assert 0.07 < change[control[1] == number].mean() < 0.35
    assert change.min() > -0.02  # nothing gets brighter, up to the magnitude's noise


def contrast(data):
    """Mean of the structures less the mean of the brain-stem around them."""
    grown = ndimage.binary_dilation(data.masks, np.ones((1, 3, 3)), iterations=3)
    around = grown & ~ndimage.binary_dilation(data.masks, np.ones((1, 3, 3)))
    pairs = zip(data.images[..., 0], data.masks, around, strict=True)
    return np.array([image[m].mean() - image[a].mean() for image, m, a in pairs])


def auc_of_background(data, statistics):
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    predicted = cross_val_predict(
        model, statistics, data.labels, cv=10, method="predict_proba"
    )
    return roc_auc_score(data.labels, predicted[:, 1])


def test_the_structures_tell_the_class_and_the_rest_does_not():
    data = neuromelanin_phantom(200, 1, 32, seed=5)
    assert roc_auc_score(1 - data.labels, contrast(data)) > 0.9
    outside = ~ndimage.binary_dilation(data.masks, np.ones((1, 3, 3)), iterations=2)
    geometry = np.stack([data.masks.sum(axis=(1, 2)), outside.sum(axis=(1, 2))], 1)
    grey = np.array(
        [
            [image[o].mean(), image[o].std(), *np.histogram(image[o], 8, (0, 0.8))[0]]
            for image, o in zip(data.images[..., 0], outside, strict=True)
        ]
    )
    # 200 subjects: the AUC of nothing has a standard deviation of 0.04.
    assert abs(auc_of_background(data, np.hstack([geometry, grey])) - 0.5) < 0.12


def test_slices_of_one_subject_are_alike_but_not_the_same(data):
    images = ndimage.gaussian_filter(data.images[..., 0], (0, 1, 1))
    images = images.reshape(SUBJECTS, SLICES, -1)
    within = np.abs(images[:, 0] - images[:, 1]).mean()
    between = np.abs(images[:-2, 0] - images[2:, 0]).mean()  # of the same class
    assert 0 < within < between / 2


def test_the_same_picture_at_every_size():
    small, large = (neuromelanin_phantom(4, 1, size, seed=1) for size in (48, 96))
    shares = [p.masks.mean(axis=(1, 2)) for p in (small, large)]
    np.testing.assert_allclose(*shares, rtol=0.15)
    for number in (1, 2):
        centres = [
            np.array([np.argwhere(s == number).mean(axis=0) for s in p.structures])
            for p in (small, large)
        ]
        # Each slice's shift is drawn after the noise of the one before: one slice.
        np.testing.assert_allclose(centres[0] / 48, centres[1] / 96, atol=0.02)


def test_a_map_of_the_structures_has_them_apart_and_a_blurred_one_merged(data):
    exact = data.masks.astype(float)
    assert set(structures_found(exact, data.structures)) == {"apart"}
    np.testing.assert_allclose(separation_score(exact, data.structures), 1)
    blurred = ndimage.gaussian_filter(exact, (0, SIZE / 4, SIZE / 4))
    assert set(structures_found(blurred, data.structures)) == {"merged"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_subjects": 1}, "`num_subjects` must be 2 or more. Received: 1"),
        ({"slices_per_subject": 0}, "`slices_per_subject` must be 1 or more"),
        ({"image_size": 31}, "`image_size` must be 32 or more. Received: 31"),
        ({"seed": -1}, "`seed` must be 0 or more. Received: -1"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        neuromelanin_phantom(**arguments)
