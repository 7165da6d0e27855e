"""Pushed sources: append-only rows in shards.

A row's shard is decided by the routing hash of its PARTITION BY columns; without them the pieces of a batch go round the
shards. Within a shard rows keep the order of their inserts, and `_offset` counts them without gaps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.config import clamp_partitions
from streamq.errors import BindError, ResourceLimit, SourceError
from streamq.plan.relations import RelationKind
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.sql.statements import CreateSource
from streamq.storage.commits import Commits
from streamq.storage.event_time import check_watermark
from streamq.storage.memory import MemorySnapshot, Unit, snapshot_of
from streamq.storage.routing import routable, route
from streamq.storage.rows import InsertResult, table_of
from streamq.storage.shard import Shard, own_copy, stored_schema
from streamq.storage.source_options import SourceOptions, source_options
from streamq.storage.text import size
from streamq.storage.types import arrow_schema

PIECE_ROWS = 8_192
"""The least rows of a batch that go to one shard together when rows have no key: less would only cost."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Rows for one shard, and their places in what is inserted."""

    shard: int
    rows: pa.RecordBatch
    places: NDArray[np.int64]


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

    @classmethod
    def create(cls, statement: CreateSource, *, commits: Commits, shards: int, max_bytes: int) -> PushedSource:
        """Make the source that a statement declares; `shards` and `max_bytes` are the database's settings.

        Raises:
            BindError: a type, key column or option is wrong.
        """
        schema = arrow_schema(statement.name, statement.columns)
        if taken := {name.lower() for name in schema.names} & set(SYSTEM_SCHEMA.names):
            raise BindError(
                f"every source has a column {min(taken)!r} already",
                sql=statement.sql,
                hint="give your column another name",
            )
        options = source_options(statement.options, sql=statement.sql)
        watermark = statement.watermark
        if watermark is not None:
            watermark = check_watermark(statement.name, schema, *watermark, sql=statement.sql)
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
    def finished(self) -> bool:
        """Whether the source has ended."""
        return self._finished

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

    def insert(self, data: object) -> InsertResult:
        """Append rows of any form that `rows.table_of` takes: all of them or, on an error, none.

        Raises:
            SourceError: the rows do not fit the schema, or the source has been finished.
            ResourceLimit: the source would hold more than `max_source_bytes` and has no retention.
        """
        table = table_of(data, self.schema, relation=self.name)
        routed = self._route(table) if self.partition_by else None
        with self._commits.commit():
            self._check_open()
            self._check_room(table)
            arrived_us = max(self._last_us, self._clock_us())
            first = self._inserted
            pieces = self._deal(table) if routed is None else routed
            stamped = [(piece.shard, self._stamp(piece.rows, piece.places + first, arrived_us)) for piece in pieces]
            for shard, rows in stamped:
                self._shards[shard].append(rows)
            self._inserted += table.num_rows
            self._last_us = arrived_us
            self._drop_oldest(arrived_us)
        return InsertResult(table.num_rows, first, first + table.num_rows - 1)

    def finish(self) -> None:
        """End the source: what it holds stays readable, inserts are refused. Finishing twice is fine."""
        with self._commits.commit():
            self._finished = True

    def snapshot(self) -> MemorySnapshot:
        """Take a cut of all shards. Retention by time counts from now."""
        with self._commits.cut():
            if self._options.retention is not None:
                self._drop_oldest(max(self._last_us, self._clock_us()))
            units = [Unit(shard.number, shard.table(), shard.first_offset) for shard in self._shards]
            held = self.bytes
        return snapshot_of(
            self.schema,
            units,
            unit="shard",
            bytes=held,
            partition_keys=self.partition_by,
        )

    def _check_open(self) -> None:
        if self._finished:
            raise SourceError(f"{self.name} has been finished and takes no more rows; create another source for them")

    def _check_room(self, added: pa.Table) -> None:
        if self._options.retains or self.bytes + added.nbytes <= self._max_bytes:
            return
        raise ResourceLimit(
            f"{self.name} holds {size(self.bytes)} and this insert adds {size(added.nbytes)}, more than max_source_bytes allows "
            f"({size(self._max_bytes)}); raise max_source_bytes, or give the source a retention (WITH (retention_rows = …))"
        )

    def _route(self, table: pa.Table) -> list[_Piece]:
        pieces = []
        for first, batch in _batches(table):
            parts = route([batch.column(key) for key in self.partition_by], len(self._shards))
            order = np.argsort(parts, kind="stable")
            bounds = np.searchsorted(parts[order], np.arange(len(self._shards) + 1))
            for shard in range(len(self._shards)):
                places = order[bounds[shard] : bounds[shard + 1]]
                if len(places):
                    pieces.append(_Piece(shard, batch.take(pa.array(places)), places + first))
        return pieces

    def _deal(self, table: pa.Table) -> list[_Piece]:
        length = max(PIECE_ROWS, -(-table.num_rows // len(self._shards)))
        pieces = []
        for first, batch in _batches(table):
            for start in range(0, batch.num_rows, length):
                rows = batch.slice(start, length)
                pieces.append(
                    _Piece(
                        self._next_shard,
                        rows,
                        np.arange(first + start, first + start + rows.num_rows),
                    )
                )
                self._next_shard = (self._next_shard + 1) % len(self._shards)
        return pieces

    def _stamp(self, rows: pa.RecordBatch, sequence: NDArray[np.int64], arrived_us: int) -> pa.RecordBatch:
        arrived = pa.array(np.full(len(sequence), arrived_us)).cast(SYSTEM_SCHEMA.field("_timestamp").type)
        return own_copy(pa.RecordBatch.from_arrays([*rows.columns, arrived, pa.array(sequence)], schema=self._stored))

    def _drop_oldest(self, now_us: int) -> None:
        options = self._options
        if options.retention is not None:
            oldest_us = now_us - options.retention // timedelta(microseconds=1)
            self._each_drop(lambda shard: shard.drop_before_time(oldest_us))
        if options.retention_rows is not None:
            oldest = self._inserted - options.retention_rows
            self._each_drop(lambda shard: shard.drop_before_sequence(oldest))
        while options.retains and self.rows and self.bytes > self._max_bytes:
            self._drop_share(1 - self._max_bytes / self.bytes)

    def _drop_share(self, share: float) -> None:
        """Drop about this share of the rows, the oldest, at least one."""
        first = min(sequence for shard in self._shards if (sequence := shard.first_sequence) is not None)
        oldest = first + max(1, int((self._inserted - first) * share))
        self._each_drop(lambda shard: shard.drop_before_sequence(oldest))

    def _each_drop(self, drop: Callable[[Shard], None]) -> None:
        for shard in self._shards:
            drop(shard)


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


def _batches(table: pa.Table) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Give the rows in as few batches as Arrow can (one, below 2 GiB of text in a column), each with its first row."""
    first = 0
    for batch in table.combine_chunks().to_batches():
        yield first, batch
        first += batch.num_rows
