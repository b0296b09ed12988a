"""Runs that cannot write: a full disk, a folder without rights, a second run.

The tiny disks are file systems in memory (`tmpfs`), which only root may mount; where
that does not work, the part says why and is left out.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fault_runs import (
    ALL_FORMATS,
    Ended,
    Run,
    differences,
    explain,
    finished,
    fresh,
    has_rights,
    records,
    tree,
)

FULL = {"size=2m": "size=2g", "nr_inodes=60": "nr_inodes=100k"}  # and what mends it


class CannotMountError(Exception):
    """No file system of our own here."""


@contextmanager
def tiny_disk(folder: Path, option: str) -> Iterator[Callable[[str], None]]:
    """Mounts one; gives a function that changes its options."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", option, "tmpfs", str(folder))
    try:
        yield lambda changed: _mount("-o", f"remount,{changed}", str(folder))
    finally:
        subprocess.run(["umount", str(folder)], check=False)


def _mount(*options: str) -> None:
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotMountError("there is no mount") from None
    except subprocess.CalledProcessError as error:
        raise CannotMountError(error.stderr.strip().splitlines()[-1]) from None


def part_full(images: Path, disk: Path, reference_out: Path) -> list[dict[str, Any]]:
    """Fills a disk, mends that, and starts the same command again."""
    return [_skipped(_filled, o, images, disk, reference_out) for o in FULL]


def _filled(option: str, images: Path, disk: Path, reference_out: Path) -> dict:
    with tiny_disk(disk, option) as remount:
        out = disk / "maps"
        first = explain(images, out, *ALL_FORMATS)
        whole = tree(reference_out)
        present = {
            name: digest
            for name, digest in tree(out).items()
            if name not in ("manifest.jsonl", ".lock")
        }
        row = _row(first) | {
            "what": option,
            "done": len(finished(out)),
            "written": len(present),
            "not whole": [n for n, d in present.items() if whole.get(n) != d],
            "named but missing": _missing(out),
        }
        remount(FULL[option])
        second = explain(images, out, *ALL_FORMATS)
        return row | {
            "code then": second.code,
            "traceback then": second.has_traceback,
            "differ": differences(out, reference_out),
        }


def _missing(out: Path) -> list[str]:
    named = [
        n for own in records(out).values() for r in own for n in r.get("files", ())
    ]
    return [name for name in named if not (out / name).is_file()]


def part_refused(images: Path, work: Path, reference_out: Path) -> list[dict]:
    """Folders that cannot be written to; each run must say so in one line."""
    cases = {
        "a folder without the right to write": _without_rights,
        "a disk that is mounted read-only": _read_only_disk,
        "a file in the folder's place": _is_a_file,
        "a folder below a file": _below_a_file,
        "results of another model's run": _of_other_settings,
    }
    rows = [
        _skipped(case, name, images, fresh(work / "refused"))
        for name, case in cases.items()
    ]
    return [*rows, _two_runs(images, fresh(work / "refused"), reference_out)]


def _skipped(case: Callable, name: str, *arguments: Any) -> dict[str, Any]:
    try:
        return case(name, *arguments)
    except CannotMountError as error:
        return {"what": name, "skipped": f"no file system can be mounted: {error}"}


def _row(ended: Ended) -> dict[str, Any]:
    return {
        "code": ended.code,
        "traceback": ended.has_traceback,
        "lines": ended.error.splitlines(),
    }


def _without_rights(name: str, images: Path, out: Path) -> dict[str, Any]:
    if has_rights():
        return {"what": name, "skipped": "root may write everywhere (no setpriv)"}
    out.mkdir(parents=True)
    out.chmod(0o555)
    row = {"what": name, **_row(explain(images, out, *ALL_FORMATS))}
    out.chmod(0o755)
    return row


def _read_only_disk(name: str, images: Path, out: Path) -> dict[str, Any]:
    with tiny_disk(out, "size=100m") as remount:
        remount("ro")
        return {"what": name, **_row(explain(images, out, *ALL_FORMATS))}


def _is_a_file(name: str, images: Path, out: Path) -> dict[str, Any]:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("a file")
    row = {"what": name, **_row(explain(images, out, *ALL_FORMATS))}
    out.unlink()
    return row


def _below_a_file(name: str, images: Path, out: Path) -> dict[str, Any]:
    out.mkdir(parents=True)
    (out / "file").write_text("a file")
    row = {"what": name, **_row(explain(images, out / "file" / "maps", *ALL_FORMATS))}
    shutil.rmtree(out)
    return row


def _of_other_settings(name: str, images: Path, out: Path) -> dict[str, Any]:
    out.mkdir(parents=True)
    (out / "settings.json").write_text("{}\n")
    return {"what": name, **_row(explain(images, out, *ALL_FORMATS))}


def _two_runs(images: Path, out: Path, reference_out: Path) -> dict[str, Any]:
    """Two at once: whichever comes first to the folder may write there."""
    both = [Run(images, out, *ALL_FORMATS) for _ in range(2)]
    refused, went_on = sorted(
        (run.ended() for run in both), key=lambda end: end.code != 1
    )
    return {
        "what": "a folder that another run is writing to",
        **_row(refused),
        "code of the other": went_on.code,
        "differ": differences(out, reference_out),
    }
