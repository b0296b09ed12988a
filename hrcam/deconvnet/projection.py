"""The layers that choose units and project them back, a few at a time.

One image and one chunk of its units are projected at a time, so the memory beside the
output depends neither on the number of units nor on the batch.
"""

from typing import Any

import keras
from keras import ops

from hrcam._backend import fold_in_turn, map_in_turn


class TopUnits(keras.layers.Layer):
    """Ranks the units of each image by their maps.

    Args:
        top_n: How many are chosen.
        rank: `"sum"` or `"max"` of a unit's map.
        name: Of the layer.
    """

    def __init__(self, top_n: int, rank: str, name: str):
        super().__init__(name=name, dtype="float32", trainable=False)
        self._top_n = top_n
        self._strength = {"sum": ops.sum, "max": ops.max}[rank]

    def call(self, features):
        """Returns int32 `(batch, top_n)`, the strongest first."""
        strength = self._strength(features, axis=(1, 2))
        return ops.cast(ops.top_k(strength, self._top_n)[1], "int32")


class BackProjection(keras.layers.Layer):
    """Projects the chosen units of each image back, and combines them.

    Args:
        projector: The transposed network of one image; see `build_back_projector`.
        seed: `"map"` or `"peak"`: what of a unit's map is projected.
        combine: `"max"` or `"sum"` over units.
        unit_maps: Whether to return the single maps.
        chunk: Units at a time.
        name: Of the layer.
    """

    def __init__(self, projector, *, seed, combine, unit_maps, chunk, name):
        super().__init__(name=name, dtype="float32", trainable=False)
        # XLA's loops on the CPU are seven times slower than TensorFlow's own.
        self.supports_jit = keras.backend.backend() != "tensorflow"
        self.projector = projector
        self._seed, self._combine = seed, combine
        self._unit_maps, self._chunk = unit_maps, chunk

    def call(self, features, units, *records):
        """Returns a dict of `response`, `dominant_unit` and maybe `unit_maps`.

        Args:
            features: `(batch, rows, columns, channels)`, the maps of the units.
            units: int32 `(batch, n)`.
            records: What the projector asked for, `(batch, ...)` each.
        """
        count = units.shape[1]
        chunks = -(-count // self._chunk)
        size = -(-count // chunks)
        numbers = ops.minimum(ops.arange(chunks * size), count - 1)  # repeats the last
        numbers = ops.reshape(ops.cast(numbers, "int32"), (chunks, size))

        def respond(image):
            own_features, own_units = _row(features, image), _row(units, image)
            own = [_row(record, image) for record in records]

            def project(chunk):
                chosen = ops.take(own_units[0], ops.take(numbers, chunk, axis=0))
                signals = self._signals(own_features, chosen)
                return ops.cast(self.projector([signals, *own]), "float32")

            if self._unit_maps:
                return self._with_maps(project, chunks, size, count)
            return self._folded(project, chunks, size, count)

        return map_in_turn(respond, ops.shape(units)[0], self._specs_of_one(count))

    def _signals(self, features, units):
        """The map, or its peak, of each unit `(units, rows, columns, channels)`."""
        hot = ops.one_hot(units, features.shape[-1], dtype=features.dtype)
        signals = features * hot[:, None, None]
        if self._seed == "map":
            return signals
        peaks = ops.max(features, axis=(1, 2), keepdims=True)
        flat = ops.reshape(features, (-1, features.shape[-1]))
        first = ops.one_hot(ops.argmax(flat, axis=0), flat.shape[0], axis=0)
        place = ops.reshape(first, (1, *features.shape[1:]))
        return ops.cast(place, features.dtype) * peaks * hot[:, None, None]

    def _with_maps(self, project, chunks: int, size: int, count: int):
        """All maps of one image, then their combination."""
        like = keras.KerasTensor((size, *self.projector.outputs[0].shape[1:]))
        maps = map_in_turn(project, chunks, like)
        maps = ops.reshape(maps, (-1, *maps.shape[2:]))[:count]
        values = ops.max(maps, axis=-1)
        response = ops.max(values, axis=0)
        if self._combine == "sum":
            response = ops.sum(maps, axis=(0, -1))
        dominant = ops.cast(ops.argmax(values, axis=0), "int32")
        return {"unit_maps": maps, "response": response, "dominant_unit": dominant}

    def _folded(self, project, chunks: int, size: int, count: int):
        """The combination of one image's maps, without holding them."""
        height, width = self.projector.outputs[0].shape[1:3]

        def add(chunk, state):
            best, total, dominant = state
            maps = project(chunk)
            values = ops.max(maps, axis=-1)
            top = ops.max(values, axis=0)
            index = ops.cast(ops.argmax(values, axis=0), "int32") + chunk * size
            dominant = ops.where(top > best, index, dominant)
            fresh = ops.arange(size, dtype="int32") + chunk * size < count
            once = ops.cast(fresh, "float32")[:, None, None, None]
            total = total + ops.sum(maps * once, axis=(0, -1))
            return ops.maximum(best, top), total, dominant

        start = (
            ops.full((height, width), float("-inf"), dtype="float32"),
            ops.zeros((height, width), dtype="float32"),
            ops.zeros((height, width), dtype="int32"),
        )
        best, total, dominant = fold_in_turn(add, chunks, start)
        response = total if self._combine == "sum" else best
        return {"response": response, "dominant_unit": dominant}

    def compute_output_spec(self, features, units, *records):
        """Returns the specs of the dict, without tracing the loops."""
        return {
            name: keras.KerasTensor((units.shape[0], *spec.shape), spec.dtype)
            for name, spec in self._specs_of_one(units.shape[1]).items()
        }

    def _specs_of_one(self, count: int) -> dict[str, keras.KerasTensor]:
        """The specs of one image's outputs."""
        _, height, width, channels = self.projector.outputs[0].shape
        specs = {
            "response": keras.KerasTensor((height, width), "float32"),
            "dominant_unit": keras.KerasTensor((height, width), "int32"),
        }
        if self._unit_maps:
            shape = (count, height, width, channels)
            specs["unit_maps"] = keras.KerasTensor(shape, "float32")
        return specs


def _row(tensor: Any, image: Any) -> Any:
    """One image of a batch, as a batch of one."""
    return ops.expand_dims(ops.take(tensor, image, axis=0), 0)
