"""Writes docs/applications.md: the networks of `keras.applications`; see README.md.

Each family is made in a process of its own, with random weights, the network that is
timed first. A row goes to a JSON file at once, so a run that was cut off goes on where
it stopped.
"""

import argparse
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import setting
from paired import machine, paired_times, repeated, report, versions
from tables import versions_line

from hrcam import build_deconv_model, describe_layers, hr_cam

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "applications.md"
# The first of each family is timed.
FAMILIES = (
    ("VGG16", "VGG19"),
    ("ResNet50", "ResNet101", "ResNet152"),
    ("ResNet50V2", "ResNet101V2", "ResNet152V2"),
    ("MobileNet",),
    ("MobileNetV2",),
    ("MobileNetV3Small", "MobileNetV3Large"),
    ("DenseNet121", "DenseNet169", "DenseNet201"),
    ("InceptionV3",),
    ("InceptionResNetV2",),
    ("Xception",),
    ("NASNetMobile", "NASNetLarge"),
    tuple(f"EfficientNetB{number}" for number in range(8)),
    tuple(f"EfficientNetV2{kind}" for kind in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    tuple(f"ConvNeXt{kind}" for kind in ("Tiny", "Small", "Base", "Large", "XLarge")),
)
NETWORKS = tuple(name for family in FAMILIES for name in family)
TIMED = tuple(family[0] for family in FAMILIES)
ANY_SIZE = 224  # of networks that have no size of their own
BLOCK_SECONDS = 0.5  # a single pass of a small network is too short to time

HEAD = """# The networks of `keras.applications`

Which layers `hrcam` finds in each network that Keras ships, what its HR-CAM costs, and
whether an attentive response map can be made of it. Written by a script, not by hand:

```
python benchmarks/applications.py --rows ROWS.json
```
"""
NOTES = """
- **Feature layers**: `hrcam.feature_layers`, shallow to deep, the last feature map at
  each resolution. Names such as `activation_2` are Keras' automatic ones; they count up
  over all models of a session, and are given here as in a fresh one.
- **N**: the number of maps of these layers together, the length of `gap_vector`.
- **Sizes**: of the maps of each, in pixels; one number where they are square.
- **Cost**: the time of `hr_cam` of the HR-CAM model / that of the compiled forward pass
  of the same network: median (lowest to highest). One network a family is timed.
- **Attentive response**: whether every layer from the last feature layer back to the
  image has a rule (`build_deconv_model` succeeds); if not, the layer type without one.

| network | input | N | sizes | cost | attentive response | feature layers |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Makes the missing rows, and the page of all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=Path, help="JSON file of all rows; else printed")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, help="make these anew")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if args.rows is None:
        _report_rows(args.only or NETWORKS, args.batch, args.rounds)
        return
    known = json.loads(args.rows.read_text()) if args.rows.exists() else {}
    wanted = args.only or [name for name in NETWORKS if name not in known]
    for family in FAMILIES:
        names = [name for name in family if name in wanted]
        for made in _rows_of_a_process(names, args.batch, args.rounds):
            print(made["network"], file=sys.stderr, flush=True)
            known[made["network"]] = made
            args.rows.write_text(json.dumps(known, indent=1) + "\n")
    PAGE.write_text(page(known))


def _report_rows(names: Sequence[str], batch: int, rounds: int) -> None:
    """Makes the rows in this process, and prints each as a line."""
    for name in names:
        model = build(name)
        made = {"network": name, **row(model)}
        if name in TIMED:
            made["cost"] = cost(model, batch, rounds)
        report(made)


def _rows_of_a_process(
    names: Sequence[str], batch: int, rounds: int
) -> Iterator[dict[str, Any]]:
    """Yields the rows as another process prints them."""
    if not names:
        return
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
        "PYTHONUNBUFFERED": "1",
    }
    options = ["--only", *names, f"--batch={batch}", f"--rounds={rounds}"]
    command = [sys.executable, str(HERE / "applications.py"), *options]
    with subprocess.Popen(
        command, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True
    ) as process:
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise RuntimeError(f"{' '.join(names)}: exit status {process.returncode}")


def build(name: str, size: int | None = None, **options: Any) -> keras.Model:
    """A network with Keras' own random weights, at its default size or this one."""
    keras.backend.clear_session()  # automatic layer names begin anew
    shape = None if size is None else (size, size, 3)
    model = getattr(keras.applications, name)(
        weights=None, classes=setting.CLASSES, input_shape=shape, **options
    )
    if None in model.input_shape[1:]:
        return build(name, ANY_SIZE, **options)
    return model


def row(model: keras.Model) -> dict[str, Any]:
    """What is found in a network without running it.

    Returns:
        `layers`: names, maps, and the size `(height, width)` of each feature layer;
        `without_rule`: the layer type that has no way back, or None.
    """
    chosen = [layer for layer in describe_layers(model) if layer.chosen]
    return {
        "input": list(model.input_shape[1:3]),
        "layers": [layer.name for layer in chosen],
        "maps": [layer.channels for layer in chosen],
        "sizes": [list(layer.size) for layer in chosen],
        "without_rule": without_rule(model),
        "versions": versions("tensorflow", "keras", "numpy"),
    }


def without_rule(model: keras.Model) -> str | None:
    """The layer type that an attentive response map fails on, `None` if there is none.

    The way back begins at the last feature layer, so the type is the last of them.
    """
    try:
        build_deconv_model(model, top_n=1)
    except ValueError as error:
        found = re.search(r"of type (\w+)\.", str(error))
        if found is None:
            raise
        return found[1]
    return None


def cost(model: keras.Model, batch: int, rounds: int) -> dict[str, Any]:
    """Times `hr_cam` against the plain forward pass of the same network, in turns."""
    host = machine()
    head = setting.hrcam_of(model)
    x = setting.images(batch, model.input_shape[1])
    forward = setting.compiled_forward(model, batch)
    forward(x)
    start = time.perf_counter()
    forward(x)
    times = math.ceil(BLOCK_SECONDS / (time.perf_counter() - start))
    ways = {
        "hr_cam": repeated(lambda: hr_cam(head, x, 1), times),
        # Its spread is the noise of the run: the baseline timed against itself.
        "forward": repeated(lambda: forward(x), times),
    }
    timed = paired_times(ways["forward"], ways, rounds)
    return {"machine": host, "batch": batch, "passes": times, **timed}


def page(rows: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page, in the order of `NETWORKS`."""
    known = [rows[name] for name in NETWORKS if name in rows]
    return "\n".join(
        [HEAD, *_setting_lines(known), NOTES, *map(_table_line, known), ""]
    )


def _setting_lines(rows: list[Mapping[str, Any]]) -> list[str]:
    """When, with and on what, and the noise of the timing."""
    lines = sorted({versions_line(row) for row in rows})
    costs = [row["cost"] for row in rows if "cost" in row]
    if not costs:
        return lines
    hosts = [cost["machine"] for cost in costs]
    loads = [host["load_before"] for host in hosts]
    noise = [cost["rows"]["forward"]["ratio"] for cost in costs]
    timing = {
        f"{cost['machine']['cores']} cores, {cost['machine']['system']}, batch "
        f"{cost['batch']}, {cost['rounds']} rounds of at least {BLOCK_SECONDS} s"
        for cost in costs
    }
    dates = sorted(host["date"] for host in hosts)
    return [
        f"{_span(dates)}; {'; '.join(lines)}; {'; '.join(sorted(timing))}; random "
        f"weights; load before a network's timing {_span(sorted(loads))}. The forward "
        f"pass timed against itself came out at {min(noise):.2f} to {max(noise):.2f}: "
        "differences of that size mean nothing."
    ]


def _span(ends: list[Any]) -> str:
    first, last = ends[0], ends[-1]
    return f"{first}" if first == last else f"{first} to {last}"


def _table_line(row: Mapping[str, Any]) -> str:
    timed = row.get("cost", {}).get("rows", {}).get("hr_cam")
    spread = timed and f"{timed['lowest']:.2f} to {timed['highest']:.2f}"
    cells = [
        f"`{row['network']}`",
        _side(row["input"]),
        f"{sum(row['maps']):,}",
        ", ".join(map(_side, row["sizes"])),
        f"{timed['ratio']:.2f} ({spread})" if timed else "-",
        f"no: `{row['without_rule']}`" if row["without_rule"] else "yes",
        ", ".join(f"`{name}`" for name in row["layers"]),
    ]
    return f"| {' | '.join(cells)} |"


def _side(size: list[int]) -> str:
    return str(size[0]) if size[0] == size[1] else f"{size[0]} x {size[1]}"


if __name__ == "__main__":
    main()
