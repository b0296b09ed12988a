"""The script behind docs/applications.md, and networks like those that it describes."""

import importlib
import re
import sys
from pathlib import Path

import keras
import pytest
from keras import layers

from hrcam import build_hrcam_model, feature_layers

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "applications.md"


@pytest.fixture(scope="module")
def script():
    """The benchmark scripts import each other by their bare names."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    yield importlib.import_module("applications")
    sys.path.remove(str(ROOT / "benchmarks"))


def test_the_script_knows_every_network_of_keras(script):
    """A new version of Keras may have more of them."""
    of_keras = {name for name in dir(keras.applications) if name[0].isupper()}
    assert len(script.NETWORKS) == len(set(script.NETWORKS))
    assert set(script.NETWORKS) == of_keras


@pytest.mark.parametrize(
    ("network", "options", "size", "sides", "count"),
    [
        # Stage widths 32, 64, 128, 256, 512 and 1,024 times 1/4; the first map of a
        # quarter of the image is made by the second block: 16 + 32 + 64 + 128 + 256.
        ("MobileNet", {"alpha": 0.25}, 64, [32, 16, 8, 4, 2], 496),
        # The expanded maps before each stride: 6 times 8, 8, 16 and 32 (16, 24, 32 and
        # 96 times 0.35, in eights), then 1,280.
        ("MobileNetV2", {"alpha": 0.35}, 64, [32, 16, 8, 4, 2], 1664),
    ],
)
def test_row_of_a_small_network(script, network, options, size, sides, count):
    model = script.build(network, size, **options)

    row = script.row(model)

    assert row["input"] == [size, size]
    assert row["sizes"] == [[side, side] for side in sides]
    assert sum(row["maps"]) == count
    assert row["layers"] == feature_layers(model)
    assert row["without_rule"] is None
    head = build_hrcam_model(model)
    assert head.get_layer("gap_vector").output.shape[1] == count


def test_a_network_of_any_size_is_built_at_224(script):
    model = script.build("MobileNetV3Small", minimalistic=True)

    assert model.input_shape == (None, 224, 224, 3)
    assert feature_layers(model)[0] == "re_lu"  # the names begin anew


def test_the_layer_type_without_a_rule_is_named(script):
    image = x = keras.Input((8, 8, 3))
    for step in (layers.Conv2D(4, 3), layers.GroupNormalization(2), layers.ReLU()):
        x = step(x)
    assert script.without_rule(keras.Model(image, x)) == "GroupNormalization"


def test_another_error_is_not_taken_for_a_missing_rule(script):
    image = keras.Input((8, 8, 3))
    pooled = layers.GlobalAveragePooling2D()(image)
    with pytest.raises(ValueError, match="must have a convolution"):
        script.without_rule(keras.Model(image, pooled))


ROW = {
    "network": "VGG19",
    "input": [224, 224],
    "layers": ["a", "outer/b"],
    "maps": [1000, 234],
    "sizes": [[12, 12], [6, 4]],
    "without_rule": None,
    "versions": {"python": "3.11", "keras": "3.15"},
}
COST = {
    "machine": {
        "date": "2026-01-02",
        "cores": 2,
        "load_before": 0.5,
        "system": "Linux",
    },
    "batch": 4,
    "rounds": 5,
    "rows": {
        "hr_cam": {"ratio": 1.0449, "lowest": 0.9, "highest": 1.2},
        "forward": {"ratio": 1.02, "lowest": 0.95, "highest": 1.1},
    },
}


def test_page_of_two_rows(script):
    other = ROW | {"network": "VGG16", "without_rule": "Odd", "cost": COST}

    lines = script.page({"VGG19": ROW, "VGG16": other}).splitlines()

    cells = "224 | 1,234 | 12, 6 x 4 |"
    assert lines[-2:] == [
        f"| `VGG16` | {cells} 1.04 (0.90 to 1.20) | no: `Odd` | `a`, `outer/b` |",
        f"| `VGG19` | {cells} - | yes | `a`, `outer/b` |",
    ]
    setting = next(line for line in lines if line.startswith("2026-01-02"))
    assert "2026-01-02; python 3.11, keras 3.15; 2 cores, Linux, batch 4" in setting
    assert "load before a network's timing 0.5." in setting
    assert "at 1.02 to 1.02" in setting


def test_the_committed_page_has_every_network(script):
    text = PAGE.read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))

    assert list(rows) == [*script.NETWORKS]
    cells = {name: row.split(" | ") for name, row in rows.items()}
    assert cells["VGG19"][1:3] == ["1,472", "224, 112, 56, 28, 14"]
    assert cells["ResNet50"][1:3] == ["3,904", "112, 56, 28, 14, 7"]
    timed = [name for name, row in cells.items() if row[3] != "-"]
    assert timed == [*script.TIMED]
    assert re.search(r"^20\d\d-\d\d-\d\d.*\bcores\b", text, re.MULTILINE)
    assert "python benchmarks/applications.py" in text


# --- what the rule for feature layers says of cells that read the two before them -----


def cells_of_two_inputs(branch_filters):
    """As NASNet: at half the image's size no tensor alone is all that is known of it.

    Each cell adds a convolution of the cell before it and one of the one before that.
    The cell behind the reduction reads `cell2`, not `cell3`, at the finer size.
    """

    def cell(name, x, before):
        parts = [layers.Conv2D(4, 3, padding="same")(x), layers.Conv2D(4, 1)(before)]
        return layers.Add(name=name)(parts)

    image = keras.Input((16, 16, 1))
    stem = layers.Conv2D(4, 3, padding="same", name="stem")(image)
    start = layers.Conv2D(4, 3, 2, "same", name="start")(stem)
    first = cell("cell1", start, layers.AveragePooling2D(2)(stem))
    second = cell("cell2", first, start)
    third = cell("cell3", second, first)
    squeezed = layers.Conv2D(branch_filters, 1, name="squeezed")(third)
    halved = layers.Conv2D(4, 3, 2, "same", name="halved")(squeezed)
    skipped = layers.ReLU(name="late")(second)
    skipped = layers.AveragePooling2D(1, 2)(skipped)
    return keras.Model(image, cell("cell4", halved, skipped))


def test_without_a_cut_the_last_whole_cell_is_chosen():
    """`late` comes after it but sees less; `squeezed` sees as much but has fewer maps.

    Beside `cell3` only `cell2` is still needed, as beside `squeezed`.
    """
    chosen = feature_layers(cells_of_two_inputs(branch_filters=2))
    assert chosen == ["stem", "cell3", "cell4"]


def test_of_equals_without_a_cut_the_last_is_chosen():
    assert feature_layers(cells_of_two_inputs(branch_filters=4))[1] == "squeezed"
