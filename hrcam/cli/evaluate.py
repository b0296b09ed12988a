"""`hrcam evaluate`: maps of every method against masks, and the differences."""

import hashlib
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from hrcam.cli._app import app, console, failure
from hrcam.cli._inputs import (
    LAYOUTS,
    chosen,
    explained_classes,
    loader,
    open_table,
)


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A trained classifier, .keras.")],
    data: Annotated[
        Path,
        typer.Argument(
            help="A CSV with the columns image,label[,mask][,group], or the folder of "
            "a data set: ISIC, FracAtlas (fractures), one sub-folder a class."
        ),
    ],
    methods: Annotated[
        str,
        typer.Option(
            help="Names with commas between, or all; `hrcam methods` lists them. "
            "Default: those that the models given allow, but for the costly ones."
        ),
    ] = "",
    hrcam_model: Annotated[
        Path | None,
        typer.Option("--hrcam", help="The classifier's HR-CAM model, .keras."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("hrcam-evaluate"),
    masks: Annotated[
        Path | None,
        typer.Option(help="Folder of masks, where the layout does not name it."),
    ] = None,
    layout: Annotated[
        str | None, typer.Option(help=f"{', '.join(LAYOUTS)}. Default: as found.")
    ] = None,
    positive: Annotated[
        str | None,
        typer.Option(help="ISIC: one class against the rest, such as melanoma."),
    ] = None,
    explain: Annotated[
        str, typer.Option("--class", help="label, predicted, or a class number.")
    ] = "label",
    num_images: Annotated[
        int | None, typer.Option(min=1, help="A random sample of so many.")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels, if the model takes any size."),
    ] = None,
    white: Annotated[
        float, typer.Option(help="What white was in training: 1 or 255, say.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the sample, of intervals.")] = 0,
    faithful: Annotated[
        bool,
        typer.Option("--faithfulness", help="Insertion, deletion, drop, gain as well."),
    ] = False,
) -> None:
    """Scores the maps of many methods against masks, and tests the differences.

    Give it images that the model was not trained on. Images without a mask are left
    out and counted. A run that was stopped goes on where it was.

    \b
    sensitivity T    share of the mask's pixels with a normalised map >= T; median
    specificity T    share of the other pixels below T; median
    pixel auc        chance that a mask pixel is higher than another; 0.5 is chance
    pixel average precision   mean precision over the mask; chance is the mask's share
    best iou         overlap with the mask at each map's best threshold
    pointing game    is the map's maximum inside the mask?
    energy inside    share of the map's positive part inside the mask
    insertion        mean class probability as pixels come, highest of the map first
    deletion         the same as they go: low is good
    drop, gain       fall, rise of the probability when the map masks the image

    \b
    scores.md, .csv, .json   a row a method; summary.csv: quartiles and intervals
    tests.md, .csv           every method against the first: t-test, Wilcoxon, Holm
    per_image.csv            every score of every image
    boxes.png, curves.png, sheet.png   figure 3, ROC and PR, best to worst images
    """  # noqa: D301
    with console.status("Starting Keras"):
        from hrcam.report import claim_directory, write_study
        from hrcam.saving import load_networks
        from hrcam.study import Study, faithfulness_scores, score_study

    try:
        table = open_table(data, layout, positive, masks, out)
        classifier, hrcam_network = load_networks(model, hrcam_model)
        table, facts = chosen(table, num_images, seed)
        load = loader(table, classifier, size)
        classes = explained_classes(classifier, table, load, explain, white)
        bound = _bind(methods, classifier, hrcam_network, white, load, classes)
        files = [path for path in (model, hrcam_model) if path is not None]
        facts |= {"data": data.name, "class": explain, "white": white, "seed": seed}
        facts |= {"size": size, "faithfulness": faithful}
        facts |= {"models": [f"{path.name} {_digest(path)}" for path in files]}
        claim_directory(out, facts)
        further = faithfulness_scores(classifier, white) if faithful else None
        study = Study(bound, load, classes, table.groups, further=further)
        results = score_study(study, out, progress=True)
        shown = write_study(out, study, results, facts=facts, seed=seed, progress=True)
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise failure(error) from error
    console.print(shown, soft_wrap=True)
    console.print(f"Wrote tables and pictures to {escape(str(out))}", soft_wrap=True)


@app.command()
def methods() -> None:
    """Lists the methods and controls that `evaluate` knows."""
    with console.status("Starting Keras"):
        from hrcam.methods import COSTLY, METHODS

    listed = Table("name", "title", "explains", "")
    for name, method in METHODS.items():
        cost = "costly: not in the default" if name in COSTLY else ""
        listed.add_row(name, method.title, method.explains, cost)
    console.print(listed)


def _bind(methods: str, classifier, hrcam_network, white: float, load, classes):
    """The methods by title; each maps one image, so that it fails now or not at all."""
    import warnings

    from hrcam.methods import COSTLY, METHODS, explainers

    names = list(METHODS) if methods in ("", "all") else methods.split(",")
    names = [name.strip() for name in names]
    if methods == "":
        names = [name for name in names if name not in COSTLY]
    if methods in ("", "all") and hrcam_network is None:
        console.print("Without --hrcam: HR-CAM is left out.")
        names = [name for name in names if METHODS[name].explains != "hrcam"]
    bound = explainers(names, classifier, hrcam_network, white=white)
    image, _ = load([0])
    for title, method in [*bound.items()]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                method(image, classes[:1])
        except (ValueError, TypeError) as error:
            if methods not in ("", "all"):
                raise
            console.print(escape(f"Left out {title}: {error}"), soft_wrap=True)
            del bound[title]
    return bound


def _digest(path: Path) -> str:
    """First letters of the SHA-256 of a model file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]
