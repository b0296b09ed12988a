"""The command `hrcam`: thin over the library.

Imports of TensorFlow and matplotlib stay inside the commands, so that `hrcam --help`
answers at once.
"""

import datetime
import json
import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

app = typer.Typer(
    name="hrcam",
    help="Shows where a CNN looks in a medical image, and scores it against masks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console()


@app.callback()
def main() -> None:
    """Shows where a CNN looks in a medical image, and scores it against masks."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


@app.command()
def layers(
    model: Annotated[Path, typer.Argument(help="A .keras file.")],
    every: Annotated[
        bool, typer.Option("--all", help="List inner layers of blocks, too.")
    ] = False,
) -> None:
    """Lists the layers that hold feature maps, and which ones HR-CAM pools."""
    import hrcam

    try:
        network = hrcam.load_model(model)
        found = hrcam.describe_layers(network)
        if any(layer.name == "gap_vector" for layer in network.layers):
            pooled = hrcam.pooled_layers(network)
            found = [layer._replace(chosen=layer.name in pooled) for layer in found]
    except (OSError, ValueError, TypeError) as error:
        raise _failure(error) from error
    table = Table(
        "layer",
        "size",
        "maps",
        "stride",
        "sees (pixels)",
        "pooled",
        title=escape(str(model)),
    )
    for layer in found:
        if every or layer.is_cut or layer.chosen:
            size = " x ".join("?" if s is None else str(s) for s in layer.size)
            table.add_row(
                escape(layer.name),
                size,
                str(layer.channels),
                str(layer.stride),
                str(layer.receptive_field),
                "yes" if layer.chosen else "",
            )
    # Names are to be copied: a narrow terminal wraps the line, nothing is cut.
    longest = max((len(layer.name) for layer in found), default=0)
    Console(width=max(console.width, longest + 60)).print(table)
    chosen = [layer for layer in found if layer.chosen]
    console.print(
        f"HR-CAM pools {len(chosen)} layers, {sum(c.channels for c in chosen)} feature "
        "maps. Choose others with build_hrcam_model(model, layer_names=[...])."
    )


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
        out, sick_images, maps, sick_masks, drawn=list(maps)[:3], facts=facts
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


def _failure(error: Exception) -> typer.Exit:
    """Prints an error without a traceback and returns the exit to raise."""
    Console(stderr=True).print(
        f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True
    )
    return typer.Exit(code=1)
