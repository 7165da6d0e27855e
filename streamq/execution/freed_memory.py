"""What the C library does with memory that is freed.

It concerns all of a process: all but `expect_blocks` is only for programs that are streamq's own.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -2, -3, -8
PAD_BYTES = 1 << 20
LARGEST_HEAP_BLOCK = 32 << 20
"""The C library's own upper limit of M_MMAP_THRESHOLD."""


def expect_blocks(block_bytes: int) -> None:
    """Have the C library expect blocks of up to this size (under 32 MiB), which come and go, as it does when a program has freed one.

    Of what is freed glibc keeps twice the size of the largest block that it has had back, and gives the system all pages beyond that.
    What is received is freed several blocks at a time, and a fault for each of its pages, when they are needed again, costs as much as
    what they carry.
    """
    # Nobody writes to it, so no page of it is ever there.
    bytes(block_bytes)


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
