"""Shows where a CNN looks in a medical image, sharply, and proves it with numbers.

The names are those of `__init__.pyi`; each is imported when it is first used, so
that `import hrcam` costs milliseconds and does not start TensorFlow.
"""

import lazy_loader

from hrcam._registration import register_with_keras

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

register_with_keras()
