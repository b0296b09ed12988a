"""Layer names are pinned; sizes and fields are worked out by hand in each test."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import hrcam
from hrcam.graph import final_activation, layer_outputs, tap, walk
from hrcam.layer_selection import describe_layers, feature_layers

PINNED = {
    "VGG19": (
        "block1_conv2 block2_conv2 block3_conv4 block4_conv4 block5_conv4",
        1472,
    ),
    "ResNet50": (
        "conv1_relu conv2_block3_out conv3_block4_out conv4_block6_out "
        "conv5_block3_out",
        3904,
    ),
    "ResNet50V2": (
        "conv1_conv conv2_block2_out conv3_block3_out conv4_block5_out post_relu",
        3904,
    ),
    "MobileNetV2": (
        "block_1_expand_relu block_3_expand_relu block_6_expand_relu "
        "block_13_expand_relu out_relu",
        2288,
    ),
    "DenseNet121": ("conv1_relu pool2_conv pool3_conv pool4_conv relu", 1984),
    "EfficientNetB0": (
        "block2a_expand_activation block3a_expand_activation "
        "block4a_expand_activation block6a_expand_activation top_activation",
        2432,
    ),
    "InceptionV3": ("activation_2 activation_4 mixed2 mixed7 mixed10", 3360),
    "Xception": ("block1_conv2_act add add_1 add_10 block14_sepconv2_act", 3224),
}


@pytest.mark.parametrize("application", PINNED)
def test_feature_layers_of_known_networks(application):
    keras.backend.clear_session()  # automatic names start from "activation" again
    build = getattr(keras.applications, application)
    model = build(include_top=False, weights=None, input_shape=(224, 224, 3))
    names, count = PINNED[application]

    chosen = [layer for layer in describe_layers(model) if layer.chosen]

    assert [layer.name for layer in chosen] == names.split()
    assert feature_layers(model) == names.split()
    assert sum(layer.channels for layer in chosen) == count
    assert all(layer.is_cut for layer in chosen)
    assert [layer.stride for layer in chosen] == (
        [1, 2, 4, 8, 16] if application == "VGG19" else [2, 4, 8, 16, 32]
    )
    kinds = {type(model.get_layer(layer.name)).__name__ for layer in chosen}
    assert not any("Pad" in kind or "Pool" in kind for kind in kinds)


# ------------------------------------------------- by hand, on models of a few layers


def chain(*steps, shape=(32, 32, 1)):
    image = x = keras.Input(shape)
    for step in steps:
        x = step(x)
    return keras.Model(image, x)


def conv(filters=2, size=3, name=None, **options):
    options = {"padding": "same", "name": name} | options
    return layers.Conv2D(filters, size, **options)


def described(model):
    return {layer.name: layer for layer in describe_layers(model)}


def test_strides_and_receptive_fields_by_hand():
    model = chain(
        conv(2, 3, "a"),
        conv(3, 5, "b", strides=2),
        layers.MaxPooling2D(2),
        conv(4, 3, "c", dilation_rate=2),
        layers.ReLU(name="d"),
        conv(5, (1, 7), "e"),
    )

    found = described(model)

    # field = field before + (window - 1) * dilation * stride before
    # a: 1 + 2 * 1 = 3; b: 3 + 4 * 1 = 7, stride 2; pool: 7 + 1 * 2 = 9, stride 4;
    # c: 9 + (3 - 1) * 2 * 4 = 25; d: the same; e: 25 + 6 * 4 = 49
    assert {name: (f.stride, f.receptive_field) for name, f in found.items()} == {
        "a": (1, 3),
        "b": (2, 7),
        "c": (4, 25),
        "d": (4, 25),
        "e": (4, 49),
    }
    assert {name: (f.size, f.channels) for name, f in found.items()} == {
        "a": ((32, 32), 2),
        "b": ((16, 16), 3),
        "c": ((8, 8), 4),
        "d": ((8, 8), 4),
        "e": ((8, 8), 5),
    }
    assert feature_layers(model) == ["a", "b", "e"]


def test_field_of_two_branches_is_the_wider_one():
    image = keras.Input((8, 8, 1))
    narrow, wide = conv(2, 3, "narrow")(image), conv(2, 5, "wide")(image)
    model = keras.Model(image, layers.Add(name="sum")([narrow, wide]))

    found = described(model)

    assert found["sum"].receptive_field == 5
    assert [f.is_cut for f in found.values()] == [False, False, True]


def test_layers_without_new_features_are_not_chosen():
    model = chain(
        layers.Rescaling(1 / 255),
        conv(2, 3, "a"),
        layers.BatchNormalization(name="a_bn"),
        layers.SpatialDropout2D(0.1),
        layers.ZeroPadding2D(1),
        layers.AveragePooling2D(2),
        conv(2, 3, "b"),
        layers.GaussianNoise(0.1),
        layers.Cropping2D(1),
    )

    assert list(described(model)) == ["a", "a_bn", "b"]
    assert feature_layers(model) == ["a_bn", "b"]


def test_a_stage_with_no_cut_falls_back_to_its_last_feature_map():
    """Two branches run beside each other over the whole second stage."""
    image = keras.Input((8, 8, 1))
    stem = conv(2, 3, "stem")(image)
    left = conv(2, 3, "left", strides=2)(stem)
    right = conv(2, 3, "right", strides=2)(stem)
    left = layers.ReLU(name="left_relu")(conv(2, 3, "left2", strides=2)(left))
    right = layers.MaxPooling2D(2)(right)
    model = keras.Model(image, layers.Add(name="sum")([left, right]))

    found = described(model)

    assert feature_layers(model) == ["stem", "right", "sum"]
    assert [found[n].is_cut for n in ("stem", "right", "sum")] == [True, False, True]


def test_an_earlier_cut_goes_before_a_later_branch():
    """`branch` comes last at its size, but what follows is not made from it alone."""
    image = keras.Input((8, 8, 1))
    stem = conv(2, 3, "stem")(image)
    left = conv(2, 3, "left", strides=2)(conv(2, 3, "branch")(stem))
    right = conv(2, 3, "right", strides=2)(stem)
    model = keras.Model(image, layers.Add(name="sum")([left, right]))

    assert not described(model)["branch"].is_cut
    assert feature_layers(model) == ["stem", "sum"]


@pytest.mark.parametrize("keepdims", [True, False])
def test_squeeze_and_excite_gates_do_not_disturb_the_stages(keepdims):
    def block(x, name, strides):
        x = conv(4, 3, f"{name}_conv", strides=strides)(x)
        gate = layers.GlobalAveragePooling2D(keepdims=keepdims)(x)
        if not keepdims:
            gate = layers.Reshape((1, 1, 4))(gate)
        gate = conv(2, 1, f"{name}_squeeze", activation="relu")(gate)
        gate = conv(4, 1, f"{name}_excite", activation="sigmoid")(gate)
        return layers.Multiply(name=f"{name}_out")([x, gate])

    image = keras.Input((16, 16, 1))
    model = keras.Model(image, block(block(image, "one", 1), "two", 2))

    found = described(model)

    assert feature_layers(model) == ["one_out", "two_out"]
    assert not [name for name in found if "squeeze" in name or "excite" in name]
    # one: 3; two: 3 + 2 * 1 = 5, the gates left out
    assert [found[n].receptive_field for n in ("one_out", "two_out")] == [3, 5]


@pytest.mark.parametrize(
    "up", [layers.UpSampling2D(2), layers.Conv2DTranspose(2, 2, strides=2, name="up")]
)
def test_upsampling_goes_back_to_the_finer_stage(up):
    image = keras.Input((8, 8, 1))
    fine = conv(2, 3, "encode1")(image)
    coarse = conv(2, 3, "encode2", strides=2)(fine)
    back = layers.Concatenate(name="skip")([up(coarse), fine])
    model = keras.Model(image, conv(2, 3, "decode1")(back))

    found = described(model)

    assert found["encode2"].stride == 2
    assert found["skip"].stride == found["decode1"].stride == 1
    assert feature_layers(model) == ["encode2", "decode1"]


def test_upsampling_by_three_takes_off_three():
    model = chain(
        conv(2, 3, "a", strides=6), layers.UpSampling2D(3), conv(2, 3, "b"),
        shape=(12, 12, 1),
    )  # fmt: skip

    assert [f.stride for f in describe_layers(model)] == [6, 2]


def test_pixels_are_gone_after_pooling_and_flattening():
    model = chain(conv(2, 3, "a"), layers.Flatten(), layers.Dense(4), shape=(8, 8, 1))

    assert feature_layers(model) == ["a"]


def test_variable_image_size():
    model = chain(conv(2, 3, "a"), conv(3, 3, "b", strides=2), shape=(None, None, 1))

    assert [f.size for f in describe_layers(model)] == [(None, None), (None, None)]
    assert feature_layers(model) == ["a", "b"]


# ------------------------------------------------------------------ models in models

SIZES = {"relu1": (16, 16), "relu2": (8, 8), "relu3": (4, 4)}


def two_levels(backbone):
    """`outer/middle/...` around a backbone of variable size."""
    middle_image = keras.Input((None, None, 1))
    middle = keras.Model(middle_image, backbone(middle_image), name="middle")
    outer_image = keras.Input((None, None, 1))
    x = layers.Rescaling(0.5, name="inner_rescaling")(outer_image)
    outer = keras.Model(outer_image, middle(x), name="outer")
    image = keras.Input((16, 16, 1))
    x = layers.GlobalAveragePooling2D()(outer(image))
    return keras.Model(image, layers.Dense(3, name="predictions")(x), name="two_levels")


def test_nested_layers_have_paths_and_the_outer_sizes(
    flat_model, nested_model, functional_nested_model, backbone
):
    for model, prefix in (
        (flat_model, ""),
        (nested_model, "backbone/"),
        (functional_nested_model, "backbone/"),
        (two_levels(backbone), "outer/middle/backbone/"),
    ):
        chosen = [f for f in describe_layers(model) if f.chosen]
        assert {f.name: f.size for f in chosen} == {
            prefix + name: size for name, size in SIZES.items()
        }
        assert feature_layers(model) == [f.name for f in chosen]
        # conv1 3; pool1 4; conv2 4 + 2 * 2 = 8; pool2 10; conv3 10 + 2 * 4 = 18
        assert [f.receptive_field for f in chosen] == [3, 8, 18]


def by_hand(model, images):
    """Every inner output of the fixtures' nets, layer by layer without their graph."""
    values, x = {}, ops.convert_to_tensor(images)
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            inner = by_hand(layer, x)
            values |= {f"{layer.name}/{name}": value for name, value in inner.items()}
            x = list(inner.values())[-1]
        elif not isinstance(layer, layers.InputLayer):
            is_norm = isinstance(layer, layers.BatchNormalization)
            x = layer(x, training=False) if is_norm else layer(x)
            values[layer.name] = x
    return values


@pytest.fixture(params=["flat", "nested", "functional", "two_levels"])
def any_model(request):
    """Every kind of nesting."""
    if request.param == "two_levels":
        return two_levels(request.getfixturevalue("backbone"))
    fixtures = {
        "flat": "flat_model",
        "nested": "nested_model",
        "functional": "functional_nested_model",
    }
    return request.getfixturevalue(fixtures[request.param])


def test_tap_gives_the_models_own_activations(any_model, images):
    expected = by_hand(any_model, images)
    names = [feature_layers(any_model)[i] for i in (2, 0, 1)]
    names += [names[1].replace("relu", "conv")]

    actual = tap(any_model, names)(images)

    assert list(actual) == names
    for name in names:
        assert float(np.std(expected[name])) > 0.1
        np.testing.assert_allclose(actual[name], expected[name], atol=1e-5)


def test_tap_follows_the_model_behind_nested_layers(nested_model, images):
    """The tapped graph is one: inner maps and the final output come from it."""
    names = ["backbone/relu1", "gap", "predictions"]

    actual = tap(nested_model, names)(images)

    np.testing.assert_allclose(
        actual["predictions"], nested_model(images), rtol=1e-5, atol=1e-6
    )
    expected = by_hand(nested_model, images)
    np.testing.assert_allclose(actual["gap"], expected["gap"], atol=1e-5)


@pytest.mark.parametrize("fixture", ["nested_model", "functional_nested_model"])
@pytest.mark.parametrize("training", [None, False, True])
def test_tap_passes_the_training_argument_as_the_model_does(
    fixture, training, images, request
):
    """Keras decides what an outer `training` does to a call with `training=False`."""
    model = request.getfixturevalue(fixture)
    own = keras.Model(model.inputs[0], model.get_layer("gap").input)

    actual = tap(model, ["backbone/relu3"])(images, training=training)

    np.testing.assert_allclose(
        actual["backbone/relu3"], own(images, training=training), atol=1e-5
    )


def test_tap_takes_any_size_where_the_model_does(backbone):
    images = np.random.default_rng(0).uniform(size=(2, 20, 12, 1)).astype("float32")

    actual = tap(backbone, ["relu2"])(images)["relu2"]

    assert actual.shape == (2, 10, 6, 6)
    np.testing.assert_allclose(actual, by_hand(backbone, images)["relu2"], atol=1e-5)


def nodes(model):
    """Calls recorded at every layer, inner ones too."""
    return {
        layer.path if hasattr(layer, "path") else layer.name: (
            len(layer._inbound_nodes),
            len(layer._outbound_nodes),
        )
        for layer in model._flatten_layers()
    }


def snapshot(model):
    return {
        "names": [layer.name for layer in model._flatten_layers()],
        "trainable": [layer.trainable for layer in model._flatten_layers()],
        "weights": [w.path for w in model.weights],
        "outputs": [id(t) for t in model.outputs],
        "compiled": (model.compiled, model.optimizer),
        "config": model.to_json(),
    }


def test_tap_changes_nothing_in_the_model(any_model, images):
    any_model.layers[-1].trainable = False
    any_model.compile("sgd", "mse")
    before = snapshot(any_model)
    weights = any_model.get_weights()
    output = any_model.predict_on_batch(images)

    tap(any_model, feature_layers(any_model)).predict_on_batch(images)

    assert snapshot(any_model) == before
    for weight, old in zip(any_model.get_weights(), weights, strict=True):
        np.testing.assert_array_equal(weight, old)
    np.testing.assert_array_equal(any_model.predict_on_batch(images), output)


def test_looking_at_a_model_records_no_call(any_model):
    feature_layers(any_model)  # a Sequential makes its functional form once
    before = nodes(any_model)

    describe_layers(any_model)
    walk(any_model)

    assert nodes(any_model) == before


def test_a_flat_model_is_tapped_without_a_call(flat_model):
    before = nodes(flat_model)

    outputs = layer_outputs(flat_model, ["relu1", "relu3"])

    assert [id(t) for t in outputs] == [
        id(flat_model.get_layer(name).output) for name in ("relu1", "relu3")
    ]
    assert nodes(flat_model) == before


def test_tap_shares_the_weights(nested_model, images):
    model = tap(nested_model, ["backbone/relu3"])
    before = np.array(model(images)["backbone/relu3"])

    kernel = nested_model.get_layer("backbone").get_layer("conv1").kernel
    kernel.assign(-kernel)

    assert np.abs(before - np.array(model(images)["backbone/relu3"])).max() > 0.1
    assert {id(w) for w in model.weights} <= {id(w) for w in nested_model.weights}


def test_two_backbones_with_the_same_inner_names(images):
    """Only the path tells the two `conv` apart."""
    image = keras.Input((16, 16, 1))
    left, right = (
        chain(conv(2, 3, "conv", kernel_initializer=start), shape=(16, 16, 1))
        for start in ("ones", "zeros")
    )
    left.name, right.name = "left", "right"
    x = layers.Concatenate(name="both")([left(image), right(image)])
    model = keras.Model(image, x)

    maps = tap(model, ["left/conv", "right/conv", "both"])(images)

    assert float(ops.max(maps["left/conv"])) > 1
    assert float(ops.max(maps["right/conv"])) == 0
    np.testing.assert_array_equal(
        maps["both"], np.concatenate([maps["left/conv"], maps["right/conv"]], axis=-1)
    )


# ------------------------------------------------------------------------------ errors


def test_a_layer_called_twice_has_no_one_output():
    shared = conv(1, 3, "shared")
    model = chain(shared, shared, layers.ReLU(name="relu"), shape=(8, 8, 1))

    with pytest.raises(ValueError, match=r"called once.*\['shared'\], called \[2\]"):
        tap(model, ["relu", "shared"])
    assert list(tap(model, ["relu"])(np.ones((1, 8, 8, 1), "float32"))) == ["relu"]


def test_a_layer_called_twice_is_not_chosen():
    shared = conv(1, 3, "shared")
    first = conv(1, 3, "first")

    assert feature_layers(chain(first, shared, shared, shape=(8, 8, 1))) == ["first"]
    model = chain(shared, shared, layers.ReLU(name="relu"), shape=(8, 8, 1))
    assert feature_layers(model) == ["relu"]


def test_a_backbone_called_twice_has_no_one_output(backbone):
    image = keras.Input((16, 16, 1))
    both = layers.Add(name="sum")([backbone(image), backbone(layers.ReLU()(image))])

    with pytest.raises(ValueError, match=r"\['backbone/relu1'\], called \[2\]"):
        tap(keras.Model(image, both), ["backbone/relu1"])


def test_unknown_layer_lists_the_known_ones(flat_model, nested_model):
    with pytest.raises(ValueError, match=r"Received: \['conv9'\].*'conv1'.*'relu3'"):
        tap(flat_model, ["relu1", "conv9"])
    with pytest.raises(ValueError, match=r"\['relu1'\].*'backbone/conv1'"):
        tap(nested_model, ["relu1"])


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.conv = layers.Conv2D(2, 3)

    def call(self, x):
        return self.conv(x)


@pytest.mark.parametrize(
    ("model", "remedy"),
    [
        (Subclassed, "type Subclassed.*rebuild it as a functional model"),
        (lambda: keras.Sequential([conv()]), "keras.Input.* as its first layer"),
        (lambda: keras.Sequential(), "keras.Input.* as its first layer"),
        (lambda: "model.keras", r"type str.*hrcam\.load_model"),
    ],
)
def test_unreachable_layers_say_what_to_do(model, remedy):
    for function in (feature_layers, describe_layers, lambda m: tap(m, ["conv"])):
        with pytest.raises(TypeError, match=remedy):
            function(model())


def test_no_convolution():
    model = chain(layers.MaxPooling2D(2), layers.ReLU(), shape=(8, 8, 1))

    assert describe_layers(model) == []
    with pytest.raises(ValueError, match=r"must have a convolution.*Received: 'funct"):
        feature_layers(model)


def test_pooling_by_an_operation_ends_the_pixels():
    """`ops.mean` over the pixels is a pooling as good as the layer."""
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(2, 3, name="conv")(image)
    x = layers.Flatten()(keras.ops.mean(x, axis=(1, 2), keepdims=True))
    model = keras.Model(image, layers.Dense(2)(x))
    assert feature_layers(model) == ["conv"]


def test_feature_layers_of_the_head_model_are_those_of_its_base():
    """The pooling branches of the head hide no cut."""
    base_model = keras.applications.ResNet50V2(weights=None, input_shape=(64, 64, 3))
    model = hrcam.build_hrcam_model(base_model)
    assert feature_layers(model) == feature_layers(base_model)


def test_a_permuted_tensor_is_no_feature_layer():
    """It is 4-D, but its axes are no longer (height, width, channels)."""
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            keras.layers.Permute((3, 1, 2), name="permute"),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    assert hrcam.feature_layers(model) == ["conv"]


@pytest.mark.parametrize("last", ["float32 cast", "identity", "dropout", "none"])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid", "linear"])
def test_final_activation_behind_what_changes_nothing(kind, last):
    ends = {
        "float32 cast": keras.layers.Activation("linear", dtype="float32"),
        "identity": keras.layers.Identity(),
        "dropout": keras.layers.Dropout(0.5),
        "none": lambda x: x,
    }
    x = keras.Input((4,))
    scores = keras.layers.Dense(3)(x)
    activated = keras.layers.Activation(kind)(scores) if kind != "linear" else scores
    fused = keras.layers.Dense(3, activation=kind)(x)
    for output in (activated, fused):
        assert final_activation(keras.Model(x, ends[last](output))) == kind
