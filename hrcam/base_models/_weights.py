"""Weights from a file or another model into a model, matched by layer name."""

import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from hrcam.graph import walk
from hrcam.saving import load_model

_LOG = logging.getLogger("hrcam")


class WeightReport(NamedTuple):
    """What `load_weights` did, by layer name.

    Attributes:
        loaded: Layers whose weights were all in the file.
        partial: Weights (`layer/weight`) that are not in the file, of layers of which
            others are; they keep their start value.
        missing: Layers of which nothing is in the file.
        unused: Keys of the file that fit no layer.
        adapted: Layers whose kernel was summed over its inputs to fit the channels.
    """

    loaded: tuple[str, ...]
    partial: tuple[str, ...]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    adapted: tuple[str, ...]


def load_weights(model: keras.Model, path: str | Path) -> WeightReport:
    """Loads what a file has of a model's weights, by layer name.

    Args:
        model: A functional or built Sequential model; its weights are overwritten.
        path: `.npz` with keys `layer/weight` (`kernel`, `bias`, `gamma`, `beta`,
            `moving_mean`, `moving_variance`), a Keras `.h5` of the older layout (by
            layer name), a `.weights.h5` of the very same model, or a `.keras` file.

    Returns:
        The report, which is logged as well (a warning where layers are missing).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file cannot be read, fits no layer, holds NaN, or has a
            weight of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`weights` must be a file, None or 'imagenet'. Received: {path}, which "
            "does not exist."
        )
    if path.name.endswith(".weights.h5"):
        model.load_weights(path)
        names = tuple(layer.name for layer in model.layers if layer.weights)
        report = WeightReport(names, (), (), (), ())
        _log(report, path.name)
        return report
    readers = {".npz": _read_npz, ".h5": _read_h5, ".keras": _read_keras}
    if path.suffix not in readers:
        raise ValueError(
            f"`weights` must end in one of {sorted(readers)}. Received: {path.name}"
        )
    report = _assign(model, readers[path.suffix](path), path.name)
    _log(report, path.name)
    return report


def copy_weights(source: keras.Model, target: keras.Model) -> WeightReport:
    """Copies the weights of layers of the same name; see `load_weights`."""
    return _assign(target, _weights_by_name(source), source.name)


def _log(report: WeightReport, name: str) -> None:
    odd = set(report.missing) - {"predictions"} or report.unused
    _LOG.log(
        logging.WARNING if odd else logging.INFO,
        "%s: layers loaded whole: %d; weights left at their start in loaded layers: "
        "%s; layers not in the file: %s; not used of the file: %s; first kernel "
        "summed over its inputs: %s",
        name,
        len(report.loaded),
        _short(report.partial),
        _short(report.missing),
        _short(report.unused),
        _short(report.adapted),
    )


def _short(names: tuple[str, ...]) -> str:
    rest = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + rest or "none"


def _assign(
    model: keras.Model, values: Mapping[str, np.ndarray], source: str
) -> WeightReport:
    own = {key: variable for key, variable in _variables(model)}
    adapted, found = [], {}
    for key in own.keys() & values.keys():
        value = np.asarray(values[key], "float32")
        fitted = _fit_channels(value, own[key].shape)
        if fitted is None:
            raise ValueError(
                f"The weight {key!r} must have the shape {tuple(own[key].shape)}. "
                f"Received: {value.shape} from {source}"
            )
        if not np.isfinite(value).all():
            raise ValueError(f"The weight {key!r} of {source} holds NaN or infinity.")
        if fitted is not value:
            adapted.append(_layer(key))
        found[key] = fitted
    if not found:
        raise ValueError(
            f"{source} has no weight of a layer of {model.name!r}. Received keys: "
            f"{sorted(values)[:5]}; expected such as {list(own)[:5]}"
        )
    for key, value in found.items():
        own[key].assign(value)
    touched = {_layer(key) for key in found}
    absent = [key for key in own if key not in found]
    partial = [key for key in absent if _layer(key) in touched]
    incomplete = {_layer(key) for key in absent}
    layers = dict.fromkeys(map(_layer, own))
    return WeightReport(
        loaded=tuple(layer for layer in layers if layer not in incomplete),
        partial=tuple(partial),
        missing=tuple(layer for layer in layers if layer not in touched),
        unused=tuple(sorted(values.keys() - own.keys())),
        adapted=tuple(sorted(adapted)),
    )


def _layer(key: str) -> str:
    return key.rpartition("/")[0]


def _fit_channels(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray | None:
    """The value itself, a kernel spread over other input channels, or None."""
    shape = tuple(shape)
    if value.shape == shape:
        return value
    same_window = len(shape) == 4 and value.ndim == 4 and value.shape[:2] == shape[:2]
    if same_window and value.shape[3] == shape[3] and value.shape[2] == 3:
        spread = value.sum(axis=2, keepdims=True) / shape[2]
        return np.repeat(spread, shape[2], axis=2)
    return None


def _variables(model: keras.Model):
    """Yields `(layer/weight, variable)`, inner layers of nested models included."""
    for layer in dict.fromkeys(call.operation for call in walk(model)[0]):
        for variable in getattr(layer, "weights", ()):
            yield f"{layer.name}/{variable.name}", variable


def _weights_by_name(model: keras.Model) -> dict[str, np.ndarray]:
    return {
        key: keras.ops.convert_to_numpy(variable) for key, variable in _variables(model)
    }


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable .npz file: {error}") from error


def _read_keras(path: Path) -> dict[str, np.ndarray]:
    return _weights_by_name(load_model(path))


def _read_h5(path: Path) -> dict[str, np.ndarray]:
    """Reads Keras' older HDF5 layout: a group a layer, names in `weight_names`."""
    import h5py

    values = {}
    try:
        with h5py.File(path, "r") as file:
            layers = file.get("model_weights", file)
            for layer, group in layers.items():
                names = [
                    name.decode() if isinstance(name, bytes) else name
                    for name in group.attrs.get("weight_names", ())
                ]
                is_nested = len({name.rpartition("/")[0] for name in names}) > 1
                for name in names:
                    *scopes, weight = name.partition(":")[0].split("/")
                    owner = scopes[-1] if is_nested else layer
                    values[f"{owner}/{weight}"] = np.asarray(group[name])
    except (OSError, KeyError) as error:
        raise ValueError(f"{path} is not a readable HDF5 file: {error}") from error
    return values
