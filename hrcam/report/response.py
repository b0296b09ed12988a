"""Writes the attentive response map of one image to a folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from hrcam import plots


def write_response(
    directory: str | Path,
    name: str,
    image: np.ndarray,
    result: Mapping[str, np.ndarray],
    *,
    title: str | None = None,
    units: int = 9,
) -> list[Path]:
    """Writes the attentive response map of one image: raw, and as pictures.

    Args:
        directory: Where to write; made where it does not exist.
        name: How the names of the files start.
        image: `(height, width, channels)` in [0, 1].
        result: That image's part of what `hrcam.attentive_response_maps` returns:
            `units` `(n,)`, `unit_maps` `(n, height, width, channels)`, `response`
            and `dominant_unit` `(height, width)`.
        title: Beside the image, in the pictures.
        units: How many single maps to draw, at most those there are.

    Returns:
        The files: `<name>_response.npz` with `units`, `response` and `dominant_unit`
        as they are, `<name>_response.png` and `<name>_units.png`.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    raw = directory / f"{name}_response.npz"
    kept = ("units", "response", "dominant_unit")
    np.savez_compressed(raw, **{key: result[key] for key in kept})
    one = {key: value[None] for key, value in result.items()}
    titles = None if title is None else [title]
    sheet = plots.response_sheet(image[None], one, titles=titles)
    shown = min(units, len(result["units"]))
    single = plots.unit_sheet(image[None], one, units=shown, titles=titles)
    files = [raw]
    for what, figure in (("response", sheet), ("units", single)):
        files.append(directory / f"{name}_{what}.png")
        figure.savefig(files[-1], dpi=150)
    return files
