"""Pushed sources: append-only rows in shards.

A row's shard is decided by the routing hash of its PARTITION BY columns; without them the pieces of a batch go round the
shards. Within a shard rows keep the order of their inserts, and `_offset` counts them without gaps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.config import clamp_partitions
from streamq.errors import BindError, ResourceLimit, SourceError, StreamClosed
from streamq.plan.relations import RelationKind
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.sql.statements import CreateSource
from streamq.storage.commits import Commits
from streamq.storage.event_time import check_watermark
from streamq.storage.feeds import Followers, Start
from streamq.storage.insertion import Notify, Waiting, write
from streamq.storage.memory import MemorySnapshot, Unit, snapshot_of
from streamq.storage.pieces import Piece, dealt, routed
from streamq.storage.routing import routable
from streamq.storage.rows import InsertResult, table_of
from streamq.storage.shard import Shard, Slice, stored_schema
from streamq.storage.source_feed import SourceFeed
from streamq.storage.source_options import SourceOptions, source_options
from streamq.storage.text import size
from streamq.storage.types import arrow_schema


class PushedSource:
    """A source that the user's program pushes rows into. Every method may be called from any thread."""

    kind: RelationKind = "source"
    system_columns = True
    primary_key: tuple[str, ...] = ()

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        *,
        commits: Commits,
        shards: int,
        partition_by: Sequence[str] = (),
        watermark: tuple[str, str] | None = None,
        max_bytes: int = 1 << 30,
        options: SourceOptions = SourceOptions(),  # noqa: B008 - frozen
        clock_us: Callable[[], int] | None = None,
    ) -> None:
        self.name = name
        self.schema = schema
        self.watermark = watermark
        self.partition_by = _keys(name, schema, partition_by)
        self._commits = commits
        self._options = options
        self._max_bytes = min(max_bytes, options.retention_bytes or max_bytes)
        self._clock_us = clock_us or (lambda: time.time_ns() // 1_000)
        self._shards = tuple(Shard(number, schema) for number in range(clamp_partitions(options.shards or shards)))
        self._stored = stored_schema(schema)
        self._next_shard = 0
        self._inserted = 0
        self._last_us = 0
        self._finished = False
        self._dropped = False
        self._closed = False
        self._feeds: tuple[SourceFeed, ...] = ()
        self._waiting = Waiting()

    @classmethod
    def create(
        cls, statement: CreateSource, session: duckdb.DuckDBPyConnection, *, commits: Commits, shards: int, max_bytes: int
    ) -> PushedSource:
        """Make the source that a statement declares; `session` knows its types, `shards` and `max_bytes` are the database's settings.

        Raises:
            BindError: a type, key column or option is wrong.
        """
        schema = arrow_schema(statement.name, statement.columns, session)
        if taken := {name.lower() for name in schema.names} & set(SYSTEM_SCHEMA.names):
            raise BindError(
                f"every source has a column {min(taken)!r} already",
                sql=statement.sql,
                hint="give your column another name",
            )
        options = source_options(statement.options, sql=statement.sql)
        watermark = statement.watermark
        if watermark is not None:
            watermark = check_watermark(statement.name, schema, *watermark, session, sql=statement.sql)
        return cls(
            statement.name,
            schema,
            commits=commits,
            shards=shards,
            partition_by=statement.partition_by,
            watermark=watermark,
            max_bytes=max_bytes,
            options=options,
        )

    @property
    def shards(self) -> int:
        """How many shards the rows are in."""
        return len(self._shards)

    @property
    def retains(self) -> bool:
        """Whether there is room for so many rows only, and an insert waits until those who follow have read what it would drop."""
        return self._options.retains

    @property
    def finished(self) -> bool:
        """Whether the source has ended."""
        return self._finished

    @property
    def dropped(self) -> bool:
        """Whether the database has no such source any more."""
        return self._dropped

    @property
    def rows(self) -> int:
        """How many rows are kept now."""
        return sum(shard.rows for shard in self._shards)

    @property
    def bytes(self) -> int:
        """How many bytes the kept rows take."""
        return sum(shard.bytes for shard in self._shards)

    @property
    def inserted(self) -> int:
        """How many rows were ever inserted."""
        return self._inserted

    @property
    def followers(self) -> Followers:
        """How many feeds follow, and how far the slowest is behind."""
        with self._commits.cut():
            rows = self._inserted - self._unread
            return Followers(len(self._feeds), rows, rows * self.bytes // max(1, self.rows))

    def insert(self, data: object) -> InsertResult:
        """Append rows of any form that `rows.table_of` takes: all of them or, on an error, none. The calling thread waits while the
        retention would have to drop what a feed has not taken.

        Raises:
            SourceError: the rows do not fit the schema, or the source has been finished or dropped.
            ResourceLimit: the source would hold more than `max_source_bytes` and has no retention.
        """
        return write(self.insertion(data))

    def insertion(self, data: object) -> SourceInsertion:
        """Convert rows, for whoever waits for room in another way than `insert`.

        Raises:
            SourceError: the rows do not fit the schema.
        """
        table = table_of(data, self.schema, relation=self.name)
        pieces = routed(table, self.partition_by, len(self._shards)) if self.partition_by else dealt(table, len(self._shards))
        return SourceInsertion(self, table, pieces)

    def append(self, table: pa.Table, pieces: Sequence[Piece], notify: Notify) -> InsertResult | None:
        """Do what `Insertion.attempt` promises."""
        with self._commits.cut():
            self._check_open()
            self._check_room(table)
            if not self._has_room():
                self._waiting.add(notify)
                return None
            with self._commits.commit() as number:
                arrived_us = max(self._last_us, self._clock_us())
                first = self._inserted
                stamped = [self._stamp(piece.rows, piece.places + first, arrived_us) for piece in pieces]
                for piece, rows in zip(pieces, stamped, strict=True):
                    self._shards[(self._next_shard + piece.shard) % len(self._shards)].append(rows)
                if not self.partition_by:
                    self._next_shard = (self._next_shard + len(pieces)) % len(self._shards)
                self._inserted += table.num_rows
                self._last_us = arrived_us
                feeds = self._feeds if table.num_rows else ()
                for feed in feeds:
                    feed.committed(number, self._inserted, arrived_us)
                self._drop_oldest(arrived_us)
        for feed in feeds:
            feed.call()
        return InsertResult(table.num_rows, first, first + table.num_rows - 1)

    def abandon(self, notify: Notify) -> None:
        """Do what `Insertion.abandon` promises."""
        with self._commits.cut():
            self._waiting.discard(notify)

    def follow(self, columns: tuple[str, ...] | None, start: Start = "earliest") -> SourceFeed:
        """Open a feed from a place on; the rows until now are its history. Copies nothing."""
        with self._commits.cut():
            self._drop_expired()
            feed = SourceFeed(self, columns, self._start(start), start if isinstance(start, int) else None)
            self._feeds = (*self._feeds, feed)
            return feed

    def between(self, first: int, end: int) -> list[Slice]:
        """Give references to kept rows with places `first` ≤ place < `end` in the insert sequence, shard by shard."""
        with self._commits.cut():
            return [part for shard in self._shards for part in shard.between(first, end)]

    def taken(self) -> None:
        """Note that a feed has moved on: who waits for room may try again."""
        with self._commits.cut():
            self._waiting.call_all()

    def unfollow(self, feed: SourceFeed) -> None:
        """Keep nothing for a feed any more."""
        with self._commits.cut():
            self._feeds = tuple(other for other in self._feeds if other is not feed)
            self._waiting.call_all()

    def finish(self) -> None:
        """End the source: what it holds stays readable, inserts are refused. Finishing twice is fine."""
        with self._commits.commit():
            self._finished = True
            self._waiting.call_all()
            feeds = self._feeds
        for feed in feeds:
            feed.call()

    def drop(self) -> None:
        """Tell who follows or waits that the database has no such source any more. Snapshots stay readable."""
        with self._commits.cut():
            self._dropped = True
            self._waiting.call_all()
            feeds = self._feeds
        for feed in feeds:
            feed.call()

    def close(self) -> None:
        """Tell who waits for room that the database has been closed."""
        with self._commits.cut():
            self._closed = True
            self._waiting.call_all()

    def snapshot(self) -> MemorySnapshot:
        """Take a cut of all shards. Retention by time counts from now."""
        with self._commits.cut():
            self._drop_expired()
            units = [Unit(shard.number, shard.table(), shard.first_offset) for shard in self._shards]
            held = self.bytes
        return snapshot_of(
            self.schema,
            units,
            unit="shard",
            bytes=held,
            partition_keys=self.partition_by,
        )

    @property
    def _unread(self) -> int:
        """The place of the oldest row that a feed has not taken."""
        return min((feed.place for feed in self._feeds), default=self._inserted)

    @property
    def oldest(self) -> int:
        """The place of the oldest kept row in the insert sequence, of the next one if none is kept."""
        return self._first

    @property
    def _first(self) -> int:
        return min((first for shard in self._shards if (first := shard.first_sequence) is not None), default=self._inserted)

    def _start(self, start: Start) -> int:
        match start:
            case "earliest":
                return self._first
            case "latest":
                return self._inserted
            case arrived_us:
                firsts = [first for shard in self._shards if (first := shard.first_arrived_from(arrived_us)) is not None]
                return min(firsts, default=self._inserted)

    def _has_room(self) -> bool:
        """Tell whether the retention is kept, after it has dropped what it may. One insert at a time may then go beyond it."""
        if not self.retains or self._unread == self._inserted:
            return True
        now_us = max(self._last_us, self._clock_us())
        self._drop_oldest(now_us)
        return self.bytes <= self._max_bytes and self._first >= self._expired_before(now_us)

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosed("the database was closed")
        if self._dropped:
            raise SourceError(f"{self.name} has been dropped")
        if self._finished:
            raise SourceError(f"{self.name} has been finished and takes no more rows; create another source for them")

    def _check_room(self, added: pa.Table) -> None:
        if self.retains or self.bytes + added.nbytes <= self._max_bytes:
            return
        raise ResourceLimit(
            f"{self.name} holds {size(self.bytes)} and this insert adds {size(added.nbytes)}, more than max_source_bytes allows "
            f"({size(self._max_bytes)}); raise max_source_bytes, or give the source a retention (WITH (retention_rows = …))"
        )

    def _stamp(self, rows: pa.RecordBatch, sequence: NDArray[np.int64], arrived_us: int) -> pa.RecordBatch:
        arrived = pa.array(np.full(len(sequence), arrived_us)).cast(SYSTEM_SCHEMA.field("_timestamp").type)
        return pa.RecordBatch.from_arrays([*rows.columns, arrived, pa.array(sequence)], schema=self._stored)

    def _drop_expired(self) -> None:
        if self._options.retention is not None:
            self._drop_oldest(max(self._last_us, self._clock_us()))

    def _drop_oldest(self, now_us: int) -> None:
        """Drop what the retention does not want and no feed needs."""
        unread = self._unread
        if (expired := min(self._expired_before(now_us), unread)) > 0:
            self._drop_before(expired)
        while self.retains and self.rows and self.bytes > self._max_bytes and (first := self._first) < unread:
            share = 1 - self._max_bytes / self.bytes
            self._drop_before(min(unread, first + max(1, int((self._inserted - first) * share))))

    def _expired_before(self, now_us: int) -> int:
        """Give the place before which rows are too old, or too many."""
        options = self._options
        place = 0 if options.retention_rows is None else self._inserted - options.retention_rows
        return place if options.retention is None else max(place, self._start(now_us - options.retention // timedelta(microseconds=1)))

    def _drop_before(self, place: int) -> None:
        for shard in self._shards:
            shard.drop_before_sequence(place)


class SourceInsertion:
    """An `Insertion` of rows that fit the source."""

    def __init__(self, source: PushedSource, table: pa.Table, pieces: Sequence[Piece]) -> None:
        self._source = source
        self._table = table
        self._pieces = pieces

    @property
    def bytes(self) -> int:
        """Their size, as Arrow buffers."""
        return int(self._table.nbytes)

    def attempt(self, notify: Notify) -> InsertResult | None:
        """Append the rows. See `Insertion`."""
        return self._source.append(self._table, self._pieces, notify)

    def abandon(self, notify: Notify) -> None:
        """Forget a `notify`. See `Insertion`."""
        self._source.abandon(notify)


def _keys(name: str, schema: pa.Schema, partition_by: Sequence[str]) -> tuple[str, ...]:
    by_lower = {column.lower(): column for column in schema.names}
    keys = []
    for key in partition_by:
        if key.lower() not in by_lower:
            raise BindError(
                f"the PARTITION BY column {key!r} is not a column of {name}",
                hint=f"columns: {', '.join(schema.names)}",
            )
        column = by_lower[key.lower()]
        if not routable(schema.field(column).type):
            raise BindError(
                f"{name} cannot be partitioned by {column!r} of type {schema.field(column).type}",
                hint="use scalar columns",
            )
        keys.append(column)
    return tuple(keys)
