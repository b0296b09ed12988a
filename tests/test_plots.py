import os
import subprocess
import sys
from itertools import pairwise

import cv2
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure

from hrcam.plots import comparison_sheet, score_box_plots
from hrcam.plots.boxes import METHOD_COLORS

N, HEIGHT, WIDTH = 2, 16, 20


@pytest.fixture
def images():
    return np.random.default_rng(0).random((N, HEIGHT, WIDTH, 1), np.float32)


@pytest.fixture
def maps():
    rng = np.random.default_rng(1)
    signed = rng.normal(size=(N, HEIGHT, WIDTH)).astype(np.float32)
    return {"HR-CAM": signed, "Grad-CAM": 100 * np.abs(signed) + 1}


@pytest.fixture
def masks():
    masks = np.zeros((N, HEIGHT, WIDTH), bool)
    masks[0, 4:10, 12:] = True  # meets the right border; the second mask is empty
    return masks


def panels_of(figure):
    """Axes (row, column); a colour bar is a child of the panel that it is beside."""
    return np.reshape(figure.axes, (N, -1))


def tick_labels(panel):
    (bar,) = panel.child_axes
    return [label.get_text() for label in bar.get_yticklabels()]


def outlines(panel):
    return [child for child in panel.get_children() if isinstance(child, ContourSet)]


def test_sheet_draws_raw_maps_over_grey_images(images, maps):
    panels = panels_of(comparison_sheet(images, maps, alpha=0.25))
    assert panels.shape == (N, 3)
    for row in range(N):
        (shown,) = panels[row, 0].images
        np.testing.assert_array_equal(shown.get_array(), images[row, :, :, 0])
        assert shown.get_clim() == (0, 1)
        for panel, values in zip(panels[row, 1:], maps.values(), strict=True):
            grey, overlay = panel.images
            np.testing.assert_array_equal(grey.get_array(), images[row, :, :, 0])
            np.testing.assert_array_equal(overlay.get_array(), values[row])
            assert overlay.get_clim() == (values[row].min(), values[row].max())
            assert overlay.get_alpha() == 0.25
            assert panel.child_axes[0].get_ylim() == overlay.get_clim()


def test_sheet_titles(images, maps):
    titles = ["true: melanoma 0.97 / predicted: nevus", "costs $5 or $6"]
    panels = panels_of(comparison_sheet(images, maps, row_titles=titles))
    assert [p.get_title() for p in panels[0]] == ["input", "HR-CAM", "Grad-CAM"]
    assert [p.get_ylabel().replace("\n", " ") for p in panels[:, 0]] == titles


def test_sheet_shared_scale_has_one_range_and_one_bar_a_method(images, maps):
    panels = panels_of(comparison_sheet(images, maps, scale="shared"))
    for column, values in enumerate(maps.values(), start=1):
        for panel in panels[:, column]:
            assert panel.images[1].get_clim() == (values.min(), values.max())
        assert [len(panel.child_axes) for panel in panels[:, column]] == [0, 1]


def test_sheet_shared_scale_colours_a_constant_map_among_others(images, maps):
    maps["HR-CAM"][0] = 0
    panels = panels_of(comparison_sheet(images, maps, scale="shared"))
    assert len(panels[0, 1].images) == 2
    assert not panels[0, 1].texts


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (-1.5, 3, ["−1.5", "0", "3"]),  # noqa: RUF001
        (-0.01, 3, ["−0.01", "0", "3"]),  # noqa: RUF001
        (0, 3, ["0", "3"]),
        (2, 3.14159, ["2", "3.14"]),
        (-4.08e-5, -1e-6, ["−4.08e−5", "−1e−6"]),  # noqa: RUF001
        (100.41, 100.62, ["100.41", "100.62"]),  # three digits would say 100 and 101
        (0, 12345, ["0", "1.23e4"]),
    ],
)
def test_colour_bar_states_the_raw_range_and_zero(images, low, high, expected):
    ramp = np.linspace(low, high, N * HEIGHT * WIDTH).reshape(N, HEIGHT, WIDTH)
    figure = comparison_sheet(images, {"CAM": ramp}, scale="shared")
    panel = panels_of(figure)[-1, 1]
    assert tick_labels(panel) == expected
    ticks = panel.child_axes[0].get_yticks()
    assert (ticks[0], ticks[-1]) == pytest.approx((low, high))


@pytest.mark.parametrize("low", [-0.001, -0.05, -0.1, -0.2, -5, -1.9e-4])
def test_colour_bar_labels_do_not_overlap(images, low):
    ramp = np.linspace(low, 1, HEIGHT * WIDTH).reshape(1, HEIGHT, WIDTH)
    figure = comparison_sheet(images, {"CAM": np.concatenate([ramp, -ramp])})
    figure.draw_without_rendering()
    for panel in panels_of(figure)[:, 1]:
        labels = panel.child_axes[0].get_yticklabels()
        boxes = [label.get_window_extent() for label in labels]
        for below, above in pairwise(boxes):
            assert above.y0 > below.y0 + 0.7 * below.height  # boxes have some padding


@pytest.mark.parametrize("scale", ["image", "shared"])
@pytest.mark.parametrize("rounding", [0, 1e-7])
def test_sheet_leaves_a_constant_map_blank(images, masks, scale, rounding):
    constant = np.full((N, HEIGHT, WIDTH), 0.25, np.float32)
    constant[:, 0, 0] += rounding
    figure = comparison_sheet(images, {"CAM": constant}, masks, scale=scale)
    for panel in panels_of(figure)[:, 1]:
        assert [text.get_text() for text in panel.texts] == ["constant\n0.25"]
        assert not panel.images
        assert not panel.child_axes
        assert not outlines(panel)


def test_sheet_outlines_masks_that_have_pixels(images, maps, masks):
    panels = panels_of(comparison_sheet(images, maps, masks))
    assert [len(outlines(panel)) for panel in panels[0]] == [1, 1, 1]
    assert [len(outlines(panel)) for panel in panels[1]] == [0, 0, 0]
    (path,) = outlines(panels[0, 0])[0].get_paths()
    # Half a pixel around rows 4 to 9 and columns 12 to 19, closed at the border.
    np.testing.assert_array_equal(path.vertices.min(axis=0), [11.5, 3.5])
    np.testing.assert_array_equal(path.vertices.max(axis=0), [19.5, 9.5])
    assert panels[0, 0].axis() == (-0.5, WIDTH - 0.5, HEIGHT - 0.5, -0.5)
    assert not any(outlines(panel) for panel in comparison_sheet(images, maps).axes)


@pytest.mark.parametrize("channels", [2, 3, 5])
def test_sheet_channels(maps, channels):
    images = np.random.default_rng(0).random((N, HEIGHT, WIDTH, channels), np.float32)
    panels = panels_of(comparison_sheet(images, maps))
    shown = panels[0, 0].images[0].get_array()
    mean = images[0].mean(axis=-1)
    np.testing.assert_array_equal(shown, images[0] if channels == 3 else mean)
    np.testing.assert_array_equal(panels[0, 1].images[0].get_array(), mean)


def test_sheet_colormap(images, maps):
    (_, overlay) = panels_of(comparison_sheet(images, maps))[0, 1].images
    assert overlay.get_cmap().name == "inferno"
    figure = comparison_sheet(images, maps, colormap="viridis")
    assert panels_of(figure)[0, 1].images[1].get_cmap().name == "viridis"


@pytest.mark.parametrize("size", [(16, 16), (16, 90), (60, 16)])
def test_sheet_texts_stay_inside_and_apart(size):
    images = np.random.default_rng(0).random((N, *size, 1))
    names = ["HR-CAM", "attentive response map (guided, nearest)", "LayerCAM"]
    maps = {name: -1e-5 * images[..., 0] for name in names}
    titles = ["true: melanoma 0.97 / predicted: nevus", "long " * 40]
    figure = comparison_sheet(images, maps, row_titles=titles)
    figure.draw_without_rendering()
    panels = panels_of(figure)
    texts = [panel.title for panel in panels[0]]
    texts += [panel.yaxis.label for panel in panels[:, 0]]
    for panel in panels[:, 1:].flat:
        texts += panel.child_axes[0].get_yticklabels()
    boxes = [text.get_window_extent() for text in texts]
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert not any(
            box.overlaps(panel.get_window_extent().padded(-1)) for panel in panels.flat
        )


def test_saved_sheet_has_the_size_of_the_figure(images, maps, masks, tmp_path):
    figure = comparison_sheet(images, maps, masks, row_titles=["one", "two"])
    figure.savefig(tmp_path / "sheet.png", dpi=150)
    height, width, _ = cv2.imread(str(tmp_path / "sheet.png")).shape
    expected = figure.get_size_inches() * 150
    np.testing.assert_allclose((width, height), expected, atol=1)


@pytest.mark.parametrize("columns", [1, 3])
def test_one_row_is_as_wide_as_many(images, maps, columns):
    maps = {f"map {index}": maps["HR-CAM"] for index in range(columns)}
    one = {name: values[:1] for name, values in maps.items()}
    figures = comparison_sheet(images, maps), comparison_sheet(images[:1], one)
    many, single = (figure.get_size_inches() for figure in figures)
    assert single[0] == many[0]
    assert single[1] < many[1]


def test_sheet_changes_nothing_given(images, maps, masks):
    given = images.copy(), {name: values.copy() for name, values in maps.items()}
    comparison_sheet(images, maps, masks)
    np.testing.assert_array_equal(images, given[0])
    for name, values in maps.items():
        np.testing.assert_array_equal(values, given[1][name])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"images": np.zeros((4, 4, 1))}, ValueError, r"Received: \(4, 4, 1\)"),
        ({"images": np.zeros((0, 4, 4, 1))}, ValueError, r"Received: \(0, 4, 4, 1\)"),
        ({"images": np.full((2, 4, 4, 1), 255)}, ValueError, "from 255 to 255.*by 255"),
        ({"images": np.full((2, 4, 4, 1), np.nan)}, ValueError, "nan to nan"),
        ({"maps": np.zeros((2, 4, 4))}, TypeError, "Received: ndarray.*HR-CAM"),
        ({"maps": {}}, ValueError, "empty dict"),
        (
            {"maps": {"CAM": np.zeros((2, 2, 2))}},
            ValueError,
            r"maps\['CAM'\].*\(2, 4, 4\)\. Received: \(2, 2, 2\)\. Resize",
        ),
        (
            {"maps": {"CAM": np.stack([np.zeros((4, 4)), np.full((4, 4), np.nan)])}},
            ValueError,
            r"must be finite.*rows \[1\]",
        ),
        (
            {"maps": {"CAM": np.full((2, 4, 4), np.inf)}},
            ValueError,
            r"must be finite.*rows \[0, 1\]",
        ),
        ({"masks": np.zeros((2, 4, 5), bool)}, ValueError, r"Received: \(2, 4, 5\)"),
        ({"masks": np.zeros((2, 4, 4))}, ValueError, "float64. Use `masks > 0`"),
        ({"row_titles": "ab"}, TypeError, "the string 'ab'"),
        ({"row_titles": ["a"]}, ValueError, "the 2 images. Received: 1"),
        ({"scale": "row"}, ValueError, "'image', 'shared'.*Received: 'row'"),
        ({"alpha": 0}, ValueError, "Received: 0"),
        ({"colormap": "hot dog"}, ValueError, "Received: 'hot dog'"),
    ],
)
def test_sheet_rejects(change, error, message):
    good = {"images": np.zeros((2, 4, 4, 1)), "maps": {"CAM": np.zeros((2, 4, 4))}}
    with pytest.raises(error, match=message):
        comparison_sheet(**(good | change))


@pytest.fixture
def scores():
    rng = np.random.default_rng(0)
    scores = {name: tuple(rng.random((2, 25, 3))) for name in ("HR-CAM", "CAM")}
    for sensitivity, _ in scores.values():
        sensitivity[:4] = np.nan
    return scores


def medians(panel):
    """Heights of the median lines, the only black ones, by method and threshold."""
    lines = [c for c in panel.collections if to_hex(c.get_color()[0]) == "#000000"]
    return [line.get_segments()[0][0, 1] for line in lines]


def test_box_medians_leave_nan_out(scores):
    figure = score_box_plots(scores)
    assert [p.get_ylabel() for p in figure.axes] == ["sensitivity", "specificity"]
    for index, panel in enumerate(figure.axes):
        expected = [np.nanmedian(pair[index], axis=0) for pair in scores.values()]
        np.testing.assert_allclose(medians(panel), np.ravel(expected))


def test_box_golden():
    # Quartiles 0.2 and 0.4: whiskers end at the last score in [-0.1, 0.7].
    scores = np.array([[0.1, 0.2, 0.3, 0.4, 1.0]]).T
    panel = score_box_plots({"CAM": (scores, scores)}, thresholds=[0.5]).axes[0]
    (box,) = panel.patches
    assert (box.get_y(), box.get_height()) == pytest.approx((0.2, 0.2))
    whisker = panel.collections[0].get_segments()[0]
    np.testing.assert_allclose(whisker, [[0, 0.1], [0, 0.4]])
    np.testing.assert_allclose(panel.lines[0].get_xydata(), [[0, 1.0]])
    assert medians(panel) == pytest.approx([0.3])


def test_box_labels_and_legend(scores):
    figure = score_box_plots(scores)
    left, right = figure.axes
    assert [t.get_text() for t in left.get_xticklabels()] == ["0.3", "0.5", "0.8"]
    assert left.get_xlabel() == "threshold\nn = 21 of 25; 4 undefined"
    assert right.get_xlabel() == "threshold\nn = 25"
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["HR-CAM", "CAM"]
    assert len({patch.get_facecolor() for patch in legend.get_patches()}) == 2
    figure.draw_without_rendering()
    for panel in figure.axes:
        assert not legend.get_window_extent().overlaps(panel.get_window_extent())


def test_box_counts_stand_above_boxes_where_they_differ(scores):
    scores["CAM"][0][:, 2] = np.nan  # a box without any score
    panel = score_box_plots(scores).axes[0]
    assert "above each box" in panel.get_xlabel()
    counts = [text.get_text() for text in panel.texts]
    assert counts == ["21/25", "21/25", "21/25", "21/25", "21/25", "0/25"]
    np.testing.assert_allclose(
        [text.xy[0] for text in panel.texts], [-0.2, 0.8, 1.8, 0.2, 1.2, 2.2]
    )


@pytest.mark.parametrize("num_methods", [1, 8])
def test_box_legend_fits(num_methods, tmp_path):
    pair = np.random.default_rng(0).random((2, 9, 1))
    scores = {f"method of number {index}": pair for index in range(num_methods)}
    figure = score_box_plots(scores, thresholds=[0.5])
    figure.savefig(tmp_path / "scores.png", dpi=150)
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    height, width, _ = cv2.imread(str(tmp_path / "scores.png")).shape
    expected = figure.get_size_inches() * 150
    np.testing.assert_allclose((width, height), expected, atol=1)


def many(scores, num_methods=18):
    """Methods with the scores of two in turn, under long names."""
    pairs = list(scores.values())
    names = [f"attentive responses, kind {index}" for index in range(num_methods)]
    return {name: pairs[index % 2] for index, name in enumerate(names)}


def test_nine_methods_are_rows(scores):
    assert len(METHOD_COLORS) == 8
    assert len(score_box_plots(many(scores, 8)).axes) == 2
    figure = score_box_plots(many(scores, 9))
    panels = np.reshape(figure.axes, (2, 3))
    for row, score in zip(panels, ("sensitivity", "specificity"), strict=True):
        titles = [panel.get_title() for panel in row]
        assert titles == [f"{score} at {t}" for t in (0.3, 0.5, 0.8)]
    assert not figure.legends


def test_row_medians_leave_nan_out_and_run_downwards(scores):
    figure = score_box_plots(many(scores))
    for index, panel in enumerate(figure.axes):
        score, column = divmod(index, 3)
        pairs = list(scores.values())
        expected = [np.nanmedian(pair[score][:, column]) for pair in pairs] * 9
        lines = [c for c in panel.collections if to_hex(c.get_color()[0]) == "#000000"]
        ends = np.array([line.get_segments()[0] for line in lines])
        np.testing.assert_allclose(ends[:, :, 0], np.transpose([expected] * 2))
        np.testing.assert_allclose(ends[:, :, 1].mean(axis=1), range(18))
        assert panel.get_ylim()[0] > panel.get_ylim()[1]


def test_row_box_golden():
    # As in `test_box_golden`, lying: quartiles 0.2 and 0.4, a score of 1 beyond.
    column = np.array([[0.1, 0.2, 0.3, 0.4, 1.0]]).T
    scores = dict.fromkeys(map(str, range(9)), (column, column))
    panel = score_box_plots(scores, thresholds=[0.5]).axes[0]
    box = panel.patches[4]
    assert (box.get_x(), box.get_width()) == pytest.approx((0.2, 0.2))
    assert box.get_y() + box.get_height() / 2 == pytest.approx(4)
    first, last = panel.collections[4 * 2].get_segments()[0]
    np.testing.assert_allclose([first, last], [[0.1, 4], [0.4, 4]])
    np.testing.assert_allclose(panel.lines[4].get_xydata(), [[1.0, 4]])


def test_row_labels_and_counts(scores):
    figure = score_box_plots(many(scores))
    panels = figure.axes
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert names == list(many(scores))
    assert {p.get_xlabel() for p in panels[:3]} == {"n = 21 of 25; 4 undefined"}
    assert {p.get_xlabel() for p in panels[3:]} == {"n = 25"}

    scores["CAM"][0][:, 2] = np.nan  # differs at one threshold only
    panels = score_box_plots(many(scores)).axes
    assert not panels[0].texts
    assert panels[2].get_xlabel() == "n beside each box: defined / all"
    assert [text.get_text() for text in panels[2].texts] == ["21/25", "0/25"] * 9
    np.testing.assert_allclose([text.xy[1] for text in panels[2].texts], range(18))


def test_row_texts_stay_inside_and_apart(scores):
    scores["CAM"][0][:, 2] = np.nan
    figure = score_box_plots(many(scores))
    figure.draw_without_rendering()
    texts = [text for panel in figure.axes for text in panel.texts]
    texts += [text for p in figure.axes[::3] for text in p.get_yticklabels()]
    texts += [text for p in figure.axes for text in (p.title, p.xaxis.label)]
    boxes = [text.get_window_extent() for text in texts]
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        assert not any(box.padded(-1).overlaps(b) for b in boxes[index + 1 :])
    assert max(figure.get_size_inches()) < 11


GOOD = np.zeros((5, 3))


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (GOOD, TypeError, "Received: ndarray"),
        ({}, ValueError, "empty dict"),
        ({"CAM": (GOOD,)}, ValueError, r"scores\['CAM'\].*shapes \[\(5, 3\)\]"),
        ({"CAM": ()}, ValueError, r"shapes \[\]"),
        ({"CAM": (GOOD, GOOD[:, :2])}, ValueError, r"\(n, 3\).*\(5, 3\), \(5, 2\)"),
        ({"CAM": (GOOD, GOOD[:4])}, ValueError, r"\(5, 3\), \(4, 3\)"),
        ({"CAM": (GOOD[:0], GOOD[:0])}, ValueError, r"n > 0.*\(0, 3\)"),
        ({"CAM": (GOOD, GOOD + 97)}, ValueError, "from 0 to 97.*percentages"),
        ({"CAM": (GOOD, GOOD - np.inf)}, ValueError, "from -inf to 0"),
    ],
)
def test_box_plots_reject(scores, error, message):
    with pytest.raises(error, match=message):
        score_box_plots(scores)


def test_pyplot_is_never_imported():
    script = """
import io, sys
import numpy as np
from hrcam.plots import comparison_sheet, score_box_plots
ramp = np.linspace(0, 1, 16).reshape(1, 4, 4)
figure = comparison_sheet(ramp[..., None], {"CAM": ramp}, ramp > 0.5, row_titles=["a"])
figure.savefig(io.BytesIO())
score_box_plots({"CAM": (ramp[0, :, :3], ramp[0, :, :3])}).savefig(io.BytesIO())
assert "matplotlib.pyplot" not in sys.modules
assert "keras" not in sys.modules
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_figures_are_plain(images, maps, scores):
    assert type(comparison_sheet(images, maps)) is Figure
    assert type(score_box_plots(scores)) is Figure
