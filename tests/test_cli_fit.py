"""`hrcam fit`, run as a user runs it, against the library's calls on the same files."""

import json
import subprocess
import sys

import cv2
import keras
import numpy as np
import pytest
from keras import layers
from typer.testing import CliRunner

import hrcam
from hrcam.cli import app
from hrcam.cli._inputs import in_class_order, read_record
from hrcam.saving import sha256

RUN = CliRunner(env={"COLUMNS": "300"})
FAST = ["--epochs", 2]
COUNT = 24


@pytest.fixture
def base(flat_model, tmp_path):
    flat_model.save(tmp_path / "base.keras")
    return tmp_path / "base.keras"


@pytest.fixture
def pictures(tmp_path):
    """24 grey 20x24 images: stripes of 2, 4 or 8 rows by turns."""
    rng = np.random.default_rng(0)
    paths = [tmp_path / "images" / f"scan-{i:02}.png" for i in range(COUNT)]
    paths[0].parent.mkdir()
    for i, path in enumerate(paths):
        rows = np.arange(20) // (2, 4, 8)[i % 3] % 2
        image = rng.integers(0, 60, (20, 24)) + 150 * rows[:, None] + i
        cv2.imwrite(str(path), image.astype("uint8"))
    return paths


@pytest.fixture
def listed(pictures, tmp_path):
    """A CSV of the images, two to a patient, classes a, b and c by turns."""
    lines = ["image,label,group"]
    for i, picture in enumerate(pictures):
        lines.append(f"images/{picture.name},{'abc'[i % 3]},p{i // 2}")
    path = tmp_path / "train.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def by_brightness(tmp_path):
    """A classifier by hand, and a CSV of four dark and four bright images.

    Its sigmoid is of 100 * (mean of the image - 0.5): class 1 is bright.
    """
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(1, 1, activation="relu", name="conv")(image)
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(1, "sigmoid")(x))
    model.set_weights([np.full(s, v) for s, v in zip(
        ((1, 1, 1, 1), (1,), (1, 1), (1,)), (1.0, 0.0, 100.0, -50.0), strict=True
    )])  # fmt: skip
    model.save(tmp_path / "base.keras")
    lines = ["image,label"]
    for i in range(8):
        level = (30 if i % 2 else 200) + i
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8), level, "uint8"))
        lines.append(f"{i}.png,{'dark' if i % 2 else 'bright'}")
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    return [tmp_path / "base.keras", tmp_path / "train.csv"]


def fit(*arguments):
    return RUN.invoke(app, ["fit", *map(str, arguments)])


def record_of(out):
    return json.loads(out.with_suffix(".json").read_text())


def assert_same_head(path, model):
    heads = [m.get_layer("predictions") for m in (hrcam.load_model(path), model)]
    for ours, theirs in zip(*(head.get_weights() for head in heads), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


def arrays(table, size=16, channels=1):
    return hrcam.datasets.load_images(table, size, channels), table.labels


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ([], {}),
        (
            ["--standardize", "--class-weight", "balanced", "--batch-size", 5],
            {"standardize": True, "class_weight": "balanced", "batch_size": 5},
        ),
    ],
)
def test_the_head_is_that_of_the_librarys_calls(
    options, settings, base, flat_model, listed, tmp_path
):
    out = tmp_path / "new" / "hrcam.keras"
    listed.write_text("".join(listed.read_text().splitlines(True)[:-3]))  # 8, 7, 6
    result = fit(base, listed, "--out", out, "--seed", 3, *options, "--epochs", 40)
    assert result.exit_code == 0, result.output

    keras.utils.set_random_seed(3)
    model = hrcam.build_hrcam_model(flat_model)
    table = hrcam.datasets.csv_table(listed)
    parts = hrcam.datasets.split_by_group(table, (0.8, 0.2), 3)
    train, held_out = (arrays(part) for part in parts)
    hrcam.fit_hrcam_head(model, *train, epochs=40, verbose=False, **settings)
    assert_same_head(out, model)

    scores = record_of(out)["scores"]
    if settings:  # so that a mix-up of the two parts shows
        assert scores["training"]["agreement"] != scores["held out"]["agreement"]
    for name, (images, labels) in (("training", train), ("held out", held_out)):
        mine = model.predict(images, verbose=0).argmax(1)
        theirs = flat_model.predict(images, verbose=0).argmax(1)
        assert scores[name] == pytest.approx(
            {
                "images": len(labels),
                "accuracy": np.mean(mine == labels),
                "accuracy of the classifier": np.mean(theirs == labels),
                "agreement": np.mean(mine == theirs),
            }
        )
    lines = result.output.splitlines()
    for score in ("accuracy", "agreement"):
        cells = next(line for line in lines if f"│ {score} " in line).split("│")
        assert [cell.strip() for cell in cells[2:-1]] == [
            f"{row[score]:.3f}" for row in scores.values()
        ]
    assert "N = 18 feature maps of 3 layers: relu1, relu2, relu3" in result.output


def test_the_record_says_how_and_names_no_patient(base, listed, tmp_path):
    out = tmp_path / "out" / "m.keras"
    options = ["--standardize", "--layers", "relu1, relu3", *FAST]
    result = fit(base, listed, "--out", out, *options)
    assert result.exit_code == 0, result.output
    record = record_of(out)
    assert record["command"] == (
        "hrcam fit base.keras train.csv --out m.keras --layers 'relu1, relu3' "
        "--epochs 2 --standardize"
    )
    assert record["layers"] == ["relu1", "relu3"]
    assert record["feature maps"] == 4 + 8
    assert record["class_names"] == ["a", "b", "c"]
    assert record["image"] == {"height": 16, "width": 16, "channels": 1}
    assert (record["seed"], record["white"]) == (0, 1)
    assert record["base model sha256"] == sha256(base)
    assert read_record(out) == record
    text = out.with_suffix(".json").read_text()
    assert str(tmp_path) not in text
    assert "scan-" not in text
    assert sorted(path.name for path in out.parent.iterdir()) == ["m.json", "m.keras"]


def test_unreadable_files_are_set_aside_and_counted(base, flat_model, listed, tmp_path):
    images = tmp_path / "images"
    whole = (images / "scan-00.png").read_bytes()
    for number, content in enumerate((whole[:80], whole[:90], b"", b"no image")):
        (images / f"bad-{number}.png").write_bytes(content)
    bad = [f"images/bad-{number}.png,b,x{number}\n" for number in range(4)]
    listed.write_text(listed.read_text() + "".join(bad) + "images/gone.png,c,y\n")
    out = tmp_path / "m.keras"

    result = fit(base, listed, "--out", out, "--validation", 0, *FAST)

    assert result.exit_code == 0, result.output
    assert "Set aside 5 files that cannot be read" in result.output
    for name in ("bad-0.png", "bad-3.png", "gone.png: missing"):
        assert name in result.output
    record = record_of(out)
    assert sum(record["set aside"].values()) == 5
    assert record["set aside"]["Invalid PNG data"] == 2  # of 80 and of 90 bytes
    assert record["set aside"]["missing"] == record["set aside"]["empty"] == 1
    assert "bad-" not in json.dumps(record)
    assert record["scores"].keys() == {"training"}
    keras.utils.set_random_seed(0)
    model = hrcam.build_hrcam_model(flat_model)
    table = hrcam.datasets.csv_table(listed).select(range(COUNT))
    hrcam.fit_hrcam_head(model, *arrays(table), epochs=2, verbose=False)
    assert_same_head(out, model)


def test_classes_in_another_order_are_noticed_and_put_right(by_brightness, tmp_path):
    out = tmp_path / "m.keras"
    options = [*by_brightness, "--out", out, "--overwrite", *FAST]
    wrong = fit(*options)  # sorted: bright, dark; the model's class 1 is bright
    assert wrong.exit_code == 0, wrong.output
    training = record_of(out)["scores"]["training"]
    assert training["accuracy of the classifier"] == 0
    assert "less often than by chance" in wrong.output
    right = fit(*options, "--class-names", "dark, bright")
    assert right.exit_code == 0, right.output
    assert record_of(out)["class_names"] == ["dark", "bright"]
    for row in record_of(out)["scores"].values():
        assert row["accuracy of the classifier"] == 1
    assert "by chance" not in right.output
    assert "Classes: 0 dark, 1 bright" in right.output


def test_three_classes_in_the_order_of_their_names():
    table = hrcam.datasets.ImageTable(["1", "2", "3"], [0, 1, 2], "xyz", tuple("abc"))
    ordered = in_class_order(table, "c,a,b")
    assert ordered.class_names == ("c", "a", "b")
    assert ordered.labels.tolist() == [1, 2, 0]  # of a, b and c


def test_folders_of_colour_images_of_any_size_up_to_255(he_scale, pictures, tmp_path):
    image = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 255)(image)
    x = layers.Conv2D(5, 3, activation="relu", name="conv")(x)
    x = layers.GlobalAveragePooling2D()(x)
    model = he_scale(keras.Model(image, layers.Dense(1, "sigmoid")(x)))
    model.save(tmp_path / "base.keras")
    data, out = tmp_path / "data", tmp_path / "m.keras"
    for i, path in enumerate(pictures):
        folder = data / ("ill" if i % 2 else "[b]well")
        folder.mkdir(parents=True, exist_ok=True)
        path.rename(folder / path.name)
    (data / "notes.txt").write_text("x")
    options = [tmp_path / "base.keras", data, "--out", out, "--validation", 0, *FAST]

    assert "choose one with --size" in fit(*options).output
    result = fit(*options, "--size", 12, "--white", 255)

    assert result.exit_code == 0, result.output
    assert "Note: Set aside 1 files that are in no class folder" in result.output
    assert "Classes: 0 [b]well, 1 ill" in result.output
    (data / "notes.txt").unlink()
    images, labels = arrays(hrcam.datasets.folder(data), 12, 3)
    keras.utils.set_random_seed(0)
    head = hrcam.build_hrcam_model(model)
    hrcam.fit_hrcam_head(head, images * 255, labels, epochs=2, verbose=False)
    assert_same_head(out, head)


def test_one_output_and_one_input_of_several(backbone, he_scale, listed, tmp_path):
    age = keras.Input((1,), name="age")
    pooled = layers.GlobalAveragePooling2D()(backbone.output)
    both = layers.Concatenate()([pooled, age])
    outputs = [
        layers.Dense(3, "softmax", name="alone")(pooled),
        layers.Dense(3, "softmax", name="with_age")(both),
    ]
    model = keras.Model([age, *backbone.inputs], outputs)
    he_scale(model).save(tmp_path / "base.keras")
    out = tmp_path / "m.keras"
    options = [tmp_path / "base.keras", listed, "--size", 16, "--overwrite", *FAST]
    options += ["--out", out, "--validation", 0]

    assert "`output` must name the output" in fit(*options).output
    for output in ("alone", "with_age"):
        result = fit(*options, "--output", output, "--image-input", "backbone_image")
        assert result.exit_code == 0, result.output
        row = record_of(out)["scores"]["training"]
        saved = hrcam.load_model(out)
        images, labels = arrays(hrcam.datasets.csv_table(listed))
        mine = saved.predict(images, verbose=0).argmax(1)
        assert row["accuracy"] == pytest.approx(np.mean(mine == labels))
        if output == "alone":
            alone = keras.Model(backbone.input, model.outputs[0])
            theirs = alone.predict(images, verbose=0).argmax(1)
            assert row["agreement"] == pytest.approx(np.mean(mine == theirs))
        else:
            assert "its agreement is left out" in result.output
            assert row.keys() == {"images", "accuracy"}


def test_what_is_there_is_kept_unless_told(base, listed, tmp_path):
    out = tmp_path / "m.keras"
    out.with_suffix(".json").write_text("mine")
    refused = fit(base, listed, "--out", out, *FAST)
    assert refused.exit_code == 1
    assert "m.json, there already" in refused.output
    assert fit(base, listed, "--out", out, "--overwrite", *FAST).exit_code == 0
    kept = out.read_bytes()
    for extra in ([], ["--overwrite", "--layers", "relu9"]):
        assert fit(base, listed, "--out", out, *extra).exit_code == 1
        assert out.read_bytes() == kept
    itself = fit(base, listed, "--out", base, "--overwrite")
    assert itself.exit_code == 1
    assert "must not be the classifier itself" in itself.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.keras", "train.csv"], "none.keras, which is not a file"),
        (["base.keras", "none"], "one sub-folder a class"),
        (["base.keras", "images"], "must have one sub-folder a class"),
        (["base.keras", "train.csv", "--layout", "folder"], "one sub-folder a class"),
        (["base.keras", "train.csv", "--layout", "dicom"], "--layout must be one of"),
        (["base.keras", "one.csv"], "the classifier's 3 classes. Received: 1, ('a',)"),
        (["base.keras", "bad.csv"], "At least one image must be readable"),
        (["base.keras", "lost.csv"], "'b': 0, 'c': 0}"),
        (["base.keras", "train.csv", "--class-names", "a,b"], "must be those of the"),
        (["base.keras", "train.csv", "--class-weight", "even"], "must be balanced"),
        (["base.keras", "train.csv", "--layers", "relu9"], "relu9"),
        (["base.keras", "train.csv", "--out", "m.h5"], "that ends in .keras"),
        (["dense.keras", "train.csv"], "must have a convolution"),
        (["many.keras", "train.csv"], "must have exclusive classes"),
    ],
)
def test_what_is_wrong_is_said(arguments, message, base, backbone, listed, tmp_path):
    one = listed.read_text().replace(",b,", ",a,").replace(",c,", ",a,")
    (tmp_path / "one.csv").write_text(one)
    gone = "image,label\n" + "".join(f"gone{k}.png,{k}\n" for k in "abc")
    (tmp_path / "bad.csv").write_text(gone)
    lost = one + "gone1.png,b,x\ngone2.png,c,x\n"
    (tmp_path / "lost.csv").write_text(lost)
    image = keras.Input((16, 16, 1))
    dense = layers.Dense(3, "softmax")(layers.Flatten()(image))
    keras.Model(image, dense).save(tmp_path / "dense.keras")
    pooled = layers.GlobalAveragePooling2D()(backbone.output)
    many = keras.Model(backbone.input, layers.Dense(3, "sigmoid")(pooled))
    many.save(tmp_path / "many.keras")
    arguments = [tmp_path / arguments[0], tmp_path / arguments[1], *arguments[2:]]
    size = ["--size", 16] if arguments[0].name == "many.keras" else []
    if "--out" in arguments:
        out = arguments[-1] = tmp_path / "out" / arguments[-1]
    else:
        out = tmp_path / "out" / "m.keras"
        arguments += ["--out", out]

    result = fit(*arguments, *size)

    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert len(result.output.strip().splitlines()[-1]) == len(
        result.output[result.output.index("Error:") :].strip()
    )  # the error is one line, the last
    assert not out.parent.exists()


def test_help_does_not_start_tensorflow():
    code = (
        "import sys; from typer.testing import CliRunner; from hrcam.cli import app\n"
        "for command in ('fit', 'export'):\n"
        "    result = CliRunner().invoke(app, [command, '--help'])\n"
        "    assert result.exit_code == 0 and 'white' in result.output\n"
        "print([m for m in ('tensorflow', 'keras', 'sklearn') if m in sys.modules])"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert shown.stdout.strip() == "[]"
