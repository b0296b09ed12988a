"""Measures the memory that one run of one way to a map needs (Linux)."""

import argparse
import ctypes
import gc
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import setting
from paired import report

from hrcam import hr_cam

WAYS = ("forward", "hr_cam", "literal")


def main() -> None:
    """Measures one way in this process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("--model", default="ResNet50", choices=setting.BUILDERS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=1)
    args = parser.parse_args()
    base = setting.build(args.model, args.size)
    model = setting.hrcam_of(base)
    x = setting.images(args.batch, args.size)
    forward = setting.compiled_forward(base, args.batch)
    literal = setting.compiled_literal(model, args.batch)
    run = {
        "forward": lambda: forward(x),
        "hr_cam": lambda: hr_cam(model, x, 1),
        "literal": lambda: literal(x, 1),
    }[args.way]
    report({**vars(args), **memory_of(run)})


def memory_of(run: Callable[[], Any]) -> dict[str, float]:
    """The memory of the process before the way's first run, and its peak after.

    Before: after import and model building, with free memory handed back and the
    kernel's mark of the peak set back to the present. TensorFlow keeps what it has
    once allocated, so the first run is part of the measurement: peak less rest is
    the traced graph and all that two runs need.
    """
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak mark := the present
    rest = _peak_mb()
    run()
    run()
    return {"rest_mb": rest, "peak_mb": _peak_mb()}


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB


if __name__ == "__main__":
    main()
