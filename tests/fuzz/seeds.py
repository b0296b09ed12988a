"""Tiny sound files of every kind that is read, the start of each damaged one.

Some are kept unpacked, so that damage done to them is compressed again, or gets a
right checksum, and is not met by the unpacking alone.
"""

import gzip
import io
import struct
import tempfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nibabel
import numpy as np
import pydicom
import tifffile
from dicom_files import group, lookup_table, write_dicom
from PIL import Image
from pydicom import uid

ROWS, COLUMNS = 5, 7
STEPS = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
GREY = (7 * STEPS).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
GREY_16 = (1800 * STEPS).astype(np.uint16)
COLOUR_16 = COLOUR.astype(np.uint16) * 257
PNG_START = b"\x89PNG\r\n\x1a\n"
ADAM_7 = [  # first row and column, steps between rows and columns
    (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
    (1, 0, 2, 1),
]  # fmt: skip


def as_it_is(content: bytes) -> bytes:
    return content


class Seed(NamedTuple):
    """A file.

    Attributes:
        suffix: Of its name.
        content: What is damaged.
        pack: Makes the file of it.
    """

    suffix: str
    content: bytes
    pack: Callable[[bytes], bytes] = as_it_is


@cache
def make_seeds() -> dict[str, Seed]:
    """Returns all, by name."""
    return {**pngs(), **jpegs(), **tiffs(), **others(), **dicoms(), **niftis()}


# -------------------------------------------------------------------------------- PNG


def pngs() -> dict[str, Seed]:
    palette = b"".join(bytes((i, 255 - i, 7)) for i in range(256))
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "grey": png(GREY),
        "grey_16": png(GREY_16.astype(">u2"), depth=16),
        "colour": png(COLOUR, kind=2),
        "colour_16": png(COLOUR_16.astype(">u2"), depth=16, kind=2),
        "palette": png(GREY, kind=3, before=[(b"PLTE", palette), (b"tRNS", b"\0\7")]),
        "interlaced": png(GREY, interlaced=True),
        "grey_alpha": png(np.stack([GREY, GREY], -1), kind=4),
        "exif": png(COLOUR, kind=2, before=[(b"eXIf", exif.tobytes()[6:])]),
        "text": png(GREY, before=[(b"zTXt", b"a\0\0" + zlib.compress(b"b" * 99))]),
    }
    return {f"png_{n}": Seed(".png", data, pack_png) for n, data in files.items()}


def png(pixels, depth=8, kind=0, interlaced=False, before=()):
    """A PNG file whose pixels are not compressed, and without checksums."""
    passes = ADAM_7 if interlaced else [(0, 0, 1, 1)]
    rows = [
        b"\0" + row.tobytes()
        for top, left, down, right in passes
        for row in pixels[top::down, left::right]
        if row.size
    ]
    height, width = pixels.shape[:2]
    header = struct.pack(">LL5B", width, height, depth, kind, 0, 0, interlaced)
    chunks = [(b"IHDR", header), *before, (b"IDAT", b"".join(rows)), (b"IEND", b"")]
    parts = [struct.pack(">L", len(body)) + name + body for name, body in chunks]
    return PNG_START + b"".join(parts)


def pack_png(content: bytes) -> bytes:
    """Compresses the pixels and adds the checksums; lengths that are wrong stay so."""
    at, parts = len(PNG_START), [content[: len(PNG_START)]]
    while at + 8 <= len(content):
        length, name = struct.unpack_from(">L4s", content, at)
        body = content[at + 8 : at + 8 + length]
        at += 8 + length
        if name == b"IDAT":
            body = zlib.compress(body)
            length = len(body)
        sum_of = struct.pack(">L", zlib.crc32(name + body))
        parts += [struct.pack(">L", length), name, body, sum_of]
    return b"".join(parts) + content[at:]


# ------------------------------------------------------------------- JPEG, TIFF, others


def saved(pixels, kind, mode=None, **options) -> bytes:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def jpegs() -> dict[str, Seed]:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {
        "grey": saved(GREY, "JPEG"),
        "colour": saved(COLOUR, "JPEG"),
        "progressive": saved(COLOUR, "JPEG", progressive=True),
        "cmyk": saved(COLOUR, "JPEG", "CMYK"),
        "exif": saved(COLOUR, "JPEG", exif=exif),
        "restarts": saved(GREY, "JPEG", restart_marker_blocks=1),
    }
    return {f"jpeg_{name}": Seed(".jpg", data) for name, data in files.items()}


def tiffs() -> dict[str, Seed]:
    many = [Image.fromarray(GREY_16 + page) for page in (1, 2)]
    grey_f = GREY_16.astype(np.float32)
    files = {
        "grey": saved(GREY, "TIFF"),
        "lzw": saved(COLOUR, "TIFF", compression="tiff_lzw"),
        "deflate": saved(COLOUR, "TIFF", compression="tiff_adobe_deflate"),
        "packbits": saved(GREY, "TIFF", compression="packbits"),
        "jpeg": saved(COLOUR, "TIFF", compression="jpeg"),
        "fax": saved(GREY > 99, "TIFF", compression="group4"),
        "bits": saved(GREY > 99, "TIFF"),
        "palette": saved(COLOUR, "TIFF", "P"),
        "cmyk": saved(COLOUR, "TIFF", "CMYK"),
        "lab": saved(COLOUR, "TIFF", "YCbCr"),
        "pages": saved(GREY_16, "TIFF", save_all=True, append_images=many),
        "float": saved(grey_f, "TIFF"),
        "float_deflate": saved(grey_f, "TIFF", compression="tiff_deflate"),
        "signed": saved(GREY_16.astype(np.int32) - 999, "TIFF"),
        "colour_16": tiff(COLOUR_16),
        "colour_16_pages": tiff(np.stack([COLOUR_16, 65535 - COLOUR_16])),
        "colour_16_big_end": tiff(COLOUR_16, byteorder=">"),
        "colour_16_planes": tiff(np.moveaxis(COLOUR_16, -1, 0), planar=True),
        "colour_16_deflate": tiff(COLOUR_16, compression="zlib"),
        "tiles": tiff(GREY_16, tile=(16, 16)),
        "big": tiff(GREY_16, bigtiff=True),
        "white_is_zero": tiff(GREY_16, photometric="miniswhite"),
        "signed_16": tiff(GREY_16.astype(np.int16)),
    }
    return {f"tiff_{name}": Seed(".tif", data) for name, data in files.items()}


def tiff(pixels, planar=False, **options) -> bytes:
    """One that Pillow does not write."""
    colour = planar or pixels.shape[-1] == 3
    options.setdefault("photometric", "rgb" if colour else "minisblack")
    if planar:
        options["planarconfig"] = "separate"
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, metadata=None, software=False, **options)
    return file.getvalue()


def others() -> dict[str, Seed]:
    second = Image.fromarray(255 - GREY)
    return {
        "bmp_grey": Seed(".bmp", saved(GREY, "BMP")),
        "bmp_colour": Seed(".bmp", saved(COLOUR, "BMP")),
        "bmp_bits": Seed(".bmp", saved(GREY > 99, "BMP")),
        "bmp_runs": Seed(".bmp", run_length_bmp()),
        "gif": Seed(".gif", saved(GREY, "GIF")),
        "gif_pages": Seed(
            ".gif", saved(GREY, "GIF", save_all=True, append_images=[second])
        ),
    }


def run_length_bmp() -> bytes:
    """RLE8: a run, literal bytes, a jump, the ends of the row and of the picture."""
    rows = b"\7\1\0\0" + b"\0\4\1\2\3\4\0\2\3\0\0\0" + b"\7\2\0\0" * 3 + b"\0\1"
    palette = b"".join(bytes((i, i, i, 0)) for i in range(8))
    start = 54 + len(palette)
    header = struct.pack("<2sLHHL", b"BM", start + len(rows), 0, 0, start)
    size = struct.pack("<LllHHLLllLL", 40, 7, 5, 1, 8, 1, len(rows), 0, 0, 8, 0)
    return header + size + palette + rows


# ------------------------------------------------------------------------------- DICOM


def dicoms() -> dict[str, Seed]:
    frames = np.stack([GREY_16, GREY_16 + 1])
    groups = [
        group("PixelValueTransformationSequence", RescaleSlope=s, RescaleIntercept=-9)
        for s in (1, 2)
    ]
    window = {"WindowCenter": 40, "WindowWidth": 400, "RescaleIntercept": -1024}
    tables = {
        f"{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for part, value in (("Descriptor", [256, 0, 8]), ("Data", bytes(range(256))))
    }
    palette = {"PhotometricInterpretation": "PALETTE COLOR", **tables}
    halved = COLOUR[:4, :6, :2].copy()  # two samples a pixel, as 4:2:2 has them
    files = {
        "explicit": dicom(GREY_16, RescaleSlope=1, **window),
        "implicit": dicom(GREY_16, uid.ImplicitVRLittleEndian),
        "big_endian": dicom(GREY_16, uid.ExplicitVRBigEndian),
        "colour": dicom(COLOUR),
        "planes": dicom(COLOUR, PlanarConfiguration=1),
        "ybr": dicom(COLOUR, PhotometricInterpretation="YBR_FULL"),
        "ybr_422": dicom(
            halved, PhotometricInterpretation="YBR_FULL_422", SamplesPerPixel=3
        ),
        "palette": dicom(GREY, **palette),
        "modality_table": dicom(
            GREY, ModalityLUTSequence=[lookup_table(2, [9, 8, 700, 6])]
        ),
        "voi_table": dicom(GREY, VOILUTSequence=[lookup_table(2, [9, 8, 7])]),
        "float": dicom(GREY_16.astype(np.float32)),
        "double": dicom(GREY_16.astype(np.float64)),
        "signed_32": dicom(GREY_16.astype(np.int32), RescaleSlope="0.5"),
        "bits": dicom(GREY, BitsAllocated=1, BitsStored=1, HighBit=0),
        "frames": dicom(frames, frames=2, PerFrameFunctionalGroupsSequence=groups),
        "monochrome1": dicom(GREY, PhotometricInterpretation="MONOCHROME1"),
        "rle": compressed(GREY_16, uid.RLELossless),
        "rle_colour": compressed(COLOUR, uid.RLELossless),
        "jpeg": in_streams(GREY, uid.JPEGBaseline8Bit, [saved(GREY, "JPEG")]),
        "jpeg_colour": in_streams(
            COLOUR, uid.JPEGBaseline8Bit, [saved(COLOUR, "JPEG")],
            PhotometricInterpretation="YBR_FULL_422",
        ),
        "jpeg_frames": in_streams(
            np.stack([GREY, GREY]), uid.JPEGBaseline8Bit,
            [saved(GREY, "JPEG"), saved(255 - GREY, "JPEG")], frames=2,
        ),
        "jpeg_extended": in_streams(
            GREY, uid.JPEGExtended12Bit,
            [saved(GREY, "JPEG").replace(b"\xff\xc0", b"\xff\xc1")],
        ),
        "jpeg_lossless": in_streams(
            GREY_16, uid.JPEGLosslessSV1, [lossless_jpeg(GREY_16)]
        ),
        "jpeg_ls": compressed(GREY_16, uid.JPEGLSLossless),
        # the encoder wants 32 pixels
        "jpeg_2000": compressed(np.tile(GREY_16, (7, 5)), uid.JPEG2000Lossless),
        "jpeg_2000_colour": compressed(
            np.tile(COLOUR, (7, 5, 1)), uid.JPEG2000Lossless
        ),
    }  # fmt: skip
    seeds = {f"dicom_{name}": Seed(".dcm", data) for name, data in files.items()}
    return {**seeds, "dicom_deflated": deflated_dicom()}


def dicom(pixels, syntax=uid.ExplicitVRLittleEndian, frames=None, **more) -> bytes:
    return fixed(lambda path: write_dicom(path, pixels, syntax, frames, **more))


def in_streams(pixels, syntax, streams, frames=None, **elements) -> bytes:
    """With frames that are compressed already."""
    more = {"streams": streams, "has_bot": frames is not None, **elements}
    return dicom(pixels, syntax, frames, **more)


def compressed(pixels, syntax) -> bytes:
    return fixed(lambda path: write_dicom(path, pixels), syntax)


def fixed(write: Callable, syntax: str | None = None) -> bytes:
    """The bytes of a file, the same each time: its identifiers are made at random."""
    with tempfile.TemporaryDirectory() as folder:
        dataset = pydicom.dcmread(write(Path(folder) / "a.dcm"))
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    if syntax is not None:
        dataset.compress(syntax, generate_instance_uid=False)
    file = io.BytesIO()
    dataset.save_as(file)
    return file.getvalue()


def deflated_dicom() -> Seed:
    data = dicom(GREY_16, uid.DeflatedExplicitVRLittleEndian)
    start = 144 + struct.unpack_from("<L", data, 140)[0]  # behind the file's own group
    content = data[:start] + zlib.decompress(data[start:], -zlib.MAX_WBITS)

    def pack(content: bytes) -> bytes:
        engine = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return content[:start] + engine.compress(content[start:]) + engine.flush()

    return Seed(".dcm", content, pack)


def lossless_jpeg(pixels: np.ndarray) -> bytes:
    """JPEG's lossless process on 16 bits, each predicted by its neighbour (ITU T.81).

    A difference is coded as the number of its bits, in a code of 5 bits, and those.
    """
    before = np.empty_like(pixels)
    before[:, 1:] = pixels[:, :-1]
    before[1:, 0] = pixels[:-1, 0]
    before[0, 0] = 2**15
    codes = ""
    for difference in (pixels - before).view(np.int16).ravel().tolist():
        bits = abs(difference).bit_length()
        codes += f"{bits:05b}"
        if 0 < bits < 16:
            low = difference if difference > 0 else difference + 2**bits - 1
            codes += f"{low:0{bits}b}"
    codes += "1" * (-len(codes) % 8)
    coded = int(codes, 2).to_bytes(len(codes) // 8).replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHH4B", 16, *pixels.shape, 1, 1, 0x11, 0)
    table = bytes([0, 0, 0, 0, 0, 17, *[0] * 11, *range(17)])
    segments = ((0xC3, frame), (0xC4, table), (0xDA, b"\1\1\0\1\0\0"))
    parts = [struct.pack(">BBH", 0xFF, m, 2 + len(body)) + body for m, body in segments]
    return b"\xff\xd8" + b"".join(parts) + coded + b"\xff\xd9"


# ------------------------------------------------------------------------------- NIfTI


def niftis() -> dict[str, Seed]:
    volume = np.stack([GREY_16, GREY_16 // 2, GREY_16 // 3], axis=-1)
    plain = nifti(volume.astype(np.int16))
    second = nifti(volume.astype(np.int16), nibabel.Nifti2Image)
    return {
        "nifti_1": Seed(".nii", plain),
        "nifti_2": Seed(".nii", second),
        "nifti_float": Seed(".nii", nifti(volume.astype(np.float64))),
        "nifti_scaled": Seed(
            ".nii", nifti(volume, scl_slope=0.5, scl_inter=3, cal_min=1, cal_max=9)
        ),
        "nifti_quaternion": Seed(
            ".nii", nifti(volume, sform_code=0, qform_code=1, quatern_b=0.5)
        ),
        "nifti_1_packed": Seed(".nii.gz", plain, pack_gzip),
        "nifti_2_packed": Seed(".nii.gz", second, pack_gzip),
    }


def nifti(volume, kind=nibabel.Nifti1Image, **fields) -> bytes:
    image = kind(volume, np.diag((1, 2, 3, 1.0)))
    image.header.set_slope_inter(fields.pop("scl_slope", 1), fields.pop("scl_inter", 0))
    for name, value in fields.items():
        image.header[name] = value
    return image.to_bytes()


def pack_gzip(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)
