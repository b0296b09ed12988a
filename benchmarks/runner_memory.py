"""Measures the peak memory of `hrcam.runner.explain_files` in this process (Linux)."""

import argparse
import os
import resource
import tempfile
from pathlib import Path

import setting
from paired import report
from runner import write_jpegs

from hrcam.runner import explain_files

DISTINCT = 50


def main() -> None:
    """Explains so many files once; most are links to the same few."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int)
    parser.add_argument("--model", default="ResNet50", choices=setting.BUILDERS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--file-size", type=int, default=512)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model = setting.hrcam_of(setting.build(args.model, args.size))
        model.save(folder / "hrcam.keras")
        write_jpegs(folder / "in", DISTINCT, args.file_size)
        for number in range(DISTINCT, args.images):
            first = folder / "in" / f"{number % DISTINCT:05d}.jpg"
            os.link(first, folder / "in" / f"{number:05d}.jpg")
        done = explain_files(
            folder / "hrcam.keras",
            [folder / "in"],
            folder / "out",
            batch_size=args.batch,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux: KiB
    report({**vars(args), "explained": done.images, "peak_mb": peak})


if __name__ == "__main__":
    main()
