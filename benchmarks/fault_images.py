"""A folder of image files, some of them broken, and how to tell what became of them."""

import json
import os
import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from broken_files import LISTED, MAPPED, PART, WAYS, make_broken
from fault_runs import FORMATS, Ended, records
from image_files import KINDS

from hrcam.datasets import simulated

SIDE, SHARE_BROKEN = 96, 0.1
MAP_SIDE = 64  # of the model
_BROKEN = [way for way in WAYS if way.outcome in (LISTED, PART)]
_OTHERS = [way for way in WAYS if way.outcome not in (LISTED, PART)]


def make_images(folder: Path, files: int, seed: int) -> dict[str, dict[str, Any]]:
    """Makes the folder, or finds it made.

    Kinds and ways take turns; where in the folder they lie is drawn.

    Args:
        folder: Where.
        files: How many.
        seed: Of the pictures and the order.

    Returns:
        What each file is, by its name below the folder: its `name` in the table,
        `outcome`, and how many `images` of it must be mapped.
    """
    note = folder.with_name(f"{folder.name}.json")
    made = {"files": files, "seed": seed}
    if note.exists():
        known = json.loads(note.read_text())
        if known["made"] == made:
            return known["truth"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth = _make(folder, files, seed)
    note.write_text(json.dumps({"made": made, "truth": truth}, indent=1))
    return truth


def _make(folder: Path, files: int, seed: int) -> dict[str, dict[str, Any]]:
    pictures = simulated(files, SIDE, seed)[0][..., 0]
    numbers = np.random.default_rng(seed).permutation(files)
    count = round(files * SHARE_BROKEN)
    ways = [_BROKEN[i % len(_BROKEN)] for i in range(count)]
    ways += _OTHERS[: files - count]
    truth = {}
    for number, picture, way in zip(numbers, pictures, ways, strict=False):
        path = make_broken(way, folder, number, picture)
        path = path / "inside.png" if path.is_dir() else path
        told = {"name": way.name, "outcome": way.outcome, "images": way.images}
        truth[os.path.relpath(path, folder)] = told
    for i in range(len(ways), files):
        name, kind = list(KINDS.items())[i % len(KINDS)]
        path = folder / f"{numbers[i]:05d}{kind.suffix}"
        kind.write(path, pictures[i])
        told = {"name": name, "outcome": MAPPED, "images": kind.images}
        truth[path.name] = told
    return truth


# ------------------------------------------------------------------ what became of it


def judge(truth: Mapping[str, dict], out: Path, ended: Ended) -> dict[str, Any]:
    """Holds what a run left against what the files are.

    Returns:
        `ways`: name -> number of files, how many were as they must, and the reasons;
        `wrong`: what was not as it must be; and counts.
    """
    told = records(out)
    wrong = [f"not in the folder: {name}" for name in told.keys() - truth]
    ways: dict[str, dict] = defaultdict(
        lambda: {"files": 0, "as due": 0, "reasons": []}
    )
    for source, fact in truth.items():
        fault = _fault(fact, told.get(source, []), out)
        way = ways[fact["name"]]
        way |= {"outcome": fact["outcome"], "files": way["files"] + 1}
        way["as due"] += fault is None
        for record in told.get(source, []):
            if "error" in record and record["error"] not in way["reasons"]:
                way["reasons"].append(record["error"])
        if fault is not None:
            wrong.append(f"{source!r} ({fact['name']}): {fault}")
    images = sum("files" in record for own in told.values() for record in own)
    return {
        "ways": dict(ways),
        "wrong": wrong,
        "files": len(truth),
        "images": images,
        "code": ended.code,
        "seconds": ended.seconds,
        "traceback": ended.has_traceback,
        "error": ended.error,
        "formats": FORMATS,
    }


def _fault(fact: Mapping[str, Any], own: list[dict], out: Path) -> str | None:
    """What is wrong with the records of a source; `None`: nothing."""
    if not own:
        return "not in the manifest"
    mapped = [record for record in own if "files" in record]
    listed = [record for record in own if record.get("error")]
    if len(mapped) != fact["images"]:
        return f"{len(mapped)} images mapped, where {fact['images']} are due"
    if bool(listed) != (fact["outcome"] in (LISTED, PART)):
        return f"{len(listed)} images listed, though it is {fact['outcome']}"
    if len(own) != max(1, own[0]["frames"]) or len(mapped) + len(listed) != len(own):
        return "records are missing"
    faults = (_fault_of_files(record, out) for record in mapped)
    return next((fault for fault in faults if fault is not None), None)


def _fault_of_files(record: Mapping[str, Any], out: Path) -> str | None:
    """Opens the map and the picture, and tells what is wrong with them."""
    missing = [name for name in record["files"] if not (out / name).is_file()]
    if missing:
        return f"no file {missing[0]!r}"
    (array,) = [name for name in record["files"] if name.endswith(".hr_cam.npy")]
    heatmap = np.load(out / array)
    if heatmap.shape != (MAP_SIDE, MAP_SIDE) or heatmap.dtype != np.float32:
        return f"a map {heatmap.shape} of {heatmap.dtype}"
    low, high = record["range"]["hr_cam"]
    if not np.isfinite(heatmap).all() or not np.ptp(heatmap) > 0:
        return "a map that is not finite, or blank"
    if not np.allclose([low, high], [heatmap.min(), heatmap.max()], rtol=1e-6):
        return "a map of another range than noted"
    (picture,) = [name for name in record["files"] if name.endswith(".hr_cam.png")]
    shown = cv2.imdecode(np.fromfile(out / picture, np.uint8), cv2.IMREAD_COLOR)
    if shown is None or shown.shape != (SIDE, SIDE, 3):
        return "a picture of another size"
    return None
