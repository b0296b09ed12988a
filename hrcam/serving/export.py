"""Export to a SavedModel, which runs without this package.

The folder holds one version of the model, as TF Serving reads it:

    name/1/saved_model.pb, variables/
    name/1/assets.extra/hrcam.json                      what it is
    name/1/assets.extra/tf_serving_warmup_requests      run once when it is loaded

Signatures, b images of h x w pixels and k units of the classifier's output:

    serving_default(image float32 (b, h, w, c))
        -> probabilities (b, k), class_index int32 (b,), heatmap (b, h, w)
    explain(image, class_index int32 (b,)) -> heatmap
    predict_bytes(image_bytes string (b,)) -> as serving_default
    cam, grad_cam(image, class_index) -> heatmap                        if asked for
    attentive_response(image) -> units int32 (b, n), response (b, h, w) if asked for

The heat map of the prediction is HR-CAM; of a model without an HR-CAM head, the first
of CAM and Grad-CAM that is asked for. Prediction and map come from one forward pass.
Maps are raw, in units of the class score. A `class_index` of -1 is the predicted class.

Choices that are ours: all names; the decoding of bytes, which is that of
`hrcam.datasets.load_images`, antialiased when it shrinks.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import keras

from hrcam._images import image_shape
from hrcam.graph import check_graph
from hrcam.heads import pooled_layers
from hrcam.layer_selection import feature_layers

METHODS = ("hr_cam", "cam", "grad_cam", "attentive_response")


def export_saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    methods: Sequence[str] = ("hr_cam",),
    classifier: keras.Model | None = None,
    class_names: Sequence[str] | None = None,
    preprocess: Callable | float | None = None,
    image_size: int | tuple[int, int] | None = None,
    version: int = 1,
    top_n: int = 25,
    max_pixels: int = 2**25,
) -> Path:
    """Exports a model as a SavedModel whose prediction comes with its heat map.

    Args:
        model: An HR-CAM model, trained; or any classifier, if `methods` has `"cam"` or
            `"grad_cam"`. Logits are served as softmax probabilities, of one unit as
            sigmoid; for several labels end the model in sigmoid.
        directory: The model's folder; a folder `<version>` is made in it.
        methods: `"cam"`, `"grad_cam"`, `"attentive_response"`: each a signature of its
            own. `"hr_cam"` goes without saying where `model` has the head.
        classifier: What those explain, the base model for instance; `None`: `model`.
        class_names: A name for each class, kept with the model.
        preprocess: From [0, 1] to what the model was trained on, for `predict_bytes`: a
            factor (255, say), or a function of a float32 tensor `(b, h, w, c)` that
            TensorFlow can trace. `None`: the model takes [0, 1]. Keras' own
            `preprocess_input` wants [0, 255]: multiply first.
        image_size: Side or (height, width), if the model takes images of any size.
        version: Number of the version folder.
        top_n: Units of the attentive response map; all, where there are fewer.
        max_pixels: Larger PNG or JPEG images are refused before they are decoded, which
            takes some 50 bytes a pixel, one image after another.

    Returns:
        The folder of the version.

    Raises:
        RuntimeError: If Keras does not run on TensorFlow.
        TypeError: If the layers of `model` cannot be reached.
        ValueError: If a method is unknown or does not fit the model, the number of
            class names is wrong, or the image size is not known.
        FileExistsError: If the folder of the version exists; nothing is overwritten.

    Example:
        >>> export_saved_model(model, "lesions", class_names=["naevus", "melanoma"])
        ... # doctest: +SKIP
        PosixPath('lesions/1')
    """
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            "A SavedModel is made by TensorFlow. Received: Keras on "
            f"{keras.backend.backend()!r}. Set KERAS_BACKEND=tensorflow before Keras "
            "is imported, and open the .keras file there: the maps are the same."
        )
    from hrcam.serving import _signatures
    from hrcam.serving._warmup import write_warmup

    methods = _checked_methods(model, methods)  # the heat map's first
    shape = image_shape(model, image_size)
    target = Path(directory, str(_checked_version(version)))
    if target.exists():
        raise FileExistsError(
            f"The folder of the version must be new. Received: {target}, which exists. "
            f"Give the next number (`version={version + 1}`) or another directory."
        )
    exported = _signatures.build(
        model, classifier or model, methods, shape, preprocess, top_n, max_pixels
    )
    facts = {
        "model": model.name,
        "heatmap": methods[0],
        "layers": _layers(model, methods[0]),
        "class_names": _checked_names(class_names, exported.classes),
        "image": {"height": shape[0], "width": shape[1], "channels": shape[2]},
        "preprocess": _described(preprocess),
        "max_pixels": max_pixels,
        "signatures": exported.described(),
        "hrcam": _own_version(),
        "keras": keras.__version__,
        "tensorflow": version_of("tensorflow"),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name that is no number, so that a running server does not load it half-written.
    partial = Path(tempfile.mkdtemp(prefix=f".{version}-", dir=target.parent))
    try:
        exported.save(partial)
        extra = partial / "assets.extra"
        extra.mkdir()
        Path(extra, "hrcam.json").write_text(json.dumps(facts, indent=1) + "\n")
        write_warmup(extra, target.parent.resolve().name, exported)
        partial.chmod(0o755)
        os.rename(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return target


def _checked_methods(model: keras.Model, methods: Sequence[str]) -> tuple[str, ...]:
    """The methods; that of the prediction's heat map comes first."""
    check_graph(model)
    methods = (methods,) if isinstance(methods, str) else tuple(methods)
    if not set(methods) <= set(METHODS):
        raise ValueError(f"`methods` must be among {METHODS}. Received: {methods}")
    rest = tuple(name for name in dict.fromkeys(methods) if name != "hr_cam")
    try:
        pooled_layers(model)
        return ("hr_cam", *rest)
    except ValueError as error:
        maps = [name for name in rest if name != "attentive_response"]
        if "hr_cam" in methods or not maps:
            raise ValueError(
                "HR-CAM needs a model from `hrcam.build_hrcam_model`, trained with "
                f"`hrcam.fit_hrcam_head`. Received: {model.name!r}, which has no "
                "HR-CAM head. Or export it with `methods=('grad_cam',)` "
                "(`--methods grad_cam`)."
            ) from error
    return (maps[0], *(name for name in rest if name != maps[0]))


def _checked_version(version: Any) -> int:
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(
            "`version` must be an integer of at least 1, the name of a folder that TF "
            f"Serving reads. Received: {version!r}"
        )
    return version


def _checked_names(class_names: Sequence[str] | None, classes: int) -> list[str] | None:
    if class_names is None:
        return None
    names = [str(name) for name in class_names]
    if isinstance(class_names, str) or len(names) != classes:
        raise ValueError(
            f"`class_names` must be one name for each of {classes} classes. "
            f"Received: {class_names!r}"
        )
    return names


def _described(preprocess: Callable | float | None) -> str:
    if preprocess is None:
        return "decoded to [0, 1], resized bilinearly (antialiased)"
    step = f"times {preprocess}"
    if callable(preprocess):
        name = getattr(preprocess, "__qualname__", None)
        step = f"{preprocess.__module__}.{name}" if name else repr(preprocess)
    return f"decoded to [0, 1], resized bilinearly (antialiased), then {step}"


def _layers(model: keras.Model, method: str) -> list[str]:
    return pooled_layers(model) if method == "hr_cam" else feature_layers(model)[-1:]


def _own_version() -> str:
    import hrcam

    return hrcam.__version__
