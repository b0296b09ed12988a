"""What the figures ask of their arguments."""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import Colormap

SCALES = ("image", "shared")


def check_methods(name: str, methods: Mapping) -> None:
    """Checks a dict of at least one method to arrays, called `name` to the user."""
    if not isinstance(methods, Mapping):
        raise TypeError(
            f"`{name}` must be a dict of method name to arrays. Received: "
            f'{type(methods).__name__}. Name the method: `{{"HR-CAM": ...}}`.'
        )
    if not methods:
        raise ValueError(
            f"`{name}` must have at least one method. Received: an empty dict. "
            'Add one: `{"HR-CAM": ...}`.'
        )


def check_sheet(
    images: np.ndarray, maps: Mapping[str, np.ndarray], masks: np.ndarray | None
) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray | None]:
    """Returns the arrays of a comparison sheet: float32, float64, bool or `None`."""
    images = np.asarray(images)
    if images.ndim != 4 or 0 in images.shape:
        raise ValueError(
            "`images` must have shape (n, height, width, channels), none of them 0. "
            f"Received: {images.shape}. One image is `image[None]`."
        )
    if not (images.min() >= 0 and images.max() <= 1):  # also False for NaN
        raise ValueError(
            "`images` must be in [0, 1]. "
            f"Received: values from {images.min():.3g} to {images.max():.3g}. "
            "Divide 8-bit images by 255."
        )
    check_methods("maps", maps)
    maps = {name: np.asarray(values, float) for name, values in maps.items()}
    for name, values in maps.items():
        _check_shape(f"maps[{name!r}]", values, images)
        broken = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        if broken.size:
            raise ValueError(
                f"`maps[{name!r}]` must be finite. Received: NaN or infinite values "
                f"in rows {broken.tolist()}. Leave these images out, or mend their "
                "maps."
            )
    if masks is not None:
        masks = np.asarray(masks)
        _check_shape("masks", masks, images)
        if masks.dtype != bool:
            raise ValueError(
                f"`masks` must be bool. Received: {masks.dtype}. Use `masks > 0`."
            )
    return images.astype(np.float32), maps, masks


def _check_shape(name: str, values: np.ndarray, images: np.ndarray) -> None:
    if values.shape != images.shape[:3]:
        raise ValueError(
            f"`{name}` must have the images' shape (n, height, width), here "
            f"{images.shape[:3]}. Received: {values.shape}. Resize to the images' "
            "size first, and pass one for each image."
        )


def check_style(
    n: int,
    row_titles: Sequence[str] | None,
    scale: str,
    alpha: float,
    colormap: str | Colormap,
) -> None:
    """Checks the options of a comparison sheet of `n` images."""
    if isinstance(row_titles, str):
        raise TypeError(
            "`row_titles` must be a list of strings, one an image. "
            f"Received: the string {row_titles!r}. Put it in a list."
        )
    if row_titles is not None and len(row_titles) != n:
        raise ValueError(
            f"`row_titles` must have one title for each of the {n} images. "
            f'Received: {len(row_titles)}. Use "" for a row without a title.'
        )
    if scale not in SCALES:
        raise ValueError(f"`scale` must be one of {SCALES}. Received: {scale!r}")
    if not 0 < alpha <= 1:
        raise ValueError(f"`alpha` must be in (0, 1]. Received: {alpha}")
    if isinstance(colormap, str) and colormap not in matplotlib.colormaps:
        raise ValueError(
            "`colormap` must be a matplotlib colour map, such as 'inferno', 'viridis' "
            f"or 'gray' (all: `list(matplotlib.colormaps)`). Received: {colormap!r}"
        )
