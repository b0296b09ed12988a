"""Training on pooled vectors against `fit` on the frozen network, and resuming."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import hrcam
from hrcam.training import base


@pytest.fixture
def labels():
    return np.array([0, 1, 2, 1, 0, 2])


def clone_of(model):
    """The same network and weights, apart from the first."""
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    return copy


def frozen_fit(model, images, labels, **options):
    """The road that pooling saves: `fit` on the whole network."""
    model.compile(
        keras.optimizers.Adam(1e-3),
        "binary_crossentropy"
        if model.output_shape[-1] == 1
        else "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model.fit(images, labels, verbose=0, **options)


# --- fit_hrcam_head ---------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["flat_model", "nested_model", "sigmoid_model"])
def test_same_as_fit_on_the_frozen_network(fixture, images, labels, request):
    """Same order, same start: the same losses and weights at the end."""
    base_model = request.getfixturevalue(fixture)
    labels = np.minimum(labels, 1) if fixture == "sigmoid_model" else labels
    model = hrcam.build_hrcam_model(base_model)
    start = model.get_layer("predictions").get_weights()

    options = {"epochs": 4, "batch_size": 4, "shuffle": False}
    expected = frozen_fit(model, images, labels, **options)
    expected_head = model.get_layer("predictions").get_weights()
    model.get_layer("predictions").set_weights(start)
    actual = hrcam.fit_hrcam_head(model, images, labels, verbose=False, **options)

    np.testing.assert_allclose(
        actual.history["loss"], expected.history["loss"], rtol=1e-5
    )
    actual_head = model.get_layer("predictions").get_weights()
    for mine, theirs in zip(actual_head, expected_head, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-5)
    assert np.abs(actual_head[0] - start[0]).max() > 1e-3


def test_same_seed_same_head(flat_model, images, labels):
    """Shuffled by Keras' seed: repeated to the bit, and other than another seed's."""
    model = hrcam.build_hrcam_model(flat_model)
    start = model.get_layer("predictions").get_weights()
    kernels = []
    for seed in (5, 5, 6):
        model.get_layer("predictions").set_weights(start)
        keras.utils.set_random_seed(seed)
        hrcam.fit_hrcam_head(
            model, images, labels, epochs=3, batch_size=2, verbose=False
        )
        kernels.append(model.get_layer("predictions").get_weights()[0])
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert (kernels[0] != kernels[2]).any()


def test_only_the_head_changes(flat_model, images, labels):
    model = hrcam.build_hrcam_model(flat_model)
    before = [w.numpy() for w in flat_model.weights]
    hrcam.fit_hrcam_head(model, images, labels, epochs=2, verbose=False)
    for old, new in zip(before, flat_model.weights, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def test_data_set_and_one_hot_are_the_same_as_arrays(flat_model, images, labels):
    model = hrcam.build_hrcam_model(flat_model)
    start = model.get_layer("predictions").get_weights()
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    losses = []
    for data in (
        (images, labels),
        (batches,),
        (images, np.eye(3)[labels]),
        (hrcam.pool_features(model, images, labels, verbose=False),),
    ):
        model.get_layer("predictions").set_weights(start)
        history = hrcam.fit_hrcam_head(
            model, *data, epochs=2, batch_size=4, shuffle=False, verbose=False
        )
        losses.append(history.history["loss"])
    np.testing.assert_allclose(losses, losses[:1] * 4, rtol=1e-6)


def test_pooled_features_are_those_of_the_network(nested_model, images, labels):
    """Second road: numpy means of the layers' own outputs."""
    model = hrcam.build_hrcam_model(nested_model)
    features = hrcam.graph.tap(nested_model, hrcam.pooled_layers(model))(images)
    expected = np.concatenate(
        [f.numpy().mean(axis=(1, 2)) for f in features.values()], 1
    )

    pooled = hrcam.pool_features(
        model, images, labels, base_model=nested_model, batch_size=4, verbose=False
    )

    np.testing.assert_allclose(pooled.vectors, expected, atol=1e-5)
    np.testing.assert_array_equal(pooled.labels, labels)
    predicted = nested_model.predict(images, verbose=0).argmax(axis=1)
    np.testing.assert_array_equal(pooled.base_classes, predicted)


def test_report_of_accuracy_and_agreement(flat_model, images, labels):
    model = hrcam.build_hrcam_model(flat_model)
    history = hrcam.fit_hrcam_head(
        model,
        images,
        labels,
        validation_data=(images[:3], labels[:3]),
        epochs=2,
        base_model=flat_model,
        verbose=False,
    )
    mine = model.predict(images, verbose=0).argmax(axis=1)
    theirs = flat_model.predict(images, verbose=0).argmax(axis=1)
    assert history.report == {
        "accuracy": pytest.approx((mine == labels).mean()),
        "agreement": pytest.approx((mine == theirs).mean()),
        "val_accuracy": pytest.approx((mine == labels)[:3].mean()),
        "val_agreement": pytest.approx((mine == theirs)[:3].mean()),
    }
    assert "val_loss" in history.history


def test_agreement_with_a_base_model_from_disk(flat_model, images, labels, tmp_path):
    """Its input is another tensor, so it takes a pass of its own."""
    model = hrcam.build_hrcam_model(flat_model)
    flat_model.save(tmp_path / "base.keras")
    opened = hrcam.load_model(tmp_path / "base.keras")
    pooled = [
        hrcam.pool_features(model, images, labels, base_model=b, verbose=False)
        for b in (flat_model, opened)
    ]
    np.testing.assert_array_equal(pooled[0].base_classes, pooled[1].base_classes)


def test_standardize_trains_on_unit_variance_and_folds_it_back(
    flat_model, images, labels
):
    """Second road: standardise in numpy, train a dense layer, compare predictions."""
    model = hrcam.build_hrcam_model(flat_model)
    vectors = hrcam.pool_features(model, images, labels, verbose=False).vectors
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    scale = np.maximum(scale, 0.01 * scale.mean())
    vector = keras.Input((18,))
    head = keras.Model(vector, layers.Dense(3, "softmax")(vector))
    head.layers[-1].set_weights([np.zeros((18, 3)), np.zeros(3)])
    z = (vectors - mean) / scale
    frozen_fit(head, z, labels, epochs=5, shuffle=False)

    hrcam.fit_hrcam_head(
        model, images, labels, epochs=5, standardize=True, shuffle=False, verbose=False
    )

    np.testing.assert_allclose(
        model.predict(images, verbose=0), head.predict(z, verbose=0), atol=1e-4
    )


def test_standardize_does_not_start_far_off(flat_model, images, labels):
    """Features in the hundreds: the raw start would give a loss in the hundreds."""
    for name in ("conv1", "conv2", "conv3"):
        layer = flat_model.get_layer(name)
        layer.set_weights([20 * w for w in layer.get_weights()])
    model = hrcam.build_hrcam_model(flat_model)
    vectors = hrcam.pool_features(model, images, labels, verbose=False).vectors
    assert vectors.max() > 50
    history = hrcam.fit_hrcam_head(
        model, images, labels, epochs=1, standardize=True, verbose=False
    )
    assert history.history["loss"][0] < 10


def test_standardize_leaves_a_constant_feature_alone(flat_model, images, labels):
    kernel, bias = flat_model.get_layer("conv3").get_weights()
    kernel[..., 0] = 0  # its map is the same everywhere and for every image
    flat_model.get_layer("conv3").set_weights([kernel, bias])
    model = hrcam.build_hrcam_model(flat_model)
    hrcam.fit_hrcam_head(
        model, images, labels, epochs=2, standardize=True, verbose=False
    )
    assert np.isfinite(model.get_layer("predictions").get_weights()[0]).all()
    # Two steps of Adam move a weight by at most 0.002; the deviations that they are
    # divided by are at least a hundredth of their mean.
    vectors = hrcam.pool_features(model, images, labels, verbose=False).vectors
    limit = 0.0021 / (0.01 * vectors.std(axis=0).mean())
    assert np.abs(model.get_layer("predictions").get_weights()[0]).max() < limit


def test_l2_shrinks_the_kernel(flat_model, images, labels):
    norms = []
    for l2 in (0.0, 10.0):
        model = hrcam.build_hrcam_model(flat_model)
        hrcam.fit_hrcam_head(
            model,
            images,
            labels,
            epochs=40,
            l2=l2,
            learning_rate=0.02,
            verbose=False,
        )
        norms.append(np.linalg.norm(model.get_layer("predictions").get_weights()[0]))
    assert norms[1] < 0.5 * norms[0]


def test_class_weights_are_those_of_fit(flat_model, images, labels):
    labels = np.array([0, 0, 0, 1, 2, 2])
    weights = {0: 6 / 9, 1: 6 / 3, 2: 6 / 6}  # n / (classes * count)
    model = hrcam.build_hrcam_model(flat_model)
    start = model.get_layer("predictions").get_weights()
    losses = []
    for class_weight in ("balanced", weights):
        model.get_layer("predictions").set_weights(start)
        history = hrcam.fit_hrcam_head(
            model,
            images,
            labels,
            epochs=1,
            class_weight=class_weight,
            shuffle=False,
            verbose=False,
        )
        losses.append(history.history["loss"][0])
    model.get_layer("predictions").set_weights(start)
    expected = frozen_fit(
        model, images, labels, epochs=1, class_weight=weights, shuffle=False
    ).history["loss"][0]
    np.testing.assert_allclose(losses, [expected, expected], rtol=1e-5)
    model.get_layer("predictions").set_weights(start)
    plain = frozen_fit(model, images, labels, epochs=1, shuffle=False)
    assert abs(plain.history["loss"][0] - expected) > 1e-3


def test_early_stopping_keeps_the_best_weights(flat_model, images, labels):
    model = hrcam.build_hrcam_model(flat_model)
    wrong = (labels + 1) % 3  # learning makes this validation loss worse
    history = hrcam.fit_hrcam_head(
        model,
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
    predicted = model.predict(images, verbose=0)
    kept = -np.log(predicted[np.arange(6), wrong]).mean()
    np.testing.assert_allclose(kept, min(losses), rtol=1e-4)


def test_augmented_copies_are_pooled(flat_model, images, labels):
    model = hrcam.build_hrcam_model(flat_model)
    calls = []

    def augment(batch):
        calls.append(len(batch))
        return keras.ops.flip(batch, axis=2) if len(calls) > 2 else batch

    pooled = hrcam.pool_features(
        model, images, labels, batch_size=4, augment=augment, copies=2, verbose=False
    )

    assert calls == [4, 2, 4, 2]
    plain = hrcam.pool_features(model, images, labels, verbose=False).vectors
    flipped = hrcam.pool_features(model, images[:, :, ::-1], labels, verbose=False)
    np.testing.assert_allclose(pooled.vectors[:6], plain, atol=1e-5)
    np.testing.assert_allclose(pooled.vectors[6:], flipped.vectors, atol=1e-5)
    np.testing.assert_array_equal(pooled.labels, [*labels, *labels])


def test_random_layers_below_the_head_are_logged(images, labels, caplog):
    image = keras.Input((16, 16, 1))
    x = layers.Conv2D(2, 3, activation="relu", name="conv1")(image)
    x = layers.MaxPooling2D()(layers.SpatialDropout2D(0.5, name="drop")(x))
    x = layers.Conv2D(2, 3, activation="relu", name="conv2")(x)
    x = layers.Dense(3, "softmax")(layers.GlobalAveragePooling2D()(x))
    model = hrcam.build_hrcam_model(keras.Model(image, x))
    with caplog.at_level(logging.WARNING, "hrcam"):
        hrcam.fit_hrcam_head(model, images, labels, epochs=1, verbose=False)
    assert "drop (SpatialDropout2D) is random in training" in caplog.text


def test_progress_and_report_are_shown(flat_model, images, labels, capsys):
    model = hrcam.build_hrcam_model(flat_model)
    hrcam.fit_hrcam_head(model, images, labels, epochs=2, base_model=flat_model)
    shown = capsys.readouterr().out
    assert "2/2" in shown
    assert "HR-CAM head: accuracy" in shown
    hrcam.fit_hrcam_head(model, images, labels, epochs=1, verbose=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (0, [0, 1, 2, 1, 0], "6 images and 5 labels"),
        (0, [0, 1, 2, 1, 0, 3], r"in \[0, 3\).*Received: \[3\]"),
        (0, [0, 1, 2, 1, 0, -1], "whole numbers from 0"),
        (0, [0, 1, 2, 1, 0, 0.5], "whole numbers from 0"),
        (0, np.full((6, 3), 1 / 3), "one-hot"),
        (np.nan, [0, 1, 2, 1, 0, 2], r"must be finite.*\[0, 1, 2, 3, 4, 5\]"),
    ],
)
def test_bad_training_data(flat_model, images, x, y, message):
    model = hrcam.build_hrcam_model(flat_model)
    with pytest.raises(ValueError, match=message):
        hrcam.fit_hrcam_head(model, images + np.float32(x), y, verbose=False)


def test_more_errors_of_the_head(flat_model, images, labels):
    with pytest.raises(ValueError, match="must come from `build_hrcam_model`"):
        hrcam.fit_hrcam_head(flat_model, images, labels)
    model = hrcam.build_hrcam_model(flat_model)
    with pytest.raises(ValueError, match=r"'balanced' or None. Received: 'even'"):
        hrcam.fit_hrcam_head(model, images, labels, class_weight="even", verbose=False)
    unlabelled = tf.data.Dataset.from_tensor_slices(images).batch(2)
    with pytest.raises(ValueError, match=r"\(images, labels\) batches"):
        hrcam.fit_hrcam_head(model, unlabelled, verbose=False)
    other = hrcam.build_hrcam_model(flat_model, ["relu3"])
    pooled = hrcam.pool_features(other, images, labels, verbose=False)
    with pytest.raises(ValueError, match=r"must have 18 columns.*Received: 8"):
        hrcam.fit_hrcam_head(model, pooled, verbose=False)
    with pytest.raises(ValueError, match="at least one image"):
        hrcam.fit_hrcam_head(model, images[:0], labels[:0], verbose=False)


def test_bad_image_is_numbered_in_the_whole_set(flat_model, images, labels):
    """Image 4 is the first of the third batch."""
    images[4, 0, 0, 0] = np.nan
    model = hrcam.build_hrcam_model(flat_model)
    options = {"batch_size": 2}
    with pytest.raises(ValueError, match=r"images \[4\]"):
        hrcam.fit_hrcam_head(model, images, labels, verbose=False, **options)
    with pytest.raises(ValueError, match=r"images \[4\]"):
        hrcam.evaluate_classifier(flat_model, images, labels, **options)


def test_errors_that_would_be_silent(flat_model, sigmoid_model, images, labels):
    model = hrcam.build_hrcam_model(flat_model)
    pooled = hrcam.pool_features(model, images, labels, verbose=False)
    with pytest.raises(ValueError, match=r"Received: \['base_model', 'copies'\]"):
        hrcam.fit_hrcam_head(model, pooled, base_model=flat_model, copies=2)
    with pytest.raises(ValueError, match="the classes of `model`"):
        hrcam.pool_features(model, images, labels, base_model=sigmoid_model)
    logits = keras.Model(flat_model.input, flat_model.get_layer("gap").output)
    with pytest.raises(ValueError, match="must end in softmax or sigmoid"):
        hrcam.evaluate_classifier(logits, images, labels)
    single = tf.data.Dataset.from_tensor_slices((images, labels))
    with pytest.raises(ValueError, match=r"must give batches"):
        hrcam.fit_hrcam_head(model, single, verbose=False)
    three = (images, labels, labels)
    with pytest.raises(ValueError, match="3 parts"):
        hrcam.fit_hrcam_head(model, images, labels, three, verbose=False)
    with pytest.raises(ValueError, match="wants 1 channels, not 3"):
        hrcam.fit_hrcam_head(model, np.repeat(images, 3, -1), labels, verbose=False)


# --- the base model whose agreement is reported -------------------------------------


@pytest.mark.parametrize("fixture", ["flat_model", "sigmoid_model"])
def test_agreement_with_a_base_model_of_logits(
    fixture, images, labels, request, tmp_path
):
    """The class of the highest logit; of one unit, class 1 from z = 0 on."""
    base_model = request.getfixturevalue(fixture)
    dense = base_model.get_layer("predictions")
    linear = layers.Dense(dense.units, name="logits")
    logits = keras.Model(base_model.input, linear(dense.input))
    kernel, bias = dense.get_weights()
    linear.set_weights([kernel, bias])
    if dense.units == 1:  # image 0 has z = 0.25, between the thresholds 0 and 0.5
        bias = bias + 0.25 - logits.predict(images, verbose=0)[0]
    for layer in (dense, linear):
        layer.set_weights([kernel, bias])
    logits.save(tmp_path / "logits.keras")
    model = hrcam.build_hrcam_model(base_model)

    bases = (base_model, logits, hrcam.load_model(tmp_path / "logits.keras"))
    classes = [
        hrcam.pool_features(
            model, images, labels > 0, base_model=base, verbose=False
        ).base_classes
        for base in bases
    ]

    z = logits.predict(images, verbose=0)
    expected = z.argmax(axis=1) if dense.units > 1 else z[:, 0] >= 0
    assert len(set(expected.tolist())) > 1
    for found in classes:
        np.testing.assert_array_equal(found, expected)


def test_base_models_that_have_no_classes_to_agree_with(flat_model, images, labels):
    model = hrcam.build_hrcam_model(flat_model)
    gap = flat_model.get_layer("gap").output

    def pool(base_model):
        return hrcam.pool_features(
            model, images, labels, base_model=base_model, verbose=False
        )

    two = keras.Model(flat_model.input, [gap, flat_model.output], name="two")
    message = r"one output. Received: 'two' with \['gap', 'predictions'\].*get_layer"
    with pytest.raises(ValueError, match=message):
        pool(two)
    way_out = keras.Model(two.input, two.get_layer("predictions").output)
    np.testing.assert_array_equal(
        pool(way_out).base_classes, pool(flat_model).base_classes
    )
    with pytest.raises(ValueError, match=r"classes of `model`.*\(8,\) for \(3,\)"):
        pool(keras.Model(flat_model.input, gap))
    maps = flat_model.get_layer("relu3").output
    spatial = keras.Model(flat_model.input, layers.Conv2D(3, 1)(maps))
    with pytest.raises(ValueError, match=r"classes of `model`.*\(4, 4, 3\) for \(3,\)"):
        pool(spatial)
    age = keras.Input((1,), name="age")
    joined = layers.Dense(3, "softmax")(layers.Concatenate()([gap, age]))
    with pytest.raises(ValueError, match=r"one input.*'age'"):
        pool(keras.Model([flat_model.input, age], joined))


def test_logits_are_trained_and_scored_as_the_error_says(
    flat_model, sigmoid_model, images, labels
):
    for model, layer in ((flat_model, "Softmax"), (sigmoid_model, "Activation")):
        dense = model.get_layer("predictions")
        logits = keras.Model(model.input, layers.Dense(dense.units)(dense.input))
        for function in (hrcam.fit_base_model, hrcam.evaluate_classifier):
            with pytest.raises(ValueError, match=rf"ends in linear.*layers.{layer}\("):
                function(logits, images, np.minimum(labels, 1))
    way_out = keras.Model(flat_model.input, layers.Softmax()(flat_model.output))
    hrcam.fit_base_model(way_out, images, labels, epochs=1, verbose=0)
    assert 0 <= hrcam.evaluate_classifier(way_out, images, labels)["accuracy"] <= 1


def state(model):
    """All that a call could change in a model, its inner layers with it."""
    inner = model._flatten_layers()
    optimizer = getattr(model, "optimizer", None)
    return {
        "weights": {v.path: v.numpy() for v in model.weights},
        "flags": [(layer.name, layer.trainable) for layer in inner],
        "config": model.get_config(),
        "compiled": (
            model.compiled,
            optimizer,
            optimizer and model.get_compile_config(),
        ),
        "steps": optimizer and int(optimizer.iterations.numpy()),
    }


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("fixture", ["flat_model", "nested_model"])
def test_nothing_but_the_head_changes(fixture, compiled, images, labels, request):
    base_model = request.getfixturevalue(fixture)
    model = hrcam.build_hrcam_model(base_model)
    base_model.layers[-1].trainable = True  # whatever its user did since
    if compiled:
        model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
        base_model.compile(keras.optimizers.Adam(0.5), "mse")
    before = state(model), state(base_model)

    hrcam.fit_hrcam_head(
        model,
        images,
        labels,
        validation_data=(images, labels),
        epochs=2,
        standardize=True,
        base_model=base_model,
        verbose=False,
    )

    after = state(model), state(base_model)
    changed = [
        [path for path, w in new.pop("weights").items() if (w != old[path]).any()]
        for new, old in zip(after, [b.pop("weights") for b in before], strict=True)
    ]
    head = [v.path for v in model.get_layer("predictions").weights]
    assert changed == [head, []]
    assert after == before


# --- fit_base_model -----------------------------------------------------------------


def test_best_epoch_is_kept(flat_model, images, labels, tmp_path):
    wrong = (labels + 1) % 3  # each epoch makes this validation loss worse
    history = hrcam.fit_base_model(
        flat_model,
        images,
        labels,
        (images, wrong),
        epochs=4,
        learning_rate=0.01,
        directory=tmp_path / "run",
        verbose=0,
    )
    losses = history.history["val_loss"]
    assert losses.index(min(losses)) < 3
    predicted = flat_model.predict(images, verbose=0)
    kept = -np.log(predicted[np.arange(6), wrong]).mean()
    np.testing.assert_allclose(kept, min(losses), rtol=1e-4)
    opened = hrcam.load_model(tmp_path / "run" / "best.keras")
    np.testing.assert_array_equal(opened.predict(images, verbose=0), predicted)
    with pytest.raises(FileExistsError, match="must not hold a finished run"):
        hrcam.fit_base_model(
            flat_model, images, labels, epochs=1, directory=tmp_path / "run"
        )


class Killed(keras.callbacks.Callback):
    """Stops the process' training in the middle of an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch, self.now = epoch, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch:
            raise KeyboardInterrupt


# The interrupt leaves Keras' CSVLogger without its closing call.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_stopped_run_goes_on(flat_model, images, labels, tmp_path, monkeypatch):
    """Unshuffled, the resumed run ends at the weights of the unbroken one."""

    def run(model, directory):
        batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
        return hrcam.fit_base_model(
            model,
            batches,
            validation_data=(images, labels),
            epochs=4,
            learning_rate=0.01,
            directory=tmp_path / directory,
            verbose=0,
        )

    unbroken, broken, resumed = (clone_of(flat_model) for _ in range(3))
    expected = run(unbroken, "unbroken")

    keep = base._keep
    with monkeypatch.context() as patch:
        patch.setattr(base, "_keep", lambda *a: [*keep(*a), Killed(epoch=2)])
        with pytest.raises(KeyboardInterrupt):
            run(broken, "broken")
    history = run(resumed, "broken")

    assert len(history.history["loss"]) == 2  # epochs 2 and 3 of 0 .. 3
    np.testing.assert_allclose(
        history.history["loss"], expected.history["loss"][2:], rtol=1e-4
    )
    lines = (tmp_path / "broken" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch", "0", "1", "2", "3"]
    for mine, theirs in zip(resumed.weights, unbroken.weights, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.numpy(), atol=1e-4)


class Count(keras.callbacks.Callback):
    """Notes each epoch, and whether the best one was on disk by then."""

    def __init__(self, file):
        super().__init__()
        self.file, self.epochs = file, []

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append((epoch, "val_loss" in logs, self.file.exists()))


def test_further_callbacks_come_last(flat_model, images, labels, tmp_path):
    count = Count(tmp_path / "best.keras")
    hrcam.fit_base_model(
        flat_model,
        images,
        labels,
        (images, labels),
        epochs=2,
        directory=tmp_path,
        callbacks=[count],
        verbose=0,
    )
    assert count.epochs == [(0, True, True), (1, True, True)]
    hrcam.fit_base_model(
        flat_model, images, labels, epochs=1, callbacks=(count,), verbose=0
    )
    assert count.epochs[2:] == [(0, False, True)]


def test_resuming_does_not_overwrite_a_better_epoch(tmp_path):
    (tmp_path / "log.csv").write_text("epoch,loss,val_loss\n0,1,0.5\n1,1,0.25\n")
    assert base._best_so_far(tmp_path / "log.csv", "val_loss") == 0.25
    assert base._best_so_far(tmp_path / "none.csv", "val_loss") is None
    checkpoint = base._keep(tmp_path, "val_loss")[0]
    assert checkpoint.best == 0.25


def test_one_hot_data_set_trains_as_classes(flat_model, images, labels):
    losses = []
    for target in (labels, np.eye(3)[labels]):
        batches = tf.data.Dataset.from_tensor_slices((images, target)).batch(3)
        history = hrcam.fit_base_model(
            clone_of(flat_model), batches, epochs=1, verbose=0
        )
        losses.append(history.history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_one_hot_data_set_of_unknown_width(flat_model, images, labels):
    """Rows of a generator, whose width is known when they come: not column 0."""
    losses = []
    for width in (3, None):
        batches = tf.data.Dataset.from_generator(
            lambda: iter([(images, np.eye(3, dtype="float32")[labels])]),
            output_signature=(
                tf.TensorSpec((None, 16, 16, 1), tf.float32),
                tf.TensorSpec((None, width), tf.float32),
            ),
        ).apply(tf.data.experimental.assert_cardinality(1))
        history = hrcam.fit_base_model(
            clone_of(flat_model), batches, epochs=1, verbose=0
        )
        losses.append(history.history["loss"][0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_agreement_with_a_base_model_of_another_ending(flat_model, images, labels):
    """Of exclusive classes the largest output is the class, whatever its ending."""
    model = hrcam.build_hrcam_model(flat_model)
    doubled = keras.layers.Rescaling(2.0)(flat_model.output)
    base = keras.Model(flat_model.input, doubled)

    pooled = hrcam.pool_features(model, images, labels, base_model=base, verbose=False)

    np.testing.assert_array_equal(
        pooled.base_classes, flat_model.predict(images, verbose=0).argmax(axis=1)
    )


def test_several_labels_an_image_do_not_train_a_softmax(flat_model, images):
    several = np.array([[1, 1, 0], [0, 0, 1]] * 3)
    batches = tf.data.Dataset.from_tensor_slices((images, several)).batch(3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be one-hot"):
        hrcam.fit_base_model(flat_model, batches, epochs=1, verbose=0)


def test_fit_base_model_errors(flat_model, images, labels):
    with pytest.raises(ValueError, match="6 images and 5 labels"):
        hrcam.fit_base_model(flat_model, images, labels[:5])
    with pytest.raises(ValueError, match=r"in \[0, 3\)"):
        hrcam.fit_base_model(flat_model, images, labels + 1)
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(3)
    wrong = tf.data.Dataset.from_tensor_slices((images, labels + 1)).batch(3)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"in \[0, 3\)"):
        hrcam.fit_base_model(flat_model, wrong, epochs=1, verbose=0)
    with pytest.raises(ValueError, match=r"NaN or infinity"):
        hrcam.fit_base_model(flat_model, images * np.nan, labels)
    with pytest.raises(ValueError, match="needs the labels as `y`"):
        hrcam.fit_base_model(flat_model, batches, class_weight="balanced")


def test_evaluate_classifier(flat_model, sigmoid_model, images, labels):
    """Second road: counted from `predict`."""
    predicted = flat_model.predict(images, verbose=0).argmax(axis=1)
    scores = hrcam.evaluate_classifier(flat_model, images, labels, batch_size=4)
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean())
    recalls = [(predicted == labels)[labels == c].mean() for c in range(3)]
    assert scores["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(4)
    assert hrcam.evaluate_classifier(flat_model, batches) == scores
    likely = sigmoid_model.predict(images, verbose=0)[:, 0] >= 0.5
    scores = hrcam.evaluate_classifier(sigmoid_model, images, labels > 0)
    assert scores["accuracy"] == pytest.approx((likely == (labels > 0)).mean())
    with pytest.raises(ValueError, match=r"in \[0, 3\)"):
        hrcam.evaluate_classifier(flat_model, images, labels + 1)
