"""`hrcam demo`: the whole way on simulated images, in about a minute."""

import datetime
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hrcam.cli._app import app, console


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("hrcam-demo"),
    num_images: Annotated[int, typer.Option(min=80, help="Images to simulate.")] = 1200,
    image_size: Annotated[int, typer.Option(min=32, help="Side in pixels.")] = 64,
    epochs: Annotated[int, typer.Option(min=1, help="Of the base model.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same numbers.")] = 0,
) -> None:
    """Simulates images, trains a small CNN and its HR-CAM head, scores the maps."""
    with console.status("Starting TensorFlow"):
        import keras

        import hrcam
        from hrcam.maps.controls import centre_prior, image_darkness
        from hrcam.report import write_comparison

    keras.utils.set_random_seed(seed)
    console.print(f"1/4 Simulating {num_images} images, every second with pathology")
    images, masks, labels = hrcam.datasets.simulated(num_images, image_size, seed)
    train, test = slice(0, num_images * 3 // 4), slice(num_images * 3 // 4, None)

    console.print(f"2/4 Training a small CNN on {train.stop} of them")
    base_model = hrcam.build_small_net((image_size, image_size, 1), num_classes=2)
    steps = epochs * -(-train.stop // 32)
    hrcam.fit_base_model(
        base_model,
        images[train],
        labels[train],
        epochs=epochs,
        learning_rate=keras.optimizers.schedules.CosineDecay(3e-3, steps),
        verbose="epochs",
    )
    console.print("3/4 Training the HR-CAM head on pooled features")
    model = hrcam.build_hrcam_model(base_model)
    hrcam.fit_hrcam_head(
        model, images[train], labels[train], epochs=30, base_model=base_model
    )

    console.print("4/4 Drawing and scoring maps of the test images with pathology")
    accuracy = {
        name: hrcam.evaluate_classifier(network, images[test], labels[test])["accuracy"]
        for name, network in (("base model", base_model), ("HR-CAM head", model))
    }
    sick = labels[test] == 1
    sick_images, sick_masks = images[test][sick], masks[test][sick]
    maps = {
        "CAM": hrcam.cam(base_model, sick_images, 1),
        "Grad-CAM": hrcam.grad_cam(base_model, sick_images, 1),
        "HR-CAM": hrcam.hr_cam(model, sick_images, 1),
        "attentive response": hrcam.attentive_response_maps(
            base_model, sick_images, unit_maps=False
        )["response"],
        "centre prior": centre_prior(None, sick_images),
        "image darkness": image_darkness(None, sick_images),
    }
    facts = {
        "command": f"hrcam demo --num-images {num_images} --image-size {image_size} "
        f"--epochs {epochs} --seed {seed}",
        "date": datetime.date.today().isoformat(),
        "test accuracy": {name: round(value, 3) for name, value in accuracy.items()},
        "mask share of the images": round(float(sick_masks.mean()), 3),
    }
    write_comparison(
        out, sick_images, maps, sick_masks, drawn=list(maps)[:4], facts=facts
    )
    model.save(out / "hrcam.keras")
    _print_scores(out, accuracy)


def _print_scores(out: Path, accuracy: dict[str, float]) -> None:
    record = json.loads(Path(out, "scores.json").read_text())
    columns = {
        "sensitivity 0.5": "sens. 0.5",
        "specificity 0.5": "spec. 0.5",
        "pixel auc": "AUC",
        "pixel average precision": "AP",
        "best iou": "IoU",
        "pointing game": "pointing",
    }
    title = "Maps against masks (all scores: scores.md)"
    table = Table("method", *columns.values(), title=title)
    for row in record["scores"]:
        table.add_row(row["method"], *(f"{row[column]:.2f}" for column in columns))
    console.print(table)
    for name, value in accuracy.items():
        console.print(f"Test accuracy of the {name}: {value:.2f}")
    console.print("The two last rows know nothing of the network.")
    written = "sheet.png, boxes.png, scores.md, .csv, .json and hrcam.keras"
    console.print(f"Wrote {written} to {escape(str(out))}", soft_wrap=True)
