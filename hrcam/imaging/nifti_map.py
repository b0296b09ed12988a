"""Writes maps of slices as a NIfTI volume that lies on their source.

A map is resized to its slice's size (bilinear with half-pixel centres, by area along
a side that shrinks) and put into the voxels that the slice was read from: `_nifti`
says how a slice lies in the volume, and the same view of it is written to. Affine,
voxel sizes, sform and qform with their codes, and units are the source's, number by
number.

The source's texts (`descrip`, `aux_file`, `db_name`, `intent_name`) and extensions can
hold patient data: none is copied.

The volume is float32 without a scaling, and on disk from the start: memory does not
depend on its size.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from nibabel import Nifti1Header, Nifti2Header

from hrcam.imaging._atomic import whole_file
from hrcam.imaging._nifti import CHUNK
from hrcam.imaging.read import LIMITS, Limits, open_image
from hrcam.imaging.write import resize_map

GEOMETRY = (
    *("qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
    "xyzt_units",
)
NO_EXTENSION = b"\0\0\0\0"
DESCRIPTION_LENGTH = 79


class MapVolume:
    """A volume of maps, made slice by slice.

    Voxels of slices that were never added are NaN. As a context it is closed at the
    end, and discarded after an error.

    Example:
        >>> with MapVolume("scan.nii.gz", "map.nii") as volume:  # doctest: +SKIP
        ...     volume.add(12, heatmap)
    """

    def __init__(
        self,
        source: str | Path,
        target: str | Path,
        description: str = "",
        limits: Limits = LIMITS,
    ):
        """Takes the space on the disk; `target` is there after `close`.

        Args:
            source: The NIfTI file whose slices the maps belong to.
            target: The file to write, `.nii`; its folder is made.
            description: What the maps are, for the header: ASCII, cut to 79
                characters.
            limits: What `source` may ask for.

        Raises:
            ValueError: If `source` is not NIfTI or `target` not `.nii`.
            ImageReadError: If `source` cannot be read.
            OSError: If the disk is full, say.
        """
        target = Path(target)
        if target.suffix.lower() != ".nii":
            raise ValueError(f"`target` must be a .nii file. Received: {target.name}")
        with open_image(source, limits) as file:
            if file.kind != "nifti":
                raise ValueError(f"`source` must be a NIfTI file. Received: {source}")
            self._layout, self._frames = file.layout, file.frames
            header = _header(file.header, file.shape, description)
        self._whole = whole_file(target)
        unfinished = self._whole.__enter__()
        try:
            self._volume = _empty_volume(unfinished, header)
        except BaseException:
            self.discard()
            raise

    def add(self, frame: int, heatmap: np.ndarray) -> None:
        """Puts a map where its slice lies; different slices may come from threads.

        Args:
            frame: The slice's number, as in the source's `frames`.
            heatmap: Raw map `(h, w)` of any size.

        Raises:
            ValueError: If there is no such slice, or the map has another shape.
        """
        heatmap = np.asarray(heatmap)
        if frame not in self._frames:
            raise ValueError(
                f"`frame` must be 0 to {len(self._frames) - 1}. Received: {frame}"
            )
        if heatmap.ndim != 2 or 0 in heatmap.shape:
            raise ValueError(
                f"`heatmap` must be one map, (h, w). Received: shape {heatmap.shape}"
            )
        place = self._layout.slice_of(self._volume, frame)
        place[...] = resize_map(heatmap, place.shape)

    def close(self) -> None:
        """Writes the target; after an error nothing is left."""
        try:
            self._volume.flush()
            del self._volume
            self._whole.__exit__(None, None, None)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Leaves nothing of it on the disk; after `close` it does nothing."""
        self.__dict__.pop("_volume", None)
        self._whole.gen.close()

    def __enter__(self) -> Self:
        """Returns the volume."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes, or after an error discards."""
        if error is None:
            self.close()
        else:
            self.discard()


def write_nifti_map(
    target: str | Path,
    source: str | Path,
    heatmaps: Iterable[np.ndarray],
    frames: Sequence[int] | None = None,
    *,
    description: str = "",
    limits: Limits = LIMITS,
) -> None:
    """Writes maps of a NIfTI file's slices as a volume that lies on it.

    Args:
        target: The file to write, `.nii`.
        source: The NIfTI file.
        heatmaps: Raw maps `(h, w)` of any size, one a slice.
        frames: The slices' numbers. Default: all slices of the source, in order.
            Voxels of others are NaN.
        description: What the maps are, for the header.
        limits: What `source` may ask for.

    Raises:
        ValueError: If there are more or fewer maps than slices, or as `MapVolume` says.
        ImageReadError: If `source` cannot be read.
    """
    if frames is None:
        with open_image(source, limits) as file:
            frames = file.frames
    with MapVolume(source, target, description, limits) as volume:
        for frame, heatmap in zip(frames, heatmaps, strict=True):
            volume.add(frame, heatmap)


def _header(
    source: Nifti1Header | Nifti2Header, shape: tuple[int, ...], description: str
) -> Nifti1Header | Nifti2Header:
    """A new header, so that of the old one only the geometry can come along."""
    header = type(source)()
    header.set_data_dtype(np.float32)
    header.set_data_shape(shape)
    header["pixdim"][:4] = source["pixdim"][:4]
    for name in GEOMETRY:
        header[name] = source[name]
    header.set_slope_inter(1, 0)
    header["magic"] = header.single_magic
    header["vox_offset"] = header.single_vox_offset
    ascii_only = description.encode("ascii", "replace")
    header["descrip"] = ascii_only[:DESCRIPTION_LENGTH]
    return header


def _empty_volume(path: Path, header: Nifti1Header | Nifti2Header) -> np.ndarray:
    """Writes a volume of NaN and maps it.

    Every byte is written here, since a disk that fills up while a mapped file grows
    ends the process, not in an error.
    """
    shape = header.get_data_shape()
    count = int(np.prod(shape, dtype=np.int64))
    with path.open("wb") as file:
        file.write(header.binaryblock + NO_EXTENSION)
        for start in range(0, count, CHUNK):
            nothing = np.full(min(CHUNK, count - start), np.nan, np.float32)
            file.write(nothing.tobytes())
    offset = header.get_data_offset()
    return np.memmap(path, np.float32, "r+", offset, shape, order="F")
