"""What a continuous query reads of rows that were there before and get no more: files, datasets, Arrow objects.

Rows come in file and row order. Of rows in memory a piece is a slice; files are read a few row groups or batches at a time, and
checked before and after to be those that were registered.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamq.errors import SourceError, StreamqError
from streamq.operators.base import Delta
from streamq.plan.relations import Relation, RelationSnapshot, ScanArrow, ScanSql
from streamq.plan.splits import Lease, Split
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.storage.feeds import WATERMARK, Bookmark, Position, Start, feed_schema
from streamq.storage.memory import ROW_COLUMN
from streamq.storage.session import private_session
from streamq.storage.watermarks import RunningWatermark

LEASE_ROWS = 1 << 20
"""Rows that one SQL statement reads: starting one costs as much as reading some ten thousand rows."""
BATCH_ROWS = 131_072
"""Rows of a batch that DuckDB makes."""
_ARRIVED = "_timestamp"


@runtime_checkable
class Streamed(Protocol):
    """A snapshot that can be read from its first to its last row in pieces, better than split by split."""

    def stream(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Give all rows in order.

        Raises:
            SourceError: a file is gone, changed or corrupt.
        """


class BoundedFeed:
    """A `Feed` of a relation that has all its rows already."""

    retracts = False
    external = True

    def __init__(self, relation: Relation, columns: tuple[str, ...] | None, start: Start = "earliest") -> None:
        self.name = relation.name
        self._snapshot = relation.snapshot()
        schema = self._snapshot.schema
        self._schema = feed_schema(schema, tuple(schema.names) if columns is None else columns, relation.watermark)
        self._event_time = relation.watermark[0] if relation.watermark else None
        self._watermark = (
            RunningWatermark(relation.name, schema.field(relation.watermark[0]).type, relation.watermark) if relation.watermark else None
        )
        self._from_us = start if isinstance(start, int) and relation.system_columns else None
        self._read = self._read_schema(schema)
        self._rows = 0
        self._given = 0
        self._skipped = 0
        """Rows that are left out, since another feed gave them."""
        self._session: duckdb.DuckDBPyConnection | None = None
        self._batches = self._all_batches()
        self._current: pa.RecordBatch | None = None
        self._failure: StreamqError | None = None
        self._ended = start == "latest" or not self._snapshot.splits

    @property
    def schema(self) -> pa.Schema:
        """The columns that were asked for."""
        return self._schema

    @property
    def next_sequence(self) -> int | None:
        """0 until all was taken: no write comes before these rows."""
        return None if self._ended else 0

    @property
    def ended(self) -> bool:
        """All was taken."""
        return self._ended

    @property
    def watermarks(self) -> Mapping[int, int | None]:
        """The watermark after what was taken: file and row order is one partition."""
        return {} if self._watermark is None else {0: self._watermark.current_us}

    @property
    def position(self) -> Position:
        """How many rows were taken."""
        return Position({0: self._given})

    def take(self, max_rows: int, sequence: int) -> Delta | None:
        """Give the next rows, at most `max_rows` and of one batch as it was read.

        Raises:
            SourceError: a file is gone, changed or corrupt.
            DataError: the watermark expression failed.
        """
        if self._ended:
            return None
        if self._current is None:
            self._current = self._next()
        if self._current is None:
            self._end()
            return None
        rows = self._current.slice(0, max_rows)
        self._current = self._current.slice(max_rows) if rows.num_rows < self._current.num_rows else None
        self._given += rows.num_rows
        if self._current is None and self._rows >= self._snapshot.rows:
            # The next batch is looked for at once, so that who took the last row knows that it was the last.
            self._current = self._next()
            if self._current is None:
                self._end()
        return Delta(self._with_watermark(rows))

    def bookmark(self) -> Bookmark:
        """Tell how many rows were taken, and the largest event time so far."""
        latest = None if self._watermark is None else self._watermark.latest
        return Bookmark(self.position.offsets, {} if latest is None else {0: latest})

    def resume(self, bookmark: Bookmark) -> None:
        """Go on behind a row. See `Feed`.

        Raises:
            SourceError: there are not so many rows.
        """
        self._skipped = self._given = bookmark.offsets[0]
        if self._snapshot.exact and self._given > self._snapshot.rows:
            raise SourceError(f"{self.name} has {self._snapshot.rows} rows, and {self._given} were read: it is not what was read before")
        self._ended = self._ended or (self._snapshot.exact and self._given == self._snapshot.rows)
        if self._watermark is not None:
            self._watermark.resume(bookmark.latest.get(0))

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Do nothing: no rows come later."""

    def close(self) -> None:
        """Stop reading."""
        self._end()
        if self._watermark is not None:
            self._watermark.close()

    def _next(self) -> pa.RecordBatch | None:
        if self._failure is not None:
            raise self._failure
        try:
            return next(self._batches, None)
        except StreamqError as error:
            # Asked again, it must not look as if this were the end.
            self._failure = error
            raise

    def _end(self) -> None:
        self._ended = True
        self._current = None
        self._batches.close()
        if self._session is not None:
            self._session.close()
            self._session = None

    def _read_schema(self, schema: pa.Schema) -> pa.Schema:
        fields = {field.name: field for field in self._schema if field.name != WATERMARK or self._watermark is None}
        if self._event_time is not None:
            fields.setdefault(self._event_time, schema.field(self._event_time))
        if self._from_us is not None:
            fields.setdefault(_ARRIVED, SYSTEM_SCHEMA.field(_ARRIVED))
        return pa.schema(fields.values())

    def _all_batches(self) -> Generator[pa.RecordBatch]:
        for batch in self._stored():
            self._rows += batch.num_rows
            arrived = self._arrived(self._fit(batch))
            over = min(self._skipped, arrived.num_rows)
            self._skipped -= over
            arrived = arrived.slice(over)
            if arrived.num_rows:
                yield arrived

    def _stored(self) -> Iterator[pa.RecordBatch]:
        columns = [] if self._read.names == [ROW_COLUMN] and ROW_COLUMN not in self._snapshot.schema.names else self._read.names
        if isinstance(self._snapshot, Streamed):
            yield from self._snapshot.stream(columns)
            return
        for lease in _leases(self._snapshot, columns):
            rows = sum(split.rows for split in lease.splits)
            if self._snapshot.exact and self._from_us is None and rows <= self._skipped:
                self._skipped -= rows
                self._rows += rows
                continue
            match self._snapshot.read(lease, columns):
                case ScanArrow(table):
                    yield from table.to_batches()
                case ScanSql(sql):
                    yield from self._run(sql)
            self._snapshot.verify(lease)

    def _run(self, sql: str) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._duckdb().sql(sql).to_arrow_reader(BATCH_ROWS)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.name}: reading failed: {str(error).splitlines()[0]}") from error

    def _duckdb(self) -> duckdb.DuckDBPyConnection:
        if self._session is None:
            self._session = private_session(files=True)
        return self._session

    def _fit(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Give the columns the types that SQL has for them: Arrow has more kinds of strings, for one."""
        if self._read.types == [pa.null()]:
            return pa.RecordBatch.from_arrays([pa.nulls(batch.num_rows)], schema=self._read)
        if batch.schema.types == self._read.types:
            return pa.RecordBatch.from_arrays(batch.columns, schema=self._read)
        table = self._duckdb().from_arrow(pa.Table.from_batches([batch])).to_arrow_table()
        return table.cast(self._read).combine_chunks().to_batches()[0]

    def _arrived(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Leave out the rows that arrived before the start."""
        if self._from_us is None:
            return batch
        arrived = np.asarray(batch.column(_ARRIVED).view(pa.int64()))
        if (arrived >= self._from_us).all():
            return batch
        return batch.filter(pc.greater_equal(pa.array(arrived), self._from_us))

    def _with_watermark(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if self._watermark is None:
            return rows.select(self._schema.names)
        times = rows.column(self._event_time)
        if WATERMARK not in self._schema.names:
            self._watermark.advance(times)
            return rows.select(self._schema.names)
        watermark = self._watermark.advance_by_row(times)
        columns = [watermark if name == WATERMARK else rows.column(name) for name in self._schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)


def _leases(snapshot: RelationSnapshot, columns: Sequence[str]) -> Iterator[Lease]:
    """Cut the rows into what is read at once.

    Of rows in memory that is all, in the batches in which they are, or a split where columns are made by reading; of files some splits, as
    their rows come in a stream.
    """
    if snapshot.in_memory and set(columns) <= set(snapshot.schema.names):
        yield Lease(0, tuple(snapshot.splits))
        return
    waiting: list[Split] = []
    number = rows = 0
    for split in snapshot.splits:
        waiting.append(split)
        rows += split.rows
        if snapshot.in_memory or rows >= LEASE_ROWS:
            yield Lease(number, tuple(waiting))
            waiting, rows, number = [], 0, number + 1
    if waiting:
        yield Lease(number, tuple(waiting))
