"""The same training on one device and on two, for tests/test_several_devices.py.

Run as `python train.py FOLDER CASE...`, with `KERAS_BACKEND` set, in a process of its
own: the number of devices must be set before the backend starts. Needs no pytest.
"""

import contextlib
import json
import logging
import os
import sys
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"  # JAX
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")

import keras
import numpy as np
from keras import layers

import hrcam

ON_TENSORFLOW = keras.backend.backend() == "tensorflow"
TRAINING = {"batch_size": 8, "learning_rate": 1e-2, "verbose": 0}


def two_devices():
    """Two contexts: to make models in, and to do all in."""
    if not ON_TENSORFLOW:
        return contextlib.nullcontext, keras.distribution.DataParallel().scope
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    return strategy.scope, contextlib.nullcontext


def data(count):
    """Dim noise, class 0; with a bright square, class 1."""
    images = np.random.default_rng(0).uniform(0, 0.2, (count, 16, 16, 1))
    labels = np.arange(count) % 2
    images[labels == 1, 3:10, 3:10] += 0.8
    return images.astype("float32"), labels


def network(normalize=None, dropout=0.0, noted=False):
    """Two convolutions, with the same weights each time."""
    keras.utils.set_random_seed(3)
    image = x = keras.Input((16, 16, 1))
    x = Noted()(x) if noted else x
    for number, filters in enumerate((4, 6), start=1):
        x = layers.MaxPooling2D(2)(x) if number > 1 else x
        x = layers.Conv2D(filters, 3, padding="same", use_bias=normalize is None)(x)
        x = layers.BatchNormalization(**normalize)(x) if normalize is not None else x
        x = layers.ReLU(name=f"relu{number}")(x)
    x = layers.Dropout(dropout)(x) if dropout else x
    return hrcam.build_gap_classifier(keras.Model(image, x), num_classes=2)


SEEN = []  # (device, images of a batch that came to it)


class Noted(layers.Layer):
    """Gives images on, and notes to which device they came."""

    def call(self, images):
        if not ON_TENSORFLOW:
            import jax

            def note(sharding):
                count = sharding.shard_shape(images.shape)[0]
                SEEN.extend((str(device), count) for device in sharding.device_set)

            jax.debug.inspect_array_sharding(images, callback=note)
            return images
        import tensorflow as tf

        replica = tf.distribute.get_replica_context()
        if replica is None:  # Keras tries its layers out before it trains
            return images
        # By the graph when it runs: this Python runs while it is traced.
        tf.numpy_function(
            lambda number, count: SEEN.append((f"CPU:{number}", int(count))),
            [replica.replica_id_in_sync_group, tf.shape(images)[0]],
            [],
        )
        return images

    def compute_output_spec(self, images):
        return keras.KerasTensor(images.shape, images.dtype)


def fit(make_in, images, labels, validation_data=None, epochs=3, keep=None, **options):
    """Trains a network; seed and global batch size are always the same."""
    with make_in():
        model = network(**options)
    keras.utils.set_random_seed(5)
    history = hrcam.fit_base_model(
        model, images, labels, validation_data, epochs, directory=keep, **TRAINING
    )
    return model, dict(history.history) | {"weights": flat(model.get_weights())}


def flat(weights):
    return np.concatenate([np.ravel(w) for w in weights])


# --- what is compared --------------------------------------------------------------


def whole_road(make_in, folder):
    """Base model, head and maps. Of 20 images, 8 at a time, the last batch is of 4.

    The head is trained on 21, so the last batch is of 5.
    """
    images, labels = data(21)
    even = images[:20], labels[:20]
    base, found = fit(make_in, *even, (images[:6], labels[:6]), keep=folder)
    model = hrcam.build_hrcam_model(base)
    head = model.get_layer("predictions")
    head.set_weights([np.full(w.shape, 0.1) for w in head.get_weights()])
    pooled = hrcam.pool_features(
        model, images, labels, base_model=base, batch_size=8, verbose=False
    )
    keras.utils.set_random_seed(6)
    history = hrcam.fit_hrcam_head(model, images, labels, epochs=3, **TRAINING)
    return found | {
        "pooled": pooled.vectors,
        "base_classes": pooled.base_classes,
        "head_loss": history.history["loss"],
        "head_weights": flat(head.get_weights()),
        "hr_cam": hrcam.hr_cam(model, images[:5], 1),
        "grad_cam": hrcam.grad_cam(base, images[:5], 1, relu=False),
    }


def noted(make_in, folder):
    """It is noted where the images come to; of a data set where there is one."""
    SEEN.clear()
    given = data(16)
    if ON_TENSORFLOW:
        import tensorflow as tf

        batches = tf.data.Dataset.from_tensor_slices(data(21)).batch(8)
        given = batches.take(2), None
    model, found = fit(make_in, *given, epochs=2, noted=True)
    (folder.parent / f"{folder.name}.json").write_text(json.dumps(places(model)))
    return found


def places(model):
    """How many images came to which device, and where the first weight lies."""
    kernel = model.weights[0]
    whole = keras.ops.convert_to_numpy(kernel)
    if not ON_TENSORFLOW:
        copies = {str(s.device): s.data for s in kernel.value.addressable_shards}
    else:
        values = getattr(kernel.value, "values", [kernel.value])
        copies = {v.device[-5:]: v.numpy() for v in values}
    same = {d: np.array_equal(copy, whole) for d, copy in copies.items()}
    return {"images": sorted(map(list, SEEN)), "weights": same}


def dropout(make_in, folder):
    return fit(make_in, *data(16), normalize={}, dropout=0.3)[1]


def batch_norm(make_in, folder):
    return fit(make_in, *data(16), normalize={})[1]


def synchronized(make_in, folder):
    return fit(make_in, *data(16), normalize={"synchronized": True})[1]


def uneven(make_in, images, labels, validation_data=None):
    """What is said on two devices, and the loss where there is one."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("hrcam").addHandler(handler)
    try:
        found = fit(make_in, images, labels, validation_data, epochs=1)[1]
        return {"said": said, "loss": float(found["loss"][0])}
    except ValueError as error:
        return {"said": [str(error)], "loss": None}
    finally:
        logging.getLogger("hrcam").removeHandler(handler)


def main(folder, *names):
    make_in_two, all_in_two = two_devices()
    devices = {
        "one": (contextlib.nullcontext, contextlib.nullcontext),
        "two": (make_in_two, all_in_two),
    }
    arrays = {}
    for number, (make_in, all_in) in devices.items():
        for name in names:
            with all_in():
                found = globals()[name](make_in, folder / f"{name}_{number}")
            for part, value in found.items():
                arrays[f"{name}:{number}:{part}"] = np.asarray(value)
    np.savez(folder / "found.npz", **arrays)
    images, labels = data(21)
    last_of_5, first_of_5 = (images, labels), (images[:5], labels[:5])
    with all_in_two():
        said = {
            "last": uneven(make_in_two, *last_of_5),
            "first": uneven(make_in_two, *first_of_5),
            "validation": uneven(make_in_two, images[:16], labels[:16], first_of_5),
            "distributed": keras.distribution.distribution() is not None,
        }
    (folder / "said.json").write_text(json.dumps(said))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
