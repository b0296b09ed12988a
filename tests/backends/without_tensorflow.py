"""Importing this hides TensorFlow, as where it is not installed.

So a backend that is not TensorFlow cannot lean on it unseen.
"""

import sys


class _WithoutTensorFlow:
    """A finder of modules as it was, but for one name."""

    def __init__(self, finder):
        self._finder = finder

    def __getattr__(self, name):
        return getattr(self._finder, name)

    def find_spec(self, fullname, *where):
        hidden = fullname == "tensorflow"
        return None if hidden else self._finder.find_spec(fullname, *where)


sys.meta_path[:] = [_WithoutTensorFlow(finder) for finder in sys.meta_path]
