"""Maps of whole data sets: streamed to disk, resumable, on one machine or many."""

from hrcam.runner.manifest import read_manifest
from hrcam.runner.run import Progress, explain_files

__all__ = ["Progress", "explain_files", "read_manifest"]
