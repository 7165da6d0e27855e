"""Shared memory between a worker process and its parent: slots that are filled and emptied in turn.

The memory is made once, before the worker starts, and its pages are there from the start: a fresh shared page for every batch
costs more than the batch. Both sides go through the slots in the same order, so all that they must tell each other
is how many are free: the count of a semaphore.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

import pyarrow as pa

from streamq.errors import StreamqError


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
        self._next = 0
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
        memory = memoryview(mmap.mmap(memory_fd, slots * slot_bytes, flags))
        self._slots = [pa.py_buffer(memory[first : first + slot_bytes]) for first in range(0, slots * slot_bytes, slot_bytes)]

    @classmethod
    def make(cls, slots: int, slot_bytes: int) -> Ring:
        """Make the shared memory, all of it free."""
        memory_fd = os.memfd_create("streamq-ring")
        try:
            os.ftruncate(memory_fd, slots * slot_bytes)
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

    def put(self, batches: Sequence[pa.RecordBatch]) -> int:
        """Write batches, at least one, into the next slot, waiting until it is free; give the number of bytes.

        Raises:
            RingFull: they do not fit; the slot is still free.
        """
        os.eventfd_read(self.free_fd)
        sink = pa.FixedSizeBufferWriter(self._slot())
        try:
            _write(batches, sink)
        except OSError as error:
            os.eventfd_write(self.free_fd, 1)
            raise RingFull(f"{len(batches)} batches do not fit into {self._slot_bytes} bytes") from error
        self._next += 1
        return int(sink.tell())

    def take(self, length: int) -> list[pa.RecordBatch]:
        """Copy the batches in the next slot, and free the slot. They share one copy, and no shared memory."""
        copy = pa.allocate_buffer(length)
        # Through Arrow's writer, because it copies without the interpreter lock.
        pa.FixedSizeBufferWriter(copy).write(self._slot().slice(0, length))
        self._next += 1
        os.eventfd_write(self.free_fd, 1)
        return read_batches(copy)

    def close(self) -> None:
        """Close the descriptors. The memory goes with the object."""
        os.close(self.memory_fd)
        os.close(self.free_fd)

    def _slot(self) -> pa.Buffer:
        return self._slots[self._next % len(self._slots)]


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
