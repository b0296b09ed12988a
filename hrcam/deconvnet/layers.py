"""The layers that a transposed network is made of, beside Keras' own.

They have no weights: each reads those of the classifier's layer that it transposes at
every call, so training on does not make it stale. They are built with the network and
never saved on their own.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from hrcam._derivatives import elementwise_derivative
from hrcam.deconvnet.convolution import transposed_convolution, transposed_depthwise
from hrcam.deconvnet.unpooling import (
    Windows,
    first_maxima,
    spread_average,
    switch_mask,
    unpool,
    unpool_nearest,
)


class TransposedConv2D(keras.layers.Conv2DTranspose):
    """The transpose of a `Conv2D`: the same kernel, no bias.

    Args:
        convolution: The classifier's layer.
        windows: Of the convolution, over its input.
        channels: Of the convolution's input.
        name: Of this layer.
    """

    def __init__(self, convolution, windows: Windows, channels: int, name: str):
        super().__init__(
            channels,
            windows.kernel,
            use_bias=False,
            name=name,
            dtype="float32",
        )
        self.windows = windows
        self._kernel_of = lambda: convolution.kernel  # a closure is not tracked
        self._options = (tuple(convolution.dilation_rate), convolution.groups)

    def build(self, input_shape):
        """Makes no weights."""

    @property
    def kernel(self):
        """The classifier's kernel."""
        return self._kernel_of()

    def call(self, signal):
        """Applies the transpose to `(units, rows, columns, filters)`."""
        kernel = ops.cast(self.kernel, "float32")
        return transposed_convolution(signal, kernel, self.windows, *self._options)

    def compute_output_shape(self, input_shape):
        """Returns the shape of the convolution's input, one row a unit."""
        return (input_shape[0], *self.windows.size, self.filters)


class _Transposed(keras.layers.Layer):
    """A layer whose output has a known size and number of channels."""

    def __init__(self, size, channels: int, name: str):
        super().__init__(name=name, dtype="float32", trainable=False)
        self._size_and_channels = (*size, channels)

    def compute_output_spec(self, signal, *recorded):
        """Returns the spec of the transposed layer's input, one row a unit."""
        shape = (signal.shape[0], *self._size_and_channels)
        return keras.KerasTensor(shape, "float32")


class TransposedDepthwiseConv2D(_Transposed):
    """The transpose of a `DepthwiseConv2D`, or of that part of a `SeparableConv2D`."""

    def __init__(self, kernel_of: Callable, windows, channels, dilation, name):
        super().__init__(windows.size, channels, name)
        self._options = (windows, dilation)
        self._kernel_of = kernel_of

    def call(self, signal):
        """Applies the transpose to `(units, rows, columns, channels * multiplier)`."""
        kernel = ops.cast(self._kernel_of(), "float32")
        return transposed_depthwise(signal, kernel, *self._options)


class TransposedPointwiseConv2D(_Transposed):
    """The transpose of the 1x1 convolution in a `SeparableConv2D`."""

    def __init__(self, kernel_of: Callable, size, channels, name):
        super().__init__(size, channels, name)
        self._kernel_of = kernel_of

    def call(self, signal):
        """Applies the transpose to `(units, rows, columns, filters)`."""
        kernel = ops.cast(self._kernel_of(), "float32")
        return ops.conv(signal, ops.transpose(kernel, (0, 1, 3, 2)))


class Unpooling2D(_Transposed):
    """The transpose of a `MaxPooling2D`: with its switches, or nearest without."""

    def __init__(self, windows: Windows, channels: int, name: str):
        super().__init__(windows.size, channels, name)
        self.windows = windows

    def call(self, signal, switches=None):
        """Unpools `(units, rows, columns, channels)`; see `Switches`."""
        if switches is not None and self.windows.overlap:
            return unpool(signal, switches, self.windows)
        nearest = unpool_nearest(signal, self.windows)
        return nearest if switches is None else nearest * switches


class TransposedAveragePooling2D(Unpooling2D):
    """The transpose of an `AveragePooling2D`."""

    def call(self, signal):
        """Spreads `(units, rows, columns, channels)` evenly over the windows."""
        return spread_average(signal, self.windows)


class TransposedUpSampling2D(_Transposed):
    """The transpose of an `UpSampling2D`, of any interpolation.

    Upsampling is one matrix along the height and one along the width; the layer
    itself tells them when it enlarges a picture of the unit vectors.
    """

    def __init__(self, upsampling, size, channels: int, name: str):
        super().__init__(size, channels, name)
        self._matrices = [
            keras.ops.convert_to_numpy(_matrix_of(upsampling, side, axis))
            for axis, side in enumerate(size)
        ]

    def call(self, signal):
        """Applies the transpose to `(units, rows, columns, channels)`."""
        return ops.einsum("uyxc,yh,xw->uhwc", signal, *self._matrices)


class Scaling(keras.layers.Layer):
    """Multiplies each channel by a factor, which is read at every call."""

    def __init__(self, factor: Callable, name: str):
        super().__init__(name=name, dtype="float32", trainable=False)
        self._factor = factor

    def call(self, signal):
        """Scales `(units, height, width, channels)`."""
        return signal * ops.cast(self._factor(), "float32")

    def compute_output_spec(self, signal):
        """Returns the spec of the signal."""
        return keras.KerasTensor(signal.shape, "float32")


class TransposedBatchNormalization(Scaling):
    """Multiplies each channel by the scale that batch normalization gives it."""

    def __init__(self, normalization, name: str):
        def scale():
            variance = ops.cast(normalization.moving_variance, "float32")
            root = ops.sqrt(variance + normalization.epsilon)
            gamma = normalization.gamma if normalization.scale else 1.0
            return ops.cast(gamma, "float32") / root

        super().__init__(scale, name)


class TransposedNormalization(Scaling):
    """Divides by the deviation of a `Normalization`, or multiplies when it inverts."""

    def __init__(self, normalization, name: str):
        def scale():
            root = ops.sqrt(ops.cast(normalization.variance, "float32"))
            deviation = ops.maximum(root, keras.config.epsilon())
            return deviation if normalization.invert else 1.0 / deviation

        super().__init__(scale, name)


class TransposedLayerNormalization(keras.layers.Layer):
    """The transposed derivative of a `LayerNormalization` at recorded values.

    Of a pixel's channels x, with h = (x - mean) / deviation, and of the signal g that
    arrives there, times gamma, it makes (g - mean(g) - h mean(g h)) / deviation.
    """

    def __init__(self, normalization, name: str):
        super().__init__(name=name, dtype="float32", trainable=False)
        self._epsilon = normalization.epsilon
        self._gamma = lambda: normalization.gamma if normalization.scale else 1.0

    def call(self, signal, x):
        """Takes `(units, height, width, channels)` back at the input x of the layer."""
        mean, variance = ops.moments(x, axes=-1, keepdims=True)
        deviation = ops.sqrt(variance + self._epsilon)
        normalized = (x - mean) / deviation
        signal = signal * ops.cast(self._gamma(), "float32")
        along = ops.mean(signal * normalized, axis=-1, keepdims=True)
        rest = signal - ops.mean(signal, axis=-1, keepdims=True)
        return (rest - normalized * along) / deviation

    def compute_output_spec(self, signal, x):
        """Returns the spec of the signal."""
        return keras.KerasTensor(signal.shape, "float32")


class Flip(keras.layers.Layer):
    """Reverses axes: its own transpose."""

    def __init__(self, axis, name: str):
        super().__init__(name=name, dtype="float32", trainable=False)
        self._axis = axis

    def call(self, signal):
        """Reverses the axes of `(units, height, width, channels)`."""
        return ops.flip(signal, self._axis)


class Gate(keras.layers.Layer):
    """Lets the signal through by a recorded gate: bool, or a factor."""

    def __init__(self, name: str):
        super().__init__(name=name, dtype="float32", trainable=False)

    def call(self, signal, gate):
        """Gates `(units, height, width, channels)`."""
        if keras.backend.standardize_dtype(gate.dtype) == "bool":
            return ops.where(gate, signal, 0.0)
        return signal * gate


class Switches(keras.layers.Layer):
    """Records where the largest value of each pooling window lies."""

    def __init__(self, windows: Windows, name: str):
        super().__init__(name=name, trainable=False)
        self._windows = windows

    def call(self, x):
        """Returns `first_maxima` of windows that overlap, else `switch_mask`."""
        if self._windows.overlap:
            return first_maxima(x, self._windows)
        return switch_mask(x, self._windows)


class Derivative(keras.layers.Layer):
    """Records the derivative of an elementwise activation."""

    def __init__(self, activation: Callable[[Any], Any], name: str):
        super().__init__(name=name, dtype="float32", trainable=False)
        self._activation = lambda x: activation(x)  # a closure is not tracked

    def call(self, x):
        """Returns the derivative at each value of `(batch, ...)`."""
        return elementwise_derivative(self._activation, x)

    def compute_output_spec(self, x):
        """Returns the spec of the input."""
        return keras.KerasTensor(x.shape, "float32")


def _matrix_of(upsampling, side: int, axis: int):
    """The matrix `(side * factor, side)` of an upsampling along one axis."""
    vectors = ops.eye(side)[None, :, None] if axis == 0 else ops.eye(side)[None, None]
    enlarged = upsampling(vectors)
    return enlarged[0, :, 0] if axis == 0 else enlarged[0, 0]
