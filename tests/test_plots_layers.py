"""Figures of layers: what is drawn where, that it can be read, and bad input."""

import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.contour import ContourSet

from hrcam.layer_analysis import LayerWeights, LogitShares
from hrcam.plots import layer_share_bars, layer_sheet, layer_weight_plots

LONG = [
    "conv1_relu",
    "backbone/conv2_block3_out",
    "a_long_name_of_a_backbone/block_13_expand_relu_activation",
    "efficientnetb0/block6a_expand_activation",
    "oneverylongwordwithoutanyplacetobreakit",
    "mixed7",
    "backbone/conv5_block3_out",
    "top_activation",
]
N, HEIGHT, WIDTH = 2, 16, 20


def vertical_lines(panel, color):
    """x of the vertical lines of a colour drawn by `vlines`."""
    return [
        c.get_segments()[0][0, 0]
        for c in panel.collections
        if np.allclose(c.get_color()[0][:3], color)
        and np.ptp(c.get_segments()[0][:, 0]) == 0
    ]


def points(panel):
    return np.concatenate([line.get_xydata() for line in panel.lines[1:]])


def check_texts(figure, texts, panels):
    """Texts are in the figure, apart from each other and from the panels."""
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for index, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert not any(box.overlaps(p.get_window_extent().padded(-1)) for p in panels)


# ----------------------------------------------------------------------------- weights


def test_weights_golden():
    # Quartiles -1 and 1 of -2 .. 2; whiskers to the ends, 9 is beyond 1 + 1.5 * 2.
    w = {"a": np.array([-2.0, -1, 0, 1, 2]), "b": np.array([3.0, 3, 3, 3, 9])}
    weights = {name: LayerWeights(values, 10 * values) for name, values in w.items()}

    left, right = layer_weight_plots(weights).axes

    assert left.get_xlabel() == "weight w"
    assert "standard deviation" in right.get_xlabel()
    for panel, factor in ((left, 1), (right, 10)):
        drawn = points(panel)
        expected = factor * np.concatenate([w["a"], w["b"]])
        np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(expected))
        np.testing.assert_array_equal(np.round(drawn[:, 1]), [0] * 5 + [1] * 5)
        assert vertical_lines(panel, [0, 0, 0]) == pytest.approx([0, 3 * factor])
        box, _ = panel.patches
        assert (box.get_x(), box.get_width()) == pytest.approx((-factor, 2 * factor))
        assert panel.lines[0].get_xdata() == [0, 0]  # the zero line
        assert panel.get_ylim() == (1.5, -0.5)  # the first layer on top
    ends = [c.get_segments()[0][:, 0].tolist() for c in left.collections[:2]]
    assert ends == [[-2, -1], [1, 2]]


def test_weights_beyond_the_whiskers_are_seen_among_many():
    w = np.append(np.linspace(-1, 1, 2000), 50.0)

    panel = layer_weight_plots({"a": LayerWeights(w, None)}).axes[0]

    _, crowd, beyond = panel.lines
    assert crowd.get_alpha() < 0.3 < beyond.get_alpha()
    np.testing.assert_array_equal(beyond.get_xdata(), [50])
    assert panel.get_xlim()[1] > 50


def test_one_panel_without_scaled_weights():
    weights = {"a": LayerWeights(np.ones(2), None), "b/c": LayerWeights([0.5], None)}

    (panel,) = layer_weight_plots(weights).axes

    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["a\n2 maps", "b/c\n1 map"]


def test_many_layers_with_long_names_can_be_read():
    rng = np.random.default_rng(0)
    weights = {n: LayerWeights(*rng.normal(size=(2, 9))) for n in LONG}
    contributions = rng.normal(size=(5, 8))
    shares = LogitShares(tuple(LONG), contributions, 0.0, contributions.sum(axis=1))

    for figure in (layer_weight_plots(weights), layer_share_bars(shares)):
        figure.draw_without_rendering()
        left, right = figure.axes
        texts = [*left.get_yticklabels(), left.xaxis.label, right.xaxis.label]
        texts += [text for legend in figure.legends for text in legend.get_texts()]
        check_texts(figure, texts, figure.axes)
        assert left.get_window_extent().width > 200  # of 100 dots an inch
        names = [t.get_text().replace("\n", "") for t in left.get_yticklabels()]
        for drawn, name in zip(names, LONG, strict=True):
            assert drawn.startswith(name)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (np.ones(3), TypeError, "Received: ndarray.*head_weights"),
        ({}, ValueError, "must have a layer"),
        ({"a": LayerWeights(np.ones((2, 2)), None)}, ValueError, r"'a'.*\(2, 2\)"),
        ({"a": LayerWeights(np.ones(0), None)}, ValueError, r"\(0,\)"),
        ({"a": LayerWeights(np.ones(2), np.ones(3))}, ValueError, r"\(2,\), \(3,\)"),
        ({"a": LayerWeights(np.array([np.nan]), None)}, ValueError, "NaN"),
        ({"a": LayerWeights(np.ones(1), np.array([np.inf]))}, ValueError, "infinity"),
    ],
)
def test_bad_weights(weights, error, message):
    with pytest.raises(error, match=message):
        layer_weight_plots(weights)


# ------------------------------------------------------------------------------ shares


def test_share_bars_golden():
    # Shares as in test_layer_analysis: 19/30 and 11/30; -4 and 5.
    contributions = np.array([[2.0, 1], [6, -4]])
    shares = LogitShares(("a", "b"), contributions, 0.0, np.array([3.0, 2]))

    figure = layer_share_bars(shares)

    left, right = figure.axes
    assert [bar.get_width() for bar in left.patches] == [4, -1.5]
    assert [round(b.get_y() + b.get_height() / 2) for b in left.patches] == [0, 1]
    (quartiles,) = left.collections  # a quarter of the way from 2 to 6, and 1 to -4
    drawn = [segment[:, 0].tolist() for segment in quartiles.get_segments()]
    assert drawn == [[3, 5], [-2.75, -0.25]]
    widths = [bar.get_width() for bar in right.patches]
    assert widths == pytest.approx([19 / 30, 11 / 30, -4, 5])
    centres = [bar.get_y() + bar.get_height() / 2 for bar in right.patches]
    assert centres == pytest.approx([-0.17, 0.83, 0.17, 1.17])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["of the logit (absolute)", "of its variance over images"]


def test_share_bars_of_one_image():
    """Its variance is zero: no bar for that share, and no warning."""
    one = LogitShares(("a", "b"), np.array([[2.0, 1]]), 0.0, np.array([3.0]))

    figure = layer_share_bars(one)

    figure.draw_without_rendering()
    widths = [bar.get_width() for bar in figure.axes[1].patches]
    np.testing.assert_allclose(widths, [2 / 3, 1 / 3, np.nan, np.nan])


# ------------------------------------------------------------------------------- sheet


@pytest.fixture
def images():
    return np.random.default_rng(0).random((N, HEIGHT, WIDTH, 1), np.float32)


@pytest.fixture
def maps():
    """Two layers of two images; the second image's are a thousand times as large."""
    maps = np.random.default_rng(1).normal(size=(N, 2, HEIGHT, WIDTH))
    return maps * np.reshape([1, 1000], (2, 1, 1, 1))


def panels_of(figure):
    return np.reshape(figure.axes, (N, -1))


def test_sheet_draws_the_parts_and_their_sum_in_one_scale(images, maps):
    panels = panels_of(layer_sheet(images, maps, ["a", "b"]))

    assert panels.shape == (N, 4)
    titles = [panel.get_title() for panel in panels[0]]
    assert titles == ["input", "a", "b", "sum of the layers"]
    for row, image, parts in zip(panels, images, maps, strict=True):
        np.testing.assert_array_equal(row[0].images[0].get_array(), image[..., 0])
        expected = [*parts, parts[0] + parts[1]]
        limit = np.abs(expected).max()
        for panel, values in zip(row[1:], expected, strict=True):
            (shown,) = panel.images
            np.testing.assert_allclose(shown.get_array(), values)
            assert shown.get_clim() == pytest.approx((-limit, limit))
            assert shown.get_cmap().name == "RdBu_r"
            text = panel.get_xlabel().replace("\N{MINUS SIGN}", "-")
            assert float(text.removeprefix("mean ")) == pytest.approx(
                values.mean(), rel=0.01
            )
        assert [len(panel.child_axes) for panel in row] == [0, 0, 0, 1]
        (bar,) = row[-1].child_axes
        np.testing.assert_allclose(bar.get_yticks(), [-limit, 0, limit])


def test_sheet_outlines_masks(images, maps):
    masks = np.zeros((N, HEIGHT, WIDTH), bool)
    masks[0, 2:5, 3:9] = True  # the second is empty

    panels = panels_of(layer_sheet(images, maps, ["a", "b"], masks))

    found = [
        [any(isinstance(c, ContourSet) for c in panel.get_children()) for panel in row]
        for row in panels
    ]
    assert found == [[True] * 4, [False] * 4]


def test_sheet_of_zeros_is_white(images):
    panels = panels_of(layer_sheet(images, np.zeros((N, 1, HEIGHT, WIDTH)), ["a"]))

    assert panels[0, 1].images[0].get_clim() == (-1, 1)
    assert panels[0, 1].get_xlabel() == "mean 0"


@pytest.mark.parametrize("size", [(16, 16), (16, 60), (40, 16)])
def test_sheet_of_many_layers_can_be_read(size):
    rng = np.random.default_rng(0)
    images, maps = rng.random((N, *size, 3)), 1e-5 * rng.normal(size=(N, 8, *size))

    figure = layer_sheet(images, maps, LONG, titles=["true: nevus", "long " * 12])

    figure.draw_without_rendering()
    panels = panels_of(figure)
    texts = [panel.title for panel in panels[0]]
    texts += [panel.xaxis.label for panel in panels.flat]
    texts += [panel.yaxis.label for panel in panels[:, 0]]
    for panel in panels[:, -1]:
        texts += panel.child_axes[0].get_yticklabels()
    check_texts(figure, texts, panels.flat)
    drawn = [panel.get_title().replace("\n", "") for panel in panels[0, 1:-1]]
    assert drawn == LONG


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"maps": np.zeros((2, 4, 4))}, ValueError, r"\(2, 1, 4, 4\).*\(2, 4, 4\)"),
        ({"maps": np.zeros((2, 1, 2, 2))}, ValueError, r"Received: \(2, 1, 2, 2\)"),
        ({"layers": ["a", "b"]}, ValueError, r"2 `layers`.*\(2, 2, 4, 4\)"),
        ({"layers": [], "maps": np.zeros((2, 0, 4, 4))}, ValueError, "0 `layers`"),
        ({"maps": np.full((2, 1, 4, 4), np.nan)}, ValueError, "'a'.*must be finite"),
        ({"masks": np.zeros((2, 4, 4))}, ValueError, "must be bool"),
        ({"images": np.full((2, 4, 4, 1), 255)}, ValueError, r"in \[0, 1\]"),
        ({"titles": "ab"}, TypeError, "the string 'ab'"),
        ({"titles": ["a"]}, ValueError, "the 2 images. Received: 1"),
    ],
)
def test_bad_sheet(change, error, message):
    good = {
        "images": np.zeros((2, 4, 4, 1)),
        "maps": np.zeros((2, 1, 4, 4)),
        "layers": ["a"],
    }
    with pytest.raises(error, match=message):
        layer_sheet(**(good | change))


def test_nothing_given_is_changed(images, maps):
    given = images.copy(), maps.copy()

    layer_sheet(images, maps, ["a", "b"])

    np.testing.assert_array_equal(images, given[0])
    np.testing.assert_array_equal(maps, given[1])


def test_neither_pyplot_nor_keras_is_imported():
    script = """
import io, sys
from types import SimpleNamespace
import numpy as np
from hrcam.plots import layer_share_bars, layer_sheet, layer_weight_plots
ones = np.ones(2)
figures = [
    layer_weight_plots({"a": SimpleNamespace(w=ones, scaled=ones)}),
    layer_share_bars(
        SimpleNamespace(
            layers=["a", "b"],
            contributions=ones[None],
            mean=ones,
            absolute_share=ones / 2,
            covariance_share=ones / 2,
        )
    ),
    layer_sheet(np.zeros((1, 4, 4, 1)), np.ones((1, 1, 4, 4)), ["a"]),
]
for figure in figures:
    figure.savefig(io.BytesIO())
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


def test_weights_need_only_their_attributes():
    weights = {"a": SimpleNamespace(w=[1.0, 2.0], scaled=None)}

    panel = layer_weight_plots(weights).axes[0]

    assert vertical_lines(panel, [0, 0, 0]) == [1.5]
