"""Our maps against other libraries' on the same network, images, layer and class.

Peers run in environments of their own (docs/conformity.md). They give raw maps at the
layer's own size; ours have the image's, so theirs are resized here by OpenCV, which in
the unstrided network changes nothing. Where a library computes something else, its
number is worked out from ours with one stated change.
"""

import functools
from typing import NamedTuple

import conftest
import keras
import numpy as np
import pytest
import tensorflow as tf
import written_out as w

import hrcam
from hrcam import maps

TOLERANCE = 5e-5  # of the range of each map

pytestmark = [
    pytest.mark.conformity,
    pytest.mark.filterwarnings("ignore:The .*map has no positive value"),
]

SITES = [(n, layer) for n in conftest.SEEDS for layer in conftest.LAYERS]
# The CAM is that of a layer that global average pooling follows.
CAM_SITES = [("unstrided", "relu3"), ("pooled", "relu3")]
SIGNED = {"relu": False}


class Site(NamedTuple):
    """A layer of a network, and what is to be explained."""

    network: str
    layer: str
    model: keras.Model
    trunk: keras.Model  # up to the last dense layer's input
    images: np.ndarray
    class_index: np.ndarray
    features: np.ndarray
    gradient: np.ndarray

    def scores(self, images):
        """Before the softmax, `(n, classes)`."""
        kernel, bias = self.model.layers[-1].get_weights()
        return np.float64(self.trunk(np.float32(images))) @ kernel + bias

    def score(self, images):
        """Of the class to be explained, `(n,)`."""
        return self.of_class(self.scores(images))

    def probability(self, images):
        return self.of_class(w.softmax(self.scores(images)))

    def of_class(self, values):
        return np.take_along_axis(values, self.class_index[:, None], axis=1)[:, 0]

    def ours(self, method, **options):
        if method != "cam":
            options["layer_name"] = self.layer
        explain = getattr(maps, method)
        return explain(self.model, self.images, self.class_index, **options)


@pytest.fixture(scope="session")
def find_site(networks, request_of_all):
    @functools.cache
    def find(network, layer):
        model, (images, class_index) = networks[network], request_of_all
        dense = model.layers[-1]
        both = keras.Model(
            model.inputs[0], [model.get_layer(layer).output, dense.input]
        )
        x = tf.constant(images)
        with tf.GradientTape() as tape:
            tape.watch(x)
            features, vector = both(x, training=False)
            scores = vector @ dense.kernel + dense.bias
            score = tf.reduce_sum(tf.gather(scores, class_index, batch_dims=1))
        gradient = tape.gradient(score, features)
        return Site(
            network,
            layer,
            model,
            keras.Model(model.inputs[0], dense.input),
            images,
            class_index,
            np.float64(features),
            np.float64(gradient),
        )

    return find


@pytest.fixture(params=SITES, ids="-".join)
def site(request, find_site):
    return find_site(*request.param)


def differences(found, expected):
    """The largest of each image, as a share of the range of its expected map.

    The widest range of all stands for that of a blank map, 1 if all are blank.
    """
    ranges = np.ptp(expected, axis=w.SPACE)
    ranges = np.where(ranges > 0, ranges, ranges.max() or 1)
    return np.abs(found - expected).max(axis=w.SPACE) / ranges


def difference(found, expected):
    return float(differences(found, expected).max())


# --- what is compared --------------------------------------------------------------


def test_images_are_of_different_classes(networks, request_of_all):
    for model in networks.values():
        predicted = model.predict(request_of_all[0], verbose=0).argmax(axis=1)
        assert len(set(predicted)) > 1


def test_maps_are_not_blank(site):
    assert (np.ptp(site.ours("grad_cam"), axis=w.SPACE) > 0).mean() > 0.3
    assert (np.ptp(site.ours("layer_cam"), axis=w.SPACE) > 0).mean() > 0.3


WRITTEN_OUT = {
    "grad_cam": (w.grad_cam, SIGNED),
    "hires_cam": (w.hires_cam, SIGNED),
    "layer_cam": (w.layer_cam, {}),
    "grad_cam_plus_plus": (w.grad_cam_plus_plus, {}),
}


@pytest.mark.parametrize("method", WRITTEN_OUT)
def test_written_out(site, method):
    formula, options = WRITTEN_OUT[method]
    expected = w.half_pixel(formula(site.features, site.gradient), conftest.SIZE)
    assert difference(site.ours(method, **options), expected) < TOLERANCE


def written_out_score_cam(site, weigh=w.softmax, score=None, **changes):
    score = site.score if score is None else score
    return w.score_cam(site.features, site.images, score, weigh=weigh, **changes)


def test_written_out_score_cam(site):
    expected = w.half_pixel(written_out_score_cam(site), conftest.SIZE)
    assert difference(site.ours("score_cam"), expected) < TOLERANCE


# --- the same -----------------------------------------------------------------------

SAME = {
    ("captum", "grad_cam"): SIGNED,
    ("captum", "hires_cam"): SIGNED,
    ("pytorch_grad_cam", "grad_cam"): SIGNED,
    ("pytorch_grad_cam", "hires_cam"): SIGNED,
    ("pytorch_grad_cam", "layer_cam"): {},
    ("tf_keras_vis", "grad_cam"): SIGNED,
    ("tf_keras_vis", "hires_cam"): SIGNED,
    ("tf_keras_vis", "layer_cam"): {},
    ("torchcam", "grad_cam"): {},
    ("torchcam", "layer_cam"): {},
    ("xplique", "grad_cam"): {},
}


@pytest.mark.parametrize(("library", "method"), SAME)
def test_same_map(site, peer, library, method, record_property):
    theirs = peer(library)[f"{site.network}/{site.layer}/{method}"]
    found = difference(
        w.half_pixel(theirs, conftest.SIZE),
        site.ours(method, **SAME[library, method]),
    )
    record_property("difference", found)
    assert found < TOLERANCE


@pytest.mark.parametrize("where", CAM_SITES, ids="-".join)
def test_same_cam(find_site, peer, where, record_property):
    theirs = peer("torchcam")["/".join([*where, "cam"])]
    found = difference(
        w.half_pixel(theirs, conftest.SIZE), find_site(*where).ours("cam")
    )
    record_property("difference", found)
    assert found < TOLERANCE


# --- the same but for a stated change -----------------------------------------------


def shares_of_tf_keras_vis(site):
    """The shares of a feature map, negative derivatives' too, are made to sum to 1."""
    shares = w.alpha(site.features, site.gradient)
    total = shares.sum(axis=w.SPACE, keepdims=True)
    return shares / np.where(total == 0, 1, total)


def tf_keras_vis_plus_plus(site):
    """And the map is multiplied by exp(S)."""
    shares = shares_of_tf_keras_vis(site)
    found = w.grad_cam_plus_plus(site.features, site.gradient, shares)
    return found * np.exp(site.score(site.images))[:, None, None]


def xplique_plus_plus(site):
    """The mean of the feature map in place of its sum; a mean over the pixels."""
    shares = w.alpha(site.features, site.gradient, total=np.mean)
    pixels = np.prod(site.features.shape[1:3])
    return w.grad_cam_plus_plus(site.features, site.gradient, shares) / pixels


def pytorch_grad_cam_plus_plus(site):
    """1e-6 is added to the denominator, which is of the order of g^2."""
    shares = w.alpha(site.features, site.gradient, epsilon=1e-6)
    return w.grad_cam_plus_plus(site.features, site.gradient, shares)


def torchcam_plus_plus(site):
    """The denominator is computed and not used: the share is g^2."""
    return w.grad_cam_plus_plus(site.features, site.gradient, site.gradient**2)


def over_all_maps(scores, has_range):
    """Softmax over the feature maps, those without range too."""
    return w.softmax(scores)


def as_they_are(scores, has_range):
    return scores


def pytorch_grad_cam_score_cam(site):
    """Masks resized with aligned corners; maps without range count in the softmax."""
    return written_out_score_cam(site, over_all_maps, resize=w.aligned)


def torchcam_score_cam(site):
    """Masks scaled before they are resized; maps without range count."""
    return written_out_score_cam(site, over_all_maps, scale_first=True)


def tf_keras_vis_score_cam(site):
    """The class's probability is the weight, with no softmax over the maps."""
    return written_out_score_cam(site, as_they_are, site.probability, resize=w.aligned)


def tf_keras_vis_score_cam_of_softmax(site):
    """A network that ends in a softmax gets another one on top."""

    def twice(images):
        return site.of_class(w.softmax(w.softmax(site.scores(images))))

    return written_out_score_cam(site, as_they_are, twice, resize=w.aligned)


CHANGED = {
    ("pytorch_grad_cam", "grad_cam_plus_plus"): pytorch_grad_cam_plus_plus,
    ("pytorch_grad_cam", "score_cam"): pytorch_grad_cam_score_cam,
    ("tf_keras_vis", "grad_cam_plus_plus"): tf_keras_vis_plus_plus,
    ("tf_keras_vis", "score_cam"): tf_keras_vis_score_cam,
    ("tf_keras_vis", "score_cam softmax"): tf_keras_vis_score_cam_of_softmax,
    ("torchcam", "grad_cam_plus_plus"): torchcam_plus_plus,
    ("torchcam", "score_cam"): torchcam_score_cam,
    ("xplique", "grad_cam_plus_plus"): xplique_plus_plus,
}


def tolerance(site, library, method):
    """tf-keras-vis also divides by the shares of negative derivatives.

    Their denominator, 2 + g sum A, passes 0, and near it float32 loses digits.
    """
    if (library, method) != ("tf_keras_vis", "grad_cam_plus_plus"):
        return TOLERANCE
    shares = np.abs(w.alpha(site.features, site.gradient))
    return np.where(shares.max(axis=(1, 2, 3)) > 10, 1e-2, TOLERANCE)


@pytest.mark.parametrize(("library", "method"), CHANGED)
def test_same_map_but_for_the_change(site, peer, library, method, record_property):
    theirs = peer(library)[f"{site.network}/{site.layer}/{method}"]
    found = differences(theirs, CHANGED[library, method](site))
    ours = site.ours(method.split()[0])
    resized = w.half_pixel(theirs, conftest.SIZE)
    normalised = map(hrcam.min_max_normalize, (resized, ours))
    record_property("difference", found.max())
    record_property("without the change", difference(resized, ours))
    record_property("without it, min-max", difference(*normalised))
    assert (found < tolerance(site, library, method)).all()


@pytest.mark.parametrize(("library", "method"), CHANGED)
def test_the_change_is_needed(find_site, peer, library, method):
    theirs = peer(library)[f"pooled/relu2/{method}"]
    ours = find_site("pooled", "relu2").ours(method.split()[0])
    found = difference(w.half_pixel(theirs, conftest.SIZE), ours)
    assert found > 10 * TOLERANCE


def test_softmax_in_place_of_the_score(site, peer, record_property):
    """d p_c = p_c (d S_c - sum_j p_j d S_j): a sum of the Grad-CAMs of all classes."""
    theirs = peer("tf_keras_vis")[f"{site.network}/{site.layer}/grad_cam softmax"]
    p = w.softmax(site.scores(site.images))[:, :, None, None]
    every = np.stack(
        [
            maps.grad_cam(site.model, site.images, c, site.layer, relu=False)
            for c in range(conftest.CLASSES)
        ],
        axis=1,
    )
    share = every - (p * every).sum(axis=1, keepdims=True)
    own = np.arange(len(share)), site.class_index
    expected = (p * share)[own]
    found = difference(w.half_pixel(theirs, conftest.SIZE), expected)
    record_property("difference", found)
    assert found < TOLERANCE


# --- as they are returned -----------------------------------------------------------


def pytorch_grad_cam_as_returned(m):
    """To [0, 1], resized, and to [0, 1] again."""
    return w.min_max(w.half_pixel(w.min_max(m, 1e-7), conftest.SIZE), 1e-7)


AS_RETURNED = {
    ("captum", "resized"): lambda m: w.half_pixel(m, conftest.SIZE),
    ("captum", "resized nearest"): lambda m: w.nearest(m, conftest.SIZE),
    ("pytorch_grad_cam", "as returned"): pytorch_grad_cam_as_returned,
    ("tf_keras_vis", "as returned"): lambda m: w.min_max(
        w.aligned(m, conftest.SIZE), 1e-7
    ),
    ("torchcam", "as returned"): lambda m: w.min_max(m, 1e-8),
    ("xplique", "as returned"): lambda m: w.cubic(m, conftest.SIZE),
}


@pytest.mark.parametrize(("library", "key"), AS_RETURNED)
def test_resizing_and_normalisation(site, peer, library, key, record_property):
    theirs = peer(library)[f"{site.network}/{site.layer}/{key}"]
    rectified = w.rectified(w.grad_cam(site.features, site.gradient))
    expected = AS_RETURNED[library, key](rectified)
    found = difference(theirs, expected)
    record_property("difference", found)
    assert found < TOLERANCE


def test_hrcam_resizes_as_pytorch_does(site, peer):
    """captum's bilinear interpolation of its own map, against our map as it is."""
    theirs = peer("captum")[f"{site.network}/{site.layer}/resized"]
    assert difference(theirs, site.ours("grad_cam")) < TOLERANCE
