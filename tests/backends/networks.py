"""The networks that all backends open, and the images and labels that they get.

Weights are He-scaled and no two batch statistics alike, or errors would hide; the seeds
are such that not all images get the same class.
"""

import keras
import numpy as np
from keras import layers

import hrcam

SIZE, CLASSES = 16, 3
ODD_SIZE, EVEN_SIZE = (17, 15), (14, 14)  # 9x9 and 8x8 where they are averaged


def save_all(folder):
    """Writes each network as `<name>.keras`, and the data as `data.npz`."""
    for name, make in NETWORKS.items():
        make().save(folder / f"{name}.keras")
    images = make_images((6, SIZE, SIZE, 1))
    np.savez(
        folder / "data.npz",
        images=images,
        odd=make_images((3, *ODD_SIZE, 1)),
        even=make_images((3, *EVEN_SIZE, 1)),
        large=make_images((3, 64, 64, 3)),
        second=make_images((6, SIZE, SIZE, 1), seed=1)[::-1],
        ages=np.linspace(-1, 1, 6, dtype="float32")[:, None],
        labels=np.array([0, 1, 2, 2, 1, 0]),
        binary=np.array([0, 1, 1, 0, 1, 0]),
        several_labels=np.array([[1, 0, 0, 1], [0, 1, 1, 0], [0, 0, 0, 0]] * 2),
    )


def make_images(shape, seed=0):
    """Float32 in [0, 1]: noise, a bright square, stripes, and so on."""
    images = np.random.default_rng(seed).uniform(0, 0.2, shape)
    side = shape[1] // 8
    images[1::3, side : 5 * side, 2 * side : 7 * side] += 0.8
    images[2::3, ::2] += 0.8
    return images.astype("float32")


def he_scaled(model, seed):
    rng = np.random.default_rng(seed)
    ranges = {"gamma": (0.5, 1.5), "moving_variance": (0.5, 2)}
    for variable in model.weights:
        shape = tuple(variable.shape)
        if variable.name in ranges:
            variable.assign(rng.uniform(*ranges[variable.name], shape))
        elif "kernel" in variable.name:
            one_channel = "depthwise" in variable.path
            fan_in = np.prod(shape[:2] if one_channel else shape[:-1])
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in), shape))
        elif variable.name in ("bias", "beta", "moving_mean"):
            variable.assign(rng.normal(0, 0.2, shape))
    return model


def make_backbone(dtype=None):
    """Convolution, batch norm and ReLU three times, with 4, 6 and 8 maps."""
    image = x = keras.Input((SIZE, SIZE, 1), name="image")
    for number, filters in enumerate((4, 6, 8), start=1):
        if number > 1:
            x = layers.MaxPooling2D(2, name=f"pool{number - 1}", dtype=dtype)(x)
        x = convolved(x, filters, f"{number}", dtype)
    return keras.Model(image, x, name="backbone")


def convolved(x, filters, name, dtype=None):
    x = layers.Conv2D(filters, 3, padding="same", name=f"conv{name}", dtype=dtype)(x)
    x = layers.BatchNormalization(name=f"bn{name}", dtype=dtype)(x)
    return layers.ReLU(name=f"relu{name}", dtype=dtype)(x)


def make_flat(units=CLASSES, activation="softmax", seed=281, dtype=None):
    backbone = make_backbone(dtype)
    x = layers.GlobalAveragePooling2D(name="gap", dtype="float32")(backbone.output)
    x = layers.Dense(units, activation, name="predictions", dtype="float32")(x)
    return he_scaled(keras.Model(backbone.input, x, name="flat"), seed)


def make_nested():
    model = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, 1)),
            layers.Rescaling(2.0, -0.5, name="rescaling"),
            make_backbone(),
            layers.GlobalAveragePooling2D(name="gap"),
            layers.Dropout(0.3, name="dropout"),
            layers.Dense(CLASSES, "softmax", name="predictions"),
        ],
        name="nested",
    )
    return he_scaled(model, seed=78)


def make_several():
    """A first image, a second one and an age -> a sign, and a diagnosis."""
    image = keras.Input((SIZE, SIZE, 1), name="image")
    second = keras.Input((SIZE, SIZE, 1), name="second")
    age = keras.Input((1,), name="age")
    x = convolved(image, 4, "1")
    x = convolved(layers.MaxPooling2D(2, name="pool")(x), 6, "2")
    sign = layers.GlobalAveragePooling2D(name="gap")(x)
    sign = layers.Dense(2, "softmax", name="sign")(sign)
    other = layers.GlobalAveragePooling2D(name="gap_second")(convolved(second, 5, "3"))
    both = layers.GlobalAveragePooling2D(name="gap_both")(x)
    both = layers.Concatenate(name="joined")([both, other, age])
    both = layers.Dense(7, "relu", name="hidden")(both)
    diagnosis = layers.Dense(CLASSES, "softmax", name="diagnosis")(both)
    model = keras.Model(
        {"image": image, "second": second, "age": age},
        {"sign": sign, "diagnosis": diagnosis},
        name="several",
    )
    return he_scaled(model, seed=3)


def make_residual(size, pooling, seed):
    """What the residual and mobile networks are made of, but for the sizes."""
    image = keras.Input((*size, 1), name="image")
    x = layers.ZeroPadding2D(((0, 1), (1, 1)), name="padded")(image)
    x = layers.Conv2D(4, 3, strides=2, padding="same", name="conv1")(x)
    x = layers.BatchNormalization(name="bn1")(x)
    x = short = layers.ReLU(6.0, name="relu1")(x)
    x = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="depthwise")(
        x
    )
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.Activation("swish", name="swish")(x)
    x = layers.Conv2D(4, 1, use_bias=False, name="narrow")(x)
    x = layers.Add(name="add")([x, short])
    gate = layers.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = layers.Conv2D(4, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply(name="gated")([x, gate])
    x = layers.AveragePooling2D(*pooling, name="average")(x)
    x = layers.SeparableConv2D(6, 3, padding="same", activation="relu", name="sep")(x)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up")(x)
    x = layers.Conv2D(8, 3, dilation_rate=2, padding="same", name="dilated")(x)
    x = layers.MaxPooling2D(3, 2, "same", name="overlapping")(x)
    x = layers.Conv2D(8, 3, padding="same", groups=2, name="grouped")(x)
    x = layers.LeakyReLU(0.1, name="leaky")(x)
    x = layers.GlobalAveragePooling2D(name="gap")(x)
    x = layers.Dense(CLASSES, "softmax", name="predictions")(x)
    return he_scaled(keras.Model(image, x, name="residual"), seed)


def make_head(base_model, seed):
    model = hrcam.build_hrcam_model(base_model)
    rng = np.random.default_rng(seed)
    dense = model.get_layer("predictions")
    dense.set_weights([rng.normal(0, 0.5, w.shape) for w in dense.get_weights()])
    return model


def make_resnet():
    model = he_scaled(hrcam.build_resnet50((64, 64, 3), num_classes=2), seed=0)
    bias = model.get_layer("predictions").bias
    bias.assign(bias - [210.0, 0.0])  # between the images' differences of scores
    return model


NETWORKS = {
    "flat": make_flat,
    "flat_head": lambda: make_head(make_flat(), 0),
    "nested": make_nested,
    "nested_head": lambda: make_head(make_nested(), 1),
    "sigmoid": lambda: make_flat(1, "sigmoid", 180),
    "sigmoid_head": lambda: make_head(make_flat(1, "sigmoid", 180), 2),
    "bfloat16": lambda: make_flat(dtype="mixed_bfloat16"),
    "bfloat16_head": lambda: make_head(make_flat(dtype="mixed_bfloat16"), 0),
    "multi_label": lambda: make_flat(4, "sigmoid", 15),
    "multi_label_head": lambda: make_head(make_flat(4, "sigmoid", 15), 3),
    "several": make_several,
    "residual_odd": lambda: make_residual(ODD_SIZE, (3, 2, "same"), 7),
    "residual_even": lambda: make_residual(EVEN_SIZE, (2, 2, "same"), 8),
    "resnet": make_resnet,
    "resnet_head": lambda: make_head(make_resnet(), 4),
    "deconv": lambda: hrcam.build_deconv_model(make_flat(), top_n=4, chunk=3),
}
