"""Runs `hrcam explain` as a user would, and looks at what it leaves behind."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

MODEL = Path(__file__).parent.parent / "saved_models" / "simulated" / "hrcam.keras"
FORMATS = "png,npy,nifti,dicom"
ALL_FORMATS = ("--format", "png,npy,npz,tiff,nifti,dicom")
OWN = (".lock", "manifest.jsonl", "settings.json")  # no files of an image
LONGEST = 3600  # seconds; what takes longer hangs
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "SOURCE_DATE_EPOCH": "0",  # the time that DICOM objects tell
    "PYTHONIOENCODING": "utf-8",  # strict, as in most users' locales
}


class Ended(NamedTuple):
    """How a run ended.

    Attributes:
        code: The exit code; below 0: by this signal; `None`: it hung.
        seconds: How long it took.
        shown: What it printed.
        error: What it printed as errors, but for TensorFlow's own lines.
    """

    code: int | None
    seconds: float
    shown: str
    error: str

    @property
    def has_traceback(self) -> bool:
        """Whether a Python traceback was printed."""
        return "Traceback" in self.shown + self.error


class Run:
    """One run of the command; see `ended`."""

    def __init__(self, images: Path, out: Path, *options: str):
        """Starts it."""
        # not pipes, which fill up; not beside `out`, where the disk may be full
        self._logs = TemporaryDirectory()
        paths = [Path(self._logs.name, name) for name in ("shown", "error")]
        self._shown, self._error = paths
        self._start = time.perf_counter()
        with self._shown.open("wb") as shown, self._error.open("wb") as error:
            self.process = subprocess.Popen(
                [*_as_other_users(), *command(images, out, *options)],
                env={**os.environ, **ENVIRONMENT},
                stdout=shown,
                stderr=error,
                start_new_session=True,
            )

    def runs(self) -> bool:
        """Whether it has not ended."""
        return self.process.poll() is None

    def lasts(self, seconds: float) -> bool:
        """Waits until it is that old; was it there still?"""
        try:
            self.process.wait(max(0, self._start + seconds - time.perf_counter()))
        except subprocess.TimeoutExpired:
            return True
        return False

    def age(self) -> float:
        """Seconds since its start."""
        return time.perf_counter() - self._start

    def ended(self) -> Ended:
        """Waits for its end."""
        if self.lasts(LONGEST):
            self.process.kill()
            self.process.wait()
            return Ended(None, self.age(), *self._printed())
        return Ended(self.process.returncode, self.age(), *self._printed())

    def _printed(self) -> tuple[str, str]:
        shown = self._shown.read_text(errors="replace")
        error = self._error.read_text(errors="replace")
        self._logs.cleanup()
        lines = [
            line
            for line in error.splitlines()
            if not line.startswith(("I0000", "WARN"))
        ]
        return shown, "\n".join(lines)


def command(images: Path, out: Path, *options: str) -> list[str]:
    """The command line."""
    program = str(Path(sys.executable).with_name("hrcam"))
    inputs = [str(MODEL), str(images), "--out", str(out), "--format", FORMATS]
    return [program, "explain", *inputs, *options]


def explain(images: Path, out: Path, *options: str) -> Ended:
    """Runs it to its end."""
    return Run(images, out, *options).ended()


def has_rights() -> bool:
    """Whether the rights of files do not hold for us, nor for what we start."""
    return os.geteuid() == 0 and not _as_other_users()


def _as_other_users() -> list[str]:
    """For root: a command that obeys the rights of files, as others must."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        return []
    rights = "-dac_override,-dac_read_search"
    return ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"]


def fresh(folder: Path) -> Path:
    """The folder, not there."""
    shutil.rmtree(folder, ignore_errors=True)
    return folder


# ------------------------------------------------------------------ what is left behind


def tree(out: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative name."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file()
    }


def differences(out: Path, reference: Path) -> list[str]:
    """Names of files that are in one folder only, or not the same in both."""
    one, other = tree(out), tree(reference)
    return sorted(
        name for name in one.keys() | other if one.get(name) != other.get(name)
    )


def records(out: Path) -> dict[str, list[dict[str, Any]]]:
    """The whole records of a manifest by source, read without hrcam."""
    path, found = out / "manifest.jsonl", {}
    for line in path.read_bytes().splitlines(True) if path.exists() else []:
        if line.endswith(b"\n"):
            record = json.loads(line)
            found.setdefault(record["source"], []).append(record)
    return found


def finished(out: Path) -> set[str]:
    """The sources that have a record."""
    return set(records(out))


def without_record(out: Path, sources: Sequence[str]) -> set[str]:
    """Sources with files in the folder that no record names: they are made again."""
    named = {
        file
        for own in records(out).values()
        for r in own
        for file in r.get("files", ())
    }
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    loose = [f for f in files - named if f not in OWN and ".hrcam-" not in f]
    return {s for s in sources if any(file.startswith(f"{s}.") for file in loose)}
