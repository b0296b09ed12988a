"""`hrcam layers`: which layers a model has, and which ones HR-CAM pools."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hrcam.cli._app import app, console, failure


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
        raise failure(error) from error
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
