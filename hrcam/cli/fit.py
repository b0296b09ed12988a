"""`hrcam fit`: the HR-CAM head of a trained classifier, on a data set of files."""

import datetime
import json
import os
import re
import shlex
import warnings
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hrcam.cli._app import app, console, failure
from hrcam.cli._inputs import (
    LAYOUTS,
    check_classes,
    image_shape,
    in_class_order,
    open_table,
    readable,
    record_path,
    split_names,
)


@app.command()
def fit(
    context: typer.Context,
    base: Annotated[Path, typer.Argument(help="A trained classifier, .keras.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="A CSV with the columns image,label[,group], or the folder of a data "
            "set: ISIC, FracAtlas (fractures), one sub-folder a class."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The HR-CAM model to write, .keras.")],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files that --out names.")
    ] = False,
    layout: Annotated[
        str | None, typer.Option(help=f"{', '.join(LAYOUTS)}. Default: as found.")
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(help="ISIC: one class against the rest, such as melanoma."),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(
            help="The labels in the order of the classifier's outputs, with commas "
            "between. Default: sorted, or the data set's own order."
        ),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(help="To pool, commas between. Default: as `hrcam layers` shows."),
    ] = None,
    output: Annotated[
        str | None, typer.Option(help="Its classes count, if there are several.")
    ] = None,
    image_input: Annotated[
        str | None, typer.Option(help="The image, if there are several inputs.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels, if the model takes any size."),
    ] = None,
    white: Annotated[
        float, typer.Option(help="What white was in training: 1 or 255, say.")
    ] = 1.0,
    validation: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="Share held out, whole groups; 0 for none."),
    ] = 0.2,
    epochs: Annotated[int, typer.Option(min=1, help="Of the head.")] = 50,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 32,
    standardize: Annotated[
        bool, typer.Option("--standardize", help="Even out the features' scales.")
    ] = False,
    class_weight: Annotated[
        str | None, typer.Option(help="balanced: rare classes count as much.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the split, of training.")] = 0,
) -> None:
    """Trains the HR-CAM head of a trained classifier and saves the HR-CAM model.

    The classifier stays as it is. Images are streamed: each passes once
    through the network. Files that cannot be read are set aside and counted.
    Held out is meant of the head: the classifier may have seen these images.

    \b
    accuracy     share of images whose label is predicted
    agreement    share of images on which head and classifier are at one

    MODEL.json beside MODEL.keras notes how it was made; `hrcam export` reads it.
    """  # noqa: D301
    with console.status("Starting Keras"):
        import keras

        import hrcam
        from hrcam.saving import sha256

    try:
        _check_files(base, out, overwrite)
        if class_weight not in (None, "balanced"):
            raise ValueError(
                f"--class-weight must be balanced. Received: {class_weight!r}"
            )
        base_model = hrcam.load_model(base)
        keras.utils.set_random_seed(seed)
        model = hrcam.build_hrcam_model(
            base_model,
            layers and split_names(layers),
            output=output,
            image_input=image_input,
        )
        side, channels = image_shape(model, size)
        table = _open(data, layout, positive)
        table = in_class_order(table, class_names)
        check_classes(table, model)
        table, aside = readable(table)
        parts = _split(table, validation, seed)
        out.parent.mkdir(parents=True, exist_ok=True)
        compared = _single_output(base_model, output, image_input)
        pooled = {
            name: _pool(model, part, side, channels, batch_size, white, compared)
            for name, part in parts.items()
        }
        console.print("Training the head")
        history = hrcam.fit_hrcam_head(
            model,
            pooled["training"],
            validation_data=pooled.get("held out"),
            epochs=epochs,
            batch_size=batch_size,
            standardize=standardize,
            class_weight=class_weight,
        )
        facts = {
            "command": _command(context),
            "date": datetime.date.today().isoformat(),
            "base model": base.name,
            "base model sha256": sha256(base),
            "class_names": list(table.class_names),
            "image": {"height": side[0], "width": side[1], "channels": channels},
            "white": white,
            "seed": seed,
            "layers": hrcam.pooled_layers(model),
            "feature maps": model.get_layer("gap_vector").output.shape[-1],
            "set aside": _counts(aside.values()),
            "scores": _scores(pooled, history.report),
            "hrcam": hrcam.__version__,
        }
        _write(model, out, facts)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise failure(error) from error
    _print(facts)
    written = f"{out.name} and {record_path(out).name} to {out.parent}"
    console.print(f"Wrote {escape(written)}", soft_wrap=True)


def _check_files(base: Path, out: Path, overwrite: bool) -> None:
    if out.suffix != ".keras" or out.is_dir():
        raise ValueError(f"--out must be a file that ends in .keras. Received: {out}")
    if out.resolve() == base.resolve():
        raise ValueError(f"--out must not be the classifier itself. Received: {out}")
    there = [str(path) for path in (out, record_path(out)) if path.exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"--out must name a new file. Received: {' and '.join(there)}, there "
            "already. Choose another name, or replace them with --overwrite."
        )


def _open(data: Path, layout: str | None, positive: str | None):
    """The table of the images; what its loader warns of is shown as a line."""
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        table = open_table(data, layout, positive)
    for note in notes:
        console.print(escape(f"Note: {note.message}"), soft_wrap=True)
    return table


def _counts(reasons) -> dict[str, int]:
    """Files by reason; the decoder's "data size 3021" would make each its own."""
    return dict(Counter(re.sub(r",( data)? size \d+$", "", why) for why in reasons))


def _split(table, validation: float, seed: int) -> dict:
    """The tables to train on and, if any, to hold out."""
    import numpy as np

    from hrcam.datasets import split_by_group

    if not len(table):
        raise ValueError("At least one image must be readable. Received: none")
    parts = {"training": table}
    if validation:
        both = split_by_group(table, (1 - validation, validation), seed)
        parts = dict(zip(("training", "held out"), both, strict=True))
    counts = np.bincount(parts["training"].labels, minlength=len(table.class_names))
    if not counts.all():
        found = dict(zip(table.class_names, counts.tolist(), strict=True))
        raise ValueError(
            "Every class must have an image to train on. Received: "
            f"{found}. Give more images, or hold out fewer with --validation."
        )
    return parts


def _single_output(base_model, output: str | None, image_input: str | None):
    """The base model to agree with; `None` where it needs more than the image."""
    from hrcam.graph import walk
    from hrcam.views import image_place, inputs_before, output_place, view

    number = walk(base_model)[2][output_place(base_model, output)]
    if inputs_before(base_model, number) != [image_place(base_model, image_input)]:
        console.print("The classifier needs other inputs: its agreement is left out.")
        return None
    return view(base_model, None, output, image_input)[0]


def _pool(model, table, side, channels, batch_size, white, base_model):
    """The pooled features of files; no more than some batches are in memory."""
    import hrcam

    images = hrcam.datasets.image_dataset(
        table, side, channels=channels, batch_size=batch_size
    ).map(lambda batch, labels: (batch * white, labels))
    console.print(f"Pooling the features of {len(table)} images")
    return hrcam.pool_features(
        model, images, batch_size=batch_size, base_model=base_model
    )


def _scores(pooled, report) -> dict[str, dict[str, float]]:
    """Number of images and scores of each part."""
    scores = {}
    for prefix, (name, part) in zip(("", "val_"), pooled.items(), strict=False):
        row = {"images": len(part.labels), "accuracy": report[f"{prefix}accuracy"]}
        if part.base_classes is not None:
            right = float((part.base_classes == part.labels).mean())
            row |= {"accuracy of the classifier": right}
            row |= {"agreement": report[f"{prefix}agreement"]}
        scores[name] = row
    return scores


def _command(context: typer.Context) -> str:
    """The command as it was given; of files their names, not where they are."""
    words = ["hrcam", "fit"]
    for option in context.command.params:
        value = context.params[option.name]
        if context.get_parameter_source(option.name).name != "COMMANDLINE":
            continue
        if option.param_type_name == "option":
            words.append(option.opts[0])
        if value is not True:
            words.append(value.name if isinstance(value, Path) else str(value))
    return shlex.join(words)


def _write(model, out: Path, facts: dict) -> None:
    """Writes the model whole or not at all, and then its record."""
    from hrcam.saving import sha256

    partial = out.with_name(f".{out.stem}-{os.getpid()}.keras")
    try:
        model.save(partial)
        facts["model sha256"] = sha256(partial)
        os.replace(partial, out)
    finally:
        partial.unlink(missing_ok=True)
    record_path(out).write_text(json.dumps(facts, indent=1) + "\n")


def _print(facts: dict) -> None:
    scores = facts["scores"]
    shown = Table("", *scores, title="HR-CAM head")
    for name in scores["training"]:
        values = (row[name] for row in scores.values())
        cells = (str(v) if isinstance(v, int) else f"{v:.3f}" for v in values)
        shown.add_row(name, *cells)
    console.print(shown)
    aside = facts["set aside"]
    reasons = "; ".join(f"{count} x {reason}" for reason, count in aside.items())
    names = facts["class_names"]
    for name, value in {
        "Set aside": f"{sum(aside.values())} files. {reasons}",
        "Classes": ", ".join(f"{i} {name}" for i, name in enumerate(names)),
        "Pools": f"N = {facts['feature maps']} feature maps of "
        f"{len(facts['layers'])} layers: {', '.join(facts['layers'])}",
    }.items():
        console.print(escape(f"{name}: {value}"), soft_wrap=True)
    if scores["training"].get("accuracy of the classifier", 1) < 1 / len(names):
        console.print(
            "The classifier is right less often than by chance. Are the classes in the "
            "order of its outputs (--class-names), and is --white right?"
        )
