"""Shared memory in which a process leaves rows for other processes, again and again in the same pages.

The first use of a page costs more than the rows that go into it, so a parcel does not get memory of its own: parcels of an epoch lie behind
each other, and those of the next one over them. Readers copy out what they are given.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import pyarrow as pa

MOST_BYTES = 32 << 20
"""What an arena grows to: some epochs of usual rows. It stays as large as it has been as long as its query runs."""
LEAST_BYTES = 1 << 20
ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class Place:
    """An Arrow stream in an arena, which other processes of the user open at `path` as long as it is open."""

    path: str
    first: int
    length: int


class Arena:
    """The writer's side. Belongs to one thread at a time."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._fd = -1
        self._file: pa.MemoryMappedFile | None = None
        self._used = 0

    def write(self, rows: pa.RecordBatch) -> Place | None:
        """Write a batch behind what is there; None if there is no room."""
        measure = pa.MockOutputStream()
        _write(rows, measure)
        first, length = self._used, measure.size()
        if first + length > self._most_bytes:
            return None
        file = self._of_size(first + length)
        file.seek(first)
        _write(rows, file)
        self._used = first + length + -length % ALIGNMENT
        return Place(f"/proc/{os.getpid()}/fd/{self._fd}", first, length)

    def clear(self) -> None:
        """Begin anew: everybody has read what was written."""
        self._used = 0

    def close(self) -> None:
        """Give the memory back. Readers keep what they have opened."""
        if self._file is not None:
            self._file.close()
        if self._fd >= 0:
            os.close(self._fd)
        self._file, self._fd = None, -1

    def _of_size(self, size: int) -> pa.MemoryMappedFile:
        """Give the file with room for at least `size` bytes."""
        if self._file is not None and self._file.size() >= size:
            return self._file
        if self._fd < 0:
            self._fd = os.memfd_create("streamq-arena")
        if self._file is not None:
            self._file.close()
        os.ftruncate(self._fd, min(self._most_bytes, max(LEAST_BYTES, 1 << (size - 1).bit_length())))
        self._file = pa.memory_map(f"/proc/self/fd/{self._fd}", "r+")
        return self._file


class ArenaReader:
    """The other side, for any number of arenas. Belongs to one thread at a time."""

    def __init__(self) -> None:
        self._files: dict[str, pa.MemoryMappedFile] = {}

    def copy(self, place: Place) -> pa.Buffer:
        """Copy a stream out of its arena."""
        file = self._files.get(place.path)
        if file is None or file.size() < place.first + place.length:
            if file is not None:
                file.close()
            file = self._files[place.path] = pa.memory_map(place.path, "r")
        copy = pa.allocate_buffer(place.length)
        # Through Arrow's writer, because it copies without the interpreter lock.
        pa.FixedSizeBufferWriter(copy).write(file.read_at(place.length, place.first))
        return copy

    def close(self) -> None:
        """Let go of all arenas."""
        for file in self._files.values():
            file.close()
        self._files.clear()


def _write(rows: pa.RecordBatch, sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, rows.schema) as stream:
        stream.write_batch(rows)
