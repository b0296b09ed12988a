import io
import os
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from hrcam.plots import response_sheet, unit_sheet
from hrcam.plots._dominant import GROUND, OTHERS_COLOR, UNIT_COLORS

BATCH, UNITS, HEIGHT, WIDTH = 2, 12, 16, 20


@pytest.fixture
def images():
    return np.random.default_rng(0).random((BATCH, HEIGHT, WIDTH, 1), np.float32)


def make_result(unit_maps, seed=0):
    """The dict of `attentive_response_maps`, from its signed maps."""
    batch, n = unit_maps.shape[:2]
    rng = np.random.default_rng(seed)
    per_unit = unit_maps.max(axis=-1)
    return {
        "units": np.array([rng.permutation(512)[:n] for _ in range(batch)], np.int32),
        "unit_maps": unit_maps,
        "response": per_unit.max(axis=1),
        "dominant_unit": per_unit.argmax(axis=1).astype(np.int32),
    }


@pytest.fixture
def result():
    shape = BATCH, UNITS, HEIGHT, WIDTH, 3
    unit_maps = np.random.default_rng(1).normal(-1.5, 1, shape).astype(np.float32)
    result = make_result(unit_maps)
    assert (result["response"] < 0).any()
    return result


def golden_result():
    """Two units on 2x4 pixels: peak 4, a quarter of it, noise, and nothing."""
    response = np.array([[[4, 2, 1.2, 0.4], [0, -1, 0.2, 4]]], np.float32)
    dominant = np.array([[[0, 0, 1, 0], [0, 1, 1, 1]]], np.int32)
    units = np.array([[137, 5]], np.int32)
    return {"units": units, "response": response, "dominant_unit": dominant}


def rows_of(figure):
    return np.reshape(figure.axes, (-1, 4))


def words(panel):
    return [text.get_text() for text in panel.texts]


def bar_of(panel):
    (bar,) = panel.child_axes
    return bar


def tick_labels(panel):
    return [label.get_text() for label in bar_of(panel).get_yticklabels()]


def legend_entries(panel):
    """Label to colour, in the order of the legend."""
    legend = panel.get_legend()
    labels = [text.get_text() for text in legend.get_texts()]
    colors = [to_hex(patch.get_facecolor()).upper() for patch in legend.get_patches()]
    return dict(zip(labels, colors, strict=True))


def bar_colors(panel):
    """The colours of a colour bar from its lower to its upper end."""
    (mesh,) = bar_of(panel).collections[-1:]
    return mesh.to_rgba(mesh.get_array()).reshape(-1, 4)


def rendered(figure, panel):
    """The pixels of a panel, RGB in 0..255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    box = panel.get_window_extent()
    pixels = np.asarray(canvas.buffer_rgba())[::-1, :, :3]
    x, y = (
        slice(round(box.x0) + 2, round(box.x1) - 2),
        slice(round(box.y0) + 2, round(box.y1) - 2),
    )
    return pixels[y, x][::-1].astype(int)


def text_artists(figure):
    """Everything written, once drawn, but for empty texts."""
    for panel in figure.axes:
        yield from (panel.title, panel.xaxis.label, panel.yaxis.label, *panel.texts)
        for bar in panel.child_axes:
            yield from bar.get_yticklabels()
        if panel.get_legend():
            yield from (panel.get_legend().get_title(), *panel.get_legend().get_texts())


def assert_texts_stay_inside_and_apart(figure):
    figure.draw_without_rendering()
    texts = [text for text in text_artists(figure) if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for index, box in enumerate(boxes):
        name = texts[index].get_text()
        assert box.x0 >= 0, name
        assert box.y0 >= 0, name
        assert box.x1 <= figure.bbox.width, name
        assert box.y1 <= figure.bbox.height, name
        # A zero's label may touch its neighbour: comparison_sheet's test sees to that.
        assert not any(box.padded(-2).overlaps(b) for b in boxes[index + 1 :]), name
        for panel in figure.axes:
            if texts[index] not in panel.texts:
                assert not box.overlaps(panel.get_window_extent().padded(-1)), name


# The response sheet.


def test_response_sheet_draws_the_raw_response(images, result):
    rows = rows_of(response_sheet(images, result, smooth=0))
    assert len(rows) == BATCH
    assert rows[0, 1].get_title() == "overlay"
    for index, (image, overlay, alone, _) in enumerate(rows):
        grey, response = images[index, :, :, 0], result["response"][index]
        np.testing.assert_array_equal(image.images[0].get_array(), grey)
        np.testing.assert_array_equal(overlay.images[0].get_array(), grey)
        shares = response.clip(0) / response.max()
        np.testing.assert_allclose(overlay.images[1].get_array(), shares, rtol=1e-6)
        np.testing.assert_array_equal(alone.images[0].get_array(), response)
        assert alone.images[0].get_clim() == (0, response.max())
        assert alone.images[0].get_alpha() is None


def test_overlay_is_smoothed_and_the_response_is_not():
    """One pixel among 100 x 100: a Gaussian of standard deviation 2 around it."""
    response = np.full((1, 100, 100), -1.0)
    response[0, 40, 60] = 5
    dominant = np.zeros(response.shape, np.int32)
    result = {"units": np.array([[7]]), "response": response, "dominant_unit": dominant}
    sheet = response_sheet(np.zeros((1, 100, 100, 1)), result, smooth=0.02)
    _, overlay, alone, by_unit = rows_of(sheet)[0]
    shares = overlay.images[1].get_array()
    assert shares[40, 60] == 1
    np.testing.assert_allclose(shares[43, 60], np.exp(-9 / 8), rtol=1e-6)
    np.testing.assert_allclose(shares[41, 62], np.exp(-5 / 8), rtol=1e-6)
    opacity = overlay.images[1].get_alpha()[43, 60]
    assert opacity == pytest.approx(0.7 * (np.exp(-9 / 8) - 0.1) / 0.4)
    np.testing.assert_array_equal(alone.images[0].get_array(), response[0])
    assert overlay.get_title() == "overlay, smoothed"
    assert list(legend_entries(by_unit)) == ["7 (100%)"]


@pytest.mark.parametrize("smooth", [-0.1, 1.5, float("nan")])
def test_smoothing_out_of_range(images, result, smooth):
    with pytest.raises(ValueError, match=r"`smooth` must be .* Received: "):
        response_sheet(images, result, smooth=smooth)


def test_response_bar_states_the_raw_range(images, result):
    for index, row in enumerate(rows_of(response_sheet(images, result))):
        response = result["response"][index]
        assert bar_of(row[2]).get_ylim() == (response.min(), response.max())
        low, zero, high = tick_labels(row[2])
        assert (low[0], zero) == ("\N{MINUS SIGN}", "0")
        assert float(low[1:]) == pytest.approx(-response.min(), rel=0.01)
        assert float(high) == pytest.approx(response.max(), rel=0.01)
        assert not row[1].child_axes
        assert not row[3].child_axes


def test_response_bar_has_the_colours_of_the_panel():
    panel = rows_of(response_sheet(np.zeros((1, 2, 4, 1)), golden_result()))[0, 2]
    colors, ramp = bar_colors(panel), panel.images[0]
    values = np.linspace(-1, 4, len(colors))
    np.testing.assert_allclose(colors, ramp.to_rgba(values), atol=0.02)
    np.testing.assert_allclose(colors[values < 0], np.tile(colors[0], (205, 1)))
    assert colors[0][:3].max() < 0.02  # black up to zero
    assert colors[-1][:3].min() < 0.3  # saturated at the peak, to be seen on bone
    assert np.all(np.diff(colors[values > 0][:, :3].sum(axis=1)) > -0.01)


def test_overlay_opacity_golden():
    # Shares of the peak: 1, .5, .3, .1 / 0, < 0, .05, 1; opacity rises from .1 to .5.
    figure = response_sheet(np.zeros((1, 2, 4, 1)), golden_result(), alpha=0.8)
    overlay = rows_of(figure)[0, 1].images[1]
    expected = [[0.8, 0.8, 0.4, 0], [0, 0, 0, 0.8]]
    np.testing.assert_allclose(overlay.get_alpha(), expected, atol=1e-6)
    figure = response_sheet(
        np.zeros((1, 2, 4, 1)), golden_result(), alpha=1, fade=(0, 1)
    )
    overlay = rows_of(figure)[0, 1].images[1]
    expected = [[1, 0.5, 0.3, 0.1], [0, 0, 0.05, 1]]
    np.testing.assert_allclose(overlay.get_alpha(), expected, atol=1e-6)


def test_low_response_leaves_the_rendered_radiograph_unchanged():
    image = np.linspace(0.2, 1, 32 * 32).reshape(1, 32, 32, 1)
    response = np.full((1, 32, 32), 0.09, np.float32)
    response[0, :, 16:] = -5
    response[0, 12:20, 12:20] = 1
    dominant = np.zeros((1, 32, 32), int)
    result = {"units": [[3]], "response": response, "dominant_unit": dominant}
    figure = response_sheet(image, result)
    original, overlay, *_ = rows_of(figure)[0]
    before, after = rendered(figure, original), rendered(figure, overlay)
    height, width = np.minimum(before.shape, after.shape)[:2]
    difference = np.abs(before[:height, :width] - after[:height, :width])
    assert difference[: height // 4].max() <= 4  # a pixel off, along the ramp
    red, _, blue = after[height // 2, width // 2]
    assert red - blue > 100  # yellow at the peak
    assert after[height // 2, width // 2].max() > 200


def test_titles(images, result):
    titles = ["true: fracture 0.97 / predicted: normal", "costs $5 or $6"]
    rows = rows_of(response_sheet(images, result, titles=titles))
    names = ["input", "overlay, smoothed", "response", "dominant unit"]
    assert [panel.get_title() for panel in rows[0]] == names
    assert not any(panel.get_title() for panel in rows[1])
    assert [row[0].get_ylabel().replace("\n", " ") for row in rows] == titles


def test_dominant_unit_golden():
    panel = rows_of(response_sheet(np.zeros((1, 2, 4, 1)), golden_result()))[0, 3]
    # Unit 137 has 4 + 2 + .4 of the positive response, unit 5 has 1.2 + .2 + 4:
    # 6.4 / 11.8 and 5.4 / 11.8.
    entries = legend_entries(panel)
    assert list(entries) == ["137 (54%)", "5 (46%)"]
    assert list(entries.values()) == list(UNIT_COLORS[:2])
    assert panel.get_legend().get_title().get_text() == "unit (share)"
    first, second, ground = map(np.array, map(to_rgb, (*UNIT_COLORS[:2], GROUND)))
    half = (second + ground) / 2  # .3 of the peak
    expected = [[first, first, half, ground], [ground, ground, ground, second]]
    np.testing.assert_allclose(panel.images[0].get_array(), expected, atol=1e-6)


def test_legend_lists_the_largest_shares_and_others(images):
    # Unit k dominates column k with strength 30 - k, but for units 3 and 20, which
    # have one more column each (20 and 21): 25 units, 8 listed.
    response = np.zeros((1, 16, 27), np.float32)
    dominant = np.zeros((1, 16, 27), np.int32)
    for unit in range(25):
        response[0, :, unit], dominant[0, :, unit] = 30 - unit, unit
    response[0, :, 25:] = 27, 10
    dominant[0, :, 25:] = 3, 20
    units = np.arange(25)[::-1][None] + 100
    result = {"units": units, "response": response, "dominant_unit": dominant}
    sheet = response_sheet(np.zeros((1, 16, 27, 1)), result, smooth=0)
    panel = rows_of(sheet)[0, 3]
    entries = legend_entries(panel)
    strengths = {unit: 30 - unit + {3: 27, 20: 10}.get(unit, 0) for unit in range(25)}
    total = sum(strengths.values())
    ordered = sorted(strengths, key=strengths.get, reverse=True)
    expected = [f"{124 - u} ({strengths[u] / total:.0%})" for u in ordered[:8]]
    others = sum(strengths[unit] for unit in ordered[8:]) / total
    assert ordered[0] == 3
    assert list(entries) == [*expected, f"others ({others:.0%})"]
    assert len(set(entries.values())) == 9
    shown = panel.images[0].get_array()
    for unit in range(25):
        label = next((e for e in entries if e.startswith(f"{124 - unit} ")), None)
        color = np.array(to_rgb(entries[label] if label else OTHERS_COLOR))
        opacity = min(1, ((30 - unit) / 30 - 0.1) / 0.4)
        expected = opacity * color + (1 - opacity) * np.array(to_rgb(GROUND))
        np.testing.assert_allclose(shown[0, unit], expected, atol=1e-6)


def test_legend_of_tiny_shares_and_of_units_without_any(images):
    result = golden_result()
    result["response"][:] = [[1000, 1000, 1000, 1000], [1, 0, -1, -1]]
    result["dominant_unit"][:] = [[0, 0, 0, 0], [1, 2, 2, 2]]
    result["units"] = np.array([[7, 8, 9]], np.int32)
    panel = rows_of(response_sheet(np.zeros((1, 2, 4, 1)), result))[0, 3]
    assert list(legend_entries(panel)) == ["7 (100%)", "8 (<1%)"]


def test_a_unit_keeps_its_colour_in_other_rows():
    result = {k: np.repeat(v, 3, axis=0) for k, v in golden_result().items()}
    result["units"] = np.array([[137, 5], [5, 60], [60, 137]], np.int32)
    rows = rows_of(response_sheet(np.zeros((3, 2, 4, 1)), result))
    orange, blue, green = UNIT_COLORS[:3]
    colors = [legend_entries(row[3]) for row in rows]
    assert colors[0] == {"137 (54%)": orange, "5 (46%)": blue}
    assert colors[1] == {"5 (54%)": blue, "60 (46%)": green}
    assert colors[2] == {"60 (54%)": green, "137 (46%)": orange}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 0, ["no positive response", "0"]),
        (-0.5, 0, ["no positive response", "−0.5 to 0"]),  # noqa: RUF001
        (-2, -1e-4, ["no positive response", "−2 to −0.0001"]),  # noqa: RUF001
        (-1, -1, ["no positive response", "−1"]),  # noqa: RUF001
        (0.25, 0.25, ["constant", "0.25"]),
        (0.25, np.nextafter(np.float32(0.25), 1), ["constant", "0.25"]),
    ],
)
def test_a_blank_map_is_words(images, result, low, high, expected):
    ramp = np.linspace(low, high, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    result["response"][1] = ramp
    result["unit_maps"][1, 0] = ramp[..., None]
    image, overlay, *blank = rows_of(response_sheet(images, result))[1]
    assert len(image.images) == len(overlay.images) == 1  # the image as it is
    blank.append(unit_sheet(images, result).axes[7])
    assert blank[2].get_title() == f"unit {result['units'][1, 0]}"
    for panel in blank:
        assert words(panel) == expected
        assert not panel.images
        assert not panel.child_axes
        assert panel.get_legend() is None


def test_a_faint_response_is_drawn_alike(images, result):
    for scale in (1e-30, 1e30):
        scaled = result | {"response": result["response"] * np.float32(scale)}
        one, other = (rows_of(response_sheet(images, r)) for r in (result, scaled))
        for column in (1, 3):
            shown = [rows[0, column].images[-1] for rows in (one, other)]
            shown = [image.to_rgba(image.get_array()) for image in shown]
            np.testing.assert_allclose(*shown, atol=0.01)


# The unit sheet.


def test_unit_sheet_draws_the_largest_channel_of_raw_maps(images, result):
    panels = np.reshape(unit_sheet(images, result).axes, (BATCH, 6))
    for index, row in enumerate(panels):
        grey = images[index, :, :, 0]
        np.testing.assert_array_equal(row[0].images[0].get_array(), grey)
        for place, panel in enumerate(row[1:]):
            values = result["unit_maps"][index, place].max(axis=-1)
            (shown,) = panel.images
            np.testing.assert_array_equal(shown.get_array(), values)
            limit = np.abs(values).max()
            assert shown.get_clim() == (-limit, limit)
            assert panel.get_title() == f"unit {result['units'][index, place]}"
            assert bar_of(panel).get_ylim() == (values.min(), values.max())


def test_unit_map_colours_golden(images, result):
    ramp = np.linspace(-4, 2, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    result["unit_maps"][0, 0] = ramp[..., None] + [0, -1, -9]
    panel = unit_sheet(images, result, units=1).axes[1]
    white, red, blue = panel.images[0].to_rgba(np.array([0, 2, -4]))[:, :3]
    np.testing.assert_allclose(white, 0.97, atol=0.01)
    assert red[0] > 1.5 * red[2]
    assert blue[2] > 1.5 * blue[0]
    colors = bar_colors(panel)
    values = np.linspace(-4, 2, len(colors))
    expected = panel.images[0].to_rgba(values)
    np.testing.assert_allclose(colors, expected, atol=0.02)
    assert tick_labels(panel) == ["−4", "0", "2"]  # noqa: RUF001


@pytest.mark.parametrize(
    ("units", "lines"),
    [(1, [1]), (6, [3, 3]), (9, [5, 4]), (11, [4, 4, 3])],
)
def test_many_units_take_several_lines(images, result, units, lines):
    figure = unit_sheet(images, result, units=units)
    inputs = [p for p in figure.axes if not p.get_title().startswith("unit")]
    maps = [p for p in figure.axes if p.get_title().startswith("unit")]
    assert len(inputs) == BATCH
    expected = [f"unit {channel}" for channel in result["units"][:, :units].ravel()]
    assert [panel.get_title() for panel in maps] == expected
    tops = np.round([panel.get_position().y1 for panel in maps], 6)
    _, counts = np.unique(-tops, return_counts=True)
    assert counts.tolist() == lines * BATCH
    for image, first in zip(inputs, maps[::units], strict=True):
        assert image.get_position().y1 == pytest.approx(first.get_position().y1)


def test_unit_sheet_says_how_channels_were_joined(images, result):
    labels = [p.get_xlabel() for p in unit_sheet(images, result).axes]
    assert labels == ["maps: largest of 3 channels"] + [""] * 11
    result["unit_maps"] = result["unit_maps"][..., :1]
    assert not any(p.get_xlabel() for p in unit_sheet(images, result).axes)


# Both.


@pytest.mark.parametrize("sheet", [response_sheet, unit_sheet])
def test_colour_images(result, sheet):
    images = np.random.default_rng(0).random((BATCH, HEIGHT, WIDTH, 3), np.float32)
    panels = sheet(images, result).axes
    np.testing.assert_array_equal(panels[0].images[0].get_array(), images[0])
    if sheet is response_sheet:
        grey = images[0].mean(axis=-1)
        np.testing.assert_array_equal(panels[1].images[0].get_array(), grey)


@pytest.mark.parametrize(
    ("size", "rows", "units", "titled"),
    [
        ((16, 16), 1, 5, False),
        ((16, 16), 2, 9, True),
        ((16, 90), 2, 9, True),
        ((60, 16), 2, 5, True),
    ],
)
def test_texts_stay_inside_and_apart(size, rows, units, titled):
    rng = np.random.default_rng(0)
    images = rng.random((rows, *size, 1))
    unit_maps = rng.normal(size=(rows, 25, *size, 3)).astype(np.float32)
    result = make_result(1e-5 * unit_maps)
    result["units"] += 10_000  # five digits
    result["response"][1:] = -1
    titles = (
        ["true: melanoma 0.97 / predicted: nevus", "long " * 40] if titled else None
    )
    figure = response_sheet(images, result, titles=titles)
    assert_texts_stay_inside_and_apart(figure)
    figure = unit_sheet(images, result, units=units, titles=titles)
    assert_texts_stay_inside_and_apart(figure)


def test_only_what_is_drawn_is_asked_for(images, result):
    maps = result.pop("unit_maps")
    response_sheet(images, result)
    unit_sheet(images, {"units": result["units"], "unit_maps": maps})


@pytest.mark.parametrize("sheet", [response_sheet, unit_sheet])
def test_sheets_are_plain_and_change_nothing_given(images, result, sheet):
    given = {name: values.copy() for name, values in result.items()}
    before = images.copy()
    figure = sheet(images, result)
    figure.savefig(io.BytesIO())
    assert type(figure) is Figure
    np.testing.assert_array_equal(images, before)
    for name, values in result.items():
        np.testing.assert_array_equal(values, given[name])


GOOD = {
    "units": np.array([[4, 7], [7, 4]]),
    "unit_maps": np.zeros((2, 2, 4, 5, 1)),
    "response": np.zeros((2, 4, 5)),
    "dominant_unit": np.zeros((2, 4, 5), int),
}
BOTH = (
    ({"images": np.zeros((4, 5, 1))}, ValueError, r"Received: \(4, 5, 1\)"),
    ({"images": np.full((2, 4, 5, 1), 255)}, ValueError, "by 255"),
    ({"result": np.zeros((2, 4, 5))}, TypeError, "dict.*Received: ndarray"),
    ({"result": {}}, ValueError, r"Received: \[\], without \['units', "),
    ({"units": np.array([4, 7])}, ValueError, r"\(batch, n\).*Received: \(2,\)"),
    ({"units": GOOD["units"][:1]}, ValueError, r"batch 2.*Received: \(1, 2\)"),
    ({"units": GOOD["units"][:, :0]}, ValueError, r"Received: \(2, 0\)"),
    ({"units": GOOD["units"] / 2}, ValueError, "whole numbers. Received: float64"),
    ({"titles": "ab"}, TypeError, "the string 'ab'"),
    ({"titles": ["a"]}, ValueError, "the 2 images. Received: 1"),
)
RESPONSE = (
    (
        {"response": np.zeros((2, 5, 4))},
        ValueError,
        r"'response'.*\(batch, height, width\), here batch 2, height 4, width 5, n 2.*"
        r"Received: \(2, 5, 4\)",
    ),
    ({"response": np.zeros((1, 4, 5))}, ValueError, r"Received: \(1, 4, 5\)"),
    (
        {"response": np.stack([np.zeros((4, 5)), np.full((4, 5), np.nan)])},
        ValueError,
        r"'response'.*finite.*rows \[1\]",
    ),
    ({"response": np.zeros((2, 4, 5), complex)}, ValueError, "real numbers"),
    ({"dominant_unit": np.zeros((2, 4))}, ValueError, r"Received: \(2, 4\)"),
    ({"dominant_unit": np.zeros((2, 4, 5))}, ValueError, "Received: float64"),
    (
        {"dominant_unit": np.full((2, 4, 5), 7)},
        ValueError,
        "0 to 1. Received: values from 7 to 7. Give places",
    ),
    ({"dominant_unit": np.full((2, 4, 5), -1)}, ValueError, "from -1 to -1"),
    ({"alpha": 0}, ValueError, "`alpha`.*Received: 0"),
    ({"fade": (0.5, 0.1)}, ValueError, r"`fade`.*Received: \(0.5, 0.1\)"),
    ({"fade": (0.5, 1.5)}, ValueError, "`fade`"),
    ({"fade": 0.5}, ValueError, "`fade`.*Received: 0.5"),
)
UNIT = (
    ({"unit_maps": None}, ValueError, r"without \['unit_maps'\].*unit_maps=True"),
    ({"unit_maps": np.zeros((2, 2, 4, 5))}, ValueError, r"Received: \(2, 2, 4, 5\)"),
    ({"unit_maps": np.zeros((2, 3, 4, 5, 1))}, ValueError, r"n 2.*\(2, 3, 4, 5, 1\)"),
    ({"unit_maps": np.zeros((2, 2, 5, 4, 1))}, ValueError, r"\(2, 2, 5, 4, 1\)"),
    ({"unit_maps": np.full((2, 2, 4, 5, 1), np.inf)}, ValueError, r"rows \[0, 1\]"),
    ({"count": 3}, ValueError, "from 1 to 2.*Received: 3. Draw fewer"),
    ({"count": 0}, ValueError, "Received: 0"),
    ({"count": 1.5}, ValueError, "Received: 1.5"),
    ({"count": True}, ValueError, "Received: True"),
)


@pytest.mark.parametrize(
    ("sheet", "change", "error", "message"),
    [
        *((response_sheet, *case) for case in BOTH + RESPONSE),
        *((unit_sheet, *case) for case in BOTH + UNIT),
    ],
)
def test_sheets_reject(sheet, change, error, message):
    result = {name: change.get(name, good) for name, good in GOOD.items()}
    result = {name: values for name, values in result.items() if values is not None}
    options = {k: change[k] for k in ("titles", "alpha", "fade") if k in change}
    if sheet is unit_sheet:
        options["units"] = change.get("count", 2)
    images = change.get("images", np.zeros((2, 4, 5, 1)))
    with pytest.raises(error, match=message):
        sheet(images, change.get("result", result), **options)


def test_neither_pyplot_nor_keras_is_imported():
    script = """
import io, sys
import numpy as np
from hrcam.plots import response_sheet, unit_sheet
ramp = np.linspace(-1, 1, 16, dtype="float32").reshape(1, 4, 4)
result = {
    "units": np.array([[3]]),
    "unit_maps": ramp[:, None, ..., None],
    "response": ramp,
    "dominant_unit": np.zeros((1, 4, 4), int),
}
images = ramp[..., None] ** 2
response_sheet(images, result, titles=["a"]).savefig(io.BytesIO())
unit_sheet(images, result, units=1, titles=["a"]).savefig(io.BytesIO())
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
