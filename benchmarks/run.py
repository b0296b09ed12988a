"""Runs every benchmark, prints tables of ratios and writes all numbers as JSON.

Each part is a script run in a process of its own, one after another. This process
does not import TensorFlow: Linux hands the peak memory of a parent on to its children.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import attentive_tables
import tables
from paired import machine

HERE = Path(__file__).parent
QUICK = {
    "speed": ["--size=64", "--batch=2", "--rounds=2"],
    "methods": ["--size=64", "--batch=2", "--rounds=2"],
    "serving": ["--size=64", "--batch=2", "--rounds=2"],
    "runner": ["--size=64", "--batch=2", "--images=8", "--rounds=2"],
    "runner_memory": ["--size=64", "--file-size=64"],
    "head": ["--size=64", "--images=32", "--epochs=2", "--rounds=1"],
    "memory": ["--size=64"],
    "peers": ["--size=64", "--batch=2", "--rounds=2"],
    "attentive": ["--size=64", "--units=4", "--batch=2", "--rounds=2"],
    "attentive_memory": ["--size=64"],
    "attentive_peers": ["--size=64", "--units=4"],
}
PARTS = tuple(QUICK)
# Units, how many at a time, whether their maps are an output; 0: a forward pass only.
# 4 at a time go evenly into 8 and 256, so only the number of units differs.
ATTENTIVE_MEMORY = (
    (0, 5, False),
    (8, 4, False),
    (256, 4, False),
    (8, 4, True),
    (256, 4, True),
    (25, 5, False),
    (25, 25, False),
    (25, 5, True),
    (25, 25, True),
)


def main() -> None:
    """Runs the chosen parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="tiny: does it run?")
    parser.add_argument("--out", type=Path, help="JSON file for all numbers")
    parser.add_argument("--peers-python", help="python of the peers' environment")
    parser.add_argument("--captum-python", help="python of captum's environment")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    args = parser.parse_args()
    options = QUICK if args.quick else {part: [] for part in PARTS}
    result: dict[str, Any] = {"machine": machine(), "quick": args.quick}
    for part in args.only:
        print(f"{part} ...", file=sys.stderr, flush=True)
        if part == "memory":
            result[part] = _memory(options[part], 2 if args.quick else 8)
        elif part == "runner_memory":
            result[part] = [
                {"images": images}
                | _run(sys.executable, part, str(images), *options[part])
                for images in ((60, 120) if args.quick else (200, 5000))
            ]
        elif part == "attentive_memory":
            result[part] = _attentive_memory(options[part])
        elif part == "attentive_peers":
            pythons = {"xplique": args.peers_python, "captum": args.captum_python}
            rounds = 2 if args.quick else 3
            result[part] = _attentive_peers(options[part], pythons, rounds)
        elif part == "peers" and not args.peers_python:
            result[part] = {"failed": "no --peers-python was given"}
        else:
            python = args.peers_python if part == "peers" else sys.executable
            result[part] = _run(python, part, *options[part])
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n")
    print("\n".join(_page(result)))


def _run(
    python: str, part: str, *options: str, backend: str = "tensorflow"
) -> dict[str, Any]:
    """The result of one script, or why there is none."""
    paths = [str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "KERAS_BACKEND": backend,
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


def _attentive_memory(options: list[str]) -> list[dict[str, Any]]:
    """One process a measurement."""
    rows = []
    for units, chunk, unit_maps in ATTENTIVE_MEMORY:
        flags = [f"--units={units}", f"--chunk={chunk}"]
        flags += ["--unit-maps"] if unit_maps else []
        setting = {"units": units, "chunk": chunk, "unit_maps": unit_maps}
        measured = _run(sys.executable, "attentive_memory", *flags, *options)
        rows.append(setting | measured)
    return rows


def _attentive_peers(
    options: list[str], pythons: dict[str, str | None], rounds: int
) -> dict[str, Any]:
    """The reference first, then each peer in its environment."""
    with tempfile.TemporaryDirectory() as folder:
        reference = _run(sys.executable, "attentive_reference", folder, *options)
        if "failed" in reference:
            return reference
        peers = {}
        for peer, python in pythons.items():
            if not python:
                option = "--peers-python" if peer == "xplique" else "--captum-python"
                peers[peer] = {"failed": f"no {option} was given"}
                continue
            peers[peer] = _run(
                python,
                f"attentive_{peer}",
                folder,
                f"--rounds={rounds}",
                backend="torch" if peer == "captum" else "tensorflow",
            )
    return {"reference": reference, "peers": peers}


def _page(result: dict[str, Any]) -> list[str]:
    """All tables, each under the name of its part."""
    host = result["machine"]
    lines = [
        f"{host['date']}, {host['cores']} cores, {host['system']}, "
        f"load before the run {host['load_before']}"
        + (" (quick: the numbers mean nothing)" if result["quick"] else "")
    ]
    for part, write in (tables.WRITERS | attentive_tables.WRITERS).items():
        if part not in result:
            continue
        failed = isinstance(result[part], dict) and result[part].get("failed")
        lines += ["", f"## {part}", ""]
        lines += [f"did not run: {failed}"] if failed else write(result[part])
    return lines


if __name__ == "__main__":
    main()
