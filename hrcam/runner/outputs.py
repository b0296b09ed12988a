"""The files that are written of each source.

`a/b.jpg` becomes `a/b.jpg.hr_cam.png`: the whole name stays in front, so that `b.jpg`
and `b.png` do not meet. Images of a file with several are numbered as in the file:
`scan.nii.gz.frame012.hr_cam.png`. What belongs to the whole file has no number, but the
class that it explains: where images of one file were predicted differently, each class
has its own volume, in which the others' slices are empty.

    png      the map over the image, of the image's size
    npy      the raw map, float32, of the size that the model takes
    npz      the raw maps of all methods in one file
    tiff     the raw map, 32-bit float
    nifti    the raw maps as a volume that lies on the source; of NIfTI sources:
             scan.nii.gz.hr_cam.class_1.nii
    dicom    the raw maps as a Parametric Map, and the pictures as Secondary Captures;
             of DICOM sources: ct.dcm.hr_cam.class_1.dcm, ct.dcm.hr_cam.dcm

A format that does not go with a source is left out; its record's files tell.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np

from hrcam.imaging.picture import Picture
from hrcam.imaging.read import Limits
from hrcam.imaging.write import (
    overlay,
    write_array,
    write_arrays,
    write_overlay,
    write_tiff,
)
from hrcam.methods import METHODS

FORMATS = ("png", "npy", "npz", "tiff", "nifti", "dicom")
_OF_ANY = ("png", "npy", "npz", "tiff")


class Image(NamedTuple):
    """One explained image, ready to be written.

    Attributes:
        frame: Its number in the file.
        picture: The image itself.
        maps: Method -> raw map `(height, width)`.
        class_index: The class that was explained.
        class_name: Its name, if known.
    """

    frame: int
    picture: Picture
    maps: dict[str, np.ndarray]
    class_index: int
    class_name: str | None


class SourceFiles:
    """Writes what is asked for of one source; `add` may run in several threads."""

    def __init__(
        self,
        folder: Path,
        name: str,
        path: Path,
        kind: str,
        formats: Sequence[str],
        limits: Limits,
    ):
        """Writes nothing yet.

        Args:
            folder: Where all sources are written.
            name: The source's file name, relative.
            path: The source.
            kind: `"raster"`, `"nifti"` or `"dicom"`.
            formats: Of `FORMATS`.
            limits: What the source may ask for when it is opened again.
        """
        self._folder, self._name, self._path = folder, name, path
        self._limits = limits
        self._formats = [f for f in formats if f in _OF_ANY or f == kind]
        self._volumes = {}  # (method, class) -> what is written of it
        self._slices: dict[tuple[str, int], dict[int, np.ndarray]] = {}
        self._class_names: dict[int, str | None] = {}
        self._lock = Lock()

    def add(self, image: Image, digits: int) -> list[str]:
        """Writes what belongs to one image; returns the names of the files.

        Args:
            image: The image and its maps.
            digits: Of its number in the names; 0: it is the only one of its file.
        """
        number = f".frame{image.frame:0{digits}d}" if digits else ""
        files: list[str] = []
        try:
            for kind in self._formats:
                getattr(self, f"_add_{kind}")(image, f"{self._name}{number}", files)
        except BaseException:
            self.remove(files)
            raise
        return files

    def remove(self, files: Sequence[str]) -> None:
        """Removes files whose record will not name them."""
        for file in files:
            (self._folder / file).unlink(missing_ok=True)

    def close(self) -> list[str]:
        """Writes what belongs to the whole source; returns the names of the files."""
        files = []
        for (method, class_index), volume in sorted(self._volumes.items()):
            files.append(f"{self._name}.{method}.class_{class_index}.nii")
            volume.close()
        if self._slices:  # highdicom takes a second to import
            from hrcam.imaging.dicom_map import write_parametric_map
        for (method, class_index), heatmaps in sorted(self._slices.items()):
            files.append(f"{self._name}.{method}.class_{class_index}.dcm")
            frames = sorted(heatmaps)
            write_parametric_map(
                self._folder / files[-1],
                self._path,
                np.stack([heatmaps[frame] for frame in frames]),
                frames,
                method=METHODS[method].title,
                class_index=class_index,
                class_name=self._class_names[class_index],
            )
        return files

    def discard(self) -> None:
        """Leaves nothing unfinished behind."""
        for volume in self._volumes.values():
            volume.discard()

    # Each adds the names of its files before it writes them.

    def _add_png(self, image: Image, start: str, files: list[str]) -> None:
        write = partial(write_overlay, picture=image.picture)
        self._write_each(image, start, "png", write, files)

    def _add_npy(self, image: Image, start: str, files: list[str]) -> None:
        self._write_each(image, start, "npy", write_array, files)

    def _add_tiff(self, image: Image, start: str, files: list[str]) -> None:
        self._write_each(image, start, "tiff", write_tiff, files)

    def _add_npz(self, image: Image, start: str, files: list[str]) -> None:
        files.append(f"{start}.npz")
        write_arrays(self._folder / files[-1], image.maps)

    def _add_nifti(self, image: Image, start: str, files: list[str]) -> None:
        from hrcam.imaging.nifti_map import MapVolume

        for method, heatmap in image.maps.items():
            key = method, image.class_index
            with self._lock:
                if key not in self._volumes:
                    name = f"{self._name}.{method}.class_{image.class_index}.nii"
                    what = f"{METHODS[method].title}, class {image.class_index}"
                    target = self._folder / name
                    self._volumes[key] = MapVolume(
                        self._path, target, what, self._limits
                    )
            self._volumes[key].add(image.frame, heatmap)

    def _add_dicom(self, image: Image, start: str, files: list[str]) -> None:
        from hrcam.imaging.dicom_map import write_secondary_capture

        for method, heatmap in image.maps.items():
            files.append(f"{start}.{method}.dcm")
            write_secondary_capture(
                self._folder / files[-1],
                self._path,
                overlay(image.picture, heatmap),
                frame=image.frame,
                method=METHODS[method].title,
                class_index=image.class_index,
                class_name=image.class_name,
            )
        with self._lock:
            self._class_names[image.class_index] = image.class_name
            for method, heatmap in image.maps.items():
                slices = self._slices.setdefault((method, image.class_index), {})
                slices[image.frame] = heatmap

    def _write_each(
        self, image: Image, start: str, suffix: str, write: Callable, files: list[str]
    ) -> None:
        for method, heatmap in image.maps.items():
            files.append(f"{start}.{method}.{suffix}")
            write(self._folder / files[-1], heatmap=heatmap)
