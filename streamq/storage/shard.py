"""The rows of one shard of a pushed source: immutable Arrow chunks, appended at one end and dropped at the other."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.sql.catalog import SYSTEM_SCHEMA

CHUNK_ROWS = 122_880
"""Chunks are merged up to this size: one chunk is then one split."""


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """Give the schema of chunks: the user's columns, `_timestamp`, and the row's place in the source's insert sequence."""
    return pa.schema([*schema, SYSTEM_SCHEMA.field("_timestamp"), pa.field("__sequence", pa.int64())])


def own_copy(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Copy a batch into one buffer that nobody else can write to or keeps more than these rows alive with."""
    return pa.ipc.read_record_batch(batch.serialize(), batch.schema)


def places(chunk: pa.RecordBatch) -> NDArray[np.int64]:
    """Give the places of a chunk's rows in the source's insert sequence; they rise."""
    return np.asarray(chunk.column(chunk.num_columns - 1))


def _arrivals(chunk: pa.RecordBatch) -> NDArray[np.int64]:
    return np.asarray(chunk.column(chunk.num_columns - 2).view(pa.int64()))


@dataclass(frozen=True, slots=True)
class Slice:
    """Rows that follow each other in a shard; the first has `_offset` = `offset`. `rows` has the stored columns."""

    shard: int
    offset: int
    rows: pa.RecordBatch


class Shard:
    """An append-only list of chunks. Not thread-safe: the source's commit lock guards it."""

    def __init__(self, number: int, schema: pa.Schema) -> None:
        self.number = number
        self.first_offset = 0
        self.rows = 0
        self.bytes = 0
        self._schema = stored_schema(schema)
        self._chunks: list[pa.RecordBatch] = []

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows behind the others. Small chunks merge with neighbours of their size, so each row is copied
        O(log CHUNK_ROWS) times and a shard never has many small chunks.
        """
        chunks = self._chunks
        for first in range(0, batch.num_rows, CHUNK_ROWS):
            chunks.append(batch.slice(first, CHUNK_ROWS))
            while len(chunks) > 1 and chunks[-2].num_rows < 2 * chunks[-1].num_rows:
                if chunks[-2].num_rows + chunks[-1].num_rows > CHUNK_ROWS:
                    break
                tail = pa.Table.from_batches([chunks.pop(-2), chunks.pop()]).combine_chunks()
                chunks.extend(tail.to_batches())
        self.rows += batch.num_rows
        self.bytes += batch.nbytes

    def table(self) -> pa.Table:
        """Give the kept rows with the user's columns and `_timestamp`; nothing is copied."""
        table = pa.Table.from_batches(self._chunks, self._schema)
        return table.select(range(table.num_columns - 1))

    @property
    def first_sequence(self) -> int | None:
        """The insert sequence of the oldest kept row."""
        return int(places(self._chunks[0])[0]) if self._chunks else None

    def between(self, first: int, end: int) -> list[Slice]:
        """Give references to the rows with places `first` ≤ place < `end` in the insert sequence, in order."""
        chunks = self._chunks
        number = bisect_left(chunks, first, key=lambda chunk: int(places(chunk)[-1]))
        offset = self.first_offset + sum(chunk.num_rows for chunk in chunks[:number])
        found = []
        for chunk in chunks[number:]:
            start, stop = (int(place) for place in np.searchsorted(places(chunk), (first, end)))
            if start < stop:
                found.append(Slice(self.number, offset + start, chunk.slice(start, stop - start)))
            if stop < chunk.num_rows:
                break
            offset += chunk.num_rows
        return found

    def first_arrived_from(self, arrived_us: int) -> int | None:
        """Give the insert sequence of the first kept row that arrived at a time (UTC microseconds) or later."""
        number = bisect_left(self._chunks, arrived_us, key=lambda chunk: int(_arrivals(chunk)[-1]))
        if number == len(self._chunks):
            return None
        chunk = self._chunks[number]
        return int(places(chunk)[np.searchsorted(_arrivals(chunk), arrived_us)])

    def drop_before_sequence(self, sequence: int) -> None:
        """Drop the rows that were inserted before place `sequence`."""
        gone = 0
        while gone < len(self._chunks) and places(self._chunks[gone])[-1] < sequence:
            self._forget(self._chunks[gone])
            gone += 1
        del self._chunks[:gone]
        if self._chunks:
            head = self._chunks[0]
            below = int(np.searchsorted(places(head), sequence))
            if below:
                self._forget(head.slice(0, below))
                self._chunks[0] = head.slice(below)

    def _forget(self, batch: pa.RecordBatch) -> None:
        self.first_offset += batch.num_rows
        self.rows -= batch.num_rows
        self.bytes -= batch.nbytes
