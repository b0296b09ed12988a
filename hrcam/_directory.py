"""A folder of results belongs to one study."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hrcam.imaging._atomic import write_whole


def claim_directory(directory: str | Path, settings: Mapping[str, Any]) -> None:
    """Notes what a folder's results are made with, and refuses other settings.

    A study that was stopped goes on in its folder; with other settings it would mix
    two studies, and test on images that the first has trained on.

    Args:
        directory: The folder; made where it does not exist.
        settings: What the results depend on, such as parsed arguments.

    Raises:
        FileExistsError: If the folder holds results of other settings.
    """
    check_directory(directory, settings)
    note = Path(directory) / "settings.json"
    if not note.exists():
        write_whole(note, _text(settings))


def check_directory(directory: str | Path, settings: Mapping[str, Any]) -> None:
    """Raises as `claim_directory` does, and notes nothing."""
    note = Path(directory) / "settings.json"
    if note.exists() and note.read_bytes() != _text(settings):
        raise FileExistsError(
            f"{directory} holds a study with other settings (see settings.json there). "
            "Name another folder with --out, or delete this one."
        )


def _text(settings: Mapping[str, Any]) -> bytes:
    values = {key: str(value) for key, value in settings.items()}
    return (json.dumps(values, indent=2) + "\n").encode()
