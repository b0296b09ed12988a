"""One two-dimensional image with its values as the file has them.

A file's values become a network's input by two numbers, the values that are black
(0) and white (1):

    x = clip((value - black) / (white - black), 0, 1)

so 16 bits stay 16 bits until the float tensor. Black is above white where low values
are shown bright (DICOM's MONOCHROME1). A display window (DICOM's VOI) is another
such pair; it is for pictures, and for networks only if asked for.

Choices that are ours:

* Black and white of 8 and 16 bits without a sign are 0 and 255, 0 and 65535, as in
  `hrcam.datasets.load_images`; of DICOM those of the stored bits, rescaled; of all
  others (float, signed, NIfTI) the lowest and highest value of the file.
* Grey becomes three equal channels; colour becomes 0.299 R + 0.587 G + 0.114 B.
* Resizing is bilinear with half-pixel centres, antialiased when it shrinks, as in
  `hrcam.datasets`; it does not keep the aspect ratio.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

Values = Literal["file", "window"] | tuple[float, float]
GREY_WEIGHTS = np.array((0.299, 0.587, 0.114), np.float32)


class ImageReadError(ValueError):
    """A file that cannot be read as an image.

    The message never holds patient data of the file's header.

    Attributes:
        path: The file.
        reason: Why, in one line.
    """

    def __init__(self, path: str | Path, reason: str):
        super().__init__(f"{path} cannot be read as an image: {reason}")
        self.path, self.reason = Path(path), reason

    def __reduce__(self):
        """Survives the way between processes."""
        return type(self), (self.path, self.reason)


@dataclass(frozen=True, eq=False)
class Picture:
    """One image.

    Attributes:
        pixels: `(height, width)` grey or `(height, width, 3)` RGB, in the file's own
            type and resolution; DICOM and NIfTI after their rescaling.
        black: The value that becomes 0.
        white: The value that becomes 1.
        window: `(black, white)` of the file's display window; `None`: it has none.
    """

    pixels: np.ndarray
    black: float
    white: float
    window: tuple[float, float] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.pixels.shape[0], self.pixels.shape[1]

    def unit_range(self, values: Values = "file") -> np.ndarray:
        """Returns the pixels in [0, 1], float32, at their own size.

        Args:
            values: Which values are 0 and 1: `"file"`, black and white; `"window"`,
                the file's display window, where it has one; or a pair of numbers.

        Raises:
            ValueError: If `values` is none of those.
        """
        black, white = self._limits(values)
        wide = self.pixels.dtype.itemsize > 2 or max(abs(black), abs(white)) > 2**24
        kind = np.float64 if wide else np.float32  # whose difference is exact
        if kind(black) == kind(white):  # a file of one value only
            return np.zeros(self.pixels.shape, np.float32)
        scaled = self.pixels.astype(kind)
        with np.errstate(over="ignore", under="ignore"):
            scaled -= kind(black)
            scaled /= kind(white) - kind(black)
        return np.clip(scaled, 0, 1, out=scaled).astype(np.float32, copy=False)

    def array(
        self, size: tuple[int, int], channels: int, values: Values = "file"
    ) -> np.ndarray:
        """Returns what a network is given.

        Args:
            size: Height and width.
            channels: 1 or 3.
            values: As for `unit_range`.

        Returns:
            float32 `(height, width, channels)` in [0, 1].

        Raises:
            ValueError: If `values` or `channels` are none of those.
        """
        if channels not in (1, 3):
            raise ValueError(f"`channels` must be 1 or 3. Received: {channels!r}")
        pixels = self.unit_range(values)
        if pixels.ndim == 3 and channels == 1:
            pixels = pixels @ GREY_WEIGHTS
        if pixels.ndim == 2:
            return np.repeat(_resized(pixels, size)[..., None], channels, axis=-1)
        planes = [_resized(pixels[..., channel], size) for channel in range(channels)]
        return np.stack(planes, axis=-1)

    def display(self) -> np.ndarray:
        """Returns the image as a viewer shows it: uint8 `(height, width, 3)`."""
        shown = self.pixels
        if shown.dtype != np.uint8 or self._limits("window") != (0, 255):
            shown = np.rint(self.unit_range("window") * 255).astype(np.uint8)
        return np.repeat(shown[..., None], 3, axis=-1) if shown.ndim == 2 else shown

    def _limits(self, values: Values) -> tuple[float, float]:
        if isinstance(values, str):
            if values == "window" and self.window is not None:
                return self.window
            if values in ("file", "window"):
                return self.black, self.white
        elif len(values) == 2 and values[0] != values[1]:
            low, high = values
            return (low, high) if self.black <= self.white else (high, low)
        raise ValueError(
            '`values` must be "file", "window" or a pair of different numbers, the '
            f"values that become 0 and 1. Received: {values!r}"
        )


def _resized(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if plane.shape == tuple(size):
        return plane
    height, width = size
    image = Image.fromarray(np.ascontiguousarray(plane))
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.clip(np.asarray(resized, np.float32), 0, 1)
