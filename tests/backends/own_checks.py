"""What is true of one backend alone: nothing to compare, but facts to be tested.

They are gathered where the backend is, and judged in `test_backends.py`.
"""

import traceback
import warnings

import keras
import numpy as np

import hrcam
from hrcam import datasets
from hrcam._backend import _COMPILED

SHAPES = (4, 4, 2, 4, 2)  # batches: the first of a size compiles, the later do not


def run(folder):
    """All checks of this backend: `{name: fact}` and `{name: traceback}`."""
    checks = {"without tensorflow": without_tensorflow} | {
        "jax": {"compilations": compilations, "constants": constants, "leaks": leaks},
        "torch": {"records": records, "frozen": frozen},
    }[keras.backend.backend()]
    facts, errors = {}, {}
    for name, check in checks.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The .*map has no positive value")
                facts[name] = check(folder)
        except Exception:
            errors[name] = traceback.format_exc()
    return facts, errors


def explainers(folder):
    """Name -> a function of images; the network has dropout, so a seed generator."""
    nested, head = folder.open("nested"), folder.open("nested_head")
    return {
        "hr_cam": lambda x: hrcam.hr_cam(head, x),
        "cam": lambda x: hrcam.cam(nested, x),
        "grad_cam": lambda x: hrcam.grad_cam(nested, x),
        "score_cam": lambda x: hrcam.score_cam(nested, x),
        "attentive": lambda x: hrcam.attentive_response_maps(nested, x, top_n=4),
    }, (nested, head)


def without_tensorflow(folder):
    """What says that it needs TensorFlow, and what does without (see the imports)."""
    said = {}
    for name in ("image_dataset", "load_images", "load_masks", "drop_unreadable",
                 "Augmentation", "augment_batch"):  # fmt: skip
        try:
            said[name] = repr(getattr(datasets, name))
        except ImportError as error:
            said[name] = f"{type(error).__name__}: {error}"
    images, masks, labels = datasets.simulated(8, 32, seed=0)
    maps = hrcam.min_max_normalize(images[labels == 1][..., 0])
    found = hrcam.metrics.pixel_auc(maps, masks[labels == 1])
    return {"said": said, "auc": found.tolist(), "plots": hrcam.plots.__all__}


# --- JAX ---------------------------------------------------------------------------


def compilations(folder):
    """How often JAX traces or compiles in each call of `SHAPES`."""
    import jax

    events = []

    def note(event, duration, **_):
        if "jaxpr_trace" in event or "backend_compile" in event:
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    counts = {}
    for name, explain in explainers(folder)[0].items():
        counts[name] = []
        for number in SHAPES:
            events.clear()
            explain(folder["images"][:number])
            counts[name].append(len(events))
    return counts


def constants(folder):
    """Bytes of the arrays that each compiled program keeps, and of the weights."""
    import jax

    explain, models = explainers(folder)
    for function in explain.values():
        function(folder["images"])
    image = np.zeros((1, 16, 16, 1), "float32")
    kept = {}
    for model in models:
        for key, function in _COMPILED[model][1].items():
            classes = [] if "attentive" in str(key) else [np.zeros(1, "int32")]
            program = jax.make_jaxpr(function)(image, *classes)
            inner = [
                e.params["jaxpr"] for e in program.jaxpr.eqns if "jaxpr" in e.params
            ]
            kept[str(key)] = sum(c.nbytes for part in inner for c in part.consts)
    return kept


def leaks(folder):
    """The maps again, compiled anew, where a tracer that outlives its trace raises."""
    import jax

    with jax.checking_leaks():
        found = {k: f(folder["images"][:3]) for k, f in explainers(folder)[0].items()}
    return sorted(found)


# --- PyTorch -----------------------------------------------------------------------


def records(folder):
    """Whether a tensor that a map's function gives has a record for derivatives."""
    import torch

    explain, models = explainers(folder)
    for function in explain.values():
        function(folder["images"])
    image, classes = torch.zeros(1, 16, 16, 1), torch.zeros(1, dtype=torch.int32)
    found = {}
    for model in models:
        for key, function in _COMPILED[model][1].items():
            given = [image] if "attentive" in str(key) else [image, classes]
            tensors = keras.tree.flatten(function(*given))
            found[str(key)] = any(tensor.requires_grad for tensor in tensors)
    return found


def frozen(folder):
    """Largest differences of maps when no parameter asks for a gradient."""
    (explain, models), (again, others) = explainers(folder), explainers(folder)
    asked = {}
    for model, other in zip(models, others, strict=True):
        other.trainable = False
        asked[model.name] = [
            any(v.value.requires_grad for v in m.variables) for m in (model, other)
        ]
    images = folder["images"]
    differences = {}
    for name in ("hr_cam", "grad_cam", "score_cam"):
        apart = np.abs(explain[name](images) - again[name](images))
        differences[name] = float(apart.max())
    return {"asked for gradients": asked, "differences": differences}
