"""Explains whole data sets; see `explain_files`."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from hrcam._directory import check_directory, claim_directory
from hrcam.imaging._atomic import TEMPORARY
from hrcam.imaging.picture import Values
from hrcam.imaging.read import LIMITS, Limits
from hrcam.methods import METHODS
from hrcam.runner.explainer import Explainer, Settings, long_names
from hrcam.runner.manifest import Manifest, Record
from hrcam.runner.outputs import FORMATS
from hrcam.runner.sources import Source, find_sources
from hrcam.runner.stream import Writing, explain_sources
from hrcam.saving import sha256

BATCHES_A_CHUNK = 8
ENGINES = ("local", "ray")


class Progress(NamedTuple):
    """How far a run is.

    Attributes:
        sources: Files that are done or set aside, of this run and before.
        total: All files.
        images: Images that this run has explained.
        set_aside: Files and images that could not be explained, and why, by name.
        left_out: Files of folders that are of no known kind.
        blank: Maps without a positive value: nothing argues for the class.
    """

    sources: int
    total: int
    images: int
    set_aside: dict[str, str]
    left_out: int
    blank: int


def explain_files(
    model: str | Path,
    inputs: Sequence[str | Path],
    out: str | Path,
    *,
    methods: Sequence[str] | None = None,
    formats: Sequence[str] = ("png", "npy"),
    hrcam_model: str | Path | None = None,
    class_index: int | None = None,
    class_names: Sequence[str] | None = None,
    values: Values = "file",
    white: float = 1.0,
    image_size: int | tuple[int, int] | None = None,
    batch_size: int = 8,
    limits: Limits = LIMITS,
    engine: str = "local",
    address: str | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
) -> Progress:
    """Draws the maps of any number of image files, and writes them as it goes.

    The folder `out` gets the files of each source (`hrcam.runner.outputs`) and a
    manifest (`hrcam.runner.manifest`). A run that was stopped, in whatever way, goes
    on when it is started again, and ends with the same bits; what is done is not done
    again, what was set aside is tried again. Memory does not grow with the number of
    images, but for some hundred bytes of the manifest's lines.

    Args:
        model: A `.keras` file: an HR-CAM model, or any classifier of one image.
        inputs: Files, `scan.nii.gz#12`, folders, patterns and CSVs; see
            `hrcam.runner.sources.find_sources`.
        out: The folder to write to.
        methods: Keys of `hrcam.methods.METHODS`; `"hrcam"` and `"arm"` are short for
            `"hr_cam"` and `"attentive_response"`. `None`: HR-CAM, or Grad-CAM where
            there is no HR-CAM model.
        formats: Of png, npy, npz, tiff, nifti, dicom.
        hrcam_model: The HR-CAM model, if `model` is the classifier without the head.
        class_index: The class to explain; `None`: each image's predicted class.
        class_names: A name a class, for the manifest and DICOM.
        values: Which values of a file become 0 and 1 for the network: `"file"`,
            its own black and white; `"window"`, its display window; or a pair.
        white: What the model was trained to see as white: 1 or 255, say.
        image_size: Side or (height, width), if the model takes any size.
        batch_size: Images at a time.
        limits: What a file may ask for.
        engine: `"local"`, or `"ray"` for several workers or machines.
        address: Of a Ray cluster; `None` starts Ray here.
        progress: Called now and then with how far it is.
        stop: Asked now and then whether to end early, with nothing lost.

    Returns:
        How far it went: if `sources` is `total`, all is done or set aside.

    Raises:
        FileNotFoundError: If the model or an input is not there.
        FileExistsError: If `out` has results of other settings or of other files of
            the same names, or another run is writing there.
        ValueError: If an argument does not fit.
        OSError: If a file cannot be written; what was done before is kept.

    Example:
        >>> explain_files("hrcam.keras", ["scans"], "maps")  # doctest: +SKIP
    """
    methods, out = None if methods is None else long_names(methods), Path(out)
    _check(methods, formats, batch_size, engine, values)
    found = find_sources(inputs, out)
    hrcam_path = None if hrcam_model is None else Path(hrcam_model)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    settings = Settings(
        Path(model), hrcam_path, methods, class_index, white, size, batch_size
    )
    names = None if class_names is None else tuple(class_names)
    writing = Writing(out, tuple(formats), names, class_index, values, limits)
    noted = _noted(settings, writing)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out), _manifest(out, noted) as manifest:
        state = _State(found.sources, found.left_out)
        chunks = list(_chunks(found.sources, manifest, batch_size, state))
        progress(state.progress())
        for records in _engine(engine, address)(chunks, settings, writing, stop):
            claim_directory(out, noted)  # now it is known that they work
            manifest.append(records)
            state.add(records)
            progress(state.progress())
        manifest.sort(source.name for source in found.sources)
    return state.progress()


def _manifest(out: Path, noted: dict) -> Manifest:
    check_directory(out, noted)
    return Manifest(out)


def explain_locally(
    chunks: list, settings: Settings, writing: Writing, stop: Callable[[], bool]
) -> Iterator[list[Record]]:
    """The engine for one machine; the networks are opened if there is work."""
    if all(done for chunk in chunks for _, done in chunk):
        return iter(())
    explainer = Explainer(settings)
    check_names(explainer, writing)
    return explain_sources(chunks, explainer, writing, stop)


def check_names(explainer: Explainer, writing: Writing) -> None:
    """Raises a ValueError unless there is one name a class."""
    names = writing.class_names
    if names is not None and len(names) != explainer.num_classes:
        raise ValueError(
            f"`class_names` must be one for each of the model's "
            f"{explainer.num_classes} classes. Received: {len(names)}, {names}"
        )


class _State:
    """Counts what is done."""

    def __init__(self, sources: list[Source], left_out: int):
        self._total, self._left_out = len(sources), left_out
        self._sources, self._images, self._aside, self._blank = 0, 0, {}, 0

    def skip(self, records: Sequence[Record]) -> None:
        """Counts a source that was done before."""
        self._sources += 1
        self._note(records)

    def add(self, records: Sequence[Record]) -> None:
        """Counts a source."""
        self._sources += 1
        self._images += sum("files" in record for record in records)
        self._note(records)

    def progress(self) -> Progress:
        counts = (self._sources, self._total, self._images)
        return Progress(*counts, self._aside, self._left_out, self._blank)

    def _note(self, records: Sequence[Record]) -> None:
        for record in records:
            ranges = record.get("range", {}).values()
            self._blank += sum(highest <= 0 for _, highest in ranges)
            if "error" in record:
                several = record["frames"] > 1
                frame = f"#{record['frame']}" if several else ""
                self._aside[record["source"] + frame] = record["error"]


def _chunks(
    sources: list[Source], manifest: Manifest, batch_size: int, state: _State
) -> Iterator[list[tuple[Source, int]]]:
    """Yields pieces of the work: (source, how many images of it are done)."""
    length = BATCHES_A_CHUNK * batch_size
    for start in range(0, len(sources), length):
        chunk = []
        for source in sources[start : start + length]:
            records = manifest.done(source)
            if records is not None:
                state.skip(records)
            chunk.append((source, 0 if records is None else len(records)))
        yield chunk


def _engine(name: str, address: str | None) -> Callable:
    if name == "local":
        return explain_locally
    from hrcam.runner.ray_engine import explain_on_ray

    return explain_on_ray(address)


def _noted(settings: Settings, writing: Writing) -> dict:
    """What results depend on; the files by their content, not their place."""
    files = {"model": settings.model, "hrcam_model": settings.hrcam_model}
    hashes = {k: None if path is None else _digest(path) for k, path in files.items()}
    written = {"formats": writing.formats, "values": writing.values}
    written["class_names"] = writing.class_names
    made_by = {"hrcam": version("hrcam"), "keras_backend": keras.backend.backend()}
    numbers = {"white": float(settings.white)}
    return settings._asdict() | hashes | written | numbers | made_by


def _digest(model: Path) -> str:
    if not model.is_file():
        raise FileNotFoundError(
            f"`model` must be a .keras file. Received: {model}, which is not a file."
        )
    return sha256(model)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Lets no second run write to a folder; removes what a killed one left."""
    with (out / ".lock").open("w") as lock:
        try:
            import fcntl
        except ImportError:  # Windows: two runs at once are up to the user
            fcntl = None
        if fcntl is not None:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FileExistsError(
                    f"Another run is writing to {out}. Wait for it, or name another "
                    "folder."
                ) from None
            except OSError:  # storage without locks: as on Windows
                pass
        for unfinished in out.rglob(f"{TEMPORARY}*"):
            if unfinished.is_file():
                unfinished.unlink(missing_ok=True)
        yield


def _check(
    methods: Sequence[str] | None,
    formats: Sequence[str],
    batch_size: int,
    engine: str,
    values: Values,
) -> None:
    for name, given, known in (
        ("methods", ["hr_cam"] if methods is None else methods, tuple(METHODS)),
        ("formats", formats, FORMATS),
        ("engine", [engine], ENGINES),
    ):
        unknown = [value for value in given if value not in known]
        if unknown or not given:
            raise ValueError(
                f"`{name}` must be among {', '.join(known)}. "
                f"Received: {', '.join(map(repr, unknown)) or 'none'}"
            )
    is_pair = not isinstance(values, str) and np.isfinite(values).all()
    if values not in ("file", "window") and not is_pair:
        raise ValueError(
            '`values` must be "file", "window" or a pair of different numbers. '
            f"Received: {values!r}"
        )
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1. Received: {batch_size}")
