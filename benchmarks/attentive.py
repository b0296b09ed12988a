"""Times attentive response maps in forward passes a unit; see README.md."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import setting
from paired import paired_times, repeated, report, versions

from hrcam import attentive_response_maps, build_deconv_model


def main() -> None:
    """Times the networks one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--units", type=int, default=25)
    parser.add_argument("--batch", type=int, default=8, help="of the deeper net")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help="one network's name; default: all")
    args = parser.parse_args()
    plan = (
        ("deeper_net", 1),
        ("deeper_net", args.batch),
        ("ResNet50", 1),
        ("VGG19", 1),
    )
    rows = [
        row
        for name, batch in plan
        if args.only in (None, name)
        for row in _compare(name, batch, args)
    ]
    report(
        {**vars(args), "versions": versions("tensorflow", "keras", "numpy")}
        | {"rows": rows}
    )


def _compare(name: str, batch: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row a way: its time against that of as many forward passes as units."""
    classifier = setting.build(name, args.size)
    x = setting.images(batch, args.size, classifier.input_shape[-1])
    forward = partial(setting.compiled_forward(classifier, batch), x)
    passes = repeated(forward, args.units)
    # The baseline against itself: its spread is the noise of the run.
    ways = _ways(classifier, x, args.units) | {"plain forward passes": passes}
    timed = paired_times(passes, ways, args.rounds)
    return [
        {"model": name, "batch": batch, "way": way, **row}
        for way, row in timed["rows"].items()
    ]


def _ways(classifier, x: np.ndarray, units: int) -> dict[str, Callable]:
    """As the user calls it, and the bare model in one graph for exactly this batch."""
    call = partial(
        attentive_response_maps, classifier, x, top_n=units, batch_size=len(x)
    )

    def model(**options):
        built = build_deconv_model(classifier, top_n=units, **options)
        return partial(setting.compiled_forward(built, len(x)), x)

    return {
        "`attentive_response_maps`": call,
        "same, `unit_maps=False`": partial(call, unit_maps=False),
        "same, all units at a time": partial(call, chunk=units),
        "model in one `tf.function`": model(),
        "same model, `unit_maps=False`": model(unit_maps=False),
    }


if __name__ == "__main__":
    main()
