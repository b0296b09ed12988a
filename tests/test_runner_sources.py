import numpy as np
import pytest
from PIL import Image

from hrcam.runner.sources import find_sources


@pytest.fixture
def folder(tmp_path):
    """Images of several kinds, hidden ones, others; one DICOM without suffix."""
    for name in ("b.png", "a.JPG", "sub/c.tif", "sub/d.nii.gz", ".hidden.png"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(path, "PNG")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / ".hidden" / "e.png").touch()
    (tmp_path / "1.2.840.1").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "DICOMDIR").write_bytes(bytes(128) + b"DICM")
    (tmp_path / "README").write_text("no image")
    (tmp_path / "notes.txt").write_text("no image")
    return tmp_path


def names(found):
    return [source.name for source in found.sources]


def test_folder(folder):
    found = find_sources([folder])

    assert names(found) == ["1.2.840.1", "a.JPG", "b.png", "sub/c.tif", "sub/d.nii.gz"]
    assert found.left_out == 3  # DICOMDIR, README, notes.txt
    assert found.sources[3].path == folder / "sub" / "c.tif"


def test_files_are_taken_whatever_their_suffix_and_once(folder):
    found = find_sources([folder / "README", folder / "b.png", folder / "b.png"])

    assert names(found) == ["README", "b.png"]


def test_addresses(folder):
    volume = folder / "sub" / "d.nii.gz"
    found = find_sources([f"{volume}#3", f"{volume}#5:9", volume])

    assert names(found) == ["d.nii.gz#3", "d.nii.gz#5:9", "d.nii.gz"]
    assert [s.frames for s in found.sources] == [range(3, 4), range(5, 9), None]
    outputs = [source.output_name for source in found.sources]
    assert outputs == ["d.nii.gz#3", "d.nii.gz#5-8", "d.nii.gz"]


def test_patterns(folder):
    assert names(find_sources([str(folder / "*.png")])) == ["b.png"]
    found = find_sources([str(folder / "**" / "*.[tn]i*")])
    assert names(found) == ["sub/c.tif", "sub/d.nii.gz"]


@pytest.mark.parametrize("column", ["image", "file", "path"])
def test_csv(folder, column):
    text = f"label,{column}\n0,b.png\n1,sub/d.nii.gz#2\n0,missing.png\n"
    (folder / "list.csv").write_text(text)

    found = find_sources([folder / "list.csv"])

    assert names(found) == ["b.png", "sub/d.nii.gz#2", "missing.png"]
    assert found.sources[1].frames == range(2, 3)


def test_csv_without_a_column(folder):
    (folder / "list.csv").write_text("label\n0\n")

    with pytest.raises(ValueError, match="column image, file, path"):
        find_sources([folder / "list.csv"])


def test_csv_with_an_empty_name(folder):
    (folder / "list.csv").write_text("image\nb.png\n\n  \n")

    with pytest.raises(ValueError, match="none in row"):
        find_sources([folder / "list.csv"])


def test_names_are_below_the_common_folder(folder):
    found = find_sources([folder / "sub" / "c.tif", folder / "b.png"])

    assert names(found) == ["sub/c.tif", "b.png"]
    assert names(find_sources([folder / "sub" / "c.tif"])) == ["c.tif"]


def test_results_are_no_inputs(folder):
    assert "sub/c.tif" not in names(find_sources([folder], folder / "sub"))


def test_links_are_followed_once_and_unreadable_folders_listed(tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    (tmp_path / "in" / "a" / "b.png").touch()
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "c.png").touch()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "gone").symlink_to(tmp_path / "nowhere")

    found = names(find_sources([tmp_path / "in"]))

    assert found == ["a/b.png", "link/c.png"]


def test_nothing(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"at least one image.*1 files of other kinds"):
        find_sources([tmp_path])
    with pytest.raises(FileNotFoundError, match="matches nothing"):
        find_sources([tmp_path / "*.png"])
