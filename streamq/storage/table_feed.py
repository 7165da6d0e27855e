"""What a continuous query reads of a table: its rows, then what every write took out and put in."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa

from streamq.errors import StreamqError
from streamq.operators.base import Delta
from streamq.plan.dataflow import WEIGHT
from streamq.storage.feeds import Bookmark, Position, feed_schema
from streamq.storage.memory import ROW_COLUMN
from streamq.storage.versions import TableVersion


@dataclass(frozen=True)
class Change:
    """What one write changed: whole rows, no row both removed and added."""

    removed: pa.Table
    added: pa.Table

    @property
    def rows(self) -> int:
        """How many rows were removed and added."""
        return int(self.removed.num_rows + self.added.num_rows)

    @cached_property
    def bytes(self) -> int:
        """How many bytes they take."""
        return int(self.removed.nbytes + self.added.nbytes)


class ChangeLog(Protocol):
    """The table, as its feeds see it."""

    name: str
    schema: pa.Schema

    @property
    def failure(self) -> StreamqError | None:
        """Why its rows cannot be read any more."""

    def unfollow(self, feed: TableFeed) -> None:
        """Keep nothing for a feed any more."""

    def net(self, changes: Sequence[Change]) -> Change:
        """Sum up changes that follow each other."""

    def version_and(self, waiting: Callable[[], Sequence[Change]]) -> tuple[TableVersion, Sequence[Change]]:
        """Give the rows as they are now, and what `waiting()` gives at the same cut."""

    def taken(self) -> None:
        """Note that a feed has moved on."""


class TableFeed:
    """A `Feed` of one table, from a version of it on."""

    retracts = True
    external = False
    watermarks: Mapping[int, int | None] = {}

    def __init__(self, table: ChangeLog, columns: tuple[str, ...] | None, version: TableVersion) -> None:
        self.name = table.name
        self._table = table
        self._schema = feed_schema(table.schema, tuple(table.schema.names) if columns is None else columns, None)
        self._version: TableVersion | None = version if version.rows else None
        self._seen: pa.Table | None = None
        # Lists, because those of most followers are empty.
        self._history: list[pa.RecordBatch] = []
        self._pending: list[tuple[int, Change]] = []
        self._given = 0
        self._notify: Callable[[], None] | None = None
        # Each is written by one side only: bytes that came, by whoever writes; bytes that went, inside `_taking`.
        self._came = 0
        self._went = 0
        self._taking = threading.Lock()

    @property
    def schema(self) -> pa.Schema:
        """The columns that were asked for."""
        return self._schema

    @property
    def next_sequence(self) -> int | None:
        """The number of the next write; 0 while rows of the first version are left, None if nothing waits."""
        if self._table.failure is not None or self._version is not None or self._seen is not None or self._history:
            return 0
        pending = self._pending
        return pending[0][0] if pending else None

    @property
    def ended(self) -> bool:
        """A table never ends."""
        return False

    @property
    def position(self) -> Position:
        """How many rows and changes of rows were taken."""
        return Position({0: self._given})

    @property
    def backlog(self) -> int:
        """How many bytes of changes wait."""
        return self._came - self._went

    @property
    def behind(self) -> tuple[int, int]:
        """Rows and bytes that were not taken."""
        changes = [change for _, change in tuple(self._pending)]
        version, history = self._version, tuple(self._history)
        rows = (0 if version is None else version.rows) + sum(batch.num_rows for batch in history) + sum(change.rows for change in changes)
        return rows, sum(batch.nbytes for batch in history) + sum(change.bytes for change in changes)

    def take(self, max_rows: int, sequence: int) -> Delta | None:
        """Give the next rows of the first version, at most `max_rows`; then the changes of the next write up to number `sequence`, all
        of them.

        Raises:
            StreamqError: the table was dropped, the view has failed.
            ResourceLimit: the first version does not fit into memory.
        """
        if (failure := self._table.failure) is not None:
            raise failure
        if self._seen is not None:
            return self._difference(self._seen)
        if self._version is not None:
            self._history.extend(self._version.read_out().units[0].table.to_batches())
            self._version = None
        if self._history:
            rows = self._history.pop(0)
            if rows.num_rows > max_rows:
                self._history.insert(0, rows.slice(max_rows))
                rows = rows.slice(0, max_rows)
            self._given += rows.num_rows
            return Delta(self._project(rows))
        with self._taking:
            if not self._pending or self._pending[0][0] > sequence:
                return None
            _, change = self._pending.pop(0)
            self._went += change.bytes
        self._table.taken()
        self._given += change.rows
        # Projected first: what the query does not read is not copied.
        changed = [self._project(batch) for rows in (change.removed, change.added) for batch in rows.to_batches()]
        weights = np.repeat(np.array([-1, 1]), [change.removed.num_rows, change.added.num_rows])
        return Delta(pa.concat_batches(changed), weights)

    def bookmark(self) -> Bookmark:
        """Tell what was seen: the rows that there are now, less what waits. Reads all of them."""
        if self._seen is not None:
            return Bookmark(self.position.offsets, seen=self._seen)
        version, waiting = self._table.version_and(self._waiting)
        unread = [] if self._version is None else _batches(self._version)
        weighted = [
            *((batch, 1) for batch in _batches(version)),
            *((batch, -1) for batch in (*unread, *self._history)),
            *((batch, 1) for change in waiting for batch in change.removed.to_batches()),
            *((batch, -1) for change in waiting for batch in change.added.to_batches()),
        ]
        seen = self._sum([Delta(self._project(batch), np.full(batch.num_rows, weight)) for batch, weight in weighted])
        assert seen.weights is not None
        assert (seen.weights > 0).all(), f"{self.name}: changes wait that the rows do not have"
        return Bookmark(self.position.offsets, seen=pa.Table.from_batches([seen.rows]).append_column(WEIGHT, pa.array(seen.weights)))

    def resume(self, bookmark: Bookmark) -> None:
        """Give first, as one change, how what there is differs from what was seen. See `Feed`."""
        self._given = bookmark.offsets[0]
        self._seen = bookmark.seen

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Call `notify()`, from any thread, whenever changes may have come; None stops that."""
        self._notify = notify

    def close(self) -> None:
        """Let the table forget this feed."""
        self._notify = None
        self._table.unfollow(self)
        self._version = self._seen = None
        self._history.clear()
        with self._taking:
            self._pending.clear()

    def committed(self, number: int, change: Change) -> None:
        """Note what a write changed. The table calls this, under the commit lock."""
        self._pending.append((number, change))
        self._came += change.bytes

    def settle(self) -> None:
        """Do nothing: each change of a table has its place among the other writes. Whoever writes calls this behind `committed`."""

    def call(self) -> None:
        """Tell the reader that there may be something."""
        notify = self._notify
        if notify is not None:
            notify()

    def _waiting(self) -> Sequence[Change]:
        with self._taking:
            return [change for _, change in self._pending]

    def _difference(self, seen: pa.Table) -> Delta | None:
        now = [] if self._version is None else _batches(self._version)
        self._version = self._seen = None
        gone = [Delta(batch.drop_columns([WEIGHT]), -batch.column(WEIGHT).to_numpy()) for batch in seen.to_batches()]
        change = self._sum([*gone, *(Delta(self._project(batch), np.ones(batch.num_rows, np.int64)) for batch in now)])
        self._given += change.num_rows
        return change if change.num_rows else None

    def _sum(self, deltas: Sequence[Delta]) -> Delta:
        """Give every different row once, with the sum of its weights."""
        weights = [delta.weights for delta in deltas if delta.weights is not None]
        if not weights:
            return Delta(Delta.empty(self._schema).rows, np.zeros(0, np.int64))
        from streamq.kernels.weights import consolidate  # compiled kernels, which those who only read a table do without

        return Delta(*consolidate(pa.concat_batches([delta.rows for delta in deltas]), np.concatenate(weights)))

    def _project(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if self._schema.names == [ROW_COLUMN] and ROW_COLUMN not in rows.schema.names:
            return pa.RecordBatch.from_arrays([pa.nulls(rows.num_rows)], schema=self._schema)
        return rows.select(self._schema.names)


def _batches(version: TableVersion) -> list[pa.RecordBatch]:
    """Give the rows of a version."""
    batches: list[pa.RecordBatch] = version.read_out().units[0].table.to_batches()
    return batches
