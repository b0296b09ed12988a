"""Measures the memory that one run of one way to a map needs (Linux)."""

import argparse
import ctypes
import gc
import resource
from pathlib import Path

import setting
from paired import report

from hrcam import hr_cam

WAYS = ("forward", "hr_cam", "literal")


def main() -> None:
    """Prints the memory of the process at rest, and its peak in one more run.

    At rest: after import, model building and two runs of the way, so everything is
    traced, with free memory handed back to the system and the kernel's mark of the
    peak set back to the present. Peak less rest is what one run needs.
    """
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
    run()
    run()
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    before_first = _peak_mb()
    Path("/proc/self/clear_refs").write_text("5")  # the peak mark := the present
    rest = _peak_mb()
    run()
    report(
        {
            **vars(args),
            "peak_with_warm_up_mb": before_first,
            "rest_mb": rest,
            "peak_mb": _peak_mb(),
        }
    )


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB


if __name__ == "__main__":
    main()
