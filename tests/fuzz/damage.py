"""Hypothesis strategies of damaged files: a seed, and what is done to it.

Changes are drawn apart from the file that they are done to, with offsets taken modulo
its length, so that hypothesis can leave out each of them when it shrinks.
"""

import math
import struct
from typing import NamedTuple

from hypothesis import strategies as st
from seeds import make_seeds

LARGEST = 4096
SUFFIXES = (".png", ".dcm", ".nii", ".nii.gz", ".tif", "")
WHOLE = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
REAL = (math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e-45, 0.0)


class File(NamedTuple):
    """The end of a name, and what is in the file."""

    suffix: str
    data: bytes


def flip(data: bytes, at: int, bits: int) -> bytes:
    return overwrite(data, at, bytes([data[at] ^ bits])) if at < len(data) else data


def overwrite(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value[: len(data) - at] + data[at + len(value) :]


def cut(data: bytes, at: int, length: int) -> bytes:
    return data[:at] + data[at + length :]


def end(data: bytes, at: int) -> bytes:
    return data[:at]


def insert(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at:]


def repeat(data: bytes, at: int, length: int, times: int) -> bytes:
    part = data[at : at + length]
    return data[:at] + part * times + data[at:]


def splice(data: bytes, at: int, other: str, start: int) -> bytes:
    rest = make_seeds()[other].content
    return data[:at] + rest[start % len(rest) :]


def numbers() -> st.SearchStrategy[bytes]:
    """Interesting ones as they lie in files."""
    whole = st.tuples(st.sampled_from("BHLQ"), st.sampled_from(WHOLE))
    real = st.tuples(st.sampled_from("fd"), st.sampled_from(REAL))

    def stored(order: str, number: tuple) -> bytes:
        kind, value = number
        if kind not in "fd":
            value &= 2 ** (8 * struct.calcsize(f"={kind}")) - 1
        return struct.pack(order + kind, value)

    return st.builds(stored, st.sampled_from("<>"), st.one_of(whole, real))


def changes() -> st.SearchStrategy[tuple]:
    """`(function, offset, further arguments...)`."""
    at, length = st.integers(0, LARGEST - 1), st.integers(1, 64)
    names = st.sampled_from(sorted(make_seeds()))
    number = st.tuples(st.just(overwrite), at, numbers())
    return st.one_of(
        *[number] * 8,  # most files stay files
        st.tuples(st.just(flip), at, st.integers(1, 255)),
        st.tuples(st.just(overwrite), at, st.binary(min_size=1, max_size=4)),
        st.tuples(st.just(cut), at, length),
        st.tuples(st.just(end), at),
        st.tuples(st.just(insert), at, st.binary(min_size=1, max_size=8)),
        st.tuples(st.just(repeat), at, length, st.integers(1, 40)),
        st.tuples(st.just(splice), at, names, at),
    )


def changed(data: bytes, done: list[tuple]) -> bytes:
    for change, at, *arguments in done:
        data = change(data, at % (len(data) + 1), *arguments)[:LARGEST]
    return data


def damaged_files() -> st.SearchStrategy[File]:
    """Files of at most `LARGEST` bytes, changed before and after they are packed."""

    def damaged(name: str, inside: list, outside: list, suffix: str | None) -> File:
        seed = make_seeds()[name]
        data = changed(seed.pack(changed(seed.content, inside)), outside)
        return File(seed.suffix if suffix is None else suffix, data)

    return st.builds(
        damaged,
        st.sampled_from(sorted(make_seeds())),
        st.one_of(st.lists(changes(), max_size=1), st.lists(changes(), max_size=4)),
        st.one_of(*[st.just([])] * 3, st.lists(changes(), max_size=2)),
        st.one_of(*[st.none()] * 15, st.sampled_from(SUFFIXES)),
    )
