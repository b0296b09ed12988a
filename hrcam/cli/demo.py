"""`hrcam demo`: the whole way on simulated images, in about a minute."""

import datetime
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hrcam.cli._app import app, console, failure


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("hrcam-demo"),
    num_images: Annotated[int, typer.Option(min=80, help="Images to simulate.")] = 1200,
    image_size: Annotated[
        int, typer.Option(min=32, help="Side in pixels; not with --pretrained.")
    ] = 64,
    epochs: Annotated[
        int, typer.Option(min=1, help="Of the base model; not with --pretrained.")
    ] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same numbers.")] = 0,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Take saved networks; train nothing.")
    ] = False,
    saved: Annotated[Path, typer.Option(help="Their folder, for --pretrained.")] = Path(
        "saved_models/simulated"
    ),
) -> None:
    """Simulates images, trains a small CNN and its HR-CAM head, scores the maps."""
    with console.status("Starting Keras"):
        import keras

        import hrcam

    command = f"hrcam demo --num-images {num_images}"
    try:
        if pretrained and (image_size, epochs) != (64, 12):
            raise ValueError(
                "--image-size and --epochs are of the training, which --pretrained "
                f"leaves out. Received: {image_size} and {epochs}"
            )
        if pretrained:
            base_model, model = _open(saved, seed)
            image_size = model.inputs[0].shape[1]
            command += f" --pretrained --seed {seed}"
        else:
            command += f" --image-size {image_size} --epochs {epochs} --seed {seed}"
    except (OSError, ValueError) as error:
        raise failure(error) from error
    keras.utils.set_random_seed(seed)
    console.print(f"1/4 Simulating {num_images} images, every second with pathology")
    images, masks, labels = hrcam.datasets.simulated(num_images, image_size, seed)
    train, test = slice(0, num_images * 3 // 4), slice(num_images * 3 // 4, None)
    if pretrained:
        console.print(f"2/4, 3/4 Networks of {escape(str(saved))}", soft_wrap=True)
    else:
        console.print(f"2/4 Training a small CNN on {train.stop} of them")
        base_model = _train(images[train], labels[train], epochs)
        out.mkdir(parents=True, exist_ok=True)
        base_model.save(out / "base.keras")  # before it is frozen under the head
        console.print("3/4 Training the HR-CAM head on pooled features")
        model = hrcam.build_hrcam_model(base_model)
        hrcam.fit_hrcam_head(
            model, images[train], labels[train], epochs=30, base_model=base_model
        )
        model.save(out / "hrcam.keras")

    console.print("4/4 Drawing and scoring maps of the test images with pathology")
    accuracy = {
        name: hrcam.evaluate_classifier(network, images[test], labels[test])["accuracy"]
        for name, network in (("base model", base_model), ("HR-CAM head", model))
    }
    sick = labels[test] == 1
    _compare(
        out, base_model, model, images[test][sick], masks[test][sick], command, accuracy
    )
    _print_scores(out, accuracy)
    written = "sheet.png, boxes.png, scores.md, .csv and .json"
    if not pretrained:
        written += ", base.keras and hrcam.keras"
    console.print(f"Wrote {written} to {escape(str(out))}", soft_wrap=True)


def _open(saved: Path, seed: int):
    """The saved base model and HR-CAM model, for images that they have not seen."""
    import hrcam

    record = saved / "model.json"
    if not record.is_file():
        raise FileNotFoundError(
            f"--pretrained needs the folder saved_models/simulated of the repository. "
            f"Received: {saved}, without model.json. Name it with --saved, or leave "
            "--pretrained out."
        )
    trained_on = json.loads(record.read_text()).get("seed")
    if seed == trained_on:
        raise ValueError(
            f"--seed must not be {trained_on}: the saved networks were trained on the "
            f"images of that seed. Received: {seed}"
        )
    return [hrcam.load_model(saved / name) for name in ("base.keras", "hrcam.keras")]


def _train(images, labels, epochs: int):
    """A small base model."""
    import keras

    import hrcam

    base_model = hrcam.build_small_net(images.shape[1:], num_classes=2)
    steps = epochs * -(-len(images) // 32)
    hrcam.fit_base_model(
        base_model,
        images,
        labels,
        epochs=epochs,
        learning_rate=keras.optimizers.schedules.CosineDecay(3e-3, steps),
        verbose="epochs",
    )
    return base_model


def _compare(out, base_model, model, images, masks, command, accuracy) -> None:
    """Draws and scores four methods and two controls."""
    import hrcam
    from hrcam.maps.controls import centre_prior, image_darkness
    from hrcam.report import write_comparison

    maps = {
        "CAM": hrcam.cam(base_model, images, 1),
        "Grad-CAM": hrcam.grad_cam(base_model, images, 1),
        "HR-CAM": hrcam.hr_cam(model, images, 1),
        "attentive response": hrcam.attentive_response_maps(
            base_model, images, unit_maps=False
        )["response"],
        "centre prior": centre_prior(None, images),
        "image darkness": image_darkness(None, images),
    }
    facts = {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "test accuracy": {name: round(value, 3) for name, value in accuracy.items()},
        "mask share of the images": round(float(masks.mean()), 3),
    }
    write_comparison(out, images, maps, masks, drawn=list(maps)[:4], facts=facts)


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
