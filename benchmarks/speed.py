"""Times maps against the plain forward pass; see README.md."""

import argparse
from typing import Any

import numpy as np
import setting
from paired import paired_times, report, versions

from hrcam import cam, grad_cam, hr_cam


def main() -> None:
    """Times both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    report(
        {
            "size": args.size,
            "batch": args.batch,
            "versions": versions("tensorflow", "keras", "numpy"),
            "models": {
                name: _compare(name, args.size, args.batch, args.rounds)
                for name in setting.BUILDERS
            },
        }
    )


def _compare(name: str, size: int, batch: int, rounds: int) -> dict[str, Any]:
    base = setting.build(name, size)
    model = setting.hrcam_of(base)
    x, one = setting.images(batch, size), setting.images(1, size)
    forward = setting.compiled_forward(base, batch)
    forward_one = setting.compiled_forward(base, 1)
    literal_one = setting.compiled_literal(model, 1)
    ways = {
        "`hr_cam`, class given": lambda: hr_cam(model, x, 1),
        "`hr_cam`, predicted class": lambda: hr_cam(model, x),
        "`cam`": lambda: cam(base, x, 1),
        "`grad_cam`": lambda: grad_cam(base, x, 1),
        "`model.predict_on_batch`": lambda: base.predict_on_batch(x),
        # Its spread is the noise of the run: the baseline timed against itself.
        "plain forward pass": lambda: forward(x),
    }
    single = {
        "`hr_cam`, class given": lambda: hr_cam(model, one, 1),
        "literal HR-CAM": lambda: literal_one(one, 1),
    }
    maps, literal = hr_cam(model, one, 1), literal_one(one, 1)
    return {
        f"batch {batch}": paired_times(lambda: forward(x), ways, rounds),
        # The literal way holds every resized map: one image at a time, against a
        # forward pass of one image.
        "batch 1": paired_times(lambda: forward_one(one), single, rounds),
        "literal_difference": float(
            np.abs(maps - literal).max() / np.abs(literal).max()
        ),
    }


if __name__ == "__main__":
    main()
