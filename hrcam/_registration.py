"""Makes this package's Keras classes known to Keras as soon as both are imported.

`import hrcam` must not import Keras, and Keras finds a class in a file only if its
module has been imported. So: if Keras is there, import the module now; else when it
comes.
"""

import importlib
import importlib.abc
import sys

CLASSES_IN = "hrcam.deconvnet.model"


class _AfterKeras(importlib.abc.MetaPathFinder):
    """Lets the import of Keras run as ever, and imports our classes at its end."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "keras":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        specs = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def run_then_register(module):
                run(module)
                importlib.import_module(CLASSES_IN)

            spec.loader.exec_module = run_then_register
        return spec


def register_with_keras() -> None:
    """Imports the modules with Keras classes, now or at the end of `import keras`."""
    if "keras" in sys.modules:
        importlib.import_module(CLASSES_IN)
    elif not any(isinstance(finder, _AfterKeras) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterKeras())
