"""Opening saved models safely."""

import zipfile
from pathlib import Path

import keras


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
