"""Makes the small trained models in saved_models/, with their README.

Run: python examples/saved_models.py --data-dir fracatlas --anatomy-run anatomy

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
from collections.abc import Callable
from pathlib import Path

import anatomy

import hrcam
from hrcam.cli.demo import demo

DEMO = {"num_images": 8000, "image_size": 64, "epochs": 12, "seed": 100}
SIGNATURES = ("grad_cam", "attentive_response")
ANATOMY = {"image_size": 128, "epochs": 12, "learning_rate": 1e-3, "seed": 0}
README = """# Saved models

Small trained networks, to try the package and its served form without training. Not
medical devices; the licence is the package's, that of the anatomy images CC BY 4.0
(FracAtlas, Abedeen et al. 2023, https://doi.org/10.1038/s41597-023-02432-4).

Made by `examples/saved_models.py` at commit `{commit}`, {date}. `base.keras` is the
trained network, `hrcam.keras` its HR-CAM model, `1/` the SavedModel; its map is HR-CAM
(`simulated`) or CAM (`anatomy`), with signatures for Grad-CAM and the attentive
response ([docs/serving.md](../docs/serving.md)). `model.json` has class names and
command.

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
    facts = {
        "simulated": simulated(args.out / "simulated", args.work),
        "anatomy": anatomy_model(args.out / "anatomy", args),
    }
    for name, found in facts.items():
        record = args.out / name / "model.json"
        record.write_text(json.dumps(found, indent=1) + "\n")
    write_readme(args.out, facts)


def simulated(folder: Path, work: Path) -> dict:
    """The networks of `hrcam demo`, scored on the quarter that it tests on."""
    made = work / "demo"
    if not (made / "hrcam.keras").exists():
        demo(out=made, **DEMO, pretrained=False)
    networks = [hrcam.load_model(made / f"{name}.keras") for name in ("base", "hrcam")]
    images, _, labels = hrcam.datasets.simulated(
        DEMO["num_images"], DEMO["image_size"], DEMO["seed"]
    )
    test = slice(DEMO["num_images"] * 3 // 4, None)
    options = " ".join(f"--{k.replace('_', '-')} {v}" for k, v in DEMO.items())
    names = ["noise", "pathology"]
    accuracy = keep(folder, dict(zip(("base", "hrcam"), networks, strict=True)), names)
    return {
        "command": f"hrcam demo {options}",
        "data": "simulated",
        "seed": DEMO["seed"],
        "image_size": DEMO["image_size"],
        "class_names": names,
        "test_images": len(labels[test]),
        "accuracy": accuracy(images[test], labels[test]),
    }


def anatomy_model(folder: Path, args: argparse.Namespace) -> dict:
    """The deeper network on the body parts of FracAtlas."""
    settings = argparse.Namespace(
        out=args.anatomy_run, dataset="fracatlas", **ANATOMY
    )  # as examples/anatomy.py has them
    table = hrcam.datasets.fracatlas(args.data_dir)
    table, _ = hrcam.datasets.drop_unreadable(table)
    train, test = anatomy.split(table, settings, ANATOMY["seed"])
    model = anatomy.train_network(settings, "deeper", train, ANATOMY["seed"])
    side = ANATOMY["image_size"]
    images = hrcam.datasets.load_images(test, side, channels=1)
    names = list(table.class_names)
    accuracy = keep(folder, {"base": model}, names)
    return {
        "command": "python examples/anatomy.py --dataset fracatlas --image-size "
        f"{side} --epochs {ANATOMY['epochs']} --learning-rate "
        f"{ANATOMY['learning_rate']} --seeds {ANATOMY['seed']}",
        "data": "FracAtlas body parts",
        "seed": ANATOMY["seed"],
        "image_size": side,
        "class_names": names,
        "test_images": len(test),
        "accuracy": accuracy(images, test.labels),
    }


def keep(folder: Path, networks: dict, class_names: list[str]) -> Callable:
    """Saves networks without their optimizers' states, and exports the last one.

    Returns:
        A function of images and labels: the accuracy of each saved network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in networks.items():
        copy = type(network).from_config(network.get_config())  # without optimizer
        copy.set_weights(network.get_weights())
        if name == "base":
            copy.trainable = True  # it was frozen under its head
        copy.save(folder / f"{name}.keras")
    last = list(networks.values())[-1]
    hrcam.export_saved_model(
        last,
        folder,
        methods=("hr_cam" if "hrcam" in networks else "cam", *SIGNATURES),
        classifier=networks["base"],
        class_names=class_names,
    )

    def accuracy(images, labels):
        saved = {name: hrcam.load_model(folder / f"{name}.keras") for name in networks}
        return {
            name: hrcam.evaluate_classifier(network, images, labels)["accuracy"]
            for name, network in saved.items()
        }

    return accuracy


def write_readme(out: Path, facts: dict) -> None:
    """Writes the table of the models and the sums of their files."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=True,
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
    parser.add_argument("--work", type=Path, default=Path("saved-models-work"))
    parser.add_argument("--out", type=Path, default=Path("saved_models"))
    return parser.parse_args()


if __name__ == "__main__":
    main()
