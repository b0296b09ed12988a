"""What each backend is asked for: the networks of a folder in, arrays out.

The test process asks TensorFlow; any other backend is asked by running this file in a
Python that has it: `python answers.py FOLDER`, with `KERAS_BACKEND` set. TensorFlow
cannot be imported there, whether it is installed or not. Needs no pytest.
"""

import functools
import inspect
import json
import os
import sys
import traceback
import warnings
from pathlib import Path

if __name__ == "__main__":
    import without_tensorflow  # noqa: F401 - before Keras

import keras
import numpy as np

import hrcam
from hrcam.methods import METHODS

BATCH = {"batch_size": 4}  # of six images: the last batch is shorter
EXPLAINED = [name for name, m in METHODS.items() if m.explains != "image"]
TRAINING = {"epochs": 3, "batch_size": 4, "shuffle": False, "verbose": False}


class Folder:
    """Opens a network anew each time: what one case trains no other case sees."""

    def __init__(self, path):
        self.path = Path(path)
        self.data = dict(np.load(self.path / "data.npz"))

    def open(self, name):
        return hrcam.load_model(self.path / f"{name}.keras")

    def __getitem__(self, name):
        return self.data[name]


# --- maps --------------------------------------------------------------------------


def method(network, name, folder):
    """A method as `hrcam evaluate` calls it, on six images four at a time."""
    explains, explain = METHODS[name].explains, METHODS[name].explain
    model = folder.open(network if explains == "classifier" else f"{network}_head")
    batched = "batch_size" in inspect.signature(explain).parameters
    return {"map": explain(model, folder["images"], **(BATCH if batched else {}))}


def maps_by_hand(network, folder, images="images"):
    """The three kinds of map, for each class, and the classes predicted."""
    images = folder[images]
    model, head = folder.open(network), folder.open(f"{network}_head")
    answer = {"predicted": hrcam_classes(model, images)}
    for index in range(2):
        answer[f"hr_cam {index}"] = hrcam.hr_cam(head, images, index)
        answer[f"grad_cam {index}"] = hrcam.grad_cam(model, images, index, relu=False)
    answer["mean_grad_cam"] = hrcam.mean_grad_cam(model, images)
    return answer


def hrcam_classes(model, images):
    return model.predict(images, verbose=0).argmax(axis=1)


def per_layer(folder):
    head = folder.open("flat_head")
    parts = hrcam.hr_cam(head, folder["images"], 1, per_layer=True)
    return {f"layer {number}": parts[:, number] for number in range(3)}


def several(folder):
    """Two images and an age in, two outputs: each output, on the image that it sees."""
    model = folder.open("several")
    names = {"image": "images", "second": "second", "age": "ages"}
    images = {name: folder[key] for name, key in names.items()}
    asked = {
        "diagnosis, image": ("relu2", "diagnosis", "image"),
        "diagnosis, second": ("relu3", "diagnosis", "second"),
        "sign, image": ("relu2", "sign", "image"),
    }
    return {
        title: hrcam.grad_cam(
            model, images, 1, layer, relu=False, output=output, image_input=on, **BATCH
        )
        for title, (layer, output, on) in asked.items()
    }


# --- attentive response maps -------------------------------------------------------

ROUTES = {
    "paper": {},
    "authors_code": {"preset": "authors_code"},
    "gradient": {"gating": "gradient"},
    "linear": {"gating": "linear"},
    "rank max": {"rank": "max", "unpooling": "nearest"},
}


def attentive(network, images, folder, **options):
    found = hrcam.attentive_response_maps(
        folder.open(network), folder[images], top_n=5, batch_size=2, **options
    )
    maps = found["unit_maps"]
    return found | {"unit_maps": maps.reshape(-1, *maps.shape[2:])}


def deconv_model(folder):
    """A `DeconvModel` from its own `.keras` file."""
    return folder.open("deconv").predict(folder["images"], batch_size=4, verbose=0)


# --- training ----------------------------------------------------------------------


def head_training(network, labels, folder, **options):
    model = folder.open(f"{network}_head")
    history = hrcam.fit_hrcam_head(
        model, folder["images"], folder[labels], **TRAINING, **options
    )
    kernel, bias = model.get_layer("predictions").get_weights()
    return {
        "loss": np.array(history.history["loss"]),
        "kernel": kernel,
        "bias": bias,
        "map after": hrcam.hr_cam(model, folder["images"]),
    }


def base_training(folder):
    """Epochs of one batch: the order in which it is shuffled does not matter."""
    model = folder.open("flat")
    history = hrcam.fit_base_model(
        model, folder["images"], folder["labels"], epochs=2, batch_size=6, verbose=0
    )
    return {"loss": np.array(history.history["loss"])}


def changed_weights(folder):
    """Maps before and after new weights, and of a network that always had those."""
    answer = {}
    for name in ("hr_cam", "cam", "grad_cam", "score_cam", "attentive_response"):
        network = "flat_head" if name == "hr_cam" else "flat"
        changed, fresh = folder.open(network), folder.open(network)
        explain = functools.partial(METHODS[name].explain, images=folder["images"])
        answer[f"{name} before"] = explain(changed, class_index=1)
        for model in (fresh, changed):
            model.set_weights([w * 0.9 + 0.05 for w in model.get_weights()])
        answer[f"{name} after"] = explain(changed, class_index=1)
        answer[f"{name} fresh"] = explain(fresh, class_index=1)
    return answer | _changed_base_model(folder)


def _changed_base_model(folder):
    """Classes of a base model that is pooled with, before and after a swap of two."""
    base = folder.open("flat")
    head, images = hrcam.build_hrcam_model(base), folder["images"]
    labels, answer = np.zeros(len(images), "int64"), {}
    for when in ("before", "after"):
        pooled = hrcam.pool_features(
            head, images, labels, base_model=base, verbose=False
        )
        answer[f"base classes {when}"] = pooled.base_classes
        dense = base.get_layer("predictions")
        dense.set_weights([w[..., [1, 2, 0]] for w in dense.get_weights()])
    turned = {1: 0, 2: 1, 0: 2}
    expected = [turned[c] for c in answer["base classes before"].tolist()]
    answer["base classes expected"] = np.array(expected)
    return answer


# --- known upstream ----------------------------------------------------------------


def average_pooling(size, folder):
    """Keras' layer alone, `AveragePooling2D(3, 2, "same")`."""
    pool = keras.layers.AveragePooling2D(3, 2, "same")
    return {"pooled": keras.ops.convert_to_numpy(pool(folder[size]))[..., 0]}


CASES = {
    f"{network} {name}": functools.partial(method, network, name)
    for network in ("flat", "nested", "sigmoid")
    for name in EXPLAINED
}
CASES |= {
    "several outputs and inputs": several,
    "hr_cam per layer": per_layer,
    "multi_label maps": functools.partial(maps_by_hand, "multi_label"),
    "float32 maps": functools.partial(maps_by_hand, "flat"),
    "bfloat16 maps": functools.partial(maps_by_hand, "bfloat16"),
    "resnet maps": functools.partial(maps_by_hand, "resnet", images="large"),
    "deconv model file": deconv_model,
    "head training": functools.partial(head_training, "flat", "labels"),
    "head training standardize l2": functools.partial(
        head_training, "nested", "labels", standardize=True, l2=0.01
    ),
    "head training sigmoid": functools.partial(head_training, "sigmoid", "binary"),
    "head training several labels": functools.partial(
        head_training, "multi_label", "several_labels"
    ),
    "base training": base_training,
    "changed weights": changed_weights,
    "average pooling odd": functools.partial(average_pooling, "odd"),
    "average pooling even": functools.partial(average_pooling, "even"),
}
CASES |= {
    f"attentive odd {route}": functools.partial(
        attentive, "residual_odd", "odd", **options
    )
    for route, options in ROUTES.items()
}
CASES["attentive even paper"] = functools.partial(attentive, "residual_even", "even")


def ask(folder):
    """Runs all cases: `{case: {part: array}}`, and `{case: traceback}` of the rest."""
    arrays, errors = {}, {}
    folder = Folder(folder)
    for case, run in CASES.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The .*map has no positive value")
                arrays[case] = {k: np.asarray(v) for k, v in run(folder).items()}
        except Exception:  # it is the failure of that case's own test
            errors[case] = traceback.format_exc()
    return arrays, errors


if __name__ == "__main__":
    import own_checks

    folder, backend = Path(sys.argv[1]), os.environ["KERAS_BACKEND"]
    arrays, errors = ask(folder)
    flat = {
        f"{case}:{k}": v for case, found in arrays.items() for k, v in found.items()
    }
    np.savez(folder / f"{backend}.npz", **flat)
    versions = {name: sys.modules[name].__version__ for name in ("keras", backend)}
    own, own_errors = own_checks.run(Folder(folder))
    facts = {"errors": errors | own_errors, "versions": versions, "own": own}
    (folder / f"{backend}.json").write_text(json.dumps(facts))
