"""Times Xplique's DeconvNet, once a unit, beside hrcam's maps of all units.

Runs in the peers' environment (README.md), on what `attentive_reference.py` wrote.
DeconvNet explains outputs of the model it is given (its `output_layer` is without
effect in 2.0.2), so it gets the network cut at the units' layer, and an operator whose
gradient by that layer is the unit's map.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import exchange
import keras
import numpy as np
import setting
import tensorflow as tf
from paired import paired_times, repeated, report, versions

from hrcam import attentive_response_maps

OURS = "hrcam `attentive_response_maps`"
EACH, AT_ONCE = "Xplique, a call a unit", "Xplique, one call, the image once a unit"


def main() -> None:
    """Times both and compares the maps."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    classifier, given = exchange.load(args.folder)
    x, units = given["image"], given["units"]
    trunk = keras.Model(
        classifier.inputs[0], classifier.get_layer(str(given["layer"])).output
    )
    forward = setting.compiled_forward(classifier, 1)

    def ours(seed="map"):
        made = attentive_response_maps(classifier, x, top_n=len(units), seed=seed)
        if not np.array_equal(made["units"][0], units):
            warnings.warn("Other units are the strongest here.", stacklevel=1)
        return made["unit_maps"][0]

    ways = {OURS: ours, **_xplique(trunk, x, units)}
    differences = {
        way: {"map": exchange.difference(run(), given["map"])}
        for way, run in ways.items()
    }
    differences[OURS]["peak"] = exchange.difference(ours("peak"), given["peak"])
    differences[EACH]["peak"] = exchange.difference(
        _of_peaks(trunk, given), given["peak"]
    )
    passes = repeated(lambda: forward(x), len(units))
    report(
        {
            "versions": versions("tensorflow", "keras", "xplique"),
            **paired_times(
                passes, ways | {"plain forward passes": passes}, args.rounds
            ),
            "differences": differences,
        }
    )


def _half_square(model: Callable, x: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """0.5 * sum z^2 of the unit that is hot in `targets`: its gradient by z is z."""
    return 0.5 * tf.einsum("byxc,bc->b", tf.square(model(x)), targets)


def _xplique(
    trunk: keras.Model, x: np.ndarray, units: np.ndarray
) -> dict[str, Callable]:
    """Both ways to ask for several units; built once, as a user would keep it."""
    from xplique.attributions import DeconvNet

    explain = DeconvNet(trunk, operator=_half_square, batch_size=None)
    hot = np.eye(trunk.output_shape[-1], dtype="float32")[units]
    copies = np.repeat(x, len(units), axis=0)
    return {
        EACH: lambda: np.concatenate(
            [explain(x, target[None]).numpy() for target in hot]
        ),
        AT_ONCE: lambda: explain(copies, hot).numpy(),
    }


def _of_peaks(trunk: keras.Model, given: dict[str, np.ndarray]) -> np.ndarray:
    """What Xplique offers by itself, one neuron: each unit's peak, times its value."""
    from xplique.attributions import DeconvNet

    explain = DeconvNet(trunk, batch_size=None)
    maps = []
    for row, column, unit, value in exchange.peaks(given):
        target = np.zeros_like(given["features"])
        target[0, row, column, unit] = 1
        maps.append(value * explain(given["image"], target).numpy()[0])
    return np.stack(maps)


if __name__ == "__main__":
    main()
