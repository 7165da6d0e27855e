"""Memory of state: blocks that are added as it grows and never moved, so that growing costs the same at any size."""

from __future__ import annotations

import mmap
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)

CHUNK_BITS: Final = 12
CHUNK: Final = 1 << CHUNK_BITS
"""Records in a chunk: the unit in which they are found by number."""
_MOST_BLOCK_BYTES: Final = 1 << 26
_HUGE_PAGE: Final = 1 << 21


def zeroed(words: int) -> Words:
    """Give zeroed memory, that takes room only where it is written; large blocks are made of huge pages where the system has them."""
    size = 8 * words
    if size < _HUGE_PAGE:
        return np.zeros(words, np.int64)
    area = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        area.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(area, np.int64)


def address_of(array: NDArray[np.generic]) -> int:
    """Give the address of an array's first element. The array must be held as long as the address is used."""
    return int(array.__array_interface__["data"][0])


def frozen(array: NDArray[Any], kind: type[T]) -> NDArray[T]:
    """Give an array as loops take their input: contiguous, aligned, of this kind, read-only (others would be compiled once more)."""
    view: NDArray[T] = np.require(array, kind, ["C", "A"]).view()
    view.flags.writeable = False
    return view


class Records:
    """Records of `width` words with numbers from 0, zeroed at first.

    Record n is at `chunks[n >> CHUNK_BITS] + (n & CHUNK - 1) * width * 8`.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self.capacity = 0
        self.chunks: Words = np.zeros(16, np.int64)
        self._blocks: list[Words] = []

    def reserve(self, capacity: int) -> None:
        """Have at least so many records."""
        while self.capacity < capacity:
            chunk = CHUNK * self.width
            known = self.capacity >> CHUNK_BITS
            count = max(1, min(known // 4, _MOST_BLOCK_BYTES // (8 * chunk)))
            block = zeroed(count * chunk)
            self._blocks.append(block)
            if known + count > len(self.chunks):
                self.chunks = np.concatenate((self.chunks, np.zeros(max(len(self.chunks), count), np.int64)))
            self.chunks[known : known + count] = address_of(block) + np.arange(count) * 8 * chunk
            self.capacity += count * CHUNK
