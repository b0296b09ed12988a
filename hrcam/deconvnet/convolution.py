"""The transposes of convolutions, with the kernel of the convolution itself.

A convolution reads `y[o] = sum_k w[k] x[o * stride + k * dilation - before]`. Its
transpose sends each output back along the same weights:

    x[i] = sum over (o, k) with o * stride + k * dilation - before = i of w[k] y[o]

With stride 1 that is a convolution with the kernel turned by 180 degrees, its input
and output channels swapped. It is computed so where it can be: TensorFlow's kernel for
the transposed convolution is two to four times slower on a CPU.

Reference:
    Zeiler, Krishnan, Taylor, Fergus (2010), "Deconvolutional networks", CVPR,
    https://doi.org/10.1109/CVPR.2010.5539957
"""

from typing import Any

from keras import ops

from hrcam.deconvnet.unpooling import Windows, fit_to_size


def transposed_convolution(
    signal: Any, kernel: Any, windows: Windows, dilation: tuple[int, int], groups: int
) -> Any:
    """Applies the transpose of a convolution.

    Args:
        signal: `(units, windows down, windows across, filters)`.
        kernel: Of the convolution, `(rows, columns, channels / groups, filters)`.
        windows: Of the convolution, over its input.
        dilation: Step between the kernel's rows and columns.
        groups: Groups of channels that the convolution keeps apart.

    Returns:
        `(units, height, width, channels)`.
    """
    if groups == 1 and windows.kernel != (1, 1) and max(windows.strides) > 1:
        whole = ops.conv_transpose(signal, kernel, windows.strides, "valid")
        return fit_to_size(whole, windows.before, windows.size)
    turned = _turn(kernel)
    if groups == 1:
        swapped = ops.transpose(turned, (0, 1, 3, 2))
    else:
        rows, columns, inner, filters = kernel.shape
        split = ops.reshape(turned, (rows, columns, inner, groups, filters // groups))
        swapped = ops.reshape(
            ops.transpose(split, (0, 1, 4, 3, 2)),
            (rows, columns, filters // groups, groups * inner),
        )
    if windows.kernel == (1, 1):  # before the zeros of the stride are put in
        return _insert_zeros(ops.conv(signal, swapped), windows, dilation)
    if _pads_evenly(windows, dilation):  # saves a copy of the signal
        return ops.conv(signal, swapped, padding="same", dilation_rate=dilation)
    signal = _insert_zeros(signal, windows, dilation)
    return ops.conv(signal, swapped, padding="valid", dilation_rate=dilation)


def transposed_depthwise(
    signal: Any, kernel: Any, windows: Windows, dilation: tuple[int, int]
) -> Any:
    """Applies the transpose of a depthwise convolution.

    Args:
        signal: `(units, windows down, windows across, channels * multiplier)`.
        kernel: Of the convolution, `(rows, columns, channels, multiplier)`.
        windows: Of the convolution, over its input.
        dilation: Step between the kernel's rows and columns.

    Returns:
        `(units, height, width, channels)`.
    """
    rows, columns, channels, multiplier = kernel.shape
    turned = ops.reshape(_turn(kernel), (rows, columns, channels * multiplier, 1))
    signal = _insert_zeros(signal, windows, dilation)
    back = ops.depthwise_conv(signal, turned, padding="valid", dilation_rate=dilation)
    if multiplier == 1:
        return back
    return ops.sum(
        ops.reshape(back, (-1, *windows.size, channels, multiplier)), axis=-1
    )


def _pads_evenly(windows: Windows, dilation: tuple[int, int]) -> bool:
    """Whether padding of the transpose is that of the convolution, "same"."""
    return windows.strides == (1, 1) and all(
        2 * b == (k - 1) * d
        for b, k, d in zip(windows.before, windows.kernel, dilation, strict=True)
    )


def _turn(kernel: Any) -> Any:
    return ops.flip(kernel, axis=(0, 1))


def _insert_zeros(signal: Any, windows: Windows, dilation: tuple[int, int]) -> Any:
    """Moves the signal to where its windows start, ready for a turned kernel."""
    (down, across), (rows, columns) = windows.strides, windows.counts
    if max(windows.strides) > 1:
        channels = signal.shape[-1]
        zeros = ops.zeros_like(signal)
        spaced = ops.stack([signal, *[zeros] * (across - 1)], axis=3)
        spaced = ops.reshape(spaced, (-1, rows, columns * across, channels))
        zeros = ops.zeros_like(spaced)
        spaced = ops.stack([spaced, *[zeros] * (down - 1)], axis=2)
        signal = ops.reshape(spaced, (-1, rows * down, columns * across, channels))
    length = ((rows - 1) * down + 1, (columns - 1) * across + 1)
    reach = [(k - 1) * d for k, d in zip(windows.kernel, dilation, strict=True)]
    before = [r - b for r, b in zip(reach, windows.before, strict=True)]
    after = [
        side + r - b - n
        for side, r, b, n in zip(windows.size, reach, before, length, strict=True)
    ]
    signal = signal[:, : length[0], : length[1]]
    if not any((*before, *after)):
        return signal
    return ops.pad(signal, [(0, 0), *zip(before, after, strict=True), (0, 0)])
