"""From files to maps on the disk, as a stream.

    decode (threads) -> batches -> networks -> write (threads) -> records, in order

Files are read ahead and written behind while the networks run, so that they wait for
neither; what is in between is bounded, whatever the number of files.

Sources are taken in chunks. In each the images are numbered from 0, images of sources
that are done included, and image k has place k mod batch_size in its batch: what a map
is does not depend on which others were done before (`explainer`).
"""

import errno
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import BoundedSemaphore

import numpy as np

from hrcam.imaging.picture import ImageReadError
from hrcam.runner.explainer import Explained, Explainer
from hrcam.runner.manifest import Record
from hrcam.runner.opened import Opened, Read, Writing
from hrcam.runner.outputs import Image
from hrcam.runner.sources import Source

READERS = WRITERS = 3
MOST_AHEAD = 32  # files open at a time: systems allow some hundreds
_OF_THE_FILE = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)  # no matter of the disk


def explain_sources(
    chunks: Iterable[Sequence[tuple[Source, int]]],
    explainer: Explainer,
    writing: Writing,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[list[Record]]:
    """Explains sources and writes what is asked for.

    Args:
        chunks: Lists of (source, number of its images that are done, 0 for none).
        explainer: The networks.
        writing: What to write, and where.
        stop: Asked after each batch whether to end early.

    Yields:
        The records of one source, when its files are written; in order.

    Raises:
        OSError: If a file cannot be written (disk full, read-only folder).
    """
    stream = _Stream(explainer, writing)
    try:
        yield from stream.run(chunks, stop)
    finally:
        stream.close()


class _Stream:
    """The threads, and what is between them."""

    def __init__(self, explainer: Explainer, writing: Writing):
        self._explainer, self._writing = explainer, writing
        self._size = (*explainer.size, explainer.channels)
        self._readers, self._writers = (
            ThreadPoolExecutor(READERS, "read"),
            ThreadPoolExecutor(WRITERS, "write"),
        )
        self._room = BoundedSemaphore(2 * explainer.batch_size)  # images to be written
        self._finishing: deque[Future] = deque()  # records of sources, in order
        self._open: list[Opened] = []
        self._failure: Exception | None = None  # of the disk: the run ends

    def run(self, chunks, stop) -> Iterator[list[Record]]:
        for batch in self._batches(self._images(chunks)):
            if batch:
                self._explain(batch)
            while self._finishing and self._finishing[0].done():
                yield self._finishing.popleft().result()
            if self._failure is not None or stop():
                break
        while self._finishing:  # in order: what was finished before a failure counts
            yield self._finishing.popleft().result()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Ends the threads; what was not finished leaves nothing behind."""
        for pool in (self._readers, self._writers):
            pool.shutdown(cancel_futures=True)
        for opened in self._open:
            opened.close()
            opened.files.discard()

    # ------------------------------------------------------------------------- reading

    def _images(self, chunks) -> Iterator[tuple[int, Opened, Read] | None]:
        """Yields (number, source, image), the number that of its place.

        `None` stands for a source that was set aside.
        """
        number, places = 0, self._explainer.batch_size
        for is_first, done, opening in self._ahead(chunks):
            if is_first:
                number = -(-number // places) * places
            if opening is None:
                number += done
                continue
            opened = opening.result()
            if opened.error is not None:
                self._finishing.append(_now([opened.facts | {"error": opened.error}]))
                yield None
                continue
            self._open.append(opened)
            for read in self._in_blocks(opened):
                yield number, opened, read
                number += 1

    def _ahead(self, chunks) -> Iterator[tuple[bool, int, Future | None]]:
        """Opens the next sources while others are worked on."""
        waiting: deque = deque()
        for chunk in chunks:
            for position, (source, done) in enumerate(chunk):
                opening = None if done else self._submit_open(source)
                waiting.append((position == 0, done, opening))
                if len(waiting) > min(2 * self._explainer.batch_size, MOST_AHEAD):
                    yield waiting.popleft()
        yield from waiting

    def _submit_open(self, source: Source) -> Future:
        return self._readers.submit(Opened, source, self._size, self._writing)

    def _in_blocks(self, opened: Opened) -> Iterator[Read]:
        """Reads the images of a file in order, some ahead."""
        if opened.first is not None:
            yield from opened.first
            return
        size, frames = self._explainer.batch_size, opened.frames
        blocks = [frames[at : at + size] for at in range(0, len(frames), size)]
        reading = self._readers.submit(opened.read, blocks[0])
        for block in [*blocks[1:], None]:
            images = reading.result()
            if block is not None:
                reading = self._readers.submit(opened.read, block)
            yield from images
        opened.close()

    def _batches(self, images) -> Iterator[list[tuple[int, Opened, Read]]]:
        """Yields batches; an empty one when there is only something to note."""
        batch, places = [], self._explainer.batch_size
        for image in images:
            if image is None:
                yield []
                continue
            if batch and image[0] // places != batch[0][0] // places:
                yield batch
                batch = []
            batch.append(image)
        if batch:
            yield batch

    # ------------------------------------------------------------ explaining, writing

    def _explain(self, batch: list[tuple[int, Opened, Read]]) -> None:
        places = self._explainer.batch_size
        images = np.zeros((places, *self._size), np.float32)
        for number, _, read in batch:
            if read.array is not None:
                images[number % places] = read.array
        explained = self._explainer(images)
        for number, opened, read in batch:
            facts = opened.facts | {"frame": read.frame}
            part = _now(facts | {"error": read.error})
            if read.error is None:
                part = self._submit_write(
                    opened, read, facts, explained, number % places
                )
            opened.parts.append(part)
            if len(opened.parts) == len(opened.frames):
                self._finishing.append(self._writers.submit(self._finish, opened))

    def _submit_write(
        self, opened: Opened, read: Read, facts: Record, explained: Explained, row: int
    ) -> Future:
        maps = {name: values[row] for name, values in explained.maps.items()}
        endless = [
            name for name, values in maps.items() if not np.isfinite(values).all()
        ]
        if endless or not np.isfinite(explained.probabilities[row]):
            what = f"map of {endless[0]}" if endless else "prediction"
            reason = f"the {what} is not finite: the model overflows"
            return _now(facts | {"error": reason})
        predicted = int(explained.classes[row])
        chosen = self._writing.class_index
        image = Image(
            read.frame,
            read.picture,
            maps,
            predicted if chosen is None else chosen,
            self._name(predicted if chosen is None else chosen),
        )
        facts = facts | {
            "class": predicted,
            "class_name": self._name(predicted),
            "probability": _rounded(explained.probabilities[row]),
            "explained": image.class_index,
            "range": {
                name: [_rounded(values.min()), _rounded(values.max())]
                for name, values in maps.items()
            },
        }
        self._room.acquire()
        return self._writers.submit(self._write, opened, image, facts)

    def _write(self, opened: Opened, image: Image, facts: Record) -> Record:
        try:
            return facts | {"files": opened.files.add(image, opened.digits)}
        except Exception as error:  # of one file, whatever a writer makes of it
            return self._without_result(facts, error)
        finally:
            self._room.release()

    def _finish(self, opened: Opened) -> list[Record]:
        """Waits for the source's images, which other threads write already."""
        records = [part.result() for part in opened.parts]
        try:
            files = opened.files.close()
        except Exception as error:
            opened.files.remove([f for r in records for f in r.get("files", ())])
            records = [
                r if "error" in r else self._without_result(r, error) for r in records
            ]
        else:
            for record in records:
                if "files" in record:
                    record["files"] += files
        self._open.remove(opened)
        return records

    def _name(self, class_index: int) -> str | None:
        names = self._writing.class_names
        return None if names is None else names[class_index]

    def _without_result(self, facts: Record, error: Exception) -> Record:
        """The record of an image that cannot be written; raises what all would meet."""
        try:
            reason = _reason(error)
        except Exception as failure:
            self._failure = failure
            raise
        keys = ("source", "frames", "sha256", "bytes", "modified", "place", "frame")
        return {key: facts[key] for key in keys if key in facts} | {"error": reason}


def _reason(error: Exception) -> str:
    """Why an image cannot be written; raises what all images would meet."""
    if isinstance(error, ImageReadError):
        return error.reason
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _OF_THE_FILE:
        return f"its results cannot be written: {error.strerror}"
    if isinstance(error, OSError | ImportError):
        raise error
    return f"its results cannot be written ({type(error).__name__})"


def _rounded(number: float) -> float:
    """Nine digits tell float32 values apart."""
    return float(f"{number:.9g}")


def _now(value: object) -> Future:
    """A future that is there already."""
    future: Future = Future()
    future.set_result(value)
    return future
