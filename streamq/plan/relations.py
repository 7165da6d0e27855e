"""What planning and execution know of a relation: an immutable snapshot of it.

The kinds of relation (pushed sources, tables, files, Arrow objects) implement `Relation` in `streamq.storage` and
`streamq.connectors`; nothing here knows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from streamq.plan.splits import Lease, Split

RelationKind = Literal["source", "table", "view", "materialized view", "registered"]


@dataclass(frozen=True, slots=True)
class ScanSql:
    """DuckDB SQL that reads the rows itself (from files)."""

    sql: str


@dataclass(frozen=True, slots=True)
class ScanArrow:
    """The rows, in memory."""

    table: pa.Table


class RelationSnapshot(Protocol):
    """One relation at one cut. Nothing that is written later can change it."""

    @property
    def schema(self) -> pa.Schema:
        """The user's columns, without system columns."""

    @property
    def rows(self) -> int:
        """Exact where metadata has it, else the best estimate; `exact` tells which."""

    @property
    def exact(self) -> bool: ...

    @property
    def bytes(self) -> int:
        """Bytes to read for all columns (files: as stored; memory: Arrow buffers)."""

    @property
    def unit(self) -> Literal["row group", "range", "modulo", "shard", "file"]:
        """What the splits are made of."""

    @property
    def in_memory(self) -> bool:
        """The rows are this process's Arrow buffers."""

    @property
    def at_hand(self) -> bool:
        """The user's columns are in memory as they are read: for them `read` has next to nothing to do, and `verify` nothing."""

    @property
    def max_parallelism(self) -> int:
        """How many tasks the relation can feed at once (its natural parallelism), at least 1."""

    @property
    def partition_keys(self) -> tuple[str, ...]:
        """Columns whose hash decides the unit that a row is in (units are then partitions), else ()."""

    @property
    def splits(self) -> Sequence[Split]:
        """Cover every row exactly once."""

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanSql | ScanArrow:
        """Give the rows of a lease (None: all), with `columns` (system columns allowed) in that order.

        `filter` may be used to read less, or ignored.

        Raises:
            SourceError: a file is gone, changed since the snapshot, or unreadable.
        """

    def verify(self, lease: Lease | None) -> None:
        """Check that what a lease reads (None: all) is still what it was at the snapshot. Rows in memory always are.

        Raises:
            SourceError: a file is gone or changed.
        """


class Relation(Protocol):
    """A named relation of the catalog."""

    name: str
    kind: RelationKind

    @property
    def schema(self) -> pa.Schema:
        """The user's columns."""

    @property
    def system_columns(self) -> bool:
        """Rows also have `SYSTEM_SCHEMA`."""

    @property
    def primary_key(self) -> tuple[str, ...]: ...

    @property
    def watermark(self) -> tuple[str, str] | None:
        """The event time column and the SQL of its watermark expression."""

    def snapshot(self) -> RelationSnapshot:
        """Take a cut. Does not block and copies no rows."""
