"""`hrcam respond`: attentive response maps of image files."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from hrcam.cli._app import app, console, failure
from hrcam.cli._inputs import image_shape


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
    with console.status("Starting Keras"):
        import hrcam

    try:
        network = hrcam.load_model(model)
        side, _ = image_shape(network, size)
        with console.status("Building the way back"):
            way_back = hrcam.build_deconv_model(
                network, layer, units, preset=preset, image_size=side
            )
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise failure(error) from error
    failed = 0
    for number, path in enumerate(images):
        name = path.stem if _is_alone(path, images) else f"{number}_{path.stem}"
        try:
            shown = _respond(network, way_back, path, white, out, name)
            console.print(f"{escape(str(path))}: {shown}", soft_wrap=True)
        except (OSError, ValueError, ImportError) as error:
            failed += 1
            failure(error)
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
