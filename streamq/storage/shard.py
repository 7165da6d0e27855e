"""The rows of one shard of a pushed source: immutable Arrow chunks, appended at one end and dropped at the other."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from streamq.sql.catalog import SYSTEM_SCHEMA

CHUNK_ROWS = 122_880
"""Chunks are merged up to this size: one chunk is then one split."""


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """Give the schema of chunks: the user's columns, `_timestamp`, and the row's place in the source's insert sequence."""
    return pa.schema([*schema, SYSTEM_SCHEMA.field("_timestamp"), pa.field("__sequence", pa.int64())])


def own_copy(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Copy a batch into one buffer that nobody else can write to or keeps more than these rows alive with."""
    return pa.ipc.read_record_batch(batch.serialize(), batch.schema)


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
        return self._chunks[0].column(self._chunks[0].num_columns - 1)[0].as_py() if self._chunks else None

    def drop_before_sequence(self, sequence: int) -> None:
        """Drop the rows that were inserted before place `sequence`."""
        self._drop(len(self._schema) - 1, pa.scalar(sequence, pa.int64()))

    def drop_before_time(self, arrived_us: int) -> None:
        """Drop the rows that arrived before a time (UTC microseconds)."""
        self._drop(
            len(self._schema) - 2,
            pa.scalar(arrived_us, pa.int64()).cast(SYSTEM_SCHEMA.field("_timestamp").type),
        )

    def _drop(self, column: int, limit: pa.Scalar) -> None:
        """Drop the rows below `limit` in a column that never falls within a shard."""
        gone = 0
        while gone < len(self._chunks) and self._chunks[gone].column(column)[-1].as_py() < limit.as_py():
            self._forget(self._chunks[gone])
            gone += 1
        del self._chunks[:gone]
        if self._chunks:
            head = self._chunks[0]
            below = pc.sum(pc.less(head.column(column), limit)).as_py()
            if below:
                self._forget(head.slice(0, below))
                self._chunks[0] = head.slice(below)

    def _forget(self, batch: pa.RecordBatch) -> None:
        self.first_offset += batch.num_rows
        self.rows -= batch.num_rows
        self.bytes -= batch.nbytes
