import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from hrcam.plots import threshold_curves
from hrcam.sweep import threshold_counts, threshold_curve

NAMES = [f"method ${index}" for index in range(18)]


@pytest.fixture(scope="module")
def curves():
    """Eighteen methods, the later the worse; the first mask is empty."""
    rng = np.random.default_rng(0)
    masks = rng.uniform(size=(4, 12, 12)) < 0.3
    masks[0] = False
    noise = rng.uniform(size=masks.shape)
    maps = [masks * 0.5 * (1 - i / 20) + noise * 0.5 for i in range(len(NAMES))]
    found = [threshold_curve(threshold_counts(m, masks)) for m in maps]
    return dict(zip(NAMES, found, strict=True))


def some(curves, number):
    return {name: curves[name] for name in NAMES[:number]}


def lines(panel):
    """The methods' lines: those of 101 points."""
    return [line for line in panel.lines if len(line.get_xdata()) == 101]


def test_panels_have_the_curves(curves):
    roc, precision = threshold_curves(curves).axes

    for index, curve in enumerate(curves.values()):
        expected = np.stack([curve.false_positive_rate, curve.sensitivity], axis=1)
        np.testing.assert_array_equal(lines(roc)[index].get_xydata(), expected)
        expected = np.stack([curve.sensitivity, curve.precision], axis=1)
        np.testing.assert_array_equal(lines(precision)[index].get_xydata(), expected)
    assert (roc.get_xlabel(), roc.get_ylabel()) == ("1 - specificity", "sensitivity")
    assert precision.get_xlabel() == "sensitivity"
    assert precision.get_ylabel() == "precision"


def test_markers_stand_at_the_thresholds(curves):
    roc, precision = threshold_curves(some(curves, 1), marked=(0.3, 0.8)).axes

    (curve,) = some(curves, 1).values()
    for panel, x, y in (
        (roc, curve.false_positive_rate, curve.sensitivity),
        (precision, curve.sensitivity, curve.precision),
    ):
        points = {
            line.get_marker(): line.get_xydata()
            for line in panel.lines
            if line.get_marker() != "None"
        }
        assert points.keys() == {"o", "s"}
        np.testing.assert_array_equal(points["o"], [[x[30], y[30]]])  # steps of 0.01
        np.testing.assert_array_equal(points["s"], [[x[80], y[80]]])


def test_chance_lines(curves):
    roc, precision = threshold_curves(some(curves, 2)).axes

    chance = next(iter(curves.values())).chance
    diagonal, level = (
        next(line for line in panel.lines if to_hex(line.get_color()) == "#8c8c8c")
        for panel in (roc, precision)
    )
    np.testing.assert_array_equal(diagonal.get_xydata(), [[0, 0], [1, 1]])
    np.testing.assert_array_equal(level.get_ydata(), [chance, chance])


def test_every_method_looks_different(curves):
    for panel in threshold_curves(curves).axes:
        looks = {
            (to_hex(line.get_color()), str(line._dash_pattern)) for line in lines(panel)
        }
        assert len(looks) == 18


def test_legend_and_number_of_images(curves):
    figure = threshold_curves(curves)

    (legend,) = figure.legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts == [*NAMES, "chance", "threshold", "0.3", "0.5", "0.8"]
    for entry, line in zip(legend.legend_handles, lines(figure.axes[0]), strict=False):
        assert entry.get_color() == line.get_color()
    assert figure.get_supxlabel() == "means over n = 3 images; 1 left out"


@pytest.mark.parametrize(("number", "factor"), [(1, 1), (18, 1), (18, 3)])
def test_everything_stays_inside_and_apart(curves, number, factor):
    named = {name * factor: curve for name, curve in some(curves, number).items()}
    figure = threshold_curves(named)
    figure.draw_without_rendering()

    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height
    for panel in figure.axes:
        extent = panel.get_window_extent()
        assert not box.overlaps(extent)
        assert extent.width == pytest.approx(extent.height)
        assert extent.width / figure.dpi > 3


def test_24_methods_fit(curves):
    first = next(iter(curves.values()))
    figure = threshold_curves({str(index): first for index in range(24)})
    figure.draw_without_rendering()

    box = figure.legends[0].get_window_extent()
    assert box.y0 >= 0
    assert box.y1 <= figure.bbox.height


def test_no_marker_and_no_image_left_out(curves):
    curve = next(iter(curves.values()))._replace(left_out=0)

    figure = threshold_curves({"CAM": curve}, marked=())

    assert [t.get_text() for t in figure.legends[0].get_texts()] == ["CAM", "chance"]
    assert figure.get_supxlabel() == "means over n = 3 images"
    assert type(figure) is Figure


def test_curves_reject(curves):
    curve = next(iter(curves.values()))
    with pytest.raises(TypeError, match=r"`curves` must be a dict.*ThresholdCurve"):
        threshold_curves(curve)
    with pytest.raises(ValueError, match="empty dict"):
        threshold_curves({})
    with pytest.raises(ValueError, match=r"at most 24 methods.*Received: 25"):
        threshold_curves({str(index): curve for index in range(25)})
    for change in ({"chance": 0.9}, {"images": 9}, {"left_out": 0}):
        with pytest.raises(ValueError, match=r"must be of the same masks.*'b'"):
            threshold_curves({"a": curve, "b": curve._replace(**change)})
    with pytest.raises(ValueError, match=r"\[0.333\] are not in.*'a'.*marked=\(\)"):
        threshold_curves({"a": curve}, marked=(0.3, 0.333))
    with pytest.raises(ValueError, match="at most 5 thresholds"):
        threshold_curves({"a": curve}, marked=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6))
