import csv

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet

from hrcam.evaluation import markdown_table
from hrcam.plots import shortcut_sheet
from hrcam.plots.shortcuts import LINES
from hrcam.report import write_shortcuts
from hrcam.shortcuts import shortcut_table

N = 4


@pytest.fixture
def study():
    """Four maps: .5, .75, none and 1 of them outside the body (the left half)."""
    images = np.random.default_rng(0).random((N, 16, 20, 1), np.float32)
    maps = np.full((N, 16, 20), -0.5, np.float32)
    maps[[0, 1, 3], 2, 15] = 1, 3, 2  # outside
    maps[0, 5, 5] = maps[1, 5, 5] = 1  # inside
    body, letters = np.zeros((2, N, 16, 20), bool)
    body[:, :, :10] = True
    letters[1, 1:4, 14:17] = True
    return {
        "images": images,
        "maps": maps,
        "labels": [0, 1, 1, 1],
        "regions": {"body": body, "letters": letters},
    }


def outlines(panel):
    return [child for child in panel.get_children() if isinstance(child, ContourSet)]


# ---------------------------------------------------------------------- write_shortcuts


def test_files(study, tmp_path):
    directory = tmp_path / "some" / "where"
    options = {"expected": "body", "class_names": ["arm", "leg"]}

    text = write_shortcuts(
        directory, **study, **options, method="Grad-CAM", facts={"seed": 3}
    )

    names = sorted(path.name for path in directory.iterdir())
    assert names == ["shortcuts.csv", "shortcuts.md", "worst.png"]
    assert (directory / "shortcuts.md").read_text() == text
    del study["images"]
    table = shortcut_table(**study, **options)
    with (directory / "shortcuts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [{k: str(v) for k, v in row.items()} for row in table.rows]
    assert rows == expected
    assert [row["image"] for row in rows] == ["3", "1", "0", "2"]
    assert [row["class"] for row in rows] == ["leg", "leg", "arm", "leg"]
    found = [float(row["outside body share"]) for row in rows]
    np.testing.assert_array_equal(found, [1, 0.75, 0.5, np.nan])


def test_text(study, tmp_path):
    options = {"expected": "body", "method": "Grad-CAM", "facts": {"seed": 3}}

    text = write_shortcuts(tmp_path, **study, **options, num_worst=2)

    assert "# Where the maps lie: Grad-CAM\n" in text
    assert '"outside body", the largest first' in text
    assert "come 0 of 4 images" in text
    assert "and 1 whose map has no positive pixel" in text
    assert text.endswith("\n\n- seed: 3\n")
    del study["images"]
    table = shortcut_table(**study, expected="body")
    assert f"\n\n{markdown_table(table.classes)}\n\n" in text
    head = "## The first 2 images\n\n"
    assert f"{head}{markdown_table(table.rows[:2])}\n\n" in text
    assert "| 1 | 3 | 1 | 0 |" in text  # class 1: three, one undefined
    assert "| 3 | 1 | 1.000 | 0.500 | 2.000 | 0.000 |" in text  # image 3


def test_images_without_the_region_are_counted(study, tmp_path):
    options = {"expected": None, "rank_by": "letters", "method": "CAM"}

    text = write_shortcuts(tmp_path, **study, **options)

    assert '"letters", the largest first' in text
    assert "come 2 of 4 images" in text  # 0 and 3; 2 has no positive pixel
    assert "outside" not in text


def test_no_path_and_no_name_unless_given(study, tmp_path):
    options = {"expected": "body", "method": "CAM"}
    write_shortcuts(tmp_path, **study, **options)
    for path in tmp_path.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()

    text = write_shortcuts(tmp_path, **study, **options, ids=["p", "q", "r", "s"])
    assert "| s | 1 | 1.000 |" in text
    assert (tmp_path / "shortcuts.csv").read_text().splitlines()[1].startswith("s,1,1.")


def test_picture_has_the_worst_images(study, tmp_path):
    options = {"expected": "body", "method": "CAM"}
    heights = []
    for count in (1, 2, 9):  # 9: there are 4
        write_shortcuts(tmp_path, **study, **options, num_worst=count)
        heights.append(len(cv2.imread(str(tmp_path / "worst.png"))))

    steps = np.diff(heights)
    assert steps[0] > 150  # more than an inch a row
    assert steps[1] == pytest.approx(2 * steps[0], abs=2)


def test_titles_and_order_of_the_picture(study, tmp_path, monkeypatch):
    figures = []

    def keep(*args, **options):
        figures.append(shortcut_sheet(*args, **options))
        return figures[-1]

    monkeypatch.setattr("hrcam.plots.shortcut_sheet", keep)
    letters = study["regions"]["letters"]
    letters[3], letters[1] = letters[1], False
    write_shortcuts(tmp_path, **study, expected="body", method="CAM", num_worst=2)

    panels = np.reshape(figures[0].axes, (2, 3))
    assert [panel.get_ylabel() for panel in panels[:, 0]] == [
        "3: 1\noutside body 1.00\nits area 0.50",
        "1: 1\noutside body 0.75\nits area 0.50",
    ]
    for panel, image in zip(panels[:, 0], study["images"][[3, 1], ..., 0], strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), image)
    for panel, values in zip(panels[:, 2], study["maps"][[3, 1]], strict=True):
        np.testing.assert_array_equal(panel.images[1].get_array(), values.clip(0))
    # Body and letters on image 3, body on image 1.
    assert [len(outlines(panel)) for panel in panels[:, 1]] == [2, 1]


def test_nothing_is_written_for_bad_input(study, tmp_path):
    directory = tmp_path / "new"
    study["maps"] = study["maps"] * np.nan
    with pytest.raises(ValueError, match="`maps` must be finite"):
        write_shortcuts(directory, **study, expected="body", method="CAM")
    study["maps"] = np.zeros((N, 8, 8))
    with pytest.raises(ValueError, match=r"of the maps' shape \(4, 8, 8\)"):
        write_shortcuts(directory, **study, expected="body", method="CAM")
    with pytest.raises(
        ValueError, match=r"`num_worst` must be at least 1. Received: 0"
    ):
        write_shortcuts(directory, **study, expected="body", method="CAM", num_worst=0)
    assert not directory.exists()


def test_images_of_another_size_are_rejected(study, tmp_path):
    study["images"] = study["images"][:, :8]
    with pytest.raises(ValueError, match=r"images' shape.*\(4, 8, 20\)"):
        write_shortcuts(tmp_path, **study, expected="body", method="CAM")


# ----------------------------------------------------------------------- shortcut_sheet


def test_sheet(study):
    del study["labels"]
    figure = shortcut_sheet(**study, method="CAM", titles=list("abcd"), alpha=0.25)

    panels = np.reshape(figure.axes, (N, 3))
    assert [panel.get_title() for panel in panels[0]] == ["input", "regions", "CAM"]
    assert [panel.get_ylabel() for panel in panels[:, 0]] == list("abcd")
    grey, overlay = panels[1, 2].images
    np.testing.assert_array_equal(grey.get_array(), study["images"][1, ..., 0])
    np.testing.assert_array_equal(overlay.get_array(), study["maps"][1].clip(0))
    assert overlay.get_clim() == (0, 3)  # zero to the peak
    assert overlay.get_alpha() == 0.25
    (bar,) = panels[1, 2].child_axes
    assert [label.get_text() for label in bar.get_yticklabels()] == ["0", "3"]
    found = [[len(outlines(panel)) for panel in row] for row in panels]
    assert found == [[0, 1, 1], [0, 2, 2], [0, 1, 0], [0, 1, 1]]  # 2 is blank
    colors = [to_hex(line.get_edgecolor()[0]) for line in outlines(panels[1, 1])]
    assert colors == [to_hex(color) for color, _ in LINES[:2]]


def test_sheet_says_why_a_map_is_blank(study):
    del study["labels"]
    study["maps"][3] = 0.5

    panels = np.reshape(shortcut_sheet(**study).axes, (N, 3))

    texts = [[text.get_text() for text in panel.texts] for panel in panels[:, 2]]
    minus = "\N{MINUS SIGN}"
    blank = ["no positive response", f"{minus}0.5"]
    assert texts == [[], [], blank, ["constant", "0.5"]]


def test_legend_names_the_lines_inside_the_figure(study):
    del study["labels"]
    study["regions"]["a long name of something"] = study["regions"]["body"]
    figure = shortcut_sheet(**study)

    legends = [panel.get_legend() for panel in figure.axes]
    (legend,) = [one for one in legends if one is not None]
    found = [text.get_text().replace("\n", " ") for text in legend.get_texts()]
    assert found == list(study["regions"])
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert box.x1 <= figure.bbox.width
    bar = figure.axes[2].child_axes[0]
    assert box.x0 >= max(t.get_window_extent().x1 for t in bar.get_yticklabels())


def test_sheet_shows_colour_images(study):
    del study["labels"]
    study["images"] = np.repeat(study["images"], 3, axis=-1)

    figure = shortcut_sheet(**study)

    for panel in figure.axes[:2]:
        np.testing.assert_array_equal(panel.images[0].get_array(), study["images"][0])
    assert figure.axes[2].images[0].get_array().shape == (16, 20)


BODY = np.zeros((N, 16, 20), bool)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"regions": BODY}, TypeError, "`regions` must be a dict.*ndarray"),
        ({"regions": {}}, ValueError, "empty dict"),
        ({"regions": {"a": BODY[:3]}}, ValueError, r"regions\['a'\].*\(3, 16, 20\)"),
        ({"regions": {"a": BODY * 1}}, ValueError, "bool. Received: int64"),
        ({"regions": dict.fromkeys("abcdef", BODY)}, ValueError, "at most 5.*6"),
        ({"alpha": 0}, ValueError, r"`alpha` must be in \(0, 1\]. Received: 0"),
        ({"titles": "abcd"}, TypeError, "the string 'abcd'"),
    ],
)
def test_sheet_rejects(study, options, error, message):
    del study["labels"]
    with pytest.raises(error, match=message):
        shortcut_sheet(**study | options)
