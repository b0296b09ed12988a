"""Runs every benchmark, prints tables of ratios and writes all numbers as JSON.

Each part is a script run in a process of its own, one after another. This process
does not import TensorFlow: Linux hands the peak memory of a parent on to its children.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from paired import machine

HERE = Path(__file__).parent
QUICK = {
    "speed": ["--size=64", "--batch=2", "--rounds=2"],
    "head": ["--size=64", "--images=32", "--epochs=2", "--rounds=1"],
    "memory": ["--size=64"],
    "peers": ["--size=64", "--batch=2", "--rounds=2"],
}
PARTS = tuple(QUICK)


def main() -> None:
    """Runs the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny: does it run?")
    parser.add_argument("--out", type=Path, help="JSON file for all numbers")
    parser.add_argument("--peers-python", help="python of the peers' environment")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    options = QUICK if args.quick else {part: [] for part in PARTS}
    result: dict[str, Any] = {"machine": machine(), "quick": args.quick}
    for part in args.only:
        print(f"{part} ...", file=sys.stderr, flush=True)
        if part == "memory":
            result[part] = _memory(options[part], 2 if args.quick else 8)
        elif part == "peers" and not args.peers_python:
            result[part] = {"failed": "no --peers-python was given"}
        else:
            python = args.peers_python if part == "peers" else sys.executable
            result[part] = _run(python, part, *options[part])
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(_tables(result)))


def _run(python: str, part: str, *options: str) -> dict[str, Any]:
    """The result of one script, or why there is none."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": "tensorflow",
    }
    done = subprocess.run(
        [python, HERE / f"{part}.py", *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return {"failed": lines[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def _memory(options: list[str], batch: int) -> list[dict[str, Any]]:
    """One process a measurement; the literal way for one image only."""
    return [
        {
            "model": model,
            "way": way,
            "batch": images,
            **_run(
                sys.executable,
                "memory",
                way,
                f"--model={model}",
                f"--batch={images}",
                *options,
            ),
        }
        for model in ("ResNet50", "VGG19")
        for images, ways in (
            (1, ("forward", "hr_cam", "literal")),
            (batch, ("forward", "hr_cam")),
        )
        for way in ways
    ]


def _tables(result: dict[str, Any]) -> list[str]:
    host = result["machine"]
    lines = [
        f"{host['date']}, {host['cores']} cores, {host['system']}, "
        f"load before the run {host['load_before']}"
        + (" (quick: the numbers mean nothing)" if result["quick"] else "")
    ]
    writers = {
        "speed": _speed_table,
        "head": _head_table,
        "memory": _memory_table,
        "peers": _peers_table,
    }
    for part, write in writers.items():
        if part not in result:
            continue
        failed = isinstance(result[part], dict) and result[part].get("failed")
        lines += ["", f"## {part}", ""]
        lines += [f"did not run: {failed}"] if failed else write(result[part])
    return lines


def _speed_table(part: dict[str, Any]) -> list[str]:
    lines = [
        f"{_versions(part)}; {part['size']} px",
        "",
        "| model | batch | way | times the forward pass "
        "| lowest to highest | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for model, groups in part["models"].items():
        for batch in (b for b in groups if b.startswith("batch")):
            for way, row in groups[batch]["rows"].items():
                lines.append(f"| {model} | {batch[6:]} | {way} | {_ratio(row)} |")
    differences = {
        m: f"{g['literal_difference']:.1e}" for m, g in part["models"].items()
    }
    return [*lines, "", f"`hr_cam` against the literal map, relative: {differences}"]


def _head_table(part: dict[str, Any]) -> list[str]:
    return [
        f"{_versions(part)}; ResNet50, {part['images']} images of {part['size']} px, "
        f"{part['epochs']} epochs, {part['rounds']} rounds",
        "",
        "| `fit`, s | `fit_hrcam_head`, s | times faster | lowest to highest "
        "| last losses | largest difference of a loss |",
        "|---|---|---|---|---|---|",
        f"| {part['fit_seconds']:.2f} | {part['fit_hrcam_head_seconds']:.2f} "
        f"| {part['ratio']:.1f} | {part['lowest']:.1f} to {part['highest']:.1f} "
        f"| {' and '.join(f'{loss:.5f}' for loss in part['final_losses'])} "
        f"| {part['largest_loss_difference']:.1e} |",
    ]


def _memory_table(part: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| model | batch | way | MB above the built model | times the forward pass "
        "| peak of the process, MB |",
        "|---|---|---|---|---|---|",
    ]
    forward = {}
    for row in part:
        name = f"| {row['model']} | {row['batch']} | {row['way']} "
        if "failed" in row:
            lines.append(name + f"| did not run: {row['failed']} | | |")
        else:
            needs = row["peak_mb"] - row["rest_mb"]
            base = forward.setdefault((row["model"], row["batch"]), needs)
            times = f"{needs / base:.2f}" if base else ""
            lines.append(name + f"| {needs:.0f} | {times} | {row['peak_mb']:.0f} |")
    return lines


def _peers_table(part: dict[str, Any]) -> list[str]:
    ours = part["rows"]["hrcam `grad_cam`"]["seconds"]
    lines = [
        f"{_versions(part)}; ResNet50, {part['size']} px, batch {part['batch']}, "
        f"layer `{part['layer']}`",
        "",
        "| Grad-CAM of | times the forward pass | lowest to highest | seconds "
        "| times hrcam's | difference, same resizing | as returned | after min-max |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for way, row in part["rows"].items():
        difference = " | ".join(f"{d:.1e}" for d in part["differences"][way].values())
        times = row["seconds"] / ours
        lines.append(f"| {way} | {_ratio(row)} | {times:.2f} | {difference} |")
    lines += [f"| {way} | {why} |" for way, why in part["did_not_run"].items()]
    return lines


def _versions(part: dict[str, Any]) -> str:
    return ", ".join(f"{name} {number}" for name, number in part["versions"].items())


def _ratio(row: dict[str, float]) -> str:
    return (
        f"{row['ratio']:.2f} | {row['lowest']:.2f} to {row['highest']:.2f} "
        f"| {row['seconds']:.3f}"
    )


if __name__ == "__main__":
    main()
