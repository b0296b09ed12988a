"""Makes the small trained models of saved_models/, with their README.

Run: python examples/saved_models.py --data-dir fracatlas

`simulated`: the base network and HR-CAM head that `hrcam demo` trains, on more images.
`anatomy`: the deeper network of `examples/anatomy.py` (trained here if that folder has
no finished run). Each is written as .keras and as the SavedModel of
`hrcam.export_saved_model`.
"""

import argparse
import datetime
import hashlib
import json
import subprocess
from pathlib import Path

import anatomy

import hrcam
from hrcam.cli.demo import demo

SIGNATURES = ("grad_cam", "attentive_response")
DEMO_SEED = 100  # not the demo's own, so that its images are new to the networks
ANATOMY_SEED, LEARNING_RATE = 0, 1e-3  # as in docs/results.md
README = """# Saved models

Small trained networks, to try the package and its served form without training. From
the root of the repository:
```
hrcam demo --pretrained
hrcam layers saved_models/anatomy/base.keras
docker run --rm -p 8501:8501 -v "$PWD/saved_models/simulated:/models/simulated" \\
    -e MODEL_NAME=simulated tensorflow/serving
```
Not medical devices. Code and weights: Apache-2.0. The radiographs that `anatomy` was
trained on: FracAtlas, CC BY 4.0 (Abedeen et al. 2023,
https://doi.org/10.1038/s41597-023-02432-4).

Made by `python examples/saved_models.py --data-dir FRACATLAS` at commit `{commit}`,
{date}; `model.json` has the commands that it stands for. `base.keras` is the
trained network, `hrcam.keras` its HR-CAM model, `1/` the SavedModel; its map is HR-CAM
(`simulated`) or CAM (`anatomy`), with signatures for Grad-CAM and the attentive
response ([docs/serving.md](../docs/serving.md)). `model.json` has the class
names, too.

| folder | data | image | seed | accuracy |
|---|---|---|---|---|
{rows}

Accuracy is of images that were not trained on. `hrcam demo --pretrained` uses
`simulated`, with images of another seed.

| file | bytes | sha256 |
|---|---|---|
{sums}
"""


def main() -> None:
    """Trains what is missing, exports, and writes the README."""
    args = parse_arguments()
    there = [str(path) for path in args.out.glob("*/1")]
    if there:
        raise SystemExit(f"--out must be a new folder. Received: one with {there}")
    facts = {
        "simulated": simulated(args.out / "simulated", args),
        "anatomy": body_parts(args.out / "anatomy", args),
    }
    for name, found in facts.items():
        record = args.out / name / "model.json"
        record.write_text(json.dumps(found, indent=1) + "\n")
    write_readme(args.out, facts)


def simulated(folder: Path, args: argparse.Namespace) -> dict:
    """The networks of `hrcam demo`, scored on the quarter that it tests on."""
    made = args.work / "demo"
    settings = {
        "num_images": args.num_images,
        "image_size": args.demo_size,
        "epochs": args.epochs,
        "seed": DEMO_SEED,
    }
    if not (made / "hrcam.keras").exists():
        demo(out=made, **settings, pretrained=False)
    networks = {n: hrcam.load_model(made / f"{n}.keras") for n in ("base", "hrcam")}
    images, _, labels = hrcam.datasets.simulated(
        args.num_images, args.demo_size, DEMO_SEED
    )
    test = slice(args.num_images * 3 // 4, None)
    options = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in settings.items())
    names = ["noise", "pathology"]
    return {
        "command": f"hrcam demo {options}",
        "data": "simulated",
        "seed": DEMO_SEED,
        "image_size": args.demo_size,
        "class_names": names,
        "test_images": len(labels[test]),
        "accuracy": keep(folder, networks, names, images[test], labels[test]),
    }


def body_parts(folder: Path, args: argparse.Namespace) -> dict:
    """The deeper network on the body parts of FracAtlas."""
    settings = argparse.Namespace(
        out=args.anatomy_run,
        dataset="fracatlas",
        image_size=args.anatomy_size,
        epochs=args.epochs,
        learning_rate=LEARNING_RATE,
    )  # those of examples/anatomy.py
    table = hrcam.datasets.fracatlas(args.data_dir)
    table, _ = hrcam.datasets.drop_unreadable(table)
    train, test = anatomy.split(table, settings, ANATOMY_SEED)
    model = anatomy.train_network(settings, "deeper", train, ANATOMY_SEED)
    images = hrcam.datasets.load_images(test, args.anatomy_size, channels=1)
    names = list(table.class_names)
    return {
        "command": "python examples/anatomy.py --dataset fracatlas --image-size "
        f"{args.anatomy_size} --epochs {args.epochs} --learning-rate {LEARNING_RATE} "
        f"--seeds {ANATOMY_SEED}",
        "data": "FracAtlas body parts",
        "seed": ANATOMY_SEED,
        "image_size": args.anatomy_size,
        "class_names": names,
        "test_images": len(test),
        "accuracy": keep(folder, {"base": model}, names, images, test.labels),
    }


def keep(folder: Path, networks: dict, class_names, images, labels) -> dict:
    """Saves networks without optimizers, exports the last one, scores the files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        copy = type(network).from_config(network.get_config())  # without optimizer
        copy.set_weights(network.get_weights())
        copy.save(folder / f"{name}.keras")
    saved = {name: hrcam.load_model(folder / f"{name}.keras") for name in networks}
    hrcam.export_saved_model(
        saved[list(saved)[-1]],
        folder,
        methods=("hr_cam" if "hrcam" in saved else "cam", *SIGNATURES),
        classifier=saved["base"],
        class_names=class_names,
    )
    return {
        name: hrcam.evaluate_classifier(network, images, labels)["accuracy"]
        for name, network in saved.items()
    }


def write_readme(out: Path, facts: dict) -> None:
    """Writes the table of the models and the sums of their files."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    rows = [
        f"| `{name}` | {f['data']}, {f['test_images']} test images | "
        f"{f['image_size']} px | {f['seed']} | "
        + ", ".join(f"{key} {value:.3f}" for key, value in f["accuracy"].items())
        + " |"
        for name, f in facts.items()
    ]
    found = [p for name in facts for p in (out / name).rglob("*") if p.is_file()]
    files = sorted(p for p in found if p.name != "model.json")
    sums = [
        f"| `{path.relative_to(out).as_posix()}` | {path.stat().st_size} | "
        f"`{hashlib.sha256(path.read_bytes()).hexdigest()}` |"
        for path in files
    ]
    text = README.format(
        commit=commit,
        date=datetime.date.today().isoformat(),
        rows="\n".join(rows),
        sums="\n".join(sums),
    )
    (out / "README.md").write_text(text)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="FracAtlas.")
    parser.add_argument("--anatomy-run", type=Path, default=Path("anatomy"))
    parser.add_argument("--num-images", type=int, default=8000, help="Simulated.")
    parser.add_argument("--demo-size", type=int, default=64)
    parser.add_argument("--anatomy-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--work", type=Path, default=Path("saved-models-work"))
    parser.add_argument("--out", type=Path, default=Path("new_models"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
