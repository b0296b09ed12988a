"""NIfTI: which voxel is which pixel, there and back; damaged and hostile files."""

import errno
import gzip
import itertools
import struct
import tempfile

import cv2
import nibabel
import numpy as np
import pytest
from nibabel.orientations import ornt_transform

import hrcam.imaging._nifti as nifti
from hrcam.imaging import ImageReadError, Limits, open_image, read_image
from hrcam.imaging.nifti_map import MapVolume, write_nifti_map

ALL_48 = [
    list(zip(axes, turns, strict=True))
    for axes in itertools.permutations(range(3))
    for turns in itertools.product((1, -1), repeat=3)
]
OBLIQUE = nibabel.affines.from_matvec(
    nibabel.eulerangles.euler2mat(0.3, -0.2, 0.15) @ np.diag((0.9, 1.1, 3.0)),
    (-80, 55, -31),
)


def save(path, values, affine=OBLIQUE, kind=nibabel.Nifti1Image, **fields):
    image = kind(values, affine)
    for name, value in fields.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def stored(orientation, volume, affine):
    """The same volume, given in RAS+, with its axes stored in another order."""
    image = nibabel.Nifti1Image(volume, affine)
    ras = np.array([(0, 1), (1, 1), (2, 1)])
    return image.as_reoriented(ornt_transform(ras, np.array(orientation)))


@pytest.fixture
def volume():
    """RAS+ `(3, 4, 5)`: voxel (i, j, k) is 100 i + 10 j + k."""
    i, j, k = np.indices((3, 4, 5))
    return (100 * i + 10 * j + k).astype(np.int16)


# ------------------------------------------------------------------------------ slices


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_a_slice_by_hand(tmp_path, volume, ending, kind):
    path = save(tmp_path / f"a{ending}", volume, np.eye(4), kind)

    with open_image(path) as file:
        assert file.frames == range(5)
        picture = file.read(1)

    # Top left is anterior (j = 3) and right (i = 2): 100 * 2 + 10 * 3 + 1.
    assert picture.pixels.tolist() == [
        [231, 131, 31],
        [221, 121, 21],
        [211, 111, 11],
        [201, 101, 1],
    ]
    assert picture.pixels.dtype == np.int16
    assert (picture.black, picture.white, picture.window) == (0, 234, None)


@pytest.mark.parametrize("orientation", ALL_48)
def test_every_way_of_storing_shows_the_same(tmp_path, volume, orientation):
    image = stored(orientation, volume, OBLIQUE)
    nibabel.save(image, tmp_path / "a.nii")
    axis, turn = next(
        (n, turn) for n, (world, turn) in enumerate(orientation) if world == 2
    )

    with open_image(tmp_path / "a.nii") as file:
        assert len(file.frames) == image.shape[axis] == 5
        for frame in file.frames:
            k = frame if turn == 1 else 4 - frame  # numbered as stored
            expected = volume[::-1, ::-1, k].T
            np.testing.assert_array_equal(file.read(frame).pixels, expected)


@pytest.mark.parametrize("orientation", ALL_48)
def test_a_marked_voxel_comes_back(tmp_path, volume, orientation):
    """Source, slices, maps, volume: the same voxel, the same place in the head."""
    marked = np.zeros_like(volume)
    marked[2, 1, 3] = 7
    image = stored(orientation, marked, OBLIQUE)
    nibabel.save(image, tmp_path / "a.nii")

    with open_image(tmp_path / "a.nii") as file:
        maps = [file.read(frame).pixels for frame in file.frames]
    write_nifti_map(tmp_path / "map.nii", tmp_path / "a.nii", maps)

    written = nibabel.load(tmp_path / "map.nii")
    np.testing.assert_array_equal(written.get_fdata(), image.get_fdata())
    np.testing.assert_array_equal(
        written.affine, nibabel.load(tmp_path / "a.nii").affine
    )
    peak = np.argwhere(written.get_fdata() == 7)
    place = nibabel.affines.apply_affine(written.affine, peak)
    expected = nibabel.affines.apply_affine(OBLIQUE, [[2, 1, 3]])
    np.testing.assert_allclose(place, expected, atol=1e-4)  # float32 in the header


def test_codes_of_orientations_by_name(tmp_path, volume):
    """RAS, LPS, LAS and sagittal storage, by nibabel's own names of them."""
    for codes in ("RAS", "LPS", "LAS", "PIR", "ASL"):
        orientation = nibabel.orientations.axcodes2ornt(codes)
        image = stored(orientation, volume, OBLIQUE)
        nibabel.save(image, tmp_path / "a.nii")
        assert "".join(nibabel.aff2axcodes(image.affine)) == codes

        with MapVolume(tmp_path / "a.nii", tmp_path / "map.nii"):
            pass

        written = nibabel.load(tmp_path / "map.nii")
        source = nibabel.load(tmp_path / "a.nii")
        np.testing.assert_array_equal(written.affine, source.affine)
        assert written.shape == source.shape


def test_without_an_affine_the_third_axis_is_axial(tmp_path, volume):
    path = save(tmp_path / "a.nii", volume, None)
    header = nibabel.load(path).header
    assert (header["sform_code"], header["qform_code"]) == (0, 0)

    # nibabel's default: the first axis runs to the left, so that 0 is on the left.
    picture = read_image(f"{path}#2")
    np.testing.assert_array_equal(picture.pixels, volume[:, ::-1, 2].T)

    write_nifti_map(tmp_path / "map.nii", path, [np.zeros((4, 3))] * 5)
    written = nibabel.load(tmp_path / "map.nii")
    assert (written.header["sform_code"], written.header["qform_code"]) == (0, 0)
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    # One plane each, whatever the number of axes that is stored. RAS+, so that
    # everything is turned: sagittal rows run from S to I, columns from A to P.
    [((3, 4), 1, 0), ((3, 4, 1), 1, 0), ((3, 4, 1, 1, 1), 1, 0), ((3, 1, 5), 2, 0),
     ((1, 4, 5), 2, 1), ((1, 4, 1), 1, 0), ((1, 1, 5), 2, 1)],
)  # fmt: skip
def test_one_image_of_any_plane(tmp_path, shape, rows, columns):
    values = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    path = save(tmp_path / "a.nii", values, np.eye(4))

    picture = read_image(path)

    volume = values.reshape((*shape, 1)[:3])
    (axis,) = {0, 1, 2} - {rows, columns}
    expected = np.transpose(volume, (axis, rows, columns))[0, ::-1, ::-1]
    np.testing.assert_array_equal(picture.pixels, expected)
    write_nifti_map(tmp_path / "map.nii", path, [picture.pixels])
    written = nibabel.load(tmp_path / "map.nii")
    np.testing.assert_array_equal(written.get_fdata(), volume)
    np.testing.assert_array_equal(written.affine, nibabel.load(path).affine)


def test_4d_of_one_volume_is_that_volume(tmp_path, volume):
    path = save(tmp_path / "a.nii", volume[..., None])

    assert read_image(f"{path}#4").pixels.max() == 234
    write_nifti_map(tmp_path / "map.nii", path, [np.ones((4, 3))] * 5)
    assert nibabel.load(tmp_path / "map.nii").shape == (3, 4, 5)


# ------------------------------------------------------------------------------ values


@pytest.mark.parametrize("dtype", ["<u1", "<i2", ">i2", ">u2", "<i4", ">f4", "<f8"])
def test_values_are_those_of_nibabel(tmp_path, dtype):
    values = np.random.default_rng(0).integers(0, 100, (3, 4, 5)).astype(dtype)
    header = nibabel.Nifti1Header(endianness=">" if dtype[0] == ">" else "<")
    header.set_data_dtype(dtype)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4), header), tmp_path / "a.nii")
    assert nibabel.load(tmp_path / "a.nii").header.endianness == dtype[0]

    picture = read_image(f"{tmp_path / 'a.nii'}#3")

    assert picture.pixels.dtype == np.dtype(dtype).newbyteorder("=")
    assert picture.pixels.dtype.isnative
    np.testing.assert_array_equal(picture.pixels, values[::-1, ::-1, 3].T)
    assert (picture.black, picture.white) == (values.min(), values.max())


def scaled(path, slope, inter):
    """Writes the scaling into the file, past nibabel, which would undo it."""
    data = bytearray(path.read_bytes())
    struct.pack_into("<ff", data, 112, slope, inter)
    path.write_bytes(data)
    return path


def test_scaling_of_the_header(tmp_path, volume):
    path = scaled(save(tmp_path / "a.nii", volume), -0.5, 3)

    picture = read_image(f"{path}#1")

    # Voxel (2, 3, 1) is 231: 3 - 231 / 2; lowest 3 - 234 / 2, highest 3 - 0 / 2.
    assert picture.pixels[0, 0] == -112.5
    assert (picture.black, picture.white) == (-114, 3)
    assert picture.unit_range()[0, 0] == pytest.approx(1.5 / 117)
    expected = nibabel.load(path).get_fdata()[::-1, ::-1, 1].T
    np.testing.assert_array_equal(picture.pixels, expected)


@pytest.mark.parametrize(("slope", "inter"), [(0, 5), (1, 0), (float("nan"), 0)])
def test_no_scaling_keeps_integers(tmp_path, volume, slope, inter):
    path = scaled(save(tmp_path / "a.nii", volume), slope, inter)

    assert read_image(f"{path}#0").pixels.dtype == np.int16
    assert read_image(f"{path}#0").white == 234


def test_range_is_that_of_the_volume(tmp_path, monkeypatch, volume):
    values = volume.astype(np.float32)
    values[0, 0, 0], values[2, 3, 4] = np.nan, np.inf
    path = save(tmp_path / "a.nii", values)
    whole = read_image(f"{path}#2")
    monkeypatch.setattr(nifti, "CHUNK", 7)  # 60 voxels: the last piece is shorter

    pieces = read_image(f"{path}#2")

    # Without the NaN of 0 and infinity in place of 234.
    assert (whole.black, whole.white) == (pieces.black, pieces.white) == (1, 233)
    assert whole.pixels.min() == 2


def test_a_slice_with_nan_names_how_many(tmp_path, volume):
    values = volume.astype(np.float32)
    values[0, :2, 3] = np.nan, -np.inf
    path = save(tmp_path / "a.nii", values)

    with pytest.raises(ImageReadError, match=r"a.nii .*: 2 values of slice 3 .*nan_to"):
        read_image(f"{path}#3")
    with pytest.raises(ImageReadError, match="4 values of slice 0"):
        read_image(save(tmp_path / "b.nii", np.full((2, 2, 1), np.nan)))


def test_constant_volume_is_black(tmp_path):
    path = save(tmp_path / "a.nii", np.full((2, 3), 7, np.int16))

    assert not read_image(path).unit_range().any()


@pytest.mark.parametrize(
    ("low", "high", "window"),
    [(10, 200, (10, 200)), (0, 0, None), (9, 3, None), (0, float("inf"), None)],
)
def test_window(tmp_path, volume, low, high, window):
    path = save(tmp_path / "a.nii", volume, cal_min=low, cal_max=high)

    assert read_image(f"{path}#0").window == window


def test_slices_of_a_compressed_volume_unpack_it_once(tmp_path, monkeypatch, volume):
    # Sagittal storage: each axial slice has voxels from end to end of the stream.
    image = stored(nibabel.orientations.axcodes2ornt("PIR"), volume, np.eye(4))
    nibabel.save(image, tmp_path / "a.nii.gz")
    unpacked = []
    copy = nifti._copy
    monkeypatch.setattr(nifti, "_copy", lambda *a: unpacked.append(a[2]) or copy(*a))

    with open_image(tmp_path / "a.nii.gz") as file:
        assert not unpacked  # the header is enough to know the frames
        for frame in [*file.frames, 0, 3]:
            file.read(frame)

    assert unpacked == [2 * 60]


def test_a_source_cut_short_while_it_is_read_is_whole(tmp_path, volume):
    """Mapped into memory it would be zeros, and beyond a page the process's end."""
    path = save(tmp_path / "a.nii", volume, np.eye(4))

    with open_image(path) as file:
        file.read(0)
        path.write_bytes(path.read_bytes()[:352])
        pixels = file.read(4).pixels

    np.testing.assert_array_equal(pixels, volume[::-1, ::-1, 4].T)


def test_a_source_cut_short_before_its_values_are_read(tmp_path, volume):
    path = save(tmp_path / "a.nii", volume)

    with open_image(path) as file:
        path.write_bytes(path.read_bytes()[:400])
        with pytest.raises(ImageReadError, match="cut off: fewer values"):
            file.read(0)


def test_a_damaged_volume_is_unpacked_once_and_each_error_is_its_own(
    tmp_path, monkeypatch
):
    path = save(
        tmp_path / "a.nii.gz", np.arange(2000, dtype=np.int16).reshape(20, 20, 5)
    )
    path.write_bytes(path.read_bytes()[:-20])
    unpacked = []
    copy = nifti._copy
    monkeypatch.setattr(nifti, "_copy", lambda *a: unpacked.append(a[2]) or copy(*a))
    errors = []

    with open_image(path) as file:
        for frame in file.frames:
            with pytest.raises(ImageReadError, match="damaged or cut off") as caught:
                file.read(frame)
            errors.append(caught.value)

    assert len(unpacked) == 1
    assert len({id(error) for error in errors}) == 5  # a traceback grows otherwise
    assert {error.path for error in errors} == {path}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_full_disk_is_no_fault_of_the_file(tmp_path, monkeypatch, volume, ending):
    path = save(tmp_path / f"a{ending}", volume, np.eye(4))

    def full():
        return open("/dev/full", "w+b", buffering=0)

    with open_image(path) as file:
        with monkeypatch.context() as patch:
            patch.setattr(tempfile, "TemporaryFile", full)
            with pytest.raises(OSError, match="No space left") as caught:
                file.read(0)
        pixels = file.read(4).pixels  # there is room again

    assert caught.value.errno == errno.ENOSPC
    np.testing.assert_array_equal(pixels, volume[::-1, ::-1, 4].T)


def test_no_folder_for_temporary_files_is_no_missing_image(
    tmp_path, monkeypatch, volume
):
    path = save(tmp_path / "a.nii", volume)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))

    with open_image(path) as file, pytest.raises(FileNotFoundError, match="none"):
        file.read(0)


# ----------------------------------------------------------------------- refused files


def header(tmp_path, **fields):
    """A file of 3 x 4 x 5 int16 whose header says something else."""
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    data = bytearray(path.read_bytes())
    places = {"dim": ("<8h", 40), "datatype": ("<h", 70), "vox_offset": ("<f", 108)}
    places |= {"srow_x": ("<4f", 280), "magic": ("4s", 344), "pixdim": ("<8f", 76)}
    for name, values in fields.items():
        form, start = places[name]
        struct.pack_into(form, data, start, *np.atleast_1d(values).tolist())
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dim": (3, 3, 0, 5, 1, 1, 1, 1)}, r"dimensions \(3, 0, 5\)"),
        ({"dim": (3, 3, -4, 5, 1, 1, 1, 1)}, r"dimensions \(3, -4, 5\)"),
        ({"dim": (1, 60, 1, 1, 1, 1, 1, 1)}, r"dimensions \(60,\)"),
        ({"dim": (0, 60, 1, 1, 1, 1, 1, 1)}, "dimensions"),
        ({"dim": (4, 3, 4, 1, 5, 1, 1, 1)}, "4-D, 5 volumes: split"),
        ({"dim": (5, 1, 1, 1, 10, 6, 1, 1)}, "5-D, 60 volumes: split"),
        ({"dim": (3, 3, 4, 6, 1, 1, 1, 1)}, "cut off: 472 bytes of 496"),
        ({"dim": (3, 32767, 32767, 5, 1, 1, 1, 1)}, "32767 x 32767 pixels, more than"),
        ({"dim": (3, 8000, 8000, 32767, 1, 1, 1, 1)}, "bytes unpacked, more than"),
        ({"vox_offset": 0}, "header is damaged"),
        ({"vox_offset": 100}, "header is damaged"),
        ({"vox_offset": 1e30}, "bytes unpacked, more than"),
        ({"vox_offset": 1e6}, "cut off: 472 bytes of 1000120"),
        ({"vox_offset": float("nan")}, "header is damaged"),
        ({"vox_offset": float("inf")}, "header is damaged"),
        ({"vox_offset": -352}, "header is damaged"),
        ({"datatype": 77}, "header is damaged"),
        ({"datatype": 128}, "colour voxels"),
        ({"datatype": 32}, "complex voxels"),
        ({"srow_x": (0, 0, 0, 0)}, "affine is singular"),
        ({"srow_x": (np.nan, 0, 0, 0)}, "affine is not finite"),
        ({"magic": b"ni1\0"}, "two files .*save them as one .nii"),
        ({"magic": b"abc\0"}, "no NIfTI file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("packed", [False, True])
def test_headers_that_are_refused(tmp_path, fields, reason, packed):
    path = header(tmp_path, **fields)
    if packed:
        if "cut off" in reason:  # known at the end of the stream only
            reason = "cut off: fewer values than its header says"
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "a.nii.gz"

    with pytest.raises(ImageReadError, match=reason), open_image(path) as file:
        file.read(0)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_every_cut_is_an_error(tmp_path, ending):
    values = np.random.default_rng(0).integers(0, 9999, (3, 4, 5)).astype(np.int16)
    path = save(tmp_path / f"a{ending}", values)
    data = path.read_bytes()

    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(ImageReadError):
            read_image(f"{path}#0")


@pytest.mark.parametrize("level", [0, 9])  # 0: only the stream's own sum can tell
def test_a_flipped_bit_in_a_compressed_file_is_an_error(tmp_path, level):
    values = np.random.default_rng(0).integers(0, 9999, (64, 64, 130)).astype(np.int16)
    path = save(tmp_path / "a.nii", values)
    data = bytearray(gzip.compress(path.read_bytes(), level))
    data[len(data) // 2] ^= 8  # among the values
    (tmp_path / "a.nii.gz").write_bytes(data)

    with pytest.raises(ImageReadError, match="damaged or cut off"):
        read_image(f"{tmp_path / 'a.nii.gz'}#0")


def test_a_bomb_is_not_unpacked_beyond_its_claim(tmp_path, monkeypatch):
    path = save(tmp_path / "a.nii", np.zeros((3, 4, 5), np.int16))
    bomb = tmp_path / "a.nii.gz"
    bomb.write_bytes(gzip.compress(path.read_bytes() + bytes(2**26)))
    taken = []
    read = nifti._read

    def counted(*given, **options):
        taken.append(given[1])
        return read(*given, **options)

    monkeypatch.setattr(nifti, "_read", counted)

    assert read_image(f"{bomb}#0").size == (4, 3)

    assert sum(taken) < 2000


def test_limits_count_what_is_unpacked(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.zeros((30, 40, 5), np.int16))
    claimed = 352 + 2 * 30 * 40 * 5

    with open_image(path, Limits(1200, claimed)) as file:
        assert file.read(0).size == (40, 30)
    with (
        pytest.raises(ImageReadError, match=f"{claimed} bytes unpacked, more than"),
        open_image(path, Limits(1200, claimed - 1)),
    ):
        pass
    with (
        pytest.raises(ImageReadError, match="30 x 40 pixels, more than 1199"),
        open_image(path, Limits(1199)),
    ):
        pass


def test_messages_hold_no_text_of_the_header(tmp_path, volume, caplog):
    path = save(tmp_path / "a.nii", volume, descrip=b"Jane Doe", aux_file=b"Jane Doe")
    data = bytearray(path.read_bytes())
    struct.pack_into("<h", data, 70, 77)
    path.write_bytes(data)

    with pytest.raises(ImageReadError) as error:
        read_image(path)

    assert "Jane" not in f"{error.value} {error.value.__cause__} {caplog.text}"


# -------------------------------------------------------------------------------- maps


def test_map_header(tmp_path, volume):
    """Geometry number by number, and nothing else of the source."""
    left_handed = OBLIQUE @ np.diag((-1, 1, 1, 1))  # its sign is in pixdim[0]
    image = nibabel.Nifti1Image(volume, left_handed)
    image.set_qform(left_handed, code="scanner")
    image.set_sform(OBLIQUE, code="mni")
    image.header.set_xyzt_units("mm", "sec")
    for name in ("descrip", "aux_file", "db_name", "intent_name"):
        image.header[name] = b"Jane Doe"
    image.header.extensions.append(
        nibabel.nifti1.Nifti1Extension("comment", b"Jane Doe")
    )
    nibabel.save(image, tmp_path / "a.nii")
    assert (tmp_path / "a.nii").read_bytes().count(b"Jane Doe") == 5

    with MapVolume(tmp_path / "a.nii", tmp_path / "new" / "map.nii", "HR-CAM " * 20):
        pass

    data = (tmp_path / "new" / "map.nii").read_bytes()
    written, source = (
        nibabel.load(tmp_path / "new" / "map.nii"),
        nibabel.load(tmp_path / "a.nii"),
    )
    assert b"Jane" not in data
    assert len(data) == 352 + 4 * 60
    assert written.get_data_dtype() == np.float32
    assert written.dataobj.slope == 1
    assert written.dataobj.inter == 0
    for name in (
        "pixdim", "qform_code", "sform_code", "xyzt_units", "quatern_b", "quatern_c",
        "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"
    ):  # fmt: skip
        np.testing.assert_array_equal(written.header[name], source.header[name])
    np.testing.assert_array_equal(written.get_qform(), source.get_qform())
    np.testing.assert_array_equal(written.get_sform(), source.get_sform())
    assert written.header["sform_code"] == 4
    assert written.header["descrip"].item() == (b"HR-CAM " * 20)[:79]
    assert not written.header.extensions


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_slices_never_added_are_nan(tmp_path, volume, kind):
    path = save(tmp_path / "a.nii.gz", volume, np.eye(4), kind)
    heatmap = np.arange(12.0).reshape(4, 3)

    write_nifti_map(tmp_path / "map.nii", path, [heatmap, -heatmap], [3, 1])

    written = nibabel.load(tmp_path / "map.nii")
    assert type(written) is kind
    values = written.get_fdata()
    np.testing.assert_array_equal(values[..., 3], heatmap[::-1, ::-1].T)
    np.testing.assert_array_equal(values[..., 1], -heatmap[::-1, ::-1].T)
    assert np.isnan(values[..., [0, 2, 4]]).all()


def test_maps_are_resized(tmp_path):
    path = save(
        tmp_path / "a.nii", np.zeros((4, 1, 2), np.int16), np.diag((-1, 1, 1, 1))
    )
    # One coronal image, 2 rows and 4 columns, the first row on top (high k).

    write_nifti_map(tmp_path / "wider.nii", path, [np.array([[0, 1], [2, 3]])])
    write_nifti_map(tmp_path / "smaller.nii", path, [np.arange(32).reshape(4, 8)])

    # Half-pixel centres: samples at -0.25, 0.25, 0.75, 1.25 of [0, 1], clamped.
    wider = nibabel.load(tmp_path / "wider.nii").get_fdata()[:, 0]
    np.testing.assert_allclose(wider[:, 1], [0, 0.25, 0.75, 1], atol=1e-6)
    np.testing.assert_allclose(wider[:, 0], [2, 2.25, 2.75, 3], atol=1e-6)
    # Mean of each 2 x 2: of 0, 1, 8, 9 it is 4.5.
    smaller = nibabel.load(tmp_path / "smaller.nii").get_fdata()[:, 0]
    np.testing.assert_allclose(smaller[:, 1], [4.5, 6.5, 8.5, 10.5])
    np.testing.assert_allclose(smaller[:, 0], [20.5, 22.5, 24.5, 26.5])


def test_an_unfinished_map_is_not_there(tmp_path, volume):
    path = save(tmp_path / "a.nii", volume)
    target = tmp_path / "out" / "map.nii"

    with pytest.raises(ValueError), MapVolume(path, target) as unfinished:  # noqa: PT011
        unfinished.add(9, np.ones((2, 2)))
    assert not list(target.parent.iterdir())
    unfinished = MapVolume(path, target)
    assert len(list(target.parent.iterdir())) == 1
    unfinished.discard()
    assert not list(target.parent.iterdir())
    kept = MapVolume(path, target)
    assert not target.exists()
    kept.close()
    kept.discard()
    assert list(target.parent.iterdir()) == [target]


def test_limits_are_those_of_the_source(tmp_path, volume):
    path = save(tmp_path / "a.nii", volume)
    maps, tight = [np.ones((4, 3))] * 5, Limits(max_pixels=11)

    for frames in (None, range(5)):
        with pytest.raises(ImageReadError, match="3 x 4 pixels, more than 11"):
            write_nifti_map(tmp_path / "map.nii", path, maps, frames, limits=tight)
    with pytest.raises(ImageReadError, match="3 x 4 pixels, more than 11"):
        MapVolume(path, tmp_path / "map.nii", limits=tight)
    write_nifti_map(tmp_path / "map.nii", path, maps, limits=Limits(max_pixels=12))
    assert (tmp_path / "map.nii").exists()


def test_rejects(tmp_path, volume):
    path = save(tmp_path / "a.nii", volume)
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 4), np.uint8))
    target = tmp_path / "out" / "map.nii"

    with pytest.raises(ValueError, match=r"`target` must be a .nii.*map.nii.gz"):
        MapVolume(path, tmp_path / "map.nii.gz")
    with pytest.raises(ValueError, match=r"`source` must be a NIfTI.*a.png"):
        MapVolume(tmp_path / "a.png", target)
    with pytest.raises(ImageReadError, match=r"none.nii .*missing"):
        MapVolume(tmp_path / "none.nii", target)
    with pytest.raises(ValueError, match=r"0 to 4\. Received: 5"):
        write_nifti_map(target, path, [np.ones((2, 2))], [5])
    with pytest.raises(ValueError, match=r"one map.*shape \(1, 2, 2\)"):
        write_nifti_map(target, path, [np.ones((1, 2, 2))], [0])
    with pytest.raises(ValueError, match="shorter"):
        write_nifti_map(target, path, [np.ones((2, 2))])
    assert not list(target.parent.iterdir())
