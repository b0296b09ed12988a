"""Writes docs/reliability.md: what becomes of a run when things go wrong.

    python benchmarks/faults.py --work DIR --out docs/reliability.md

Every part drives the command `hrcam explain` in a process of its own. What a part
found is kept in DIR/results.json, so that parts can be made anew alone (`--only`).
"""

import argparse
import json
import signal
import time
from pathlib import Path
from typing import Any

from fault_disks import part_full, part_refused
from fault_images import judge, make_images
from fault_page import page
from fault_runs import ALL_FORMATS, explain, fresh
from fault_stops import moments, part_kills, part_ray, reference
from paired import machine, versions

PARTS = ("broken", "kills", "interrupts", "full", "refused", "ray")
KILLS, INTERRUPTS = 20, 5
SMALL = 0.1  # of the files, for the parts about disks


def main() -> None:
    """Makes the parts asked for, and the page of all that are known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="images and maps")
    parser.add_argument("--out", type=Path, required=True, help="the page")
    parser.add_argument("--only", default=",".join(PARTS), help="with commas between")
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kills", type=int, default=KILLS)
    args = parser.parse_args()
    # a shell ignores it for what it starts in the background, and so would the runs
    signal.signal(signal.SIGINT, signal.default_int_handler)
    only = args.only.split(",")
    if unknown := set(only) - set(PARTS):
        parser.error(
            f"--only must be among {', '.join(PARTS)}. Received: {sorted(unknown)}"
        )
    results = args.work / "results.json"
    args.work.mkdir(parents=True, exist_ok=True)
    faults = Faults(args.work.resolve(), args.files, args.seed, args.kills)
    for name in [part for part in PARTS if part in only]:
        start = time.perf_counter()
        found = {name: getattr(faults, name)()}
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        known = json.loads(results.read_text()) if results.exists() else {}
        known |= found | {"files": args.files, "seed": args.seed, "machine": machine()}
        known["versions"] = versions("tensorflow", "keras", "pillow", "pydicom")
        results.write_text(json.dumps(known, indent=1) + "\n")
        args.out.write_text(page(known))


class Faults:
    """The parts, and the folders that they share."""

    def __init__(self, work: Path, files: int, seed: int, kills: int):
        self._work, self._seed, self._kills = work, seed, kills
        self._images, self._reference = work / "images", work / "reference"
        self._truth = make_images(self._images, files, seed)
        self._small, self._small_reference = work / "some", work / "some-reference"
        self._few, self._has_small = max(40, round(SMALL * files)), False

    def broken(self) -> dict[str, Any]:
        """The unbroken run over all files, some of them broken."""
        ended, start = reference(self._images, self._reference)
        self._note(seconds=ended.seconds, start=start)
        return judge(self._truth, self._reference, ended) | {"start": start}

    def kills(self) -> dict[str, Any]:
        """SIGKILL at random moments."""
        return self._stopped(self._kills, signal.SIGKILL, self._seed + 1)

    def interrupts(self) -> dict[str, Any]:
        """SIGINT, which is Ctrl-C, at random moments."""
        return self._stopped(INTERRUPTS, signal.SIGINT, self._seed + 2)

    def full(self) -> list[dict[str, Any]]:
        """Disks that fill up."""
        self._make_small()
        return part_full(self._small, self._work / "disk", self._small_reference)

    def refused(self) -> list[dict[str, Any]]:
        """Folders that cannot be written to."""
        self._make_small()
        return part_refused(self._small, self._work, self._small_reference)

    def ray(self) -> dict[str, Any]:
        """A worker of Ray is killed."""
        out = self._work / "ray"
        return part_ray(self._images, out, list(self._truth), self._reference)

    def _stopped(self, count: int, number: int, seed: int) -> dict[str, Any]:
        timing = json.loads((self._work / "timing.json").read_text())
        when = moments(timing["seconds"], timing["start"], count, seed)
        out, sources = self._work / "stopped", list(self._truth)
        found = part_kills(self._images, out, sources, self._reference, when, number)
        return found | {**timing}

    def _note(self, **timing: float) -> None:
        (self._work / "timing.json").write_text(json.dumps(timing))

    def _make_small(self) -> None:
        if not self._has_small:
            make_images(self._small, self._few, self._seed + 3)
            explain(self._small, fresh(self._small_reference), *ALL_FORMATS)
            self._has_small = True


if __name__ == "__main__":
    main()
