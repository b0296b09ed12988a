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
def respond(
    model: Annotated[Path, typer.Argument(help="A trained classifier, .keras.")],
    images: Annotated[list[Path], typer.Argument(help="PNG, JPEG, BMP or GIF files.")],
    units: Annotated[int, typer.Option(min=1, help="Strongest units to show.")] = 25,
    layer: Annotated[
        str | None,
        typer.Option(help="Its channels are the units. Default: the last."),
    ] = None,
    preset: Annotated[
        str, typer.Option(help="paper, or authors_code: what their code does.")
    ] = "paper",
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels, if the model takes any size."),
    ] = None,
    white: Annotated[
        float, typer.Option(help="What white was in training: 1 or 255, say.")
    ] = 1.0,
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("hrcam-respond"),
) -> None:
    """Draws attentive response maps: what the strongest units of a model respond to.

    For each image: NAME_response.npz (raw), NAME_response.png (on the image, alone,
    and which unit dominates where), NAME_units.png (single units).
    """
    with console.status("Starting TensorFlow"):
        import hrcam

    try:
        network = hrcam.load_model(model)
        shape = network.inputs[0].shape[1:]
        if len(shape) != 3 or shape[-1] not in (1, 3):
            raise ValueError(
                "The model must take images of 1 or 3 channels. "
                f"Received: the input {shape}."
            )
        if None in shape and size is None:
            raise ValueError("The model takes any size: choose one with --size.")
        side = (size, size) if None in shape else shape[:2]
        with console.status("Building the way back"):
            way_back = hrcam.build_deconv_model(
                network, layer, units, preset=preset, image_size=side
            )
    except (OSError, ValueError, TypeError) as error:
        raise _failure(error) from error
    failed = 0
    for number, path in enumerate(images):
        name = path.stem if _is_alone(path, images) else f"{number}_{path.stem}"
        try:
            shown = _respond(network, way_back, path, white, out, name)
            console.print(f"{escape(str(path))}: {shown}", soft_wrap=True)
        except (OSError, ValueError) as error:
            failed += 1
            _failure(error)
    done = f"{len(images) - failed} of {len(images)}"
    console.print(f"Wrote {done} to {escape(str(out))}", soft_wrap=True)
    if failed:
        raise typer.Exit(code=1)


def _respond(network, way_back, path: Path, white: float, out: Path, name: str) -> str:
    """Maps one image and writes the files; returns what to tell of it."""
    from hrcam.datasets import load_images
    from hrcam.report import write_response

    _, *side, channels = way_back.inputs[0].shape
    image = load_images([path], tuple(side), channels)
    output = network.predict(image * white, verbose=0)[0]
    result = way_back.predict(image * white, verbose=0)
    result = {key: value[0] for key, value in result.items()}
    title = f"class {output.argmax()} ({output.max():.2f})"
    write_response(out, name, image[0], result, title=title)
    strongest = ", ".join(map(str, result["units"][:5]))
    return f"{title}; strongest units {strongest}"


def _is_alone(path: Path, paths: list[Path]) -> bool:
    return sum(other.stem == path.stem for other in paths) == 1


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


def _failure(error: Exception) -> typer.Exit:
    """Prints an error without a traceback and returns the exit to raise."""
    Console(stderr=True).print(
        f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True
    )
    return typer.Exit(code=1)
