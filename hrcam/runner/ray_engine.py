"""The work of `explain_files` on Ray Data: several workers, on one machine or many.

A data set of chunks goes through a pool of workers, each a process that has the
networks open; a worker writes its files itself and answers with their records:

    chunks -> workers (open, explain, write; `stream`) -> records -> manifest (`run`)

A chunk is done whole by one worker, so each image has the place in its batch that it
has without Ray, and the maps have the same bits (`explainer`), whichever worker makes
them, and however often: when one dies, Ray starts another, which does the chunk again
and writes the same files again.

What goes wrong in a worker (a full disk, a class that the model does not have) comes
back as an answer and is raised here as it is. Whether the run is to end is asked at a
small actor of its own, the gate: a worker passes it before each chunk and looks at it
after each batch, so nobody has to be killed in the middle of a file.

Ray Data: F. S. Luan et al., "The streaming batch model for efficient and fault-tolerant
heterogeneous execution", arXiv:2501.12407.
"""

import json
import logging
import os
import pickle
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread

import keras

from hrcam.imaging._atomic import TEMPORARY
from hrcam.runner.explainer import Explainer, Settings
from hrcam.runner.manifest import Record
from hrcam.runner.opened import Writing
from hrcam.runner.run import check_names
from hrcam.runner.stream import explain_sources

try:
    import ray
    import ray.data
    import ray.exceptions
except ImportError as error:
    raise ImportError(
        f'`engine="ray"` needs Ray Data: pip install "hrcam[ray]". Received: {error}'
    ) from error

CPUS_A_WORKER = 2
MOST_TRIES = 5  # of a chunk; what kills five workers kills the sixth
SECONDS_BETWEEN_QUESTIONS = 0.2
OBJECT_STORE = 80 * 2**20  # bytes; Ray wants 75 MiB, what crosses it are names
PASSED_ON = ("TF_CPP_MIN_LOG_LEVEL", "TF_ENABLE_ONEDNN_OPTS")  # to the workers


def explain_on_ray(address: str | None) -> Callable:
    """The engine for several workers; it has the signature of `explain_locally`.

    A Ray that runs in this process already is used, and left running.

    Args:
        address: Of a cluster: `"auto"`, if this machine is part of it, or
            `"host:6379"`. `None`: Ray is started here, and ended at the end.

    Returns:
        A function of chunks, settings, writing and stop. It yields the records of a
        source at a time, in the order in which chunks become ready, and raises what
        a worker could not do: ValueError, OSError.

    Raises:
        ValueError: If the address is one of a Ray client.
    """
    if address is not None and "://" in address:
        raise ValueError(
            '`address` must be "auto", on a machine of the cluster, or "host:6379": '
            "Ray Data does not work through a Ray client. From elsewhere send the "
            f"command there with `ray job submit`. Received: {address!r}"
        )

    def explain(
        chunks: list, settings: Settings, writing: Writing, stop: Callable[[], bool]
    ) -> Iterator[list[Record]]:
        work = [chunk for chunk in chunks if not all(done for _, done in chunk)]
        if not work:
            return
        settings = settings._replace(
            model=_absolute(settings.model), hrcam_model=_absolute(settings.hrcam_model)
        )
        writing = writing._replace(folder=_absolute(writing.folder))
        try:
            with _connected(address):
                yield from _explain(work, settings, writing, stop)
        except ray.exceptions.RayError as error:
            raise RuntimeError(f"Ray has given up: {error}") from error
        finally:
            _remove_unfinished(writing.folder)

    return explain


def _explain(
    work: list, settings: Settings, writing: Writing, stop: Callable[[], bool]
) -> Iterator[list[Record]]:
    gate = _new_gate()
    answers = _answers(work, settings, writing, gate)
    answered, begun, error = set(), None, None
    with closing(answers), _asking(stop, gate):
        for answer in answers:
            answered.add(answer["number"])
            yield from json.loads(answer["records"])
            error = error or pickle.loads(answer["error"])
            if begun is None and (error or answer["closed"] or stop()):
                begun = set(ray.get(gate.close.remote()))
            if begun is not None and begun <= answered:
                break  # no worker is at work any more
    if error is not None:
        raise error


def _answers(
    work: list, settings: Settings, writing: Writing, gate: "ray.actor.ActorHandle"
) -> Iterator[dict]:
    """Yields what the workers answer, a chunk at a time, as they come."""
    count, resources = _pool()
    rows = [{"chunk": pickle.dumps(numbered)} for numbered in enumerate(work)]
    chunks = ray.data.from_items(rows, override_num_blocks=len(rows))
    chunks.context.enable_progress_bars = False
    chunks.context.print_on_execution_start = False
    chunks.context.target_max_block_size = 2**20  # else room for 128 MiB an answer
    size = min(count, len(work))
    pool = ray.data.ActorPoolStrategy(size=size, max_tasks_in_flight_per_actor=2)
    answers = chunks.map(
        _Worker,
        fn_constructor_args=(settings, writing, gate),
        compute=pool,
        runtime_env={"env_vars": _environment(resources)},
        **resources,
    )
    with _quiet():
        for table in answers.iter_batches(
            batch_size=None, prefetch_batches=0, batch_format="pyarrow"
        ):
            yield from table.to_pylist()


class _Worker:
    """Explains chunks; lives in a process of its own."""

    def __init__(self, settings: Settings, writing: Writing, gate):
        self._settings, self._writing, self._gate = settings, writing, gate
        self._explainer, self._closed = None, False

    def __call__(self, row: dict) -> dict:
        """Explains a chunk, as far as it goes."""
        number, chunk = pickle.loads(row["chunk"])
        records, error = [], None
        try:
            for made in self._explain(number, chunk):
                records.append(made)
        except Exception as raised:
            error = _portable(raised)
        return {
            "number": number,
            "records": json.dumps(records),
            "error": pickle.dumps(error),
            "closed": self._closed,
        }

    def _explain(self, number: int, chunk: list) -> Iterator[list[Record]]:
        tries = ray.get(self._gate.enter.remote(number))
        self._closed = tries == 0
        if self._closed:
            return
        if tries > MOST_TRIES:
            raise RuntimeError(
                f"{MOST_TRIES} workers died one after another at the files from "
                f"{chunk[0][0].path} to {chunk[-1][0].path}. Most often memory is "
                "short: take a smaller batch_size, or fewer workers a machine."
            )
        if self._explainer is None:  # here, so that what it raises is an answer, too
            explainer = Explainer(self._settings)
            check_names(explainer, self._writing)
            self._explainer = explainer
        yield from explain_sources([chunk], self._explainer, self._writing, self._stop)

    def _stop(self) -> bool:
        self._closed = ray.get(self._gate.is_closed.remote())
        return self._closed


def _new_gate() -> "ray.actor.ActorHandle":
    """Starts the actor that knows which chunks are begun and whether the run ends.

    Its class is local, so that Ray sends its code: its process imports no Keras.
    """

    class Gate:
        def __init__(self):
            self._begun, self._closed = Counter(), False

        def enter(self, number: int) -> int:
            """Notes that a chunk is begun; returns how often it was, 0: all ends."""
            if self._closed:
                return 0
            self._begun[number] += 1
            return self._begun[number]

        def is_closed(self) -> bool:
            return self._closed

        def close(self) -> list[int]:
            """Ends the run; returns the numbers of the chunks that were begun."""
            self._closed = True
            return list(self._begun)

    return ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Gate).remote()


@contextmanager
def _asking(stop: Callable[[], bool], gate) -> Iterator[None]:
    """Asks now and then whether to stop; closes the gate then, and at the end."""
    over = Event()

    def ask() -> None:
        while not over.wait(SECONDS_BETWEEN_QUESTIONS):
            if stop():
                gate.close.remote()
                return

    asking = Thread(target=ask, name="stop?", daemon=True)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()
        gate.close.remote()


@contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """Uses the Ray that runs here, or connects to one, or starts one."""
    if ray.is_initialized():
        yield
        return
    own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address or "local",  # None would join whatever cluster runs on this machine
        log_to_driver=False,
        logging_level=logging.ERROR,
        **(own if address is None else {}),
    )
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data tells how each run goes; `Progress` does that here."""
    logger = logging.getLogger("ray.data")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _pool() -> tuple[int, dict[str, int]]:
    """How many workers, and what each takes: a GPU, or two cores of one machine."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = sum(int(machine.get("GPU", 0)) for machine in machines)
    if gpus:
        return gpus, {"num_gpus": 1, "num_cpus": 1}
    pairs = sum(int(machine.get("CPU", 0)) // CPUS_A_WORKER for machine in machines)
    return max(1, pairs), {"num_cpus": CPUS_A_WORKER if pairs else 1}


def _environment(resources: dict[str, int]) -> dict[str, str]:
    """Variables of the workers: what this process computes with, and their threads."""
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    if "num_gpus" not in resources:  # else each worker has a thread for every core
        passed["TF_NUM_INTRAOP_THREADS"] = str(resources["num_cpus"])
    return {"KERAS_BACKEND": keras.backend.backend(), **passed}


def _portable(error: Exception) -> Exception:
    """The error as it can be sent, with its traceback as a note."""
    note = "In the worker:\n" + "".join(traceback.format_exception(error))
    try:
        error = pickle.loads(pickle.dumps(error))
    except Exception:  # of a class that cannot be sent
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(note)
    return error


def _remove_unfinished(folder: Path) -> None:
    """Removes what a worker that was killed has left; no other is at work now."""
    for unfinished in folder.rglob(f"{TEMPORARY}*"):
        unfinished.unlink(missing_ok=True)


def _absolute(path: Path | None) -> Path | None:
    return None if path is None else Path(os.path.abspath(path))
