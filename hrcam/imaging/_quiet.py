"""Keeps a library's warnings and log records from those who read a file with it.

pydicom warns about every second file, and its texts hold values of the header, a
patient's name among them. `warnings.catch_warnings` would change all threads at once.
Here one filter, put in place once for the process, asks for each warning whether the
thread that gives it is reading; so do the loggers of the library. What other threads
do with the same library is warned about and logged as ever.

A `warnings.catch_warnings` that another thread leaves in between takes the filter
away until the next file: a warning, not an error, may then come through.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class _Reading(threading.local):
    """Whether this thread is reading; asked as a filter of warnings and of logs."""

    active = False

    def match(self, module: str) -> bool:
        """The warnings filter is for the modules that this matches."""
        return self.active

    def filter(self, record: logging.LogRecord) -> bool:
        return not self.active

    def __reduce__(self) -> str:
        """Joblib sends the filters of warnings to its workers."""
        return "_READING"


_READING = _Reading()
_IGNORE = ("ignore", None, Warning, _READING, 0)


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Drops this thread's warnings, and its records in the loggers of `libraries`.

    Args:
        *libraries: Names of their top modules, imported before.
    """
    if warnings.filters[:1] != [_IGNORE]:
        warnings.filters.insert(0, _IGNORE)
    for name in tuple(logging.root.manager.loggerDict):
        if name.partition(".")[0] in libraries:
            logging.getLogger(name).addFilter(_READING)
    before, _READING.active = _READING.active, True
    try:
        yield
    finally:
        _READING.active = before
