"""Rows on their way between processes: little of it inside a message, much of it as a file that the other side maps.

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

INLINE_BYTES = 64 << 10
"""More than this is written to a file: then the process between sender and reader copies only its name."""


@dataclass(frozen=True, slots=True)
class Inline:
    """An Arrow stream."""

    data: bytes


@dataclass(frozen=True, slots=True)
class File:
    """An Arrow stream in a file of its own."""

    path: str


Parcel = Inline | File
PackedState = Mapping[str, Parcel]
"""What an operator keeps, as named tables."""


class Sender:
    """Packs rows. `name` is the sender's own among those that write into `directory`."""

    def __init__(self, directory: str, name: str) -> None:
        self._directory = directory
        self._name = name
        self._numbers = itertools.count(1)

    def pack(self, delta: Delta) -> Parcel:
        """Pack changes.

        Raises:
            ResourceLimit: the disk is full.
        """
        if delta.weights is None:
            return self._pack(delta.rows.schema, [delta.rows])
        batch = delta.rows.append_column(pa.field(WEIGHT, pa.int64()), pa.array(delta.weights))
        return self._pack(batch.schema, [batch])

    def pack_state(self, state: State) -> PackedState:
        """Pack what an operator keeps."""
        return {name: self._pack(table.schema, table.to_batches()) for name, table in state.items()}

    def _pack(self, schema: pa.Schema, batches: Sequence[pa.RecordBatch]) -> Parcel:
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


def unpack(parcel: Parcel) -> Delta:
    """Give the changes that `Sender.pack` packed. To be called once."""
    table = _unpack(parcel)
    (rows,) = table.to_batches()
    place = table.schema.get_field_index(WEIGHT)
    return Delta(rows) if place < 0 else Delta(rows.remove_column(place), rows.column(place).to_numpy())


def unpack_state(packed: PackedState) -> State:
    """Give the state that `Sender.pack_state` packed. To be called once."""
    return {name: _unpack(parcel) for name, parcel in packed.items()}


def _unpack(parcel: Parcel) -> pa.Table:
    if isinstance(parcel, Inline):
        return pa.ipc.open_stream(parcel.data).read_all()
    with pa.memory_map(parcel.path) as file:
        os.unlink(parcel.path)
        return pa.ipc.open_stream(file).read_all()


def _write(schema: pa.Schema, batches: Sequence[pa.RecordBatch], sink: pa.NativeFile) -> None:
    with pa.ipc.new_stream(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
