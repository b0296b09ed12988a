"""From image files to pixels, in TensorFlow's graph or by `hrcam.imaging`.

PNG, JPEG, BMP and GIF are decoded in the graph (`_decode`); TIFF, DICOM and NIfTI by
`hrcam.imaging`, called from the graph, from black (0) to white (1) of the file. One
image of several has an address, `scan.nii.gz#12`.

A slice of a volume costs the whole volume, since black and white are the volume's,
unless the same thread reads the next slice from it: shuffled epochs over volumes are
slow. `load_images` once, in their order, is not.
"""

import re
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import tensorflow as tf

from hrcam.datasets._decode import decode
from hrcam.imaging import ImageReadError, open_image, parse_address, read_image
from hrcam.imaging.read import (
    DICOM_SUFFIXES,
    NIFTI_SUFFIXES,
    RASTER_SUFFIXES,
    OpenImage,
)

TIFF_SUFFIXES = (".tif", ".tiff")


def why_unreadable(path: Path) -> str | None:
    """Tells why a file cannot be read; `None` if it can."""
    try:
        file = parse_address(path).path
        if not file.is_file():
            return "missing"
        if not file.stat().st_size:
            return "empty"
        if _is_for_imaging(path):
            _OPEN.read(str(path).encode())
        else:
            decode(tf.constant(file.read_bytes()))
    except ImageReadError as error:
        return error.reason
    except ValueError as error:  # of the address
        return str(error)
    except tf.errors.OpError as error:
        return re.sub(r"^\{\{.*?\}\} ", "", error.message.split(" [Op:")[0])
    return None


def _is_for_imaging(path: Path) -> bool:
    """Tells whether `hrcam.imaging` reads it, by its first bytes if need be."""
    file, frames = parse_address(path)
    name = file.name.lower()
    if frames or name.endswith((*TIFF_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES)):
        return True
    if name.endswith(RASTER_SUFFIXES):
        return False
    with file.open("rb") as opened:
        return opened.read(132)[128:] == b"DICM"


def reader(paths: Sequence[Path]) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function from a row to float32 (height, width, 1 or 3) in [0, 1]."""
    names = tf.constant([str(path) for path in paths], tf.string)
    for_imaging = [_is_for_imaging(path) for path in paths]

    def in_graph(row):
        return decode(tf.io.read_file(names[row]))

    def by_imaging(row):
        pixels = tf.numpy_function(_OPEN.read, [names[row]], tf.float32, stateful=False)
        return tf.ensure_shape(pixels, (None, None, None))

    if not any(for_imaging):  # a graph without Python can be saved and sent elsewhere
        return in_graph
    choice = tf.constant(for_imaging)
    return lambda row: tf.cond(
        choice[row], lambda: by_imaging(row), lambda: in_graph(row)
    )


class _OpenFile(threading.local):
    """Reads images; each thread keeps its last file with several open.

    Otherwise each slice of a volume would unpack the whole.
    """

    def __init__(self):
        self.state, self.file, self.stack = None, None, ExitStack()

    def read(self, address: bytes) -> np.ndarray:
        """Returns float32 (height, width, 1 or 3) in [0, 1]."""
        path, frames = parse_address(address.decode())
        if frames is None or len(frames) > 1:  # several: it says what to do
            picture = read_image(address.decode())
        else:
            picture = self._opened(path).read(frames[0])
        pixels = picture.unit_range()
        return pixels[..., None] if pixels.ndim == 2 else pixels

    def _opened(self, path: Path) -> OpenImage:
        now = path.stat()
        state = path, now.st_size, now.st_mtime_ns
        if state != self.state:
            self.stack.close()
            self.state = None
            self.file = self.stack.enter_context(open_image(path))
            self.state = state
        return self.file


_OPEN = _OpenFile()
