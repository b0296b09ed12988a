"""Insertion and deletion curves: what is drawn, by hand."""

from itertools import combinations

import numpy as np
import pytest

from hrcam import plots
from hrcam.plots.faithfulness import STYLES

FRACTIONS = np.array([0, 0.5, 1])


class Curves:
    """What the figure reads; two images or more, three points."""

    def __init__(self, insertion, deletion, fractions=FRACTIONS):
        self.fractions = np.asarray(fractions)
        self.insertion, self.deletion = np.array(insertion), np.array(deletion)
        self.insertion_auc = np.array([0.25, 0.5])
        self.deletion_auc = np.array([0.1, 0.2])


RISING = [[0, 0.2, 1], [0, 0.6, 1]]
FALLING = [[1, 0.1, 0], [1, 0.5, 0]]
GOOD = Curves(RISING, FALLING)


def band(panel, number=0):
    """Low and high of a band at the middle point."""
    vertices = panel.collections[number].get_paths()[0].vertices
    middle = vertices[vertices[:, 0] == 0.5, 1]
    return middle.min(), middle.max()


def test_lines_are_means_with_quartile_bands():
    figure = plots.insertion_deletion_curves({"A": GOOD})

    insertion, deletion = figure.axes
    assert [panel.get_title() for panel in figure.axes] == ["insertion", "deletion"]
    np.testing.assert_allclose(insertion.lines[0].get_xdata(), FRACTIONS)
    np.testing.assert_allclose(insertion.lines[0].get_ydata(), [0, 0.4, 1])
    np.testing.assert_allclose(deletion.lines[0].get_ydata(), [1, 0.3, 0])
    # Quartiles of 0.2 and 0.6: 0.2 + 0.4 / 4 and 0.6 - 0.4 / 4.
    assert band(insertion) == pytest.approx((0.3, 0.5))
    assert band(deletion) == pytest.approx((0.2, 0.4))
    assert insertion.get_ylabel().endswith("n = 2)")


def test_areas_are_in_the_legend_in_order():
    figure = plots.insertion_deletion_curves({"B": GOOD, "A": GOOD})

    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown == ["B: 0.375 / 0.150", "A: 0.375 / 0.150"]
    assert legend.get_title().get_text() == "area: insertion / deletion"


def test_each_method_has_its_own_fractions():
    four = Curves(np.zeros((2, 4)), np.ones((2, 4)), np.linspace(0, 1, 4))
    figure = plots.insertion_deletion_curves({"A": GOOD, "B": four})

    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [3, 4]


def test_twelve_methods_can_be_told_apart():
    curves = {f"a method of a long name {i}": GOOD for i in range(12)}
    figure = plots.insertion_deletion_curves(curves)

    for panel in figure.axes:
        looks = [(x.get_color(), x._unscaled_dash_pattern[1]) for x in panel.lines]
        assert len(looks) == 12
        for one, other in combinations(looks, 2):
            assert one != other
        for line, fill in zip(panel.lines, panel.collections, strict=True):
            face = fill.get_facecolor()[0]
            assert tuple(face[:3]) == pytest.approx(to_rgb(line.get_color()))
    figure.draw_without_rendering()
    panels = [panel.get_tightbbox() for panel in figure.axes]
    legend = figure.legends[0].get_window_extent()
    assert not any(legend.overlaps(panel) for panel in panels)
    assert legend.y0 >= 0
    assert panels[0].width > 250  # points at 100 dpi: the legend leaves them room


def to_rgb(color):
    return tuple(int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))


@pytest.mark.parametrize(
    ("curves", "error", "message"),
    [
        (GOOD, TypeError, "`curves` must be a dict.*Received: Curves"),
        ({}, ValueError, "at least one method"),
        (
            {str(i): GOOD for i in range(13)},
            ValueError,
            "at most 12 methods.*Received: 13. Draw several",
        ),
        (
            {"A": GOOD, "B": Curves(RISING[:1], FALLING[:1])},
            ValueError,
            r"curves\['B'\].*\(2, 3\).*Received: \(1, 3\) and \(1, 3\)",
        ),
        (
            {"A": Curves(RISING, FALLING, [0, 1])},
            ValueError,
            r"\(2, 2\).*Received: \(2, 3\) and \(2, 3\)",
        ),
        (
            {"A": Curves(np.zeros((0, 3)), np.zeros((0, 3)))},
            ValueError,
            r"Received: \(0, 3\)",
        ),
    ],
)
def test_errors(curves, error, message):
    assert len(STYLES) == 12
    with pytest.raises(error, match=message):
        plots.insertion_deletion_curves(curves)
