"""What the figures of attentive response maps ask of their arguments."""

from collections.abc import Mapping, Sequence
from numbers import Integral

import numpy as np

from hrcam.plots._checks import check_sheet

AXES = {
    "units": ("batch", "n"),
    "unit_maps": ("batch", "n", "height", "width", "channels"),
    "response": ("batch", "height", "width"),
    "dominant_unit": ("batch", "height", "width"),
}
SOURCE = "Pass what `hrcam.attentive_response_maps` returned for these images."


def check_images(images: np.ndarray, titles: Sequence[str] | None) -> np.ndarray:
    """Returns the images as float32, and checks that each has a title or none has."""
    # Maps of zeros fit any images: all that is left to fail is the images.
    fitting = {"zeros": np.zeros(np.shape(images)[:3], bool)}
    images, _, _ = check_sheet(images, fitting, None)
    if isinstance(titles, str):
        raise TypeError(
            "`titles` must be a list of strings, one an image. "
            f"Received: the string {titles!r}. Put it in a list."
        )
    if titles is not None and len(titles) != len(images):
        raise ValueError(
            f"`titles` must have one title for each of the {len(images)} images. "
            f'Received: {len(titles)}. Use "" for a row without a title.'
        )
    return images


def check_result(
    result: Mapping[str, np.ndarray], names: Sequence[str], images: np.ndarray
) -> list[np.ndarray]:
    """Returns the arrays of `result` called `names`, of which the first is "units"."""
    if not isinstance(result, Mapping):
        raise TypeError(
            "`result` must be a dict of arrays. "
            f"Received: {type(result).__name__}. {SOURCE}"
        )
    missing = [name for name in names if name not in result]
    if missing:
        unit_maps = " Ask for `unit_maps=True`." if "unit_maps" in missing else ""
        raise ValueError(
            f"`result` must have the keys {list(names)}. Received: {list(result)}, "
            f"without {missing}. {SOURCE}{unit_maps}"
        )
    arrays = {name: np.asarray(result[name]) for name in names}
    sizes = dict(zip(("batch", "height", "width"), images.shape, strict=False))
    sizes["n"] = arrays["units"].shape[1] if arrays["units"].ndim == 2 else 0
    for name, array in arrays.items():
        _check_shape(name, array, sizes)
        _check_values(name, array)
    places = arrays.get("dominant_unit")
    if places is not None and not (places.min() >= 0 and places.max() < sizes["n"]):
        raise ValueError(
            "`result['dominant_unit']` must be places in `units`, here 0 to "
            f"{sizes['n'] - 1}. Received: values from {places.min()} to "
            f"{places.max()}. Give places, not channel numbers."
        )
    return list(arrays.values())


def _check_shape(name: str, array: np.ndarray, sizes: Mapping[str, int]) -> None:
    axes = AXES[name]
    fits = array.ndim == len(axes) and 0 not in array.shape
    if not fits or any(
        size != sizes.get(axis, size)
        for size, axis in zip(array.shape, axes, strict=True)
    ):
        here = ", ".join(f"{axis} {size}" for axis, size in sizes.items())
        raise ValueError(
            f"`result[{name!r}]` must have shape ({', '.join(axes)}), here {here}: "
            "n as in `result['units']`, the others as in `images`. "
            f"Received: {array.shape}. {SOURCE}"
        )


def _check_values(name: str, array: np.ndarray) -> None:
    kinds = "iu" if name in ("units", "dominant_unit") else "iuf"
    if array.dtype.kind not in kinds:
        raise ValueError(
            f"`result[{name!r}]` must be {'real' if 'f' in kinds else 'whole'} "
            f"numbers. Received: {array.dtype}. {SOURCE}"
        )
    broken = [row for row, values in enumerate(array) if not np.isfinite(values).all()]
    if broken:
        raise ValueError(
            f"`result[{name!r}]` must be finite. Received: NaN or infinite values in "
            f"rows {broken}. Leave these images out, or mend their maps."
        )


def check_opacity(alpha: float, fade: tuple[float, float]) -> None:
    """Checks the opacity of an overlay and where it fades."""
    if not 0 < alpha <= 1:
        raise ValueError(f"`alpha` must be in (0, 1]. Received: {alpha}")
    if np.shape(fade) != (2,) or not 0 <= fade[0] < fade[1] <= 1:
        raise ValueError(
            "`fade` must be two rising shares of the peak in [0, 1], such as "
            f"(0.1, 0.5). Received: {fade}"
        )


def check_units(units: int, num_units: int) -> None:
    """Checks how many units to draw of those there are."""
    whole = isinstance(units, Integral) and not isinstance(units, bool)
    if not whole or not 1 <= units <= num_units:
        raise ValueError(
            f"`units` must be a whole number from 1 to {num_units}, the units that "
            f"`result` has. Received: {units!r}. Draw fewer, or ask for more: `top_n`."
        )
