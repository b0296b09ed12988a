"""Times `hrcam.runner` from JPEG files to stored maps against the forward pass.

The baseline has the images in memory, as arrays of the model's size, and keeps
nothing. The runner reads and hashes files of `--file-size` pixels, decodes and resizes
them, draws HR-CAM maps and stores each as a picture on the image (png) and as an array
(npy), with the manifest. Opening the networks and tracing are in neither.
"""

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
import setting
from paired import paired_times, report, versions

from hrcam.imaging.read import LIMITS
from hrcam.runner.explainer import Explainer, Settings
from hrcam.runner.manifest import Manifest
from hrcam.runner.sources import find_sources
from hrcam.runner.stream import Writing, explain_sources

FORMATS = {"png,npy": ("png", "npy"), "npy": ("npy",)}


def main() -> None:
    """Times one network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="ResNet50", choices=setting.BUILDERS)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--file-size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    base = setting.build(args.model, args.size)
    forward = setting.compiled_forward(base, args.batch)
    batches = [setting.images(args.batch, args.size)] * (args.images // args.batch)
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        setting.hrcam_of(base).save(folder / "hrcam.keras")
        write_jpegs(folder / "in", args.images, args.file_size)
        settings = Settings(folder / "hrcam.keras", batch_size=args.batch)
        explainer = Explainer(settings)
        ways = {
            name: lambda f=formats: explain_all(explainer, folder, f)
            for name, formats in FORMATS.items()
        }
        times = paired_times(
            lambda: [forward(batch) for batch in batches], ways, args.rounds
        )
    report({**vars(args), "versions": versions("tensorflow", "keras"), **times})


def explain_all(explainer: Explainer, folder: Path, formats: tuple[str, ...]) -> None:
    """Explains all files anew, as `explain_files` does once the networks are open."""
    sources = find_sources([folder / "in"]).sources
    with tempfile.TemporaryDirectory(dir=folder) as out:
        writing = Writing(Path(out), formats, None, None, "file", LIMITS)
        with Manifest(Path(out)) as manifest:
            todo = [[(source, 0) for source in sources]]
            for records in explain_sources(todo, explainer, writing):
                manifest.append(records)


def write_jpegs(folder: Path, count: int, side: int) -> None:
    """Blurred noise, of some 100 KB a file at 512 pixels."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        noise = random.integers(0, 256, (side, side, 3), np.uint8)
        picture = cv2.GaussianBlur(noise, (0, 0), 2) * 3
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture)


if __name__ == "__main__":
    main()
