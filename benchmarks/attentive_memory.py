"""Measures the memory of attentive response maps in a fresh process (Linux)."""

import argparse
from functools import partial

import setting
from memory import memory_of
from paired import report

from hrcam import attentive_response_maps


def main() -> None:
    """Measures one setting for one image; building and tracing are part of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--units", type=int, default=25, help="0: a forward pass only")
    parser.add_argument("--chunk", type=int, default=5)
    parser.add_argument("--unit-maps", action=argparse.BooleanOptionalAction)
    args = parser.parse_args()
    classifier = setting.build("deeper_net", args.size)
    x = setting.images(1, args.size, 1)
    sizes = [0.0]  # of what is returned, which no run keeps

    def run() -> None:
        made = attentive_response_maps(
            classifier,
            x,
            top_n=args.units,
            chunk=args.chunk,
            unit_maps=bool(args.unit_maps),
        )
        sizes.append(sum(array.nbytes for array in made.values()) / 2**20)

    forward = partial(setting.compiled_forward(classifier, 1), x)
    memory = memory_of(run if args.units else forward)
    report({**vars(args), "output_mb": sizes[-1], **memory})


if __name__ == "__main__":
    main()
