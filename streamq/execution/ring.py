"""Shared memory between a worker process and its parent: slots that the worker fills and the parent empties.

The memory is made once, before the worker starts, and its pages are there from the start: a fresh shared page for every batch
costs more than the batch. Its first bytes tell which slots are in use, and the count of a semaphore how many are free.
The parent empties a slot by copying it, or lends it to a reader who lets go of the batches soon: so that one who does not
stops nobody, no more than half of the slots are lent.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Sequence

import pyarrow as pa

from streamq.errors import StreamqError

FREE, IN_USE = 0, 1


class RingFull(StreamqError):
    """A batch is larger than a slot."""


def check_platform() -> None:
    """Raise StreamqError where the system has no anonymous shared files or counters."""
    missing = [name for name in ("memfd_create", "eventfd") if not hasattr(os, name)]
    if missing:
        raise StreamqError(f"worker processes need os.{' and os.'.join(missing)}, which this platform lacks; use executor='thread'")


class Ring:
    """One side's view of `slots` × `slot_bytes` of shared memory. The descriptors are the maker's to close."""

    def __init__(self, memory_fd: int, free_fd: int, slots: int, slot_bytes: int) -> None:
        self.memory_fd = memory_fd
        self.free_fd = free_fd
        self._slot_bytes = slot_bytes
        self._memory = mmap.mmap(memory_fd, _size(slots, slot_bytes), mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0))
        view = memoryview(self._memory)
        self._slots = [pa.py_buffer(view[first : first + slot_bytes]) for first in range(_head(slots), len(view), slot_bytes)]
        self._lent = 0
        # A loan may end anywhere, also within what holds this.
        self._lending = threading.RLock()
        self._closed = False

    @classmethod
    def make(cls, slots: int, slot_bytes: int) -> Ring:
        """Make the shared memory, all of it free."""
        memory_fd = os.memfd_create("streamq-ring")
        try:
            os.ftruncate(memory_fd, _size(slots, slot_bytes))
            free_fd = os.eventfd(slots, os.EFD_CLOEXEC | os.EFD_SEMAPHORE)
        except OSError:
            os.close(memory_fd)
            raise
        try:
            return cls(memory_fd, free_fd, slots, slot_bytes)
        except OSError:
            os.close(memory_fd)
            os.close(free_fd)
            raise

    # The worker's side

    def put(self, batches: Sequence[pa.RecordBatch]) -> tuple[int, int]:
        """Write batches, at least one, into a slot, waiting until one is free; give its number, and the number of bytes.

        Raises:
            RingFull: they do not fit; the slot is still free.
        """
        os.eventfd_read(self.free_fd)
        number = self._memory.find(FREE.to_bytes(), 0, len(self._slots))
        sink = pa.FixedSizeBufferWriter(self._slots[number])
        try:
            _write(batches, sink)
        except OSError as error:
            os.eventfd_write(self.free_fd, 1)
            raise RingFull(f"{len(batches)} batches do not fit into {self._slot_bytes} bytes") from error
        self._memory[number] = IN_USE
        return number, int(sink.tell())

    # The parent's side

    def take(self, number: int, length: int, *, lend: bool = False) -> list[pa.RecordBatch]:
        """Copy the batches in a slot, and free it. They share one copy, and no shared memory.

        With `lend` they may be in the slot itself, which is free once nothing refers to any of them.
        """
        if lend and self._may_lend():
            return read_batches(pa.foreign_buffer(self._slots[number].address, length, _Loan(self, number)))
        copy = pa.allocate_buffer(length)
        # Through Arrow's writer, because it copies without the interpreter lock.
        pa.FixedSizeBufferWriter(copy).write(self._slots[number].slice(0, length))
        self._free(number)
        return read_batches(copy)

    def give_back(self, number: int) -> None:
        """Free a slot that was lent."""
        with self._lending:
            self._lent -= 1
            if not self._closed:
                self._free(number)

    def close(self) -> None:
        """Close the descriptors. The memory goes with the object, and with what was lent of it."""
        with self._lending:
            self._closed = True
            os.close(self.memory_fd)
            os.close(self.free_fd)

    def _may_lend(self) -> bool:
        with self._lending:
            if self._lent >= len(self._slots) // 2:
                return False
            self._lent += 1
            return True

    def _free(self, number: int) -> None:
        self._memory[number] = FREE
        os.eventfd_write(self.free_fd, 1)


class _Loan:
    """Whoever refers to this has a slot."""

    __slots__ = ("_number", "_ring")

    def __init__(self, ring: Ring, number: int) -> None:
        self._ring = ring
        self._number = number

    def __del__(self) -> None:
        self._ring.give_back(self._number)


def _head(slots: int) -> int:
    """Give the bytes before the slots, in whole pages: one for each slot."""
    return -(-slots // mmap.PAGESIZE) * mmap.PAGESIZE


def _size(slots: int, slot_bytes: int) -> int:
    return _head(slots) + slots * slot_bytes


def read_batches(data: pa.Buffer | bytes) -> list[pa.RecordBatch]:
    """Read the batches of an Arrow stream, without copying them."""
    return list(pa.ipc.open_stream(data))


def write_batches(batches: Sequence[pa.RecordBatch]) -> bytes:
    """Write batches, at least one, as an Arrow stream."""
    sink = pa.BufferOutputStream()
    _write(batches, sink)
    return bytes(memoryview(sink.getvalue()))


def _write(batches: Sequence[pa.RecordBatch], sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
