"""Opening saved models safely."""

import hashlib
import zipfile
from pathlib import Path

import keras

from hrcam.heads import pooled_layers


def load_model(path: str | Path) -> keras.Model:
    """Opens a `.keras` model in Keras' safe mode.

    Safe mode refuses a file that would run code of its own (`Lambda` layers). The
    classes of this package are known to Keras once this module is imported.

    Args:
        path: A `.keras` file.

    Returns:
        The model, compiled as it was saved.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no `.keras` file, is damaged, or asks to run code.

    Example:
        >>> model = load_model("hrcam.keras")  # doctest: +SKIP
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"`path` must be a .keras file. Received: {path}, which is not a file."
        )
    try:
        return keras.models.load_model(path, safe_mode=True)
    except (
        ValueError, TypeError, OSError, KeyError, RuntimeError, zipfile.BadZipFile
    ) as error:  # fmt: skip
        raise ValueError(_reason(path, error)) from error


def load_networks(
    model: str | Path, hrcam_model: str | Path | None = None
) -> tuple[keras.Model, keras.Model | None]:
    """Opens a classifier and its HR-CAM model; one file may be both.

    Raises:
        FileNotFoundError: If a file is not there.
        ValueError: If one cannot be opened, or `hrcam_model` has no HR-CAM head.
    """
    classifier = load_model(model)
    if hrcam_model is not None:
        network = load_model(hrcam_model)
        pooled_layers(network)  # says so if it is none
        return classifier, network
    has_head = any(layer.name == "gap_vector" for layer in classifier.layers)
    return classifier, classifier if has_head else None


def sha256(path: str | Path) -> str:
    """SHA-256 of a file, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _reason(path: Path, error: Exception) -> str:
    if "Lambda" in str(error) or "safe_mode" in str(error):
        return (
            f"{path} holds a Lambda layer, which is code from the file, so it is not "
            "opened. Rebuild the model with an ordinary layer (`Rescaling`, "
            "`keras.ops`) in its place and save it again."
        )
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    return (
        f"{path} cannot be opened as a .keras model: {first_line} If it was saved with "
        "layers of your own, register them with "
        "`keras.saving.register_keras_serializable` and import them first."
    )
