"""Times every method of `hrcam evaluate` against the plain forward pass; see README.md.

Methods of tens of passes are held against a block of as many forward passes, and given
as a multiple of one.
"""

import argparse

import setting
from paired import paired_times, repeated, report, versions

from hrcam.methods import COSTLY, METHODS, explainers

BLOCK = 32  # forward passes; the costly methods take about as long


def main() -> None:
    """Times one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    classifier = setting.build("ResNet50", args.size)
    x = setting.images(args.batch, args.size)
    forward = setting.compiled_forward(classifier, args.batch)
    bound = explainers(METHODS, classifier, setting.hrcam_of(classifier))
    ways = {title: lambda m=method: m(x, 1) for title, method in bound.items()}
    costly = {METHODS[name].title: None for name in COSTLY}
    costly = {title: ways.pop(title) for title in costly}
    ways["plain forward pass"] = lambda: forward(x)
    rows = paired_times(lambda: forward(x), ways, args.rounds)["rows"]
    block = repeated(lambda: forward(x), BLOCK)
    slow = paired_times(block, costly, max(2, args.rounds // 3))["rows"]
    for row in slow.values():
        row |= {key: BLOCK * row[key] for key in ("ratio", "lowest", "highest")}
    report(
        {
            "size": args.size,
            "batch": args.batch,
            "versions": versions("tensorflow", "keras", "numpy"),
            "rows": rows | slow,
        }
    )


if __name__ == "__main__":
    main()
