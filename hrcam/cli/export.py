"""`hrcam export`: a SavedModel that returns the heat map with the prediction."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hrcam.cli._app import app, console, failure
from hrcam.cli._inputs import read_record, record_path, split_names


@app.command()
def export(
    model: Annotated[
        Path, typer.Argument(help="An HR-CAM model, or a classifier, .keras.")
    ],
    directory: Annotated[
        Path, typer.Argument(help="The served model's folder; versions lie in it.")
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="cam, grad_cam, attentive_response, with commas between: signatures "
            "beside HR-CAM. Of a MODEL without the head the first map comes with the "
            "prediction."
        ),
    ] = "hr_cam",
    classifier: Annotated[
        Path | None,
        typer.Option(help="Explained by grad_cam, attentive_response. Default: MODEL."),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(help="With commas between. Default: those noted by `hrcam fit`."),
    ] = None,
    white: Annotated[
        float | None,
        typer.Option(
            help="What white was in training: 1 or 255, say. Default: as noted by "
            "`hrcam fit`, else 1."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Side in pixels, if the model takes any size. Default: as noted by "
            "`hrcam fit`.",
        ),
    ] = None,
    version: Annotated[int, typer.Option(min=1, help="Name of its folder.")] = 1,
    units: Annotated[
        int, typer.Option(min=1, help="Of the attentive response map.")
    ] = 25,
) -> None:
    """Exports a SavedModel, for TF Serving and others, that runs without this package.

    It takes pixels or the bytes of a PNG or JPEG file, and returns
    probabilities, predicted class and raw heat map. An existing version is
    never overwritten.
    """
    with console.status("Starting Keras"):
        import hrcam

    try:
        network = hrcam.load_model(model)
        explained = None if classifier is None else hrcam.load_model(classifier)
        record = _record(model)
        names = None if class_names is None else split_names(class_names)
        image_size = None if size is None else (size, size)
        if record:
            noted = record["image"]
            names = names or record["class_names"]
            image_size = image_size or (noted["height"], noted["width"])
            white = record["white"] if white is None else white
        with console.status("Writing the SavedModel"):
            folder = hrcam.export_saved_model(
                network,
                directory,
                methods=split_names(methods),
                classifier=explained,
                class_names=names,
                preprocess=None if white in (None, 1) else white,
                image_size=image_size,
                version=version,
                top_n=units,
            )
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise failure(error) from error
    _print(folder)


def _record(model: Path) -> dict:
    """What `hrcam fit` noted of the model, with a line that says so."""
    record, path = read_record(model), record_path(model)
    if record:
        line = f"Class names, size and white of training: as noted in {path}"
        console.print(escape(line), soft_wrap=True)
    elif path.exists():
        line = f"Not read: {path}, which is not what `hrcam fit` noted of {model.name}"
        console.print(escape(line), soft_wrap=True)
    return record


def _print(folder: Path) -> None:
    facts = json.loads((folder / "assets.extra" / "hrcam.json").read_text())
    lines = [f"Wrote {folder}"]
    for name, signature in facts["signatures"].items():
        inputs, outputs = (
            ", ".join(f"{key} {kind}" for key, kind in signature[side].items())
            for side in ("inputs", "outputs")
        )
        lines.append(f"  {name}({inputs})\n    -> {outputs}")
    names = facts["class_names"]
    lines.append(f"Classes: {'not named' if names is None else ', '.join(names)}")
    lines.append(f"Files: {facts['preprocess']}")
    lines.append("Next: docs/serving.md shows how to serve and to call it.")
    console.print(escape("\n".join(lines)), soft_wrap=True)
