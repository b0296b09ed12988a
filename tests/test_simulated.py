import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from hrcam.datasets.simulated import pathology_kinds, simulated

SIZE, COUNT = 64, 400


@pytest.fixture(scope="module")
def data():
    return simulated(COUNT, SIZE, seed=3)


def test_contract(data):
    images, masks, labels = data

    assert images.shape == (COUNT, SIZE, SIZE, 1)
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    assert masks.shape == (COUNT, SIZE, SIZE)
    assert masks.dtype == bool
    assert labels.dtype == np.int64
    assert np.bincount(labels).tolist() == [COUNT // 2, COUNT // 2]
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), labels == 1)


def test_odd_count_has_one_more_normal_image():
    assert simulated(5, 32)[2].tolist() == [0, 1, 0, 1, 0]


def test_kinds_say_what_the_masks_show(data):
    _, masks, labels = data
    kinds = pathology_kinds(COUNT)
    area = masks.mean(axis=(1, 2))

    np.testing.assert_array_equal(kinds != "none", labels == 1)
    assert np.sum(kinds == "localized") == np.sum(kinds == "diffuse") == COUNT // 4
    localized = kinds == "localized"
    corners = np.ones((3, 3))  # pixels that touch at a corner belong together
    assert all(ndimage.label(mask, corners)[1] == 1 for mask in masks[localized])
    assert area[localized].min() > 0.015
    assert area[localized].max() < 0.08
    assert area[kinds == "diffuse"].min() > 0.09
    assert area[kinds == "diffuse"].max() < 0.45


def test_an_image_depends_on_seed_and_index_only(data):
    few = simulated(6, SIZE, seed=3)

    for part, whole in zip(few, data, strict=True):
        np.testing.assert_array_equal(part, whole[:6])
    other = simulated(6, SIZE, seed=4)
    assert all((a != b).any() for a, b in zip(few[0], other[0], strict=True))


def test_the_global_random_state_is_neither_used_nor_changed():
    before = np.random.get_state()[1].copy()
    simulated(2, 32)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_all_images_have_the_same_gray_values(data):
    images = np.sort(data[0].reshape(COUNT, -1), axis=1)
    np.testing.assert_array_equal(images, np.tile(images[:1], (COUNT, 1)))


def test_global_statistics_do_not_give_the_class_away(data):
    images, _, labels = data
    statistics = [
        [image.mean(), image.var(), *np.histogram(image, 32, (0, 1))[0]]
        for image in images
    ]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    auc = cross_val_score(classifier, statistics, labels, scoring="roc_auc")
    assert auc.mean() < 0.6


def smooth(image):
    return ndimage.gaussian_filter(image, 0.04 * SIZE)


CONTROLS = {
    "brightness": smooth,
    "darkness": lambda image: -smooth(image),
    "absolute contrast": lambda image: smooth(np.abs(image - smooth(image))),
    "flatness": lambda image: -smooth(np.abs(image - smooth(image))),
}


@pytest.mark.parametrize("kind", ["localized", "diffuse"])
@pytest.mark.parametrize("control", CONTROLS)
def test_brightness_and_contrast_do_not_find_the_pathology(data, control, kind):
    # AP varies much between images with one small lesion: its mean lies above the
    # base rate even where the AUC is 0.5. A map of brighter lesions reaches 0.7.
    images, masks, _ = data
    chosen = pathology_kinds(COUNT) == kind
    maps = [CONTROLS[control](image).ravel() for image in images[chosen, ..., 0]]
    truth = masks[chosen].reshape(len(maps), -1)
    precision = np.mean(list(map(average_precision_score, truth, maps)))
    auc = np.mean(list(map(roc_auc_score, truth, maps)))

    assert precision < {"localized": 2.5, "diffuse": 1.5}[kind] * truth.mean()
    assert auc < 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_images": 1}, r"`num_images` expected to be 2 or more. Received: 1"),
        ({"image_size": 31}, r"`image_size` expected to be 32 or more. Received: 31"),
        ({"seed": -1}, r"`seed` expected to be 0 or more. Received: -1"),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulated(**{"num_images": 2, "image_size": 32, **arguments})
