"""`hrcam explain`: maps of whole data sets, streamed to disk."""

import os
import signal
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from hrcam.cli._app import app, console, failure
from hrcam.cli._inputs import MOST_LISTED, read_record, split_names

SOME_SET_ASIDE, STOPPED = 3, 130  # exit codes


@app.command()
def explain(
    model: Annotated[
        Path, typer.Argument(help="An HR-CAM model, or a classifier, .keras.")
    ],
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="PNG, JPEG, TIFF, BMP, GIF, DICOM, NIfTI files (scan.nii.gz#12, "
            "scan.nii.gz#10:20 for some slices), folders, patterns, CSVs with a "
            "column image, file or path."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("hrcam-maps"),
    methods: Annotated[
        str,
        typer.Option(
            help="With commas between: hrcam, cam, grad_cam, arm and others. "
            "Default: hrcam of a model with the head, else grad_cam."
        ),
    ] = "",
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            help="With commas between: png (over the image), npy, npz, tiff (raw), "
            "nifti, dicom (lie on a source of that kind).",
        ),
    ] = "png,npy",
    hrcam_model: Annotated[
        Path | None,
        typer.Option("--hrcam", help="The HR-CAM model, if MODEL has no head."),
    ] = None,
    class_index: Annotated[
        int | None,
        typer.Option("--class", min=0, help="Explained. Default: the predicted one."),
    ] = None,
    class_names: Annotated[
        str | None,
        typer.Option(help="With commas between. Default: those noted by `hrcam fit`."),
    ] = None,
    values: Annotated[
        str,
        typer.Option(
            help="What is black and white to the network: file (8 bit: 0,255; 16 bit: "
            "0,65535; DICOM: its stored bits; else lowest, highest), window (the "
            "file's display window), or LOW,HIGH."
        ),
    ] = "file",
    white: Annotated[
        float | None,
        typer.Option(
            help="What white was in training: 1 or 255, say. Default: as noted by "
            "`hrcam fit`, else 1."
        ),
    ] = None,
    size: Annotated[
        int | None,
        typer.Option(min=1, help="Side in pixels, if the model takes any size."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images at a time.")] = 8,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Larger images are set aside.")
    ] = 2**27,
    engine: Annotated[
        str, typer.Option(help='local, or ray (pip install "hrcam\\[ray]").')
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster. Default: Ray is started here."),
    ] = None,
) -> None:
    """Draws the maps of any number of image files; a stopped run goes on.

    Writes, below OUT, the files of each image and manifest.jsonl: a line an image
    with source, sha256, class, probability, raw range and files, or the error.
    Memory does not grow with the number of images. Start it again after Ctrl-C, a
    crash or a full disk: what is done is not done again, and the maps are the same.

    \b
    exit code 0   all images are done
    exit code 3   done, but some files could not be read; they are listed
    exit code 1   an argument does not fit, or nothing can be written
    exit code 130 stopped by Ctrl-C
    """  # noqa: D301
    with console.status("Starting Keras"):
        from hrcam.imaging import Limits
        from hrcam.runner import explain_files

    try:
        record = read_record(model)
        names = None if class_names is None else split_names(class_names)
        with _stoppable() as stop, _Bar() as bar:
            done = explain_files(
                model,
                inputs,
                out,
                methods=_methods(methods),
                formats=split_names(formats),
                hrcam_model=hrcam_model,
                class_index=class_index,
                class_names=names or record.get("class_names"),
                values=_values(values),
                white=record.get("white", 1.0) if white is None else white,
                image_size=_size(size, record),
                batch_size=batch_size,
                limits=Limits(max_pixels=max_pixels),
                engine=engine,
                address=address,
                progress=bar,
                stop=stop,
            )
    except OSError as error:
        is_result = error.filename and str(error.filename).startswith(f"{out}{os.sep}")
        raise failure(_full(error, out) if is_result else error) from error
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise failure(error) from error
    _report(done, out)
    if done.sources < done.total:
        raise typer.Exit(code=STOPPED)
    if done.set_aside:
        raise typer.Exit(code=SOME_SET_ASIDE)


class _Bar:
    """How far the run is, with its rate and the time left."""

    def __init__(self):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console)
        self._task = None

    def __enter__(self) -> "_Bar":
        self._progress.start()
        self._task = self._progress.add_task("Opening the model", total=None, rate="")
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def __call__(self, done) -> None:
        """Shows a `hrcam.runner.Progress`."""
        task = self._progress.tasks[self._task]
        if task.total is None:  # the time left is reckoned from here on
            self._progress.reset(self._task, total=done.total, completed=done.sources)
        elapsed = task.elapsed or 0
        rate = f"{done.images / elapsed:.1f} images/s" if done.images else ""
        aside = f", {len(done.set_aside)} set aside" if done.set_aside else ""
        self._progress.update(
            self._task,
            completed=done.sources,
            description=f"Files{aside}",
            rate=rate,
        )


@contextmanager
def _stoppable():
    """Yields a function that tells whether Ctrl-C (or SIGTERM) was pressed once.

    The run ends after its batch then; pressed again, it ends at once.
    """
    pressed = Event()

    def press(number, frame):
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()
        console.print("Stopping after this batch; again to stop at once")

    before = {s: signal.signal(s, press) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield pressed.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _methods(text: str) -> list[str] | None:
    return split_names(text) if text else None


def _values(text: str):
    if "," not in text:
        return text
    try:
        low, high = map(float, text.split(","))
    except ValueError as error:
        raise ValueError(
            f"--values must be file, window or LOW,HIGH. Received: {text!r}"
        ) from error
    return low, high


def _size(size: int | None, record: dict):
    noted = record.get("image")
    if size is None and noted:
        return noted["height"], noted["width"]
    return size


def _full(error: OSError, out: Path) -> OSError:
    """Says of an error of the disk what is lost: nothing."""
    reason = f"Cannot write {error.filename}: {error.strerror}. What was done is kept: "
    return OSError(reason + f"mend that and start it again with the same --out {out}")


def _report(done, out: Path) -> None:
    lines = [f"{done.sources} of {done.total} files; {done.images} images in this run"]
    if done.left_out:
        lines.append(f"Left out: {done.left_out} files of folders that are no images")
    if done.blank:
        lines.append(
            f"{done.blank} maps have no positive value: nothing in those images argues "
            "for the class; their pictures show the least negative place"
        )
    if done.set_aside:
        lines.append(f"Set aside: {len(done.set_aside)} that cannot be explained")
    listed = [*done.set_aside.items()][:MOST_LISTED]
    lines += [f"  {_printable(name)}: {reason}" for name, reason in listed]
    if len(done.set_aside) > MOST_LISTED:
        lines.append(
            f"  and {len(done.set_aside) - MOST_LISTED} more; see the manifest"
        )
    lines.append(f"Maps and manifest.jsonl: {out}")
    if done.sources < done.total:
        lines.append("Stopped. The same command goes on where it was.")
    console.print(escape("\n".join(lines)), soft_wrap=True)


def _printable(name: str) -> str:
    """A file's name as any terminal can show it, and is not steered by it."""
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in name
    )
