"""Measures the peak memory of one way to a map, in a process of its own."""

import argparse
import resource

import setting
from paired import report

from hrcam import hr_cam

WAYS = ("forward", "hr_cam", "literal")


def main() -> None:
    """Prints the peak of the process before and after the way's first and second run.

    `before` is the peak resident set size after import, model building and one forward
    pass of the same batch; so `above` is what the way needs beyond a forward pass.
    The process must come from a small parent: Linux hands the parent's peak on to a
    child that it starts.
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
    forward(x)
    before = _peak_mb()
    run()
    run()
    after = _peak_mb()
    report({**vars(args), "before_mb": before, "peak_mb": after})


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB


if __name__ == "__main__":
    main()
