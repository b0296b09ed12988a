"""What a peer is given, in a folder, and what it gives back; needs no hrcam.

`request.npz` holds `images` `(n, height, width, channels)` and `class_index` `(n,)`;
`request.json` the layers asked for by network; `<network>.keras` is each network, which
ends in a softmax. The answer `<name>.npz` holds a map `(n, rows, columns)` for each
"network/layer/method", and `<name>.json` the versions of what made it.
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

Explain = Callable[[keras.Model, str, np.ndarray, np.ndarray], dict[str, np.ndarray]]


def answer(name: str, explain: Explain, packages: tuple[str, ...]) -> None:
    """Explains every network at every layer asked for in the folder of the command.

    Args:
        name: Name of the answer.
        explain: `(model, layer, images, class_index) -> {method: maps}`; the model is
            its own, it may change it.
        packages: Whose versions to note beside those of keras and numpy.
    """
    folder = Path(sys.argv[1])
    request = np.load(folder / "request.npz")
    maps = {}
    for network, layers in json.loads((folder / "request.json").read_text()).items():
        for layer in layers:
            model = keras.saving.load_model(folder / f"{network}.keras", compile=False)
            made = explain(model, layer, request["images"], request["class_index"])
            for method, found in made.items():
                maps[f"{network}/{layer}/{method}"] = np.asarray(found)
    np.savez(folder / f"{name}.npz", **maps)
    versions = {
        package: importlib.metadata.version(package)
        for package in (*packages, "keras", "numpy")
    }
    (folder / f"{name}.json").write_text(json.dumps(versions))
