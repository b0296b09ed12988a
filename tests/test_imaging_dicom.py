"""DICOM files: values worked out by hand, or by pydicom's own functions."""

import errno
import logging
import os
import pickle
import threading
import warnings

import numpy as np
import pydicom
import pytest
from dicom_files import PATIENT, group, lookup_table, write_dicom
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_modality_lut, apply_voi_lut, get_decoder

from hrcam.imaging import ImageReadError, Limits, _dicom, open_image
from hrcam.imaging._quiet import quiet

LIMITS = Limits()
ROW = np.array([[0, 1, 2, 4095]], np.uint16)


def bundled(name):
    """One of the files in pydicom's wheel."""
    return get_testdata_file(name, download=False)


def read(path, frame=0, limits=LIMITS):
    with open_image(path, limits) as file:
        return file.read(frame)


def refused(path, match, frame=0, limits=LIMITS):
    with pytest.raises(ImageReadError, match=match) as caught:
        read(path, frame, limits)
    assert PATIENT not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.fixture
def path(tmp_path):
    return tmp_path / "image.dcm"


# Values


def test_ct_stays_int16(path):
    # 12 bits, 0 to 4095, less 1024: -1024 to 3071
    write_dicom(path, ROW, BitsStored=12, HighBit=11, RescaleSlope=1,
                RescaleIntercept=-1024)  # fmt: skip
    picture = read(path)
    assert picture.pixels.dtype == np.int16
    assert picture.pixels.tolist() == [[-1024, -1023, -1022, 3071]]
    assert (picture.black, picture.white) == (-1024, 3071)
    assert picture.window is None


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype", "values", "white"),
    [
        ("1", "0", np.uint16, [0, 1, 2, 4095], 65535),
        ("2", "0", np.int32, [0, 2, 4, 8190], 131070),
        ("0.5", "-1", np.float32, [-1, -0.5, 0, 2046.5], 32766.5),
        # 65535 * 1e5 is beyond int32
        ("100000", "0", np.float32, [0, 1e5, 2e5, 4.095e8], 6.5535e9),
    ],
)
def test_type_after_rescaling(path, slope, intercept, dtype, values, white):
    write_dicom(path, ROW, RescaleSlope=slope, RescaleIntercept=intercept)
    picture = read(path)
    assert picture.pixels.dtype == dtype
    np.testing.assert_allclose(picture.pixels[0], values, rtol=1e-7)
    assert picture.white == white


def test_32_bits_become_float64(path):
    pixels = np.array([[0, 2**32 - 1]], np.uint32)
    write_dicom(path, pixels, RescaleSlope="0.5", RescaleIntercept="0")
    picture = read(path)
    assert picture.pixels.dtype == np.float64
    assert picture.pixels.tolist() == [[0, 2147483647.5]]


def test_negative_slope(path):
    # -(0..255) + 10: from -245 to 10
    pixels = np.array([[0, 255]], np.uint8)
    write_dicom(path, pixels, RescaleSlope=-1, RescaleIntercept=10)
    picture = read(path)
    assert picture.pixels.tolist() == [[10, -245]]
    assert (picture.black, picture.white) == (-245, 10)


def test_signed_stored_bits(path):
    # 12 bits with a sign: -2048 to 2047; the unused high bits hold rubbish
    pixels = np.array([[-2048, -1, 2047]], np.int16)
    rubbish = (pixels & 0x0FFF) | 0x5000
    write_dicom(path, rubbish.astype(np.int16), BitsStored=12, HighBit=11)
    picture = read(path)
    assert picture.pixels.tolist() == pixels.tolist()
    assert (picture.black, picture.white) == (-2048, 2047)


def test_rescaling_is_pydicoms():
    header = pydicom.dcmread(bundled("CT_small.dcm"))
    expected = apply_modality_lut(header.pixel_array, header)
    np.testing.assert_array_equal(read(bundled("CT_small.dcm")).pixels, expected)


def test_monochrome1_is_inverse(path):
    write_dicom(path, ROW, BitsStored=12, HighBit=11, WindowCenter=10, WindowWidth=5,
                PhotometricInterpretation="MONOCHROME1")  # fmt: skip
    picture = read(path)
    assert picture.pixels.tolist() == ROW.tolist()
    assert (picture.black, picture.white) == (4095, 0)
    assert picture.window == (11.5, 7.5)  # 9.5 -+ 2, swapped
    assert picture.unit_range()[0, 0] == 1


@pytest.mark.parametrize("first", [-2, 2])
def test_modality_lut(path, first):
    # stored -3 is below the table or not; 9 is above it
    pixels = np.array([[-3, 2, 3, 9]], np.int16)
    entries = [100, 50, 70, 300]
    write_dicom(path, pixels, ModalityLUTSequence=[lookup_table(first, entries)])
    picture = read(path)
    places = np.clip(pixels - first, 0, 3)  # by hand for 2: 0 0 1 3
    assert picture.pixels.tolist() == np.array(entries)[places].tolist()
    assert picture.pixels.dtype == np.uint16
    assert (picture.black, picture.white) == (50, 300)
    header = pydicom.dcmread(path)
    expected = apply_modality_lut(header.pixel_array, header)
    np.testing.assert_array_equal(picture.pixels, expected)


def test_rescaling_of_each_frame(path):
    pixels = np.array([[[1, 2]], [[1, 2]]], np.uint8)
    groups = [
        group("PixelValueTransformationSequence", RescaleSlope=s, RescaleIntercept=i)
        for s, i in ((2, 0), (3, -5))
    ]
    write_dicom(path, pixels, frames=2, PerFrameFunctionalGroupsSequence=groups)
    assert read(path, 0).pixels.tolist() == [[2, 4]]
    assert read(path, 1).pixels.tolist() == [[-2, 1]]
    # 2 * 0..255 is 0..510, 3 * 0..255 - 5 is -5..760: both frames on one scale
    for frame in (0, 1):
        picture = read(path, frame)
        assert (picture.black, picture.white) == (-5, 760)


def test_shared_rescaling_and_window_of_each_frame(path):
    shared = group(
        "PixelValueTransformationSequence", RescaleSlope=2, RescaleIntercept=1
    )
    own = [
        group("FrameVOILUTSequence", WindowCenter=c, WindowWidth=11) for c in (20, 40)
    ]
    write_dicom(path, np.array([[[3]], [[4]]], np.uint8), frames=2,
                SharedFunctionalGroupsSequence=[shared],
                PerFrameFunctionalGroupsSequence=own)  # fmt: skip
    assert read(path, 1).pixels.tolist() == [[9]]
    assert read(path, 0).window == (14.5, 24.5)  # 19.5 -+ 5
    assert read(path, 1).window == (34.5, 44.5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_float_pixels_have_the_range_of_the_file(path, dtype):
    pixels = np.array([[[0.25, 1]], [[-1, np.inf]], [[0, 2]]], dtype)
    write_dicom(path, pixels, frames=3)
    picture = read(path, 0)
    assert picture.pixels.dtype == dtype
    assert picture.pixels.tolist() == [[0.25, 1]]
    assert (picture.black, picture.white) == (-1, 2)  # those of other frames
    refused(path, "1 of its values are not finite", frame=1)


def test_rescaled_beyond_float32(path):
    write_dicom(path, ROW, RescaleSlope="1e38", RescaleIntercept="0")
    refused(path, "1 of its values are not finite")  # 4095e38


@pytest.mark.parametrize("slope", ["0", "inf", "nan"])
def test_slope_that_is_none(path, slope):
    with pydicom.config.disable_value_validation():
        write_dicom(path, ROW, RescaleSlope=slope, RescaleIntercept="0")
    refused(path, "rescale slope or intercept")


def test_padding_value_is_left(path):
    write_dicom(path, ROW, PixelPaddingValue=4095)
    assert read(path).pixels.tolist() == ROW.tolist()


# Windows


@pytest.mark.parametrize(
    ("elements", "window"),
    [
        ({"WindowCenter": 40, "WindowWidth": 400}, (-160, 239)),  # 39.5 -+ 199.5
        ({"WindowCenter": [40, 0], "WindowWidth": [400, 9]}, (-160, 239)),
        (
            {"WindowCenter": 40, "WindowWidth": 400, "VOILUTFunction": "LINEAR_EXACT"},
            (-160, 240),
        ),
        (
            {"WindowCenter": 40, "WindowWidth": 0.5, "VOILUTFunction": "SIGMOID"},
            (39.75, 40.25),
        ),
        ({"WindowCenter": 40, "WindowWidth": 0}, None),
        ({"WindowCenter": "", "WindowWidth": ""}, None),
        ({"VOILUTSequence": [lookup_table(-5, [9, 1, 4])]}, (-5, -3)),
        (
            {
                "VOILUTSequence": [lookup_table(-5, [9, 1, 4])],
                "WindowCenter": 1,
                "WindowWidth": 3,
            },
            (-0.5, 1.5),
        ),
    ],
)
def test_window(path, elements, window):
    write_dicom(path, ROW, **elements)
    assert read(path).window == window


def test_window_of_width_1_is_a_threshold(path):
    # the standard: black up to centre - 0.5, white above
    pixels = np.array([[1, 2, 3]], np.uint8)
    write_dicom(path, pixels, WindowCenter=2.5, WindowWidth=1)
    assert read(path).unit_range("window").tolist() == [[0, 0, 1]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_window_is_pydicoms(path, function, photometric):
    pixels = np.arange(-500, 500, 7, dtype=np.int16).reshape(11, 13)
    write_dicom(path, pixels, WindowCenter=33, WindowWidth=301,
                VOILUTFunction=function, RescaleSlope=2, RescaleIntercept=-7,
                PhotometricInterpretation=photometric)  # fmt: skip
    header = pydicom.dcmread(path)
    values = apply_modality_lut(header.pixel_array, header)
    shown = apply_voi_lut(values, header)
    # pydicom's output is from the lowest to the highest rescaled value
    lowest, highest = 2 * -32768 - 7, 2 * 32767 - 7
    expected = (shown - lowest) / (highest - lowest)
    if photometric == "MONOCHROME1":
        expected = 1 - expected
    result = read(path).unit_range("window")
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-6)
    assert 0 < np.mean(result == 0) < 1  # some are beyond the window


def test_sigmoid_window_is_its_tangent(path):
    write_dicom(path, ROW, WindowCenter=100, WindowWidth=50, VOILUTFunction="SIGMOID")
    header = pydicom.dcmread(path)
    black, white = read(path).window
    near = np.array([99.999, 100, 100.001])
    shown = apply_voi_lut(near, header) / 65535
    np.testing.assert_allclose((near - black) / (white - black), shown, atol=1e-8)


# Colour


def test_rgb(path):
    pixels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    picture = read(write_dicom(path, pixels))
    np.testing.assert_array_equal(picture.pixels, pixels)
    assert (picture.black, picture.white, picture.window) == (0, 255, None)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).reshape(2, 4, 3)
    write_dicom(path, planes, PlanarConfiguration=1)
    np.testing.assert_array_equal(read(path).pixels, pixels)


def test_16_bit_rgb(path):
    pixels = np.array([[[0, 300, 65535]]], np.uint16)
    picture = read(write_dicom(path, pixels))
    assert picture.pixels.dtype == np.uint16
    assert (picture.black, picture.white) == (0, 65535)


def test_ybr_becomes_rgb(path):
    # R = Y + 1.402 (Cr - 128) = 76 + 1.402 * 127 = 254; and so on: pure red
    pixels = np.array([[[76, 85, 255]]], np.uint8)
    write_dicom(path, pixels, PhotometricInterpretation="YBR_FULL")
    np.testing.assert_allclose(read(path).pixels[0, 0], [254, 0, 0], atol=1)


def palette(bits, entries, first=0, **more):
    parts = {}
    for colour, values in zip(("Red", "Green", "Blue"), entries, strict=True):
        name = f"{colour}PaletteColorLookupTable"
        parts[f"{name}Descriptor"] = [len(values), first, bits]
        kind = np.uint8 if bits == 8 else "<u2"
        parts[f"{name}Data"] = np.array(values, kind).tobytes()
    return {"PhotometricInterpretation": "PALETTE COLOR", **parts, **more}


@pytest.mark.parametrize("bits", [8, 16])
def test_palette(path, bits):
    entries = [[1, 2, 3, 4], [10, 20, 30, 40], [100, 150, 200, 250]]
    pixels = np.array([[0, 5, 6, 8, 9]], np.uint8)
    write_dicom(path, pixels, **palette(bits, entries, first=5))
    picture = read(path)
    # below 5: the first entry; above 8: the last
    assert picture.pixels[0].tolist() == [
        [1, 10, 100], [1, 10, 100], [2, 20, 150], [4, 40, 250], [4, 40, 250]
    ]  # fmt: skip
    assert picture.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert (picture.black, picture.white) == (0, 2**bits - 1)


def test_big_endian_palette(path):
    elements = palette(16, [[1, 2], [3, 4], [5, 6]])
    for name in [name for name in elements if name.endswith("Data")]:
        elements[name] = np.frombuffer(elements[name], "<u2").astype(">u2").tobytes()
    pixels = np.array([[0, 1]], np.uint8)
    write_dicom(path, pixels, uid.ExplicitVRBigEndian, **elements)
    assert read(path).pixels.tolist() == [[[1, 3, 5], [2, 4, 6]]]


def test_palette_of_8_bits_with_more_than_256_entries(path):
    ramp = np.arange(512) // 2
    write_dicom(path, np.array([[300, 511]], np.uint16), **palette(8, [ramp] * 3))
    assert read(path).pixels[0, :, 0].tolist() == [150, 255]


def test_palette_in_segments(path):
    # a discrete segment of 2 entries, then a line of 2 more to 40: 10 20 30 40
    segments = np.array([0, 2, 10, 20, 1, 2, 40], "<u2").tobytes()
    elements = {
        f"{kind}{colour}PaletteColorLookupTable{part}": value
        for colour in ("Red", "Green", "Blue")
        for kind, part, value in (
            ("", "Descriptor", [4, 0, 16]), ("Segmented", "Data", segments)
        )
    }  # fmt: skip
    write_dicom(path, np.array([[0, 1, 2, 3]], np.uint8), **elements,
                PhotometricInterpretation="PALETTE COLOR")  # fmt: skip
    assert read(path).pixels[0, :, 2].tolist() == [10, 20, 30, 40]


def test_palette_cut_off(path):
    elements = palette(16, [[1, 2, 3]] * 3)
    elements["BluePaletteColorLookupTableData"] = b"\0\0"
    write_dicom(path, np.zeros((1, 2), np.uint8), **elements)
    refused(path, "lookup table is cut off")


def test_bundled_palette_is_pydicoms():
    header = pydicom.dcmread(bundled("examples_palette.dcm"))
    expected = pydicom.pixels.apply_color_lut(header.pixel_array, header)
    np.testing.assert_array_equal(read(header.filename).pixels, expected)


# Transfer syntaxes


@pytest.mark.parametrize(
    ("name", "twin", "most"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm", 0),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", 0),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", 0),
        ("MR_small_bigendian.dcm", "MR_small.dcm", 0),
        ("MR_small_implicit.dcm", "MR_small.dcm", 0),
        ("MR_small_padded.dcm", "MR_small.dcm", 0),
        ("rtdose_rle_1frame.dcm", "rtdose_1frame.dcm", 0),
        ("rtdose_expb_1frame.dcm", "rtdose_1frame.dcm", 0),
        ("liver_expb_1frame.dcm", "liver_1frame.dcm", 0),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm", 0),
        ("SC_rgb_small_odd_jpeg.dcm", "SC_rgb_small_odd.dcm", 4),
        ("SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm", 0),  # JPEG lossless
        ("SC_rgb_gdcm_KY.dcm", "SC_rgb_rle.dcm", 0),  # JPEG 2000
        ("SC_rgb_jls_lossy_line.dcm", "SC_rgb_rle.dcm", 2),
        ("SC_rgb_dcmtk_+eb+cr.dcm", "SC_rgb_rle.dcm", 1),  # JPEG of RGB
        ("SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_rle.dcm", 6),  # JPEG of YBR
        ("SC_ybr_full_422_uncompressed.dcm", "SC_rgb_rle.dcm", 6),
        ("SC_rgb_jpeg.dcm", "SC_rgb_jpeg_dcmd.dcm", 1),
    ],
)
def test_compressed_equals_uncompressed(name, twin, most):
    one, other = read(bundled(name)), read(bundled(twin))
    assert one.pixels.dtype == other.pixels.dtype
    difference = one.pixels.astype(float) - other.pixels.astype(float)
    assert np.abs(difference).max() <= most
    assert (one.black, one.white) == (other.black, other.white)
    assert one.pixels.dtype.isnative


def test_jpeg_extended_of_12_bits():
    picture = read(bundled("JPGExtended.dcm"))
    assert (picture.pixels.dtype, picture.white) == (np.uint16, 4095)
    assert picture.pixels.max() == 264  # beyond 8 bits


def test_jpeg_lossless_of_any_selection_value(path):
    header = pydicom.dcmread(bundled("SC_rgb_jpeg_gdcm.dcm"))
    header.file_meta.TransferSyntaxUID = uid.JPEGLossless
    header.save_as(path)
    expected = read(bundled("SC_rgb_rle.dcm")).pixels
    np.testing.assert_array_equal(read(path).pixels, expected)


def test_deflated(path):
    pixels = np.arange(12, dtype=np.uint16).reshape(2, 2, 3)
    write_dicom(path, pixels, uid.DeflatedExplicitVRLittleEndian, frames=2)
    assert read(path, 1).pixels.tolist() == pixels[1].tolist()


FRAMES = np.random.default_rng(0).integers(0, 60, (3, 5, 7)).astype(np.uint16)
IMAGES = np.random.default_rng(2).integers(0, 60, (3, 40, 33)).astype(np.uint16)


@pytest.mark.parametrize(
    "syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless]
)
@pytest.mark.parametrize("table", [True, False])
def test_frames_in_any_order(path, syntax, table):
    write_dicom(path, IMAGES, frames=3)
    header = pydicom.dcmread(path)
    header.compress(syntax)
    streams = list(generate_frames(header.PixelData, number_of_frames=3))
    header.PixelData = pydicom.encaps.encapsulate(
        streams, fragments_per_frame=1, has_bot=table
    )
    header.save_as(path)
    with open_image(path) as file:
        assert file.frames == range(3)
        for frame in (2, 0, 1, 1):
            np.testing.assert_array_equal(file.read(frame).pixels, IMAGES[frame])


@pytest.mark.parametrize("table", [True, False])
def test_frames_in_several_fragments(path, table):
    write_dicom(path, IMAGES, frames=3)
    header = pydicom.dcmread(path)
    header.compress(uid.JPEG2000Lossless)
    streams = list(generate_frames(header.PixelData, number_of_frames=3))
    header.PixelData = pydicom.encaps.encapsulate(
        streams, fragments_per_frame=2, has_bot=table
    )
    header.save_as(path)
    for frame in range(3):
        np.testing.assert_array_equal(read(path, frame).pixels, IMAGES[frame])


def test_uncompressed_frames(path):
    write_dicom(path, FRAMES, frames=3)
    for frame in (2, 0, 1):
        np.testing.assert_array_equal(read(path, frame).pixels, FRAMES[frame])
    refused(path, "no image 3; it has 3", frame=3)


def test_frames_of_one_bit_that_begin_within_a_byte(path):
    bits = np.random.default_rng(1).integers(0, 2, (3, 3, 5)).astype(np.uint8)
    packed = np.packbits(bits, bitorder="little")  # 45 bits: 6 bytes
    write_dicom(path, bits, frames=3, BitsAllocated=1, BitsStored=1, HighBit=0,
                PixelData=packed.tobytes())  # fmt: skip
    for frame in range(3):
        picture = read(path, frame)
        np.testing.assert_array_equal(picture.pixels, bits[frame])
        assert (picture.black, picture.white) == (0, 1)


def test_memory_is_of_one_frame(path):
    import tracemalloc

    pixels = np.zeros((64, 256, 256), np.uint16)  # 8 MiB, 128 KiB a frame
    write_dicom(path, pixels, frames=64)
    read(path)  # imports done
    tracemalloc.start()
    read(path, 63)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_no_decoder(monkeypatch):
    decoder = get_decoder(uid.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    refused(
        bundled("SC_rgb_jpeg_gdcm.dcm"),
        r'no decoder of JPEG Lossless.*: pip install "hrcam\[jpeg\]"',
    )


def test_pillow_alone(monkeypatch):
    decoder = get_decoder(uid.JPEGExtended12Bit)
    only = {"pillow": decoder._available["pillow"]}
    monkeypatch.setattr(decoder, "_available", only)
    refused(bundled("JPGExtended.dcm"), r'more than 8 bits deep: pip install "hrcam')


def test_syntax_that_is_not_read(path):
    write_dicom(path, ROW, uid.MPEG2MPML, streams=[b"\0" * 8])
    refused(path, r"transfer syntax \(MPEG2 .*\) is not read")


# Objects without pixels; headers


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("test-SR.dcm", "Comprehensive SR Storage"),
        ("rtplan.dcm", "RT Plan Storage"),
        ("waveform_ecg.dcm", "12-lead ECG Waveform Storage"),
        ("dicomdirtests/DICOMDIR", "Media Storage Directory Storage"),
    ],
)
def test_no_pixels(name, kind):
    path = bundled("rtplan.dcm").replace("rtplan.dcm", name)
    refused(path, rf"no pixels \(a {kind}\)")


def test_no_dicom(path):
    path.write_bytes(b"just some text that is no image at all")
    refused(path, "cannot be read as an image")


@pytest.mark.parametrize("syntax", [0, 1])
def test_without_preamble_and_meta(path, syntax):
    header = pydicom.dcmread(bundled("MR_small.dcm"))
    implicit = syntax == 1
    del header.file_meta
    header.preamble = None
    header.save_as(path, implicit_vr=implicit, little_endian=True)
    expected = read(bundled("MR_small.dcm")).pixels
    np.testing.assert_array_equal(read(path).pixels, expected)


def test_header_for_writers(path):
    write_dicom(path, ROW)
    with open_image(path) as file:
        assert file.header.PatientName == PATIENT
        assert file.header.file_meta.TransferSyntaxUID == uid.ExplicitVRLittleEndian
        assert "PixelData" not in file.header


@pytest.mark.parametrize(
    ("elements", "match"),
    [
        ({"Rows": 0}, "less than 1"),
        ({"NumberOfFrames": -1}, "less than 1"),
        ({"Columns": None}, "Columns is missing"),
        ({"BitsAllocated": 12}, "BitsAllocated or BitsStored"),
        (
            {
                "BitsAllocated": 1,
                "BitsStored": 1,
                "HighBit": 0,
                "SamplesPerPixel": 3,
                "PhotometricInterpretation": "RGB",
            },
            "PhotometricInterpretation",
        ),
        ({"BitsStored": 17}, "BitsAllocated or BitsStored"),
        ({"HighBit": 13}, "HighBit is not"),
        ({"SamplesPerPixel": 3}, "PhotometricInterpretation"),
        ({"PhotometricInterpretation": PATIENT}, "PhotometricInterpretation"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR CS")  # as it is written
def test_headers_that_are_refused(path, elements, match):
    refused(write_dicom(path, ROW, **elements), match)


def test_no_number_of_frames_is_one(path):
    write_dicom(path, ROW, NumberOfFrames=0)
    assert read(path).pixels.tolist() == ROW.tolist()


def test_number_that_is_none():
    refused(bundled("badVR.dcm"), "NumberOfFrames is missing or no whole number")


# Damage


def test_cut_off_uncompressed(path):
    write_dicom(path, FRAMES, frames=3)  # 3 * 5 * 7 * 2 = 210 bytes
    path.write_bytes(path.read_bytes()[:-20])
    refused(path, "cut off: 190 bytes of pixels, where 210 are due")
    refused(bundled("MR_truncated.dcm"), "cut off")


def test_cut_off_before_the_pixels(path):
    write_dicom(path, ROW)
    path.write_bytes(path.read_bytes()[:-20])  # 8 bytes of pixels, 12 of their tag
    refused(path, "cut off before its pixels")


def test_fewer_frames_than_it_says(path):
    write_dicom(path, FRAMES, frames=3, NumberOfFrames=4)
    refused(path, "cut off: 210 bytes of pixels, where 280 are due")
    header = pydicom.dcmread(bundled("SC_rgb_rle_2frame.dcm"))
    header.NumberOfFrames = 3
    header.save_as(path)
    refused(path, "its 2 compressed parts are not 3 frames")


COMPRESSED = [
    "MR_small_RLE.dcm",
    "MR_small_jp2klossless.dcm",
    "MR_small_jpeg_ls_lossless.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "JPGExtended.dcm",
]


@pytest.mark.parametrize("name", COMPRESSED)
def test_cut_off_compressed_file(path, name):
    with open(bundled(name), "rb") as file:
        data = file.read()
    path.write_bytes(data[:-600])
    refused(path, "cut off within its compressed pixels")


@pytest.mark.parametrize("name", COMPRESSED)
def test_cut_off_stream(path, name):
    # the file is whole, its stream is not
    header = pydicom.dcmread(bundled(name))
    stream = next(generate_frames(header.PixelData, number_of_frames=1))
    header.PixelData = pydicom.encaps.encapsulate([stream[: len(stream) * 4 // 5]])
    header.save_as(path)
    refused(path, "cut off or damaged|cannot be decompressed|not the size")


def test_jpeg_ls_that_is_cut_off_but_has_its_end(path):
    header = pydicom.dcmread(bundled("MR_small_jpeg_ls_lossless.dcm"))
    stream = next(generate_frames(header.PixelData, number_of_frames=1))
    header.PixelData = pydicom.encaps.encapsulate([stream[:3000] + b"\xff\xd9"])
    header.save_as(path)
    refused(path, r"cannot be decompressed \(JPEG-LS Lossless")


def test_rle_that_makes_its_decoder_panic(path):
    # found by fuzzing: a panic in Rust is no Exception; the second segment of 2
    # begins too late, so that the first has too many bytes
    with open(bundled("MR_small_RLE.dcm"), "rb") as file:
        data = file.read()
    start = bytes.fromhex("02000000 40000000 9c07")
    assert data.count(start) == 1
    path.write_bytes(data.replace(start, start[:-2] + b"\xff\x07"))
    refused(path, r"cannot be decompressed \(RLE Lossless\)")


@pytest.mark.parametrize("name", ["JPEG2000.dcm", "JPGExtended.dcm"])
def test_stream_of_another_size(path, name):
    # 1 x 1 would become the whole image: numpy repeats one value
    header = pydicom.dcmread(bundled(name))
    header.Rows += 1
    header.save_as(path)
    refused(path, "not the size of its header")


def test_stream_of_more_bits(path):
    # 16 bits would be cut to 8 without a word
    header = pydicom.dcmread(bundled("JPEG2000.dcm"))
    header.BitsAllocated, header.BitsStored, header.HighBit = 8, 8, 7
    header.save_as(path)
    refused(path, "not the size of its header")


def test_stream_of_two_sizes(path):
    # the first, in a box that no decoder looks at, is the header's
    header = pydicom.dcmread(bundled("JPEG2000.dcm"))
    stream = next(generate_frames(header.PixelData, number_of_frames=1))
    header.PixelData = pydicom.encaps.encapsulate([stream[:100] + stream])
    header.save_as(path)
    refused(path, "cut off or damaged")


def test_stream_that_claims_much_memory():
    # this one says 3.8e12 pixels
    refused(
        bundled("JPEG2000-embedded-sequence-delimiter.dcm"),
        "not the size of its header",
    )


def test_offset_table_of_nowhere(path):
    header = pydicom.dcmread(write_dicom(path, IMAGES, frames=3))
    header.compress(uid.JPEG2000Lossless)
    streams = list(generate_frames(header.PixelData, number_of_frames=3))
    data = bytearray(pydicom.encaps.encapsulate(streams, fragments_per_frame=2))
    data[16:20] = b"\x07\0\0\0"  # the third frame's, after the item's 8 bytes
    header.PixelData = bytes(data)
    header.save_as(path)
    refused(path, "its 6 compressed parts are not 3 frames")


def test_compressed_pixels_of_an_uncompressed_syntax(path):
    with open(bundled("MR_small_RLE.dcm"), "rb") as file:
        data = file.read()
    old, new = b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.1\0"
    path.write_bytes(data.replace(old, new))
    refused(path, "compressed, but it does not say how")


# Limits


def test_limits(path):
    write_dicom(path, FRAMES, frames=3)  # 35 pixels, 210 bytes
    assert read(path, limits=Limits(35, 2000)).size == (5, 7)
    refused(path, "35 pixels, more than 34", limits=Limits(34, 2000))
    write_dicom(path, FRAMES, frames=3, NumberOfFrames=2**31 - 1)
    refused(path, r"150323855290 bytes unpacked, more than 2000",
            limits=Limits(35, 2000))  # fmt: skip


@pytest.fixture
def deflated(path):
    write_dicom(
        path, np.zeros((300, 300), np.uint8), uid.DeflatedExplicitVRLittleEndian
    )
    return path


def test_deflated_bomb(deflated):
    assert deflated.stat().st_size < 2000
    limits = Limits(max_pixels=20_000, max_bytes=2**33)
    refused(deflated, "inflates to more than 80000 bytes", limits=limits)
    limits = Limits(max_pixels=2**27, max_bytes=70_000)
    refused(deflated, "inflates to more than 70000 bytes", limits=limits)


def test_deflated_cut_off(deflated):
    deflated.write_bytes(deflated.read_bytes()[:-30])
    refused(deflated, "deflated data do not end")


# Quiet


@pytest.mark.parametrize("syntax", [None, uid.RLELossless])
def test_no_memory_while_decoding_is_no_fault_of_the_file(path, monkeypatch, syntax):
    write_dicom(path, IMAGES, frames=3)
    if syntax:
        header = pydicom.dcmread(path)
        header.compress(syntax)
        header.save_as(path)

    def starved(*_):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    with open_image(path) as file:
        with monkeypatch.context() as patch:
            patch.setattr(_dicom._OpenDicom, "_decode", starved)
            with pytest.raises(OSError, match="allocate memory") as caught:
                file.read(0)
        np.testing.assert_array_equal(file.read(0).pixels, IMAGES[0])

    assert caught.value.errno == errno.ENOMEM


def test_nothing_is_warned_about_or_logged(path, caplog):
    def of_pydicom():
        return [r for r in caplog.records if r.name.startswith("pydicom")]

    with quiet("pydicom"):
        write_dicom(path, ROW, SpecificCharacterSet="ISO_IR 999")
    caplog.set_level(logging.DEBUG)
    assert read(path).pixels.tolist() == ROW.tolist()
    refused(bundled("JPEG-lossy.dcm"), "cannot be decompressed")  # pydicom logs it
    assert not of_pydicom()
    with pytest.warns(UserWarning, match="ISO_IR 999"):
        pydicom.dcmread(path)
    assert of_pydicom()


def test_quiet_is_for_one_thread():
    caught = []

    def other():
        try:
            warnings.warn("told", stacklevel=1)
        except UserWarning as error:
            caught.append(str(error))

    with quiet("pydicom"):
        warnings.warn("dropped", stacklevel=1)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert caught == ["told"]
    with pytest.raises(UserWarning, match="after"):
        warnings.warn("after", stacklevel=1)


def test_quiet_filter_goes_to_other_processes():
    with quiet("pydicom"):
        filters = pickle.loads(pickle.dumps(warnings.filters))
        assert filters[0] == warnings.filters[0]


def test_errors_hold_no_values(path):
    # pydicom's own message would hold the value of the element
    with pydicom.config.disable_value_validation():
        write_dicom(path, ROW, RescaleSlope="1", RescaleIntercept="1")
    data = path.read_bytes()
    at = data.index(b"\x28\x00\x53\x10DS")
    path.write_bytes(data[: at + 8] + b"Se" + data[at + 10 :])
    with pytest.raises(ImageReadError) as caught:
        read(path)
    assert caught.value.reason.endswith("(ValueError)")
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
