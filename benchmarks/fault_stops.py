"""Runs that are killed or stopped at random moments, and go on.

The moments are drawn uniformly over the time that the unbroken run takes, its start
included, and used in order. A moment in the start is one after as many seconds; a later
one is when as many files are done as the unbroken run had done then (by its mean rate),
and some tenths of a second more: what a run needs to start again (opening the model)
does not count. After every fourth moment the run that goes on is stopped once more,
somewhere in its start.
"""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fault_runs import (
    Ended,
    Run,
    differences,
    explain,
    finished,
    fresh,
    without_record,
)

MOST_AFTER = 0.3  # seconds


def reference(images: Path, out: Path) -> tuple[Ended, float]:
    """The unbroken run, and the seconds until it noted its first image."""
    run = Run(images, fresh(out))
    manifest = out / "manifest.jsonl"
    while run.runs() and not (manifest.exists() and manifest.stat().st_size):
        time.sleep(0.02)
    start = run.age()
    return run.ended(), start


class Moment(NamedTuple):
    """When a run is stopped.

    Attributes:
        share: Of all files that must be done first; 0: it is a moment of its start.
        seconds: After that.
    """

    share: float
    seconds: float


def moments(seconds: float, start: float, count: int, seed: int) -> list[Moment]:
    """Draws them; see above.

    Args:
        seconds: What the unbroken run takes.
        start: What of it goes by before the first image is done.
        count: How many moments are drawn.
        seed: Of the drawing.
    """
    rng = np.random.default_rng(seed)
    found = []
    for number, drawn in enumerate(np.sort(rng.uniform(0, seconds, count)), start=1):
        if drawn <= start:
            found.append(Moment(0, float(drawn)))
        else:
            share = float((drawn - start) / (seconds - start))
            found.append(Moment(share, float(rng.uniform(0, MOST_AFTER))))
        if number % 4 == 0:
            found.append(Moment(0, float(rng.uniform(0, start))))
    return found


def stopped(
    images: Path,
    out: Path,
    sources: Sequence[str],
    when: Sequence[Moment],
    number: int,
) -> list[dict[str, Any]]:
    """Starts runs in one folder, and sends each a signal.

    Returns:
        One row a run: after how many `seconds` the signal was sent, how many sources
        were `done` then, how many had files but no record (`again`; those of the
        kill before not counted once more), how many that were done before were not
        any more (`lost`), the exit `code`.
    """
    rows = []
    before: set[str] = set()
    loose_before: set[str] = set()
    for moment in when:
        run = Run(images, out)
        was_there = _lasts(run, moment, out, len(sources))
        if was_there:
            run.process.send_signal(number)
        signalled = run.age()
        ended = run.ended()
        done, loose = finished(out), without_record(out, sources)
        rows.append(
            {
                "sent": was_there,
                "seconds": signalled,
                "to the end": ended.seconds - signalled,
                "code": ended.code,
                "done": len(done),
                "again": len(loose - loose_before),
                "lost": len(before - done),
                "unfinished": len(list(out.rglob(".hrcam-*"))),
                "traceback": ended.has_traceback,
            }
        )
        before, loose_before = done, loose
    return rows


def _lasts(run: Run, moment: Moment, out: Path, files: int) -> bool:
    """Waits for a moment; is the run there still?"""
    if moment.share == 0:
        return run.lasts(moment.seconds)
    while run.runs() and len(finished(out)) < moment.share * files:
        time.sleep(0.05)
    return run.lasts(run.age() + moment.seconds)


def part_kills(
    images: Path, out: Path, sources: Sequence[str], reference_out: Path,
    when: Sequence[Moment], number: int = signal.SIGKILL,
) -> dict[str, Any]:  # fmt: skip
    """Stops runs at these moments, lets the last one end, and compares."""
    rows = stopped(images, fresh(out), sources, when, number)
    ended = explain(images, out)
    return {
        "rows": rows,
        "code": ended.code,
        "traceback": ended.has_traceback,
        "files": len(sources),
        "differ": differences(out, reference_out),
        "unfinished": len(list(out.rglob(".hrcam-*"))),
    }


def part_ray(
    images: Path, out: Path, sources: Sequence[str], reference_out: Path
) -> dict[str, Any]:
    """Kills one worker of Ray when a quarter of the work is done."""
    run = Run(images, fresh(out), "--engine", "ray")
    while run.runs() and len(finished(out)) < len(sources) / 4:
        time.sleep(0.2)
    done = len(finished(out))
    victim = _busiest_worker(run.process.pid)
    if victim is not None:
        os.kill(victim[0], signal.SIGKILL)
    ended = run.ended()
    return {
        "files": len(sources),
        "done": done,
        "killed": None if victim is None else victim[1],
        "code": ended.code,
        "seconds": ended.seconds,
        "traceback": ended.has_traceback,
        "error": ended.error,
        "differ": differences(out, reference_out),
        "unfinished": len(list(out.rglob(".hrcam-*"))),
    }


def _busiest_worker(parent: int) -> tuple[int, str] | None:
    """The worker of Ray below a process that has computed most: pid and name."""
    columns = ["ps", "-eo", "pid=,ppid=,cputimes=,args="]
    told = subprocess.run(columns, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in told.splitlines()]
    family, workers = {str(parent)}, []
    for _ in rows:  # children may be listed before their parents
        grown = family | {pid for pid, above, *_ in rows if above in family}
        if grown == family:
            break
        family = grown
    for pid, _, seconds, name in rows:
        if pid in family and name.startswith("ray::") and "IDLE" not in name:
            workers.append((int(seconds), int(pid), name.split()[0]))
    return max(workers)[1:] if workers else None
