"""Times the training of the HR-CAM head against `fit` on the same frozen model."""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import setting
from paired import report, versions

from hrcam import fit_hrcam_head


def main() -> None:
    """Trains both ways, in turn; model building is not timed, tracing is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    x = setting.images(args.images, args.size)
    y = np.random.default_rng(3).integers(0, setting.CLASSES, args.images)
    base = setting.build("ResNet50", args.size)
    pairs = []
    for _ in range(args.rounds):
        fit = _train(base, _fit, x, y, args.epochs)
        ours = _train(base, fit_hrcam_head, x, y, args.epochs)
        pairs.append((fit, ours))
    ratios = [fit["seconds"] / ours["seconds"] for fit, ours in pairs]
    fit, ours = pairs[-1]
    losses = np.array([fit["losses"], ours["losses"]])
    report(
        {
            **vars(args),
            "versions": versions("tensorflow", "keras", "numpy"),
            "fit_seconds": statistics.median(f["seconds"] for f, _ in pairs),
            "fit_hrcam_head_seconds": statistics.median(o["seconds"] for _, o in pairs),
            "ratio": statistics.median(ratios),
            "lowest": min(ratios),
            "highest": max(ratios),
            "final_losses": losses[:, -1].tolist(),
            "largest_loss_difference": float(np.abs(losses[0] - losses[1]).max()),
        }
    )


def _fit(
    model: keras.Model, x: np.ndarray, y: np.ndarray, **options: Any
) -> keras.callbacks.History:
    """The usual way, with what `fit_hrcam_head` uses: Adam(1e-3), cross-entropy."""
    model.compile(
        keras.optimizers.Adam(1e-3),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model.fit(x, y, **options)


def _train(
    base: keras.Model, fit: Callable, x: np.ndarray, y: np.ndarray, epochs: int
) -> dict[str, Any]:
    model = setting.hrcam_of(base)
    keras.utils.set_random_seed(0)  # the same order of images on both sides
    start = time.perf_counter()
    history = fit(model, x, y, epochs=epochs, batch_size=32, verbose=0)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "losses": history.history["loss"]}


if __name__ == "__main__":
    main()
