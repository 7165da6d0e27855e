"""Rows on their way between processes: few of them inside a message, more in the sender's arena, very many as a file of their own.

A file has one reader, who removes its name when it has mapped it: from then on it lives as long as its rows are used. What nobody came to
read goes with the directory.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from streamq.kernels.session import translate
from streamq.operators.base import Delta, State
from streamq.plan.dataflow import WEIGHT
from streamq.streaming.arena import Arena, ArenaReader, Place

INLINE_BYTES = 64 << 10
"""More than this is not in the message: then the process between sender and reader copies only where it is."""


@dataclass(frozen=True, slots=True)
class Inline:
    """An Arrow stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class File:
    """An Arrow stream in a file of its own."""

    path: str


PackedState = Mapping[str, Inline | File]
"""What an operator keeps, as named tables."""
Parcel = Inline | Place | File


class Sender:
    """Packs rows. `name` is the sender's own among those that write into `directory`."""

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self._name = name
        self._numbers = itertools.count(1)
        self._arena = Arena()

    def pack(self, delta: Delta) -> Parcel:
        """Pack changes, to be read before the next `clear`.

        Raises:
            ResourceLimit: the disk is full.
        """
        rows = delta.rows
        if delta.weights is not None:
            rows = rows.append_column(pa.field(WEIGHT, pa.int64()), pa.array(delta.weights))
        place = self._arena.write(rows) if rows.nbytes > INLINE_BYTES else None
        return place or self._pack(rows.schema, [rows])

    def pack_state(self, state: State) -> PackedState:
        """Pack what an operator keeps."""
        return {name: self._pack(table.schema, table.to_batches()) for name, table in state.items()}

    def clear(self) -> None:
        """Pack over what was packed before: it has been unpacked."""
        self._arena.clear()

    def close(self) -> None:
        """Give the arena back."""
        self._arena.close()

    def _pack(self, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Inline | File:
        if sum(batch.nbytes for batch in batches) <= INLINE_BYTES:
            buffer = pa.BufferOutputStream()
            _write(schema, batches, buffer)
            return Inline(buffer.getvalue().to_pybytes())
        path = os.path.join(self._directory, f"{self._name}-{next(self._numbers)}.arrow")
        try:
            with pa.OSFile(path, "wb") as file:
                _write(schema, batches, file)
        except OSError as error:
            raise translate(error, "handing rows to another process") from error
        return File(path)


class Receiver:
    """Unpacks what senders packed, everything once."""

    def __init__(self) -> None:
        self._arenas = ArenaReader()

    def unpack(self, parcel: Parcel) -> Delta:
        """Give the changes that `Sender.pack` packed."""
        table = pa.ipc.open_stream(self._arenas.copy(parcel)).read_all() if isinstance(parcel, Place) else _unpack(parcel)
        (rows,) = table.to_batches()
        place = table.schema.get_field_index(WEIGHT)
        return Delta(rows) if place < 0 else Delta(rows.remove_column(place), rows.column(place).to_numpy())

    def close(self) -> None:
        """Let go of the senders' arenas."""
        self._arenas.close()


def unpack_state(packed: PackedState) -> State:
    """Give the state that `Sender.pack_state` packed. To be called once."""
    return {name: _unpack(parcel) for name, parcel in packed.items()}


def _unpack(parcel: Inline | File) -> pa.Table:
    if isinstance(parcel, Inline):
        return pa.ipc.open_stream(parcel.data).read_all()
    with pa.memory_map(parcel.path) as file:
        os.unlink(parcel.path)
        return pa.ipc.open_stream(file).read_all()


def _write(schema: pa.Schema, batches: Sequence[pa.RecordBatch], sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
