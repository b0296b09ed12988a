"""Sheets of heat maps during `fit`: where the network looks, from epoch to epoch.

Loss and accuracy say how well a network does, not by what. A network that has found a
letter beside the hand or the frame of the scanner trains as smoothly as one that has
found the disease; on a sheet an epoch it is seen while it can still be stopped.

Choices:

* Maps are raw, each drawn in its own range, which its colour bar states: how high a
  map is need not mean the same in two epochs, where it is high does.
* The map is of the class that the network predicts in that epoch, which may change
  from sheet to sheet, unless `class_index` fixes it.
* Epochs are counted as `fit` counts them from `initial_epoch`, and sheet n is of the
  weights after n epochs; so a fit that goes on continues the numbers, and draws once
  more, from the same weights, the sheet that the one before it ended with.
* Of a map without a positive value, usual before training, the row says so. There is
  no warning: the same one would come every epoch.
* Weights and random numbers are only read: training is the same with and without.
"""

import os
import warnings
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from numbers import Integral
from pathlib import Path
from typing import Any

import keras
import numpy as np

from hrcam._backend import image_summaries, predict_batch
from hrcam._images import check_images
from hrcam.graph import check_graph, final_activation, walk
from hrcam.heads import pooled_layers
from hrcam.maps._batches import check_class_index
from hrcam.methods import METHODS
from hrcam.normalize import min_max_normalize
from hrcam.plots import comparison_sheet
from hrcam.study.run import quiet_maps
from hrcam.views import input_names, inputs_before, output_place, view


class HeatmapCallback(keras.callbacks.Callback):
    """Writes sheets of images and their heat maps while a model is trained.

    `epoch_0000.png` is written before the first epoch, `epoch_0005.png` after the
    fifth, and so on: a row an image, with the predicted class and its probability (the
    score, where the model ends without softmax or sigmoid). A sheet of the same number
    is replaced, so each training wants a folder of its own.

    What does not fit is an error when `fit` starts, before the first step. Maps with
    NaN or infinity, when a training diverges, are not drawn: one warning a `fit`.

    Args:
        images: `(n, height, width, channels)`, preprocessed as for training; some
            six. The output must need nothing else. Where all values lie in [0, 1] they
            are shown as they are, else scaled to it by the minimum and the maximum over
            all of them.
        every: Epochs from one sheet to the next, at least 1; there is always one
            after the last epoch.
        directory: Where to write; made where it does not exist.
        log_dir: Where to write the sheets for TensorBoard, too, under
            `heatmaps/<method>`; needs TensorFlow on any backend. `None`: nowhere.
        masks: `(n, height, width)` bool, outlined on the sheets.
        class_index: The class to explain: one for all images or one each; `None` is
            each image's predicted class.
        method: A name in `hrcam.methods.METHODS`; `None`: `"hr_cam"` for a model
            with an HR-CAM head, `"grad_cam"` for any other.
        output: Name of the output to explain, if the model has several.

    Raises:
        ImportError: If `log_dir` is given and TensorFlow is not installed.
        ValueError: If `every` is below 1, or the method unknown.

    Example:
        >>> heatmaps = hrcam.HeatmapCallback(x_val[:6], every=5)
        >>> model.fit(x, y, epochs=20, callbacks=[heatmaps])
    """

    def __init__(
        self,
        images: np.ndarray,
        every: int = 1,
        directory: str | Path = "heatmaps",
        *,
        log_dir: str | Path | None = None,
        masks: np.ndarray | None = None,
        class_index: int | Sequence[int] | np.ndarray | None = None,
        method: str | None = None,
        output: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(every, Integral) or every < 1:
            raise ValueError(
                f"`every` must be a whole number of epochs, at least 1. Received: "
                f"{every!r}"
            )
        if method is not None and method not in METHODS:
            raise ValueError(
                f"`method` must be among {', '.join(METHODS)}, or None for HR-CAM or "
                f"Grad-CAM, as the model allows. Received: {method!r}"
            )
        self.every, self.directory = every, Path(directory)
        self._images, self._masks = images, masks
        self._class_index, self._method, self._output = class_index, method, output
        self._summarize = None if log_dir is None else image_summaries(log_dir)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks images and class against the model."""
        _check_inputs(self.model, self._output)
        model, images = view(self.model, self._images, self._output)
        images = check_images(model, images)
        shape = tuple(model.outputs[0].shape)
        if len(shape) != 2:
            raise ValueError(
                "HeatmapCallback needs an output of shape (batch, classes). Received: "
                f"{model.name!r} with {shape}. Choose another one by `output`."
            )
        self._explained, self._inputs = model, images
        self._shown = _as_shown(images)
        classes = max(2, shape[1])  # one unit tells two classes apart
        self._classes = check_class_index(self._class_index, len(images), classes)
        self._used = METHODS[self._method or _default_method(model)]
        self._drawn = self._finished = None
        self._has_warned = False
        self.directory.mkdir(parents=True, exist_ok=True)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws before the first epoch of this `fit`, which is known from here on."""
        if self._drawn is None:
            self._draw(epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Draws after every `every`-th epoch and the last one."""
        self._finished = epoch + 1
        last = self._finished == self.params.get("epochs") or self.model.stop_training
        if last or self._finished % self.every == 0:
            self._draw(self._finished)

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Draws the last epoch where a callback behind this one has ended it."""
        if self._finished is not None and self._finished != self._drawn:
            self._draw(self._finished)

    def _draw(self, epoch: int) -> None:
        self._drawn = epoch
        scores, predicted = _predictions(self._explained, self._inputs)
        classes = np.where(self._classes < 0, predicted, self._classes)
        explain = partial(self._used.explain, self._explained)
        maps = quiet_maps(explain, self._inputs, classes)
        if not np.isfinite(maps).all():
            self._warn_of_broken_maps(epoch)
            return
        figure = comparison_sheet(
            self._shown,
            {f"{self._used.title}\nepoch {epoch}": maps},
            self._masks,
            row_titles=self._row_titles(scores, predicted, maps),
        )
        sheet = BytesIO()
        figure.savefig(sheet, format="png", dpi=150)
        _replace(self.directory / f"epoch_{epoch:04d}.png", sheet.getvalue())
        if self._summarize is not None:
            self._summarize(f"heatmaps/{self._used.title}", sheet.getvalue(), epoch)

    def _row_titles(
        self, scores: np.ndarray, predicted: np.ndarray, maps: np.ndarray
    ) -> list[str]:
        activation = final_activation(self._explained)
        word = "p =" if activation in ("softmax", "sigmoid") else "score"
        titles = []
        for row, best in enumerate(predicted):
            lines = [f"predicted: class {best}", f"{word} {scores[row, best]:.2f}"]
            if self._class_index is not None:
                lines.append(f"map: class {self._classes[row]}")
            if not maps[row].max() > 0:
                lines.append("no positive value")
            titles.append("\n".join(lines))
        return titles

    def _warn_of_broken_maps(self, epoch: int) -> None:
        if not self._has_warned:
            warnings.warn(
                f"No sheet of epoch {epoch}, nor of later ones like it: the maps hold "
                "NaN or infinity. The training has diverged, or float16 overflows; "
                "look at the loss.",
                stacklevel=2,
            )
        self._has_warned = True


def _check_inputs(model: keras.Model, output: str | None) -> None:
    check_graph(model)
    number = walk(model)[2][output_place(model, output)]
    needed = [input_names(model)[place] for place in inputs_before(model, number)]
    if len(needed) != 1:
        raise ValueError(
            "HeatmapCallback explains an output that needs one image and nothing else. "
            f"Received: {model.name!r}, whose output needs {needed}. Use "
            "`hrcam.grad_cam` in a callback of your own."
        )


def _default_method(model: keras.Model) -> str:
    try:
        pooled_layers(model)
    except ValueError:
        return "grad_cam"
    return "hr_cam"


def _as_shown(images: np.ndarray) -> np.ndarray:
    """The images in [0, 1], all by one scale."""
    if images.min() >= 0 and images.max() <= 1:
        return images
    return min_max_normalize(images.reshape(len(images), -1)).reshape(images.shape)


def _predictions(
    model: keras.Model, images: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores or probabilities `(n, classes)`, and the predicted class of each image.

    One unit becomes two columns: of a sigmoid `1 - p` and `p`, of a score its negative
    and itself, as in the maps.
    """
    scores = predict_batch(model, images).astype("float64")
    if scores.shape[1] == 1:
        other = 1 - scores if final_activation(model) == "sigmoid" else -scores
        scores = np.hstack([other, scores])
    return scores, scores.argmax(axis=1)


def _replace(file: Path, content: bytes) -> None:
    """Writes beside the file and renames, so whoever looks sees no half of one."""
    unfinished = file.with_suffix(".tmp")
    unfinished.write_bytes(content)
    os.replace(unfinished, file)
