"""Damages files for some minutes, and keeps the smallest of each kind that fails.

    python tests/fuzz/campaign.py FOLDER MINUTES SEED

Hypothesis makes the files here; another process reads them, so that a crash of a
decoder, a hang or too much memory is a failure like any other, and is shrunk like any
other. A failure's kind is its error and where it arose. What fails on every run counts,
what fails once does not: it is tried again in a fresh process.
"""

import faulthandler
import multiprocessing
import re
import resource
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path[:0] = [str(Path(__file__).parents[1])]  # pytest's own way to dicom_files

import reading  # noqa: E402
from damage import File, damaged_files  # noqa: E402
from seeds import make_seeds  # noqa: E402

SECONDS, HANG = 5, 20  # of the processor's time, of the clock
MEGABYTES = 256  # beside what a process has before
BATCH = 500  # files, then a fresh process
WORKERS = multiprocessing.get_context("fork")


class FoundError(Exception):
    """A file that breaks a rule."""


class Reader:
    """Another process that reads files."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._process, self._pipe = None, None

    def fault_of(self, file: File) -> tuple[str | None, str | None]:
        """Returns why a file is refused, and its fault, seen twice; `None`: none."""
        reason, fault = self._ask(file)
        return self._ask(file) if fault else (reason, fault)

    def _ask(self, file: File) -> tuple[str | None, str | None]:
        path = self.folder / "files" / f"input{file.suffix}"
        path.write_bytes(file.data)
        if self._process is None:
            self._pipe, end = WORKERS.Pipe()
            self._process = WORKERS.Process(target=serve, args=(end, self.folder))
            self._process.start()
            end.close()
        try:
            self._pipe.send(path)
            answered = self._pipe.poll(HANG)
            reason, fault = self._pipe.recv() if answered else (None, "hangs")
        except (EOFError, ConnectionError):
            self._process.join()
            reason, fault = None, f"crashes (exit code {self._process.exitcode})"
        if fault:
            self.stop()
        path.unlink(missing_ok=True)
        return reason, fault

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = None


def serve(pipe: Connection, folder: Path) -> None:
    """Reads one file after another, until it is killed."""
    crashes = (folder / "crash.txt").open("w")
    faulthandler.enable(crashes)
    (folder / "traceback.txt").unlink(missing_ok=True)
    before = peak()
    while True:
        path, start, reason = pipe.recv(), time.process_time(), None
        try:
            reason, fault = reading.check(path), None
        except BaseException as error:
            fault = kind_of(error)
            (folder / "traceback.txt").write_text(traceback.format_exc())
        if not fault and time.process_time() - start > SECONDS:
            fault = f"takes more than {SECONDS} s"
        if not fault and peak() - before > MEGABYTES:
            fault = f"takes more than {MEGABYTES} MB"
        pipe.send((reason, fault))


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def kind_of(error: BaseException) -> str:
    """Its type, the first words of it that are no numbers, and where it arose."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    words = re.sub("[0-9]+", "", " ".join(str(error).split()))[:60]
    return f"{type(error).__name__}: {words} ({Path(frame.filename).name}:{frame.name})"


class Campaign:
    """What has been found."""

    def __init__(self, folder: Path, reader: Reader):
        self.folder, self._reader = folder, reader
        self.reasons: Counter[str] = Counter()
        self.found: dict[str, Path] = {}
        self._wanted: str | None = None

    def run(self, seconds: float, number: int) -> None:
        """Damages files for a time; number is where hypothesis starts."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._wanted = self._smallest = None
            try:
                self._batch(number, end)
            except FoundError:
                self._keep()
            self._reader.stop()
            number += 1

    def know(self, path: Path) -> None:
        """Leaves out what a file shows that was kept before."""
        suffix = "".join(path.suffixes)
        fault = self._reader.fault_of(File(suffix, path.read_bytes()))[1]
        if fault:
            self.found[fault] = path

    def _batch(self, number: int, end: float) -> None:
        @seed(number)
        @settings(
            max_examples=BATCH,
            deadline=None,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        )
        @given(damaged_files())
        def each(file):
            if self._wanted is None and time.monotonic() > end:
                return
            reason, fault = self._reader.fault_of(file)
            if self._wanted is None:
                told = re.sub("-?[0-9.e+]*[0-9]", "N", fault or reason or "read")
                self.reasons[told] += 1
            if fault in self.found or fault != (self._wanted or fault) or not fault:
                return  # one kind at a time is shrunk
            self._wanted, self._smallest = fault, file
            raise FoundError(fault)

        each()

    def _keep(self) -> None:
        suffix, data = self._smallest
        path = self.folder / f"{zlib.crc32(data):08x}{suffix}"
        path.write_bytes(data)
        self.found[self._wanted] = path
        print(f"{path.name} ({len(data)} bytes): {self._wanted}", flush=True)
        for name in ("traceback.txt", "crash.txt"):
            told = self._reader.folder / name
            if told.exists() and told.stat().st_size:
                print(told.read_text()[:2000], flush=True)


def main(folder: str, minutes: str, number: str) -> None:
    """Runs a campaign; its exit status is how many new kinds it has found."""
    with tempfile.TemporaryDirectory() as work:
        reader, files = Reader(Path(work)), Path(work) / "files"
        files.mkdir()
        for name, (suffix, content, pack) in make_seeds().items():
            # here, so that all that is loaded late is there before the processes part
            path = files / f"{name}{suffix}"
            path.write_bytes(pack(content))
            reading.check(path)
        campaign = Campaign(Path(folder), reader)
        for path in sorted(Path(folder).iterdir()):
            campaign.know(path)
        known = len(campaign.found)
        campaign.run(60 * float(minutes), int(number))
    reasons = campaign.reasons
    print(f"{reasons.total()} files", *reasons.most_common(), sep="\n")
    sys.exit(min(len(campaign.found) - known, 100))


if __name__ == "__main__":
    main(*sys.argv[1:])
