"""How a DICOM file stores its pixels, checked before memory is taken for them."""

from typing import NamedTuple

from pydicom import FileDataset, uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import Decoder

from hrcam.imaging._dicom_values import RefusedError
from hrcam.imaging.read import Limits

GREY = ("MONOCHROME1", "MONOCHROME2")
BITS = (1, 8, 16, 32, 64)
INSTALL = 'pip install "hrcam[jpeg]"'


class Layout(NamedTuple):
    """How the pixels are stored; the names are those of pydicom's decoders."""

    rows: int
    columns: int
    number_of_frames: int
    samples_per_pixel: int
    photometric_interpretation: str
    bits_allocated: int
    bits_stored: int
    pixel_representation: int
    planar_configuration: int

    @property
    def is_grey(self) -> bool:
        """Neither colour nor numbers of colours."""
        return self.photometric_interpretation in GREY

    @property
    def is_palette(self) -> bool:
        """Numbers of colours."""
        return self.photometric_interpretation == "PALETTE COLOR"

    def holds(self, stream: tuple[int, int, int, int]) -> bool:
        """Is a compressed frame of these rows, columns, samples and bits a frame?"""
        *size, bits = stream
        wanted = [self.rows, self.columns, self.samples_per_pixel]
        return size == wanted and bits <= self.bits_allocated

    @property
    def frame_bits(self) -> int:
        """Of one frame, uncompressed."""
        samples = self.samples_per_pixel
        if self.photometric_interpretation == "YBR_FULL_422":
            samples = 2  # two pixels share their colour
        return self.rows * self.columns * samples * self.bits_allocated


def read_layout(header: FileDataset, keyword: str) -> Layout:
    """Reads it from a header.

    Args:
        header: The header.
        keyword: Of the element with the pixels.

    Raises:
        RefusedError: If an element is missing or of a kind that is not read.
    """
    whole = keyword == "PixelData"
    layout = Layout(
        rows=_whole(header, "Rows"),
        columns=_whole(header, "Columns"),
        number_of_frames=_whole(header, "NumberOfFrames", 1) or 1,
        samples_per_pixel=_whole(header, "SamplesPerPixel", 1),
        photometric_interpretation=str(header.get("PhotometricInterpretation")),
        bits_allocated=_whole(header, "BitsAllocated"),
        bits_stored=_whole(header, "BitsStored" if whole else "BitsAllocated"),
        pixel_representation=_whole(header, "PixelRepresentation", 0),
        planar_configuration=_whole(header, "PlanarConfiguration", 0),
    )
    if layout.rows < 1 or layout.columns < 1 or layout.number_of_frames < 1:
        raise RefusedError("its Rows, Columns or NumberOfFrames are less than 1")
    bits, stored = layout.bits_allocated, layout.bits_stored
    if bits not in BITS or not 1 <= stored <= bits:
        raise RefusedError(
            "its BitsAllocated or BitsStored are of a kind that is not read"
        )
    if _whole(header, "HighBit", stored - 1) != stored - 1:
        raise RefusedError("its HighBit is not BitsStored - 1: a kind that is not read")
    samples = layout.samples_per_pixel
    if samples != _samples(layout.photometric_interpretation) or samples > bits:
        raise RefusedError(
            "its PhotometricInterpretation is of a kind that is not read"
        )
    return layout


def _samples(kind: str) -> int:
    return 1 if kind in (*GREY, "PALETTE COLOR") else 3


def _whole(header: FileDataset, keyword: str, default: int | None = None) -> int:
    try:
        value = header.get(keyword)
        return int(default if value is None else value)
    except (TypeError, ValueError):
        raise RefusedError(f"its {keyword} is missing or no whole number") from None


def check_size(layout: Layout, limits: Limits) -> None:
    """Checks one frame's pixels and all frames' bytes.

    Raises:
        RefusedError: If they are too many.
    """
    pixels = layout.rows * layout.columns
    if pixels > limits.max_pixels:
        raise RefusedError(f"{pixels} pixels, more than {limits.max_pixels}")
    size = pixels * layout.samples_per_pixel * -(-layout.bits_allocated // 8)
    size *= layout.number_of_frames
    if size > limits.max_bytes:
        raise RefusedError(f"{size} bytes unpacked, more than {limits.max_bytes}")


def transfer_syntax(header: FileDataset) -> uid.UID:
    """Returns it; of files that do not say it, what pydicom found."""
    told = header.file_meta.get("TransferSyntaxUID")
    if told:
        return uid.UID(told)
    implicit, little_endian = header.original_encoding
    if not little_endian:
        return uid.ExplicitVRBigEndian
    return uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian


def decoder_of(syntax: uid.UID) -> Decoder:
    """Returns pydicom's decoder.

    Raises:
        RefusedError: If there is none, or what it needs is not installed.
    """
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        name = syntax.name if syntax in uid.UID_dictionary else "unknown"
        raise RefusedError(
            f"its transfer syntax ({name}) is not read; convert it to uncompressed"
        ) from None
    if not decoder.is_available:
        raise RefusedError(f"no decoder of {syntax.name} is installed: {INSTALL}")
    return decoder


def has_libjpeg(syntax: uid.UID, decoder: Decoder) -> bool:
    """Pillow alone decodes only JPEG of 8 bits."""
    return (
        syntax not in uid.JPEGTransferSyntaxes
        or "pylibjpeg" in decoder.available_plugins
    )
