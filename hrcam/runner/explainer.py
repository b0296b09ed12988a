"""Batches of images -> classes, probabilities and raw maps.

Every batch has the same number of places; an image has its place by its number, and
places without an image are black. So the arithmetic on an image is the same whatever
lies beside it, and a run that was broken off and goes on makes the same bits.

Where the first method allows it (HR-CAM, CAM, Grad-CAM of the model itself) the map
comes with the prediction, from one forward pass.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from hrcam._backend import compiled_once, predict_batch
from hrcam._images import image_shape
from hrcam.graph import final_activation
from hrcam.maps.prediction import MAP_FUNCTIONS, probabilities_of_scores
from hrcam.methods import METHODS, explainers
from hrcam.saving import load_networks

SHORT_NAMES = {"hrcam": "hr_cam", "arm": "attentive_response"}


class Settings(NamedTuple):
    """What the maps depend on.

    Attributes:
        model: A `.keras` file, whose prediction is noted.
        hrcam_model: The HR-CAM model, if it is another file.
        methods: Keys of `hrcam.methods.METHODS`; `None`: HR-CAM, or Grad-CAM where
            there is no HR-CAM model.
        class_index: The class to explain; `None`: the predicted one.
        white: What the model was trained to see as white.
        image_size: Height and width, if the model takes any size.
        batch_size: Images at a time.
    """

    model: Path
    hrcam_model: Path | None = None
    methods: tuple[str, ...] | None = None
    class_index: int | None = None
    white: float = 1.0
    image_size: tuple[int, int] | None = None
    batch_size: int = 8


class Explained(NamedTuple):
    """What a model says of images, one row an image.

    Attributes:
        classes: Predicted class, int `(n,)`.
        probabilities: Of that class, float `(n,)`.
        maps: Method -> raw maps, float32 `(n, height, width)`.
    """

    classes: np.ndarray
    probabilities: np.ndarray
    maps: dict[str, np.ndarray]


class Explainer:
    """The networks, opened once, and their compiled functions.

    Attributes:
        size: Height and width of the images that it takes.
        channels: Their channels, 1 or 3.
        num_classes: How many classes the model tells apart.
        batch_size: How many places a batch has.
    """

    def __init__(self, settings: Settings):
        """Opens the networks.

        Raises:
            ValueError: If a file is no model, a method is unknown or does not fit it,
                or the class is none of the model's.
        """
        network, hrcam_model = load_networks(settings.model, settings.hrcam_model)
        *size, channels = image_shape(network, settings.image_size)
        if channels not in (1, 3):
            raise ValueError(
                "The model must take images of 1 or 3 channels. Received: the input "
                f"{tuple(network.inputs[0].shape)}."
            )
        self.size, self.channels = tuple(size), channels
        self.num_classes = max(2, network.outputs[0].shape[-1])
        self.batch_size, self._white = settings.batch_size, settings.white
        self._network, self._class_index = network, settings.class_index
        self._probabilities = probabilities_of_scores(network)
        self._check_class()
        _check_alike(network, hrcam_model)
        methods = settings.methods
        if methods is None:
            methods = ("grad_cam" if hrcam_model is None else "hr_cam",)
        bound = explainers(methods, network, hrcam_model)
        self._explain = dict(zip(methods, bound.values(), strict=True))
        self._with_prediction = self._leading(hrcam_model)

    def __call__(self, images: np.ndarray) -> Explained:
        """Explains a batch.

        Args:
            images: float32 `(batch_size, height, width, channels)` in [0, 1].
        """
        white = images * np.float32(self._white)
        maps = {}
        if self._with_prediction is None:
            classes, probabilities = self._predict(white)
        else:
            classes, probabilities, made = self._predict_and_map(white)
            maps = {self._with_prediction: made}
        explained = classes
        if self._class_index is not None:
            explained = np.full(len(images), self._class_index)
        for name, explain in self._explain.items():
            if name not in maps:
                takes = images if METHODS[name].explains == "image" else white
                with warnings.catch_warnings():  # of blank maps: their range says so
                    warnings.simplefilter("ignore", UserWarning)
                    maps[name] = explain(takes, explained)
        in_order = {name: maps[name] for name in self._explain}
        return Explained(classes, probabilities, in_order)

    def _predict_and_map(self, images: np.ndarray) -> tuple:
        name, network = self._with_prediction, self._network
        build = partial(MAP_FUNCTIONS[name], network, images.shape[1:3])
        function = compiled_once(network, ("runner", name), build, images.shape[1:])
        chosen = -1 if self._class_index is None else self._class_index
        index = ops.full((len(images),), chosen, dtype="int32")
        made, _, scores = function(ops.convert_to_tensor(images), index)
        outputs = ops.convert_to_numpy(self._probabilities(scores))
        # Of scores, as the map's: probabilities that are 1 in float32 say no more.
        classes = ops.convert_to_numpy(scores).argmax(axis=1)
        return *_probable(outputs, classes), ops.convert_to_numpy(made)

    def _predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        outputs = predict_batch(self._network, images)
        if final_activation(self._network) == "linear":
            one = outputs.shape[-1] == 1
            scores = np.concatenate([-outputs, outputs], axis=1) if one else outputs
            outputs = ops.convert_to_numpy(self._probabilities(scores))
        classes = outputs.argmax(axis=1)
        if outputs.shape[-1] == 1:  # one unit is class 1
            classes = (outputs[:, 0] > 0.5).astype(int)
        return _probable(outputs, classes)

    def _leading(self, hrcam_model: keras.Model | None) -> str | None:
        """The first method whose map comes with the model's own prediction."""
        networks = {"classifier": self._network, "hrcam": hrcam_model}
        for name in self._explain:
            own = networks.get(METHODS[name].explains) is self._network
            if own and name in MAP_FUNCTIONS:
                return name
        return None

    def _check_class(self) -> None:
        chosen = self._class_index
        if chosen is not None and not 0 <= chosen < self.num_classes:
            raise ValueError(
                f"The class must be one of the model's, below {self.num_classes}. "
                f"Received: {chosen}"
            )


def _check_alike(network: keras.Model, hrcam_model: keras.Model | None) -> None:
    if hrcam_model is None:
        return
    ours, theirs = (tuple(m.inputs[0].shape[1:]) for m in (network, hrcam_model))
    classes = [max(2, m.outputs[0].shape[-1]) for m in (network, hrcam_model)]
    sides = zip(ours, theirs, strict=True)
    same = all(a == b or None in (a, b) for a, b in sides)
    if not same or classes[0] != classes[1]:
        raise ValueError(
            "The HR-CAM model must take the images of the classifier and tell its "
            f"classes apart. Received: {theirs} and {classes[1]} classes, where the "
            f"classifier has {ours} and {classes[0]}."
        )


def long_names(methods: Sequence[str]) -> tuple[str, ...]:
    """The names of `hrcam.methods.METHODS` for names that may be short."""
    return tuple(dict.fromkeys(SHORT_NAMES.get(name, name) for name in methods))


def _probable(
    outputs: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Classes and their probabilities `(n,)` of outputs `(n, units)`."""
    if outputs.shape[-1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    return classes, outputs[np.arange(len(outputs)), classes]
