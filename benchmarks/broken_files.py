"""Image files that are broken, each in a way of its own, and good ones with odd names.

A `Way` makes one file from one picture; `WAYS` has all of them by name. What `hrcam
explain` must do with the file is its `outcome`:

    listed   no map, and a reason in the manifest
    part     a map of each image but one, which has a reason in the manifest
    mapped   a map of each image: the file is good
    not noticed   a map, too: the damage cannot be told from a picture

Files of the kinds of `image_files` are made whole, and then a few bytes are changed.
"""

import gzip
import os
import socket
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
from image_files import AFFINE, KINDS, dataset, grey, stack, write_pages
from PIL import Image
from pydicom import uid

LISTED, PART, MAPPED, UNSEEN = "listed", "part", "mapped", "not noticed"
DEPTHS = (0.02, 0.5, 0.98)  # shares of a file that are left when it is cut
GIANT = 2**31 - 1
WEB_PAGE = b"<!DOCTYPE html><html><body>Please log in</body></html>\n"
TEXT = b"Sorry, this image was moved.\n"
Make = Callable[[Path, np.ndarray], None]


class Way(NamedTuple):
    """One way of being broken.

    Attributes:
        name: What the page calls it.
        file: How the file's name ends, or all of it behind the number.
        make: `make(path, picture)`.
        outcome: `LISTED`, `PART` or `MAPPED`.
        images: How many images of the file are mapped, if any.
    """

    name: str
    file: str
    make: Make
    outcome: str = LISTED
    images: int = 0


def make_broken(way: Way, folder: Path, number: int, picture: np.ndarray) -> Path:
    """Makes one file in a folder, and returns its path."""
    path = folder / f"{number:05d}{way.file}"
    way.make(path, picture)
    return path


# ----------------------------------------------------------------- bytes of good files


def _changed(kind: str, change: Callable[[bytes], bytes]) -> Make:
    def make(path: Path, picture: np.ndarray) -> None:
        KINDS[kind].write(path, picture)
        path.write_bytes(change(path.read_bytes()))

    return make


def _of(kind: str, name: str, change: Callable[[bytes], bytes]) -> Way:
    return Way(f"{kind}: {name}", KINDS[kind].suffix, _changed(kind, change))


def _cut(data: bytes, share: float) -> bytes:
    return data[: int(len(data) * share)]


def _put(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def _zero_header(data: bytes) -> bytes:
    return _put(data, 0, bytes(352))


def _noise(path: Path, picture: np.ndarray) -> None:
    rng = np.random.default_rng(grey(picture)[0])
    path.write_bytes(rng.bytes(5000))


def _content(data: bytes) -> Make:
    return lambda path, picture: path.write_bytes(data)


# ---------------------------------------------------------------------- PNG, JPEG, ...


def _png_header(data: bytes, width: int, height: int) -> bytes:
    """Another size in IHDR, with the right sum."""
    chunk = b"IHDR" + struct.pack(">2L", width, height) + data[24:29]
    return _put(data, 12, chunk + struct.pack(">L", zlib.crc32(chunk)))


def _png_wrong_sum(data: bytes, name: bytes) -> bytes:
    at = data.index(name)
    (length,) = struct.unpack_from(">L", data, at - 4)
    return _put(data, at + 4 + length, b"\xde\xad\xbe\xef")


def _png_damage(data: bytes) -> bytes:
    """Bytes within the pixels, with the chunk's sum right again."""
    at = data.index(b"IDAT")
    (length,) = struct.unpack_from(">L", data, at - 4)
    data = _put(data, at + 4 + length // 2, b"\xff" * 16)
    chunk = data[at : at + 4 + length]
    return _put(data, at + 4 + length, struct.pack(">L", zlib.crc32(chunk)))


def _png_text_bomb(data: bytes) -> bytes:
    """A text that unpacks to 100 MB, before the pixels."""
    text = b"zTXtComment\0\0" + zlib.compress(bytes(10**8), 9)
    chunk = struct.pack(">L", len(text) - 4) + text
    return data[:33] + chunk + struct.pack(">L", zlib.crc32(text)) + data[33:]


def _jpeg_giant(data: bytes) -> bytes:
    at = data.index(b"\xff\xc0")
    return _put(data, at + 5, struct.pack(">2H", 65535, 65535))


def _jpeg_scan_cut(data: bytes) -> bytes:
    """Half of the scan, with the end mark as if all were there."""
    at = data.index(b"\xff\xda")
    return data[: (at + len(data)) // 2] + b"\xff\xd9"


def _tiff_tag(data: bytes, tag: int, value: int) -> bytes:
    """Another value of a tag of the first page (little-endian)."""
    (at,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    entries = range(at + 2, at + 2 + 12 * count, 12)
    (entry,) = [e for e in entries if struct.unpack_from("<H", data, e)[0] == tag]
    return _put(data, entry + 2, struct.pack("<HLL", 4, 1, value))


def _tiff_cycle(data: bytes) -> bytes:
    """The first page says that the next one is itself."""
    (at,) = struct.unpack_from("<L", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    return _put(data, at + 2 + 12 * count, struct.pack("<L", at))


def _tiff_nan(path: Path, picture: np.ndarray) -> None:
    pixels = picture.astype(np.float32)
    pixels[3, 5] = np.nan
    Image.fromarray(pixels).save(path)


def _tiff_page_damaged(path: Path, picture: np.ndarray) -> None:
    """The last page is cut off: the other two are whole."""
    write_pages(path, picture)
    path.write_bytes(path.read_bytes()[:-100])


# ---------------------------------------------------------------------- DICOM and NIfTI


def _dicom(syntax: str = uid.ExplicitVRLittleEndian, **elements) -> Make:
    """A slice with other elements; `None` takes one away."""

    def make(path: Path, picture: np.ndarray) -> None:
        header = dataset(path, picture, syntax)
        for keyword, value in elements.items():
            if value is None:
                delattr(header, keyword)
            else:
                setattr(header, keyword, value)
        header.save_as(path, enforce_file_format=True)

    return make


def _unknown_syntax(path: Path, picture: np.ndarray) -> None:
    header = dataset(path, picture)
    header.file_meta.TransferSyntaxUID = uid.UID("1.2.826.0.1.3680043.8.498.99")
    header.save_as(
        path, enforce_file_format=True, implicit_vr=False, little_endian=True
    )


def _nifti(change: Callable[[np.ndarray], np.ndarray]) -> Make:
    """A volume of floats `(x, y, slices)` with other values."""

    def make(path: Path, picture: np.ndarray) -> None:
        volume = change(stack(picture).transpose(2, 1, 0).astype(np.float32))
        path.write_bytes(nibabel.Nifti1Image(volume, AFFINE).to_bytes())

    return make


def _nan_slice(volume: np.ndarray) -> np.ndarray:
    volume[:, :, 1] = np.nan
    return volume


def _nifti_dim(data: bytes, *dim: int) -> bytes:
    return _put(data, 40, struct.pack(f"<{len(dim)}h", *dim))


def _gz_bomb(path: Path, picture: np.ndarray) -> None:
    """64 MB of zeros, of 32 GB that the header claims."""
    volume = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), AFFINE).to_bytes()
    header = _nifti_dim(volume, 3, 4096, 4096, 2048)[:352]
    path.write_bytes(gzip.compress(header + bytes(2**26), mtime=0))


# ----------------------------------------------------------- no files, and odd names


def _no_rights(path: Path, picture: np.ndarray) -> None:
    KINDS["PNG"].write(path, picture)
    path.chmod(0)


def _link(target: str) -> Make:
    return lambda path, picture: path.symlink_to(target)


def _loop(path: Path, picture: np.ndarray) -> None:
    path.symlink_to(path.name)


def _fifo(path: Path, picture: np.ndarray) -> None:
    os.mkfifo(path)


def _socket(path: Path, picture: np.ndarray) -> None:
    here = os.open(path.parent, os.O_RDONLY)  # the path may be too long for a socket
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(f"/proc/self/fd/{here}/{path.name}")
    os.close(here)


def _in_folder(path: Path, picture: np.ndarray) -> None:
    path.mkdir()
    KINDS["PNG"].write(path / "inside.png", picture)


def _named(what: str, ending: str, kind: str = "PNG") -> Way:
    """A good file with an odd name; its suffix is told by `ending`."""

    def make(path: Path, picture: np.ndarray) -> None:
        beside = path.with_name(f"made{KINDS[kind].suffix}")
        KINDS[kind].write(beside, picture)
        beside.rename(path)

    return Way(what, ending, make, MAPPED, KINDS[kind].images)


# ---------------------------------------------------------------------------- the list

_CUT = [
    _of(kind, f"cut off, {share:.0%} left", partial(_cut, share=share))
    for kind in KINDS
    for share in DEPTHS
    if kind not in ("PNG, 16 bit", "JPEG, colour", "TIFF, pages")
]
_ZEROED = [
    _of(kind, "the first 352 bytes zero", _zero_header)
    for kind in ("PNG", "JPEG", "TIFF", "BMP", "GIF", "DICOM", "NIfTI", "NIfTI, gz")
]
_NO_IMAGES = [
    *(
        Way(f"{name} named {suffix}", suffix, make)
        for name, make, suffixes in (
            ("nothing (0 bytes)", _content(b""), (".png", ".dcm", ".nii.gz")),
            ("random bytes", _noise, (".jpg", ".tif", ".bmp", ".dcm", ".nii")),
            ("a web page", _content(WEB_PAGE), (".jpg", ".gif", ".nii.gz")),
            ("a text", _content(TEXT), (".png", ".dcm", ".nii")),
            ("a ZIP archive", _content(b"PK\x05\x06" + bytes(18)), (".tiff",)),
            ("zeros", _content(bytes(20000)), (".png", ".dcm", ".nii")),
        )
        for suffix in suffixes
    ),
    Way(
        "a WebP picture named .png",
        ".png",
        lambda path, picture: Image.fromarray(grey(picture)).save(path, "WEBP"),
    ),
]
_CLAIMS = [
    _of(
        "PNG",
        "claims 2^31 x 2^31 pixels",
        partial(_png_header, width=GIANT, height=GIANT),
    ),
    _of("PNG", "claims twice its rows", partial(_png_header, width=96, height=192)),
    _of("JPEG", "claims 65,535 x 65,535 pixels", _jpeg_giant),
    _of("TIFF", "claims 2^31 columns", lambda data: _tiff_tag(data, 256, GIANT)),
    _of(
        "BMP",
        "claims 2^31 x 2^31 pixels",
        lambda d: _put(d, 18, struct.pack("<2l", GIANT, GIANT)),
    ),
    _of("GIF", "claims 65,535 x 65,535 pixels", lambda d: _put(d, 6, b"\xff" * 4)),
    Way(
        "DICOM: claims 65,535 x 65,535 pixels",
        ".dcm",
        _dicom(Rows=65535, Columns=65535),
    ),
    Way("DICOM: claims a billion frames", ".dcm", _dicom(NumberOfFrames=10**9)),
    _of(
        "NIfTI",
        "claims 32,767 x 32,767 x 32,767 voxels",
        lambda d: _nifti_dim(d, 3, 32767, 32767, 32767),
    ),
    _of("NIfTI", "claims a negative size", lambda d: _nifti_dim(d, 3, -96, 96, 3)),
    Way("NIfTI, gz: a bomb of 32 GB", ".nii.gz", _gz_bomb),
    _of("PNG", "a text that unpacks to 100 MB", _png_text_bomb),
]
_DAMAGED = [
    _of("PNG", "wrong sum (CRC) of the header", partial(_png_wrong_sum, name=b"IHDR")),
    _of("PNG", "wrong sum (CRC) of the pixels", partial(_png_wrong_sum, name=b"IDAT")),
    _of("PNG", "bytes changed within the pixels", _png_damage),
    _of("JPEG", "half of the scan, then the end mark", _jpeg_scan_cut)._replace(
        outcome=UNSEEN, images=1
    ),
    _of("TIFF", "its pages go round in a circle", _tiff_cycle)._replace(
        outcome=MAPPED, images=1
    ),
    _of("TIFF", "a strip beyond the file", lambda data: _tiff_tag(data, 273, GIANT)),
    Way("TIFF: NaN among its values", ".tif", _tiff_nan),
    _of(
        "BMP", "pixels beyond the file", lambda d: _put(d, 10, struct.pack("<L", GIANT))
    ),
    _of("GIF", "no picture", lambda data: data[:13] + b";"),
    Way("DICOM: no pixels", ".dcm", _dicom(PixelData=None, Rows=None, Columns=None)),
    Way("DICOM: half of the pixels", ".dcm", _dicom(PixelData=bytes(96 * 96))),
    Way("DICOM: unknown transfer syntax", ".dcm", _unknown_syntax),
    Way("DICOM: no Columns", ".dcm", _dicom(Columns=None)),
    Way("DICOM: 12 bits allocated", ".dcm", _dicom(BitsAllocated=12)),
    Way(
        "DICOM, RLE: another size than its header's",
        ".dcm",
        _dicom(uid.RLELossless, Rows=48),
    ),
    Way(
        "DICOM, JPEG 2000: another size than its header's",
        ".dcm",
        _dicom(uid.JPEG2000Lossless, Rows=48),
    ),
    Way(
        "DICOM, JPEG: says that it is JPEG 2000",
        ".dcm",
        _changed(
            "DICOM, JPEG",
            lambda d: d.replace(b"1.2.840.10008.1.2.4.50", b"1.2.840.10008.1.2.4.90"),
        ),
        MAPPED,
        1,
    ),
    Way("NIfTI: one slice NaN", ".nii", _nifti(_nan_slice), PART, 2),
    Way("NIfTI: all NaN", ".nii", _nifti(lambda volume: volume * np.nan)),
    Way(
        "NIfTI: five volumes (4-D)",
        ".nii",
        _nifti(lambda v: np.stack([v] * 5, axis=-1)),
    ),
    Way(
        "NIfTI: not compressed, named .nii.gz",
        ".nii.gz",
        _changed("NIfTI", bytes),
        MAPPED,
        3,
    ),
    Way("TIFF, pages: the last one cut off", ".tiff", _tiff_page_damaged, PART, 2),
]
_NO_FILES = [
    Way("no permission to read", ".png", _no_rights),
    Way("a link to nothing", ".png", _link("not-there.png")),
    Way("a link to itself", ".dcm", _loop),
    Way("a named pipe", ".png", _fifo),
    Way("a named pipe named .nii.gz", ".nii.gz", _fifo),
    Way("a socket", ".png", _socket),
    Way("a link to an endless device", ".png", _link("/dev/zero")),
    Way(
        "empty, with line feed and escape sequence in its name",
        "a\n\x1b[2J[bold].png",
        _content(b""),
    ),
    Way(
        "empty, with bytes in its name that are no UTF-8",
        os.fsdecode(b"\xff\xe9.png"),
        _content(b""),
    ),
    _named("good, but its name has 250 characters", "x" * 241 + ".png")._replace(
        outcome=LISTED, images=0
    ),
]
_GOOD = [
    _named("name with a line feed", "a\nb.png"),
    _named("name with an emoji and accents", "\N{BRAIN} \u00e9\u4e2d.jpg", "JPEG"),
    _named("name with bytes that are no UTF-8", os.fsdecode(b"\xff\xe9.png")),
    _named("name with an escape sequence", "\x1b[31m.png"),
    _named("name with *, ?, [, #, % and quotes", "*?[a]#1%20'\".png"),
    _named("name like an address", ".png#2.png"),
    _named("name of 240 characters", "x" * 231 + ".png"),
    _named("suffix in capitals", ".PNG"),
    _named("PNG named .jpg", ".jpg"),
    _named("DICOM named .png", ".png", "DICOM"),
    _named("DICOM without a suffix", "", "DICOM"),
    Way("in a folder named like an image", ".png", _in_folder, MAPPED, 1),
]
WAYS = (*_CUT, *_ZEROED, *_NO_IMAGES, *_CLAIMS, *_DAMAGED, *_NO_FILES, *_GOOD)
