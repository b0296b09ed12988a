"""The command `hrcam`: thin over the library, one module a command.

Imports of TensorFlow and matplotlib stay inside the commands, so that `hrcam --help`
answers at once.
"""

from hrcam.cli import demo, evaluate, explain, export, fit, layers, respond
from hrcam.cli._app import app

__all__ = ["app", "demo", "evaluate", "explain", "export", "fit", "layers", "respond"]
