"""Heads of several sigmoid units: images with several labels, or none."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import hrcam


@pytest.fixture
def labels():
    """`(6, 3)` 0/1: from none to all three."""
    return np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1], [0, 0, 1], [1, 0, 1]])


@pytest.fixture
def multi_label_model(flat_model, he_scale):
    """16x16x1 -> three sigmoid units."""
    gap = flat_model.get_layer("gap").output
    predictions = layers.Dense(3, "sigmoid", name="findings")(gap)
    return he_scale(keras.Model(flat_model.input, predictions, name="findings"), 3)


@pytest.fixture
def head_model(multi_label_model):
    return hrcam.build_hrcam_model(multi_label_model)


def cross_entropy(labels, probabilities):
    return -np.log(np.where(labels == 1, probabilities, 1 - probabilities)).mean()


# --- the loss ---------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["multi_label_model", "nested_model"])
def test_same_as_fit_on_the_frozen_network(fixture, images, labels, request):
    """Same order, same start: the same losses, accuracies and weights at the end."""
    base_model = request.getfixturevalue(fixture)
    model = hrcam.build_hrcam_model(base_model, activation="sigmoid")
    start = model.get_layer("predictions").get_weights()
    options = {
        "validation_data": (images[::-1], labels),
        "epochs": 4,
        "batch_size": 4,
        "shuffle": False,
    }
    model.compile(
        keras.optimizers.Adam(1e-3), "binary_crossentropy", metrics=["binary_accuracy"]
    )
    expected = model.fit(images, labels, verbose=0, **options).history
    expected_head = model.get_layer("predictions").get_weights()
    model.get_layer("predictions").set_weights(start)

    actual = hrcam.fit_hrcam_head(model, images, labels, verbose=False, **options)

    for prefix in ("", "val_"):
        for mine, theirs in (("loss", "loss"), ("accuracy", "binary_accuracy")):
            np.testing.assert_allclose(
                actual.history[prefix + mine], expected[prefix + theirs], rtol=1e-5
            )
    actual_head = model.get_layer("predictions").get_weights()
    for mine, theirs in zip(actual_head, expected_head, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert np.abs(actual_head[0] - start[0]).max() > 1e-3


def test_first_epoch_by_hand(head_model, images, labels):
    """No kernel, biases ln 3, ln 3, -ln 3: p = 3/4, 3/4, 1/4 for every image.

    A label as likely as 3/4 costs ln(4/3) = 2 ln 2 - ln 3, one of 1/4 costs 2 ln 2.
    Column sums of the labels are 3, 2, 4 of 6. So 3 + 2 + 2 labels were given 3/4 and
    3 + 4 + 4 were given 1/4: loss = (36 ln 2 - 7 ln 3) / 18, accuracy 7 / 18.
    """
    head = head_model.get_layer("predictions")
    bias = np.log(3) * np.array([1, 1, -1])
    head.set_weights([np.zeros((18, 3)), bias])

    history = hrcam.fit_hrcam_head(head_model, images, labels, epochs=1, verbose=False)

    expected = (36 * np.log(2) - 7 * np.log(3)) / 18
    assert history.history["loss"] == [pytest.approx(expected, rel=1e-5)]
    assert history.history["accuracy"] == [pytest.approx(7 / 18)]
    # Adam's first step is the learning rate against the sign of the gradient, which is
    # p - share of the label: 3/4 - 1/2, 3/4 - 1/3, 1/4 - 2/3.
    np.testing.assert_allclose(
        head.get_weights()[1] - bias, [-1e-3, -1e-3, 1e-3], rtol=1e-3
    )


def test_weight_decay_is_added(head_model, images, labels):
    """Second road: cross-entropy and sum of squares in numpy."""
    kernel, _ = head_model.get_layer("predictions").get_weights()
    expected = cross_entropy(labels, head_model.predict(images, verbose=0))

    history = hrcam.fit_hrcam_head(
        head_model, images, labels, epochs=1, l2=0.5, verbose=False
    )

    expected += 0.5 * np.square(kernel).sum()
    assert history.history["loss"] == [pytest.approx(expected, rel=1e-5)]


def test_standardize_starts_at_zero_and_is_folded_back(head_model, images, labels):
    """Second road: z-scores in numpy, the first step of Adam by hand.

    From zero every p is 1/2 and the loss ln 2. The gradient g is the mean over images
    of z * (p - label), over 3 for the mean of the units; Adam's first step is
    -lr * g / (|g| + 1e-7 / sqrt(1 - 0.999)).
    """
    vectors = hrcam.pool_features(head_model, images, labels, verbose=False).vectors
    scale = vectors.std(axis=0)
    z = (vectors - vectors.mean(axis=0)) / np.maximum(scale, 0.01 * scale.mean())
    z = np.column_stack([z, np.ones(6)])  # the last weight is the bias
    gradient = z.T @ (0.5 - labels) / 18
    step = -1e-3 * gradient / (np.abs(gradient) + 1e-7 / np.sqrt(1 - 0.999))

    history = hrcam.fit_hrcam_head(
        head_model, images, labels, epochs=1, standardize=True, verbose=False
    )

    assert history.history["loss"] == [pytest.approx(np.log(2), rel=1e-5)]
    expected = 1 / (1 + np.exp(-z @ step))
    assert np.abs(expected - 0.5).max() > 1e-3
    np.testing.assert_allclose(
        head_model.predict(images, verbose=0), expected, atol=1e-6
    )


def test_early_stopping_keeps_the_best_weights(head_model, images, labels):
    wrong = 1 - labels  # learning makes this validation loss worse
    history = hrcam.fit_hrcam_head(
        head_model,
        images,
        labels,
        validation_data=(images, wrong),
        epochs=50,
        early_stopping=2,
        learning_rate=0.05,
        verbose=False,
    )
    losses = history.history["val_loss"]
    assert len(losses) < 50
    kept = cross_entropy(wrong, head_model.predict(images, verbose=0))
    np.testing.assert_allclose(kept, min(losses), rtol=1e-4)


# --- labels in, classes and scores out --------------------------------------------


def test_every_form_of_the_data_is_the_same(head_model, images, labels):
    start = head_model.get_layer("predictions").get_weights()
    batches = tf.data.Dataset.from_tensor_slices((images, labels == 1)).batch(4)
    pooled = hrcam.pool_features(head_model, images, labels, verbose=False)
    losses = []
    for data, held_out in (
        ((images, labels), (images, labels)),
        ((images, labels.astype("float32")), batches),
        ((batches,), pooled),
        ((pooled,), (images, labels.tolist())),
    ):
        head_model.get_layer("predictions").set_weights(start)
        history = hrcam.fit_hrcam_head(
            head_model,
            *data,
            validation_data=held_out,
            epochs=2,
            batch_size=4,
            shuffle=False,
            verbose=False,
        )
        losses.append([history.history["loss"], history.history["val_loss"]])
    np.testing.assert_allclose(losses, losses[:1] * 4, rtol=1e-5)


def test_augmented_copies_keep_their_labels(head_model, images, labels):
    pooled = hrcam.pool_features(
        head_model,
        images,
        labels,
        batch_size=4,
        augment=lambda batch: keras.ops.flip(batch, axis=2),
        copies=2,
        verbose=False,
    )
    assert pooled.labels.dtype == "int64"
    np.testing.assert_array_equal(pooled.labels, [*labels, *labels])
    assert pooled.vectors.shape == (12, 18)
    assert pooled.base_classes is None


def test_report_of_accuracy_and_agreement(
    head_model, multi_label_model, images, labels
):
    """Shares of all labels, not of images of which every label is right."""
    history = hrcam.fit_hrcam_head(
        head_model,
        images,
        labels,
        validation_data=(images[:3], labels[:3]),
        epochs=2,
        base_model=multi_label_model,
        verbose=False,
    )
    mine = head_model.predict(images, verbose=0) >= 0.5
    theirs = multi_label_model.predict(images, verbose=0) >= 0.5
    assert history.report == {
        "accuracy": pytest.approx((mine == labels).mean()),
        "agreement": pytest.approx((mine == theirs).mean()),
        "val_accuracy": pytest.approx((mine == labels)[:3].mean()),
        "val_agreement": pytest.approx((mine == theirs)[:3].mean()),
    }
    assert 0 < (mine == theirs).mean() < 1
    assert (mine == labels).mean() != (mine == labels).all(axis=1).mean()


def test_base_model_of_probabilities_or_logits(
    head_model, multi_label_model, images, labels, tmp_path
):
    """A label is there from p = 0.5 on, or z = 0; in one pass or two."""
    findings = multi_label_model.get_layer("findings")
    z = layers.Dense(3, name="z")
    logits = keras.Model(multi_label_model.input, z(findings.input))
    kernel, bias = findings.get_weights()
    z.set_weights([kernel, bias])
    # The highest z of each unit is 0.05, which is p = 0.51.
    bias = bias + 0.05 - logits.predict(images, verbose=0).max(axis=0)
    for layer in (findings, z):
        layer.set_weights([kernel, bias])
    logits.save(tmp_path / "logits.keras")
    opened = hrcam.load_model(tmp_path / "logits.keras")

    expected = multi_label_model.predict(images, verbose=0) >= 0.5
    assert expected.any(axis=0).all()
    assert not expected.all(axis=0).any()
    for base_model in (multi_label_model, logits, opened):
        pooled = hrcam.pool_features(
            head_model,
            images,
            labels,
            base_model=base_model,
            batch_size=4,
            verbose=False,
        )
        assert pooled.base_classes.dtype == "int64"
        np.testing.assert_array_equal(pooled.base_classes, expected)


# --- what does not fit ------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0, 1, 2, 1, 0, 2], r"0 or 1, shape \(n, 3\).*shape \(6,\).*\"softmax\""),
        (np.zeros((6, 4)), r"shape \(n, 3\).*shape \(6, 4\)"),
        (np.full((6, 3), 0.5), r"must be 0 or 1.*float64, first \[\[0.5"),
        (np.full((6, 3), -1), r"must be 0 or 1.*-1"),
        (np.full((6, 3), np.nan), r"must be 0 or 1.*nan"),
    ],
)
def test_labels_that_do_not_fit_the_head(head_model, images, wrong, message):
    with pytest.raises(ValueError, match=message):
        hrcam.fit_hrcam_head(head_model, images, wrong, verbose=False)


def test_several_labels_need_sigmoid_units(flat_model, sigmoid_model, images, labels):
    for base_model in (flat_model, sigmoid_model):
        model = hrcam.build_hrcam_model(base_model)
        for given in (labels, np.zeros((6, 3))):  # no label is not one label
            with pytest.raises(ValueError, match=r'build_hrcam_model.*"sigmoid"'):
                hrcam.pool_features(model, images, given, verbose=False)


@pytest.mark.parametrize("class_weight", ["balanced", {0: 1.0, 1: 2.0}])
def test_class_weights_are_refused(head_model, images, labels, class_weight):
    with pytest.raises(ValueError, match=r"must be None.*weighted loss.*`fit`"):
        hrcam.fit_hrcam_head(head_model, images, labels, class_weight=class_weight)


def test_features_pooled_for_another_head(flat_model, head_model, images, labels):
    softmax = hrcam.build_hrcam_model(flat_model)
    classes = np.array([0, 1, 2, 1, 0, 2])
    options = {"base_model": flat_model, "verbose": False}
    of_classes = hrcam.pool_features(softmax, images, classes, **options)
    of_labels = hrcam.pool_features(head_model, images, np.eye(3)[classes], **options)
    with pytest.raises(ValueError, match=r"0 or 1, shape \(n, 3\)"):
        hrcam.fit_hrcam_head(head_model, of_classes, verbose=False)
    with pytest.raises(ValueError, match=r"shape \(6,\). Received: \[\(6, 3\), "):
        hrcam.fit_hrcam_head(softmax, of_labels, verbose=False)
    mixed = of_labels._replace(base_classes=of_classes.base_classes)
    with pytest.raises(ValueError, match=r"shape \(6, 3\).*\(6, 3\), \(6,\)"):
        hrcam.fit_hrcam_head(head_model, mixed, verbose=False)


def test_base_training_and_scores_name_the_way_out(multi_label_model, images, labels):
    message = r"'findings'.*3 sigmoid units.*binary_crossentropy.*scikit-learn"
    with pytest.raises(ValueError, match=message):
        hrcam.fit_base_model(multi_label_model, images, labels)
    with pytest.raises(ValueError, match=message):
        hrcam.evaluate_classifier(multi_label_model, images, labels)
