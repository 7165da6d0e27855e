"""What the C library does with memory that is freed. Only for programs that are streamq's own: it concerns all of a process."""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
PAD_BYTES = 1 << 20
LARGEST_HEAP_BLOCK = 32 << 20
"""The C library's own upper limit of M_MMAP_THRESHOLD."""


def keep_freed_memory(block_bytes: int, kept_bytes: int) -> bool:
    """Have the C library keep what is freed, blocks of up to `block_bytes` and `kept_bytes` at the end of each heap; False where it cannot.

    Getting pages from the system for every batch costs more than the batch.
    """
    return _set((M_MMAP_THRESHOLD, min(block_bytes, LARGEST_HEAP_BLOCK)), (M_TRIM_THRESHOLD, kept_bytes), (M_TOP_PAD, PAD_BYTES))


def share_heaps(heaps: int) -> None:
    """Have threads that are yet to come share so many heaps, where the C library can.

    Each heap keeps some of what is freed in it, and threads that run in turn need no heap each.
    """
    _set((M_ARENA_MAX, heaps))


def _set(*settings: tuple[int, int]) -> bool:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all([mallopt(*setting) for setting in settings])
