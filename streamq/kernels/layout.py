"""What rows are taken apart into: lanes of words, flags, and byte strings.

Lanes that are only *carried* say how equal values were written and are given back, but make no difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.buffers import Flags, Words
from streamq.kernels.compiled.packing import copy_pieces
from streamq.kernels.memory import address_of, frozen


@dataclass(frozen=True, slots=True)
class Part:
    """A byte string per row: `lengths` bytes from `starts` on, in memory at `address` that `owner` holds."""

    starts: Words
    lengths: Words
    address: int
    owner: object


@dataclass(slots=True)
class Layout:
    """What columns were taken apart into, or are put together from, in the order of the columns."""

    rows: int
    lanes: list[Words] = field(default_factory=list)
    carried: list[Words] = field(default_factory=list)
    nulls: list[Flags | None] = field(default_factory=list)
    signs: list[Flags | None] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of each a column takes of a layout."""

    lanes: int = 0
    carried: int = 0
    nulls: int = 1
    signs: int = 0
    parts: int = 0

    def __add__(self, other: Shape) -> Shape:
        return Shape(
            self.lanes + other.lanes,
            self.carried + other.carried,
            self.nulls + other.nulls,
            self.signs + other.signs,
            self.parts + other.parts,
        )


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows taken apart: `words` has a column a row; the first `compared` words are the key, the rest is carried."""

    count: int
    words: list[Words]
    compared: int
    parts: list[Part]


class Codec(Protocol):
    """Takes columns of one type apart and puts them together."""

    shape: Shape

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        """Append the column, whose rows are also NULL where `absent`."""

    def decode(self, layout: Layout) -> pa.Array:
        """Take the column off the front of a layout."""


def contiguous(part: Part) -> tuple[Words, NDArray[np.uint8]]:
    """Give byte strings one after the other: offsets and bytes."""
    offsets = np.zeros(len(part.lengths) + 1, np.int64)
    np.cumsum(part.lengths, out=offsets[1:])
    if isinstance(part.owner, np.ndarray) and np.array_equal(part.starts, offsets[:-1]):
        return offsets, part.owner.view(np.uint8)[: offsets[-1]]
    data = np.empty(int(offsets[-1]), np.uint8)
    copy_pieces(
        part.address, frozen(part.starts, np.int64), frozen(part.lengths, np.int64), address_of(data), frozen(offsets[:-1], np.int64)
    )
    return offsets, data


def joined(parts: Sequence[Part], rows: int) -> Part:
    """Give one byte string per row, of those of several parts one after the other."""
    if len(parts) == 1:
        return parts[0]
    lengths: Words = np.array([part.lengths for part in parts], np.int64).sum(axis=0)
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    at = offsets[:-1].copy()
    for part in parts:
        copy_pieces(part.address, frozen(part.starts, np.int64), frozen(part.lengths, np.int64), address_of(data), frozen(at, np.int64))
        at += part.lengths
    return Part(offsets[:-1], lengths, address_of(data), data)


def split(whole: Part, lengths: Sequence[Words]) -> list[Part]:
    """Undo `joined`, given the lengths of the parts."""
    parts = []
    at = whole.starts
    for length in lengths:
        parts.append(Part(at, length, whole.address, whole.owner))
        at = at + length
    return parts
