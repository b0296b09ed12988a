"""Times captum's Deconvolution, once a unit, in PyTorch.

Runs in an environment of its own (README.md) with KERAS_BACKEND=torch, on what
`attentive_reference.py` wrote. Deconvolution changes only `torch.nn.ReLU`, so the
network is written anew as a plain `torch.nn.Sequential`, with the weights of the
`.keras` file. The units are outputs: 0.5 * sum z^2 of each, whose gradient by z is z.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exchange
import numpy as np
import torch
from captum.attr import Deconvolution
from paired import paired_times, repeated, report, versions
from torch import nn

EACH, AT_ONCE = "captum, a call a unit", "captum, one call, the image once a unit"


def main() -> None:
    """Times it against the forward pass of PyTorch, and compares the maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    warnings.filterwarnings("ignore", message="Setting backward|Input Tensor")
    classifier, given = exchange.load(args.folder)
    trunk, head = _as_torch(classifier, str(given["layer"]))
    whole = nn.Sequential(trunk, head).eval()
    x = torch.from_numpy(given["image"].transpose(0, 3, 1, 2).copy())
    units = given["units"].tolist()

    def forward() -> np.ndarray:
        with torch.inference_mode():
            return whole(x).numpy()

    features = trunk(x).detach().numpy().transpose(0, 2, 3, 1)
    passes = repeated(forward, len(units))
    ways = _captum(trunk, x, units)
    differences = {
        way: {"map": exchange.difference(run(), given["map"])}
        for way, run in ways.items()
    }
    differences[EACH]["peak"] = exchange.difference(
        _of_peaks(trunk, x, given), given["peak"]
    )
    report(
        {
            "versions": versions("torch", "captum", "keras"),
            "threads": torch.get_num_threads(),
            **paired_times(
                passes, ways | {"plain forward passes": passes}, args.rounds
            ),
            "differences": differences,
            "features_difference": float(
                np.abs(features - given["features"]).max() / given["features"].max()
            ),
        }
    )


class _HalfSquares(nn.Module):
    """0.5 * sum z^2 of each unit, `(batch, units)`."""

    def __init__(self, trunk: nn.Module):
        super().__init__()
        self.trunk = trunk

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * self.trunk(x).square().sum((2, 3))


def _captum(trunk: nn.Module, x: torch.Tensor, units: list[int]) -> dict[str, Callable]:
    """Both ways to ask for several units."""
    explain = Deconvolution(_HalfSquares(trunk))

    def each() -> np.ndarray:
        maps = [explain.attribute(x, target=unit).detach().numpy() for unit in units]
        return np.concatenate(maps)

    copies = x.repeat(len(units), 1, 1, 1)
    return {
        EACH: each,
        AT_ONCE: lambda: explain.attribute(copies, target=units).detach().numpy(),
    }


def _of_peaks(trunk: nn.Module, x: torch.Tensor, given: dict) -> np.ndarray:
    """What captum offers by itself, one neuron: each unit's peak, times its value."""
    explain = Deconvolution(trunk)
    return np.concatenate(
        [
            value * explain.attribute(x, target=(unit, row, column)).detach().numpy()
            for row, column, unit, value in exchange.peaks(given)
        ]
    )


def _as_torch(classifier: Any, cut: str) -> tuple[nn.Sequential, nn.Sequential]:
    """The network up to the layer `cut` and after it; channels first."""
    trunk, head = [], []
    part = trunk
    for layer in classifier.layers[1:]:  # after the input
        part += _layers_of(layer)
        part = head if layer.name == cut else part
    sequences = nn.Sequential(*trunk).eval(), nn.Sequential(*head).eval()
    for parameter in (p for s in sequences for p in s.parameters()):
        parameter.requires_grad_(False)
    return sequences


def _layers_of(layer: Any) -> list[nn.Module]:
    kind = type(layer).__name__
    values = {w.name: torch.from_numpy(_numpy(w)) for w in layer.weights}
    if kind == "Conv2D":
        kernel = values["kernel"].permute(3, 2, 0, 1).contiguous()
        made = nn.Conv2d(*kernel.shape[1::-1], 3, padding=1, bias=False)
        made.load_state_dict({"weight": kernel})
        return [made]
    if kind == "BatchNormalization":
        made = nn.BatchNorm2d(len(values["gamma"]), eps=layer.epsilon)
        names = ("gamma", "weight"), ("beta", "bias")
        names += ("moving_mean", "running_mean"), ("moving_variance", "running_var")
        made.load_state_dict({n: values[k] for k, n in names}, strict=False)
        return [made]
    if kind == "Dense":
        made = nn.Linear(*values["kernel"].shape)
        made.load_state_dict({"weight": values["kernel"].T, "bias": values["bias"]})
        return [made, nn.Softmax(1)]
    plain = {
        "ReLU": lambda: [nn.ReLU()],
        "MaxPooling2D": lambda: [nn.MaxPool2d(2)],
        "GlobalAveragePooling2D": lambda: [nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    }
    return plain[kind]()


def _numpy(weight: Any) -> np.ndarray:
    return weight.value.detach().cpu().numpy().copy()


if __name__ == "__main__":
    main()
