"""Paired timing, and the record of what was timed with what."""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any


def paired_times(
    baseline: Callable[[], Any], others: Mapping[str, Callable[[], Any]], rounds: int
) -> dict[str, Any]:
    """Times each of `others` between two runs of the baseline, round after round.

    The machine's speed drifts, so a time is compared only with the baseline's just
    before and just after it: ratio = time / mean of the two. Everything runs once
    beforehand, so tracing and first allocations are in no time.

    Returns:
        `baseline_seconds`, the median; and for each name `seconds` (median),
        `ratio` (median of the rounds), `lowest` and `highest` ratio.
    """
    for function in (baseline, *others.values()):
        function()
    bases, seconds, ratios = [], {n: [] for n in others}, {n: [] for n in others}
    for _ in range(rounds):
        before = _seconds(baseline)
        bases.append(before)
        for name, function in others.items():
            taken = _seconds(function)
            after = _seconds(baseline)
            seconds[name].append(taken)
            ratios[name].append(2 * taken / (before + after))
            bases.append(after)
            before = after
    rows = {
        name: {
            "seconds": statistics.median(seconds[name]),
            "ratio": statistics.median(ratios[name]),
            "lowest": min(ratios[name]),
            "highest": max(ratios[name]),
        }
        for name in others
    }
    return {
        "baseline_seconds": statistics.median(bases),
        "rounds": rounds,
        "rows": rows,
    }


def repeated(function: Callable[[], Any], times: int) -> Callable[[], None]:
    """Returns what calls a function several times, for a block that is long enough."""

    def block() -> None:
        for _ in range(times):
            function()

    return block


def _seconds(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def versions(*packages: str) -> dict[str, str]:
    """Versions of Python and of installed packages; no names of the machine."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def machine() -> dict[str, Any]:
    """Date, cores and kind of the machine."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.machine()}",
    }


def report(result: Mapping[str, Any]) -> None:
    """Prints the result as the last line, for `run.py` to read."""
    print(json.dumps(result))
