"""The transposes of pooling: where does each pooled value belong in the larger map?

Max-pooling keeps the largest value of each window. Its switch is the place of that
value: the offset in the window, counted row by row. Unpooling with switches puts each
value back to its place and zeros elsewhere.

Choices: of tied values the first has the switch, so a value goes to one place; where
windows overlap and share a place, their values are added, which makes unpooling the
adjoint of the pooling (Zeiler and Fergus let the last one stay).

Reference:
    Zeiler and Fergus (2014), "Visualizing and understanding convolutional networks",
    ECCV, https://doi.org/10.1007/978-3-319-10590-1_53, section 2.1
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops


class Windows(NamedTuple):
    """The windows of a pooling or convolution over a map.

    Attributes:
        kernel: (rows, columns) of a window.
        strides: Step of the windows down and across.
        before: Rows and columns of padding above and left of the map.
        size: (height, width) of the map.
        counts: (windows down, windows across).
    """

    kernel: tuple[int, int]
    strides: tuple[int, int]
    before: tuple[int, int]
    size: tuple[int, int]
    counts: tuple[int, int]

    @classmethod
    def of(
        cls,
        kernel: tuple[int, int],
        strides: tuple[int, int],
        padding: str,
        size: tuple[int, int],
        dilation: tuple[int, int] = (1, 1),
    ) -> "Windows":
        """Places the windows of a Keras layer on a map.

        Args:
            kernel: (rows, columns) of a window.
            strides: Step of the windows.
            padding: `"valid"` or `"same"`.
            size: (height, width) of the map.
            dilation: Step between the kernel's rows and columns.
        """
        reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
        sides = list(zip(size, reach, strides, strict=True))
        if padding == "valid":
            counts = tuple((side - r) // s + 1 for side, r, s in sides)
            return cls(kernel, strides, (0, 0), size, counts)
        counts = tuple(-(-side // s) for side, _, s in sides)
        lacking = [
            max((count - 1) * s + r - side, 0)
            for count, (side, r, s) in zip(counts, sides, strict=True)
        ]
        before = (lacking[0] // 2, lacking[1] // 2)
        return cls(kernel, strides, before, size, counts)

    @property
    def overlap(self) -> bool:
        """Whether a pixel may lie in several windows."""
        return any(k > s for k, s in zip(self.kernel, self.strides, strict=True))

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """The places in a window, row by row."""
        rows, columns = self.kernel
        return [(row, column) for row in range(rows) for column in range(columns)]


def first_maxima(x: Any, windows: Windows) -> Any:
    """Finds the switches of a max-pooling.

    Args:
        x: The map before pooling, `(batch, height, width, channels)`.
        windows: Of the pooling, over `x`.

    Returns:
        int32 `(batch, windows down, windows across, channels)`: the place of the
        largest value in its window, of several the first, counted row by row.
    """
    value_at = _values_by_offset(x, windows)
    best = value_at((0, 0))
    switches = ops.zeros_like(best, dtype="int32")
    for number, offset in enumerate(windows.offsets[1:], start=1):
        value = value_at(offset)
        switches = ops.where(value > best, number, switches)
        best = ops.maximum(best, value)
    return switches


def switch_mask(x: Any, windows: Windows) -> Any:
    """Marks the pixel of the largest value of each window, of windows side by side.

    Args:
        x: The map before pooling, `(batch, height, width, channels)`.
        windows: Of the pooling, over `x`; they must not overlap.

    Returns:
        float32 like `x`, 1 at the first largest value of each window and 0 elsewhere:
        times `unpool_nearest` of a signal it is `unpool`, in a third of the time.
    """
    switches = first_maxima(x, windows)
    return unpool(ops.ones_like(switches, dtype="float32"), switches, windows)


def unpool(signal: Any, switches: Any, windows: Windows) -> Any:
    """Puts each value to the place that its switch tells; zero elsewhere.

    Args:
        signal: `(units, windows down, windows across, channels)`.
        switches: As `first_maxima` gives them, of one image or of each unit.
        windows: Of the pooling.

    Returns:
        `(units, height, width, channels)`; values that share a place are added.
    """
    number = {offset: n for n, offset in enumerate(windows.offsets)}
    return _place(
        lambda offset: ops.where(
            ops.equal(switches, number[offset]), signal, ops.zeros((), signal.dtype)
        ),
        signal,
        windows,
    )


def unpool_nearest(signal: Any, windows: Windows) -> Any:
    """Repeats each value over the step of its window, without switches.

    See `unpool` for the arguments; rows and columns beyond the last window are zero.
    """
    (down, across), (rows, columns) = windows.strides, windows.counts
    channels = signal.shape[-1]
    wide = ops.concatenate([signal] * across, axis=-1)
    wide = ops.reshape(wide, (-1, rows, 1, columns * across * channels))
    tall = ops.concatenate([wide] * down, axis=2)
    whole = ops.reshape(tall, (-1, rows * down, columns * across, channels))
    return fit_to_size(whole, windows.before, windows.size)


def spread_average(signal: Any, windows: Windows) -> Any:
    """Spreads each value evenly over its window: the transpose of average-pooling.

    Padding takes no share, as it has none in the average. See `unpool`.
    """
    shares = ops.convert_to_tensor(_pixels_in_window(windows), signal.dtype)
    share = signal / shares[None, :, :, None]
    return _place(lambda _: share, signal, windows)


def _place(part: Callable, signal: Any, windows: Windows) -> Any:
    """Adds up, for each offset in the windows, the signal that belongs there.

    Offsets that are a stride apart meet at the same rows of neighbouring windows, so
    the sum is made phase by phase at the small size, and the phases are interleaved.
    """
    (down, across), (rows, columns) = windows.strides, _phase_size(windows)
    empty = None
    phases: dict[tuple[int, int], Any] = {}
    for offset in windows.offsets:
        shift = (offset[0] // down, offset[1] // across)
        moved = _pad(part(offset), shift, (rows, columns), windows.counts)
        phase = (offset[0] % down, offset[1] % across)
        phases[phase] = phases[phase] + moved if phase in phases else moved
    if len(phases) < down * across:
        empty = ops.zeros_like(moved)
    bands = [
        ops.stack([phases.get((i, j), empty) for j in range(across)], axis=3)
        for i in range(down)
    ]
    channels = signal.shape[-1]
    bands = [ops.reshape(b, (-1, rows, columns * across, channels)) for b in bands]
    whole = ops.reshape(
        ops.stack(bands, axis=2), (-1, rows * down, columns * across, channels)
    )
    return fit_to_size(whole, windows.before, windows.size)


def fit_to_size(x: Any, before: tuple[int, int], size: tuple[int, int]) -> Any:
    """Cuts the padding before a map off and cuts or zero-pads its end to a size."""
    x = x[:, before[0] : before[0] + size[0], before[1] : before[1] + size[1]]
    missing = [side - got for side, got in zip(size, x.shape[1:3], strict=True)]
    if any(missing):
        x = ops.pad(x, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)])
    return x


def _pad(x: Any, shift: tuple[int, int], size, counts) -> Any:
    after = [side - s - n for side, s, n in zip(size, shift, counts, strict=True)]
    if not any((*shift, *after)):
        return x
    return ops.pad(x, [(0, 0), (shift[0], after[0]), (shift[1], after[1]), (0, 0)])


def _values_by_offset(x: Any, windows: Windows) -> Callable[[tuple[int, int]], Any]:
    """Returns the function of an offset that gives the value there of every window.

    The map is cut into phases once, as `_place` puts it together: taking every second
    pixel anew for each offset is far slower. Padding is the lowest value, never first.
    """
    (down, across), (rows, columns) = windows.strides, _phase_size(windows)
    x = x[:, : rows * down - windows.before[0], : columns * across - windows.before[1]]
    lacking = (rows * down - x.shape[1], columns * across - x.shape[2])
    pads = [(b, n - b) for b, n in zip(windows.before, lacking, strict=True)]
    if any(lacking):
        x = ops.pad(x, [(0, 0), *pads, (0, 0)], constant_values=float("-inf"))
    channels = x.shape[-1]
    bands = ops.reshape(x, (-1, rows, down, columns, across * channels))

    def value_at(offset):
        (down_by, row), (across_by, column) = (
            divmod(o, s) for o, s in zip(offset, windows.strides, strict=True)
        )
        phase = bands[:, :, row, :, column * channels : (column + 1) * channels]
        height, width = windows.counts
        return phase[:, down_by : down_by + height, across_by : across_by + width]

    return value_at


def _phase_size(windows: Windows) -> tuple[int, int]:
    """Rows and columns of every stride-th pixel that the windows reach."""
    return tuple(
        count + (k - 1) // s
        for count, k, s in zip(
            windows.counts, windows.kernel, windows.strides, strict=True
        )
    )


def _pixels_in_window(windows: Windows) -> list[list[float]]:
    """How many of each window's places lie on the map."""
    along = [
        [
            min(n * s - b + k, side) - max(n * s - b, 0)
            for n in range(count)
        ]
        for k, s, b, side, count in zip(*windows, strict=True)
    ]  # fmt: skip
    return [[float(rows * columns) for columns in along[1]] for rows in along[0]]
