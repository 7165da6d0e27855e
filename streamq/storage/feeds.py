"""What a continuous query reads of a relation: its rows so far, then every change, in order and without a gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pyarrow as pa

from streamq.operators.base import Delta
from streamq.storage.memory import ROW_COLUMN, scan_schema

WATERMARK = "_watermark"
"""A column that the rows of a source carry in continuous queries: W(row), the watermark before the row in its partition; NULL
before the first event time. A timestamp in microseconds, with the time zone UTC if the event time has one."""
Start = Literal["earliest", "latest"] | int
"""Where reading begins: at the oldest kept row, at the next one, or at a `_timestamp` (microseconds since 1970, UTC)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a scan of a continuous query reads: a relation, and of its rows `columns` in this order, system columns and `WATERMARK` among
    them; None for all user columns. `start` matters where rows have an arrival time: a table is always read whole.
    """

    relation: str
    columns: tuple[str, ...] | None
    start: Start = "earliest"
    after: Bookmark | None = None
    """Go on where a feed of the relation stood, instead of at `start`."""


@dataclass(frozen=True, slots=True)
class Followers:
    """How many feeds follow a relation, and what the slowest of them has not taken yet."""

    count: int = 0
    behind_rows: int = 0
    behind_bytes: int = 0


def feed_schema(schema: pa.Schema, columns: tuple[str, ...], watermark: tuple[str, str] | None) -> pa.Schema:
    """Give the schema of what a feed of a relation gives: a user's column goes before a system column of the same name.

    A feed without columns has one of NULLs, as SQL has no rows without columns.
    """
    user = set(schema.names)
    return pa.schema(
        [
            pa.field(name, watermark_type(schema.field(watermark[0]).type))
            if name == WATERMARK and name not in user and watermark is not None
            else scan_schema(schema, [name]).field(0)
            for name in columns
        ]
        or [pa.field(ROW_COLUMN, pa.null())]
    )


def watermark_type(event_time: pa.DataType) -> pa.DataType:
    """Give the type of `WATERMARK` for an event time of a type."""
    return pa.timestamp("us", None if event_time.tz is None else "UTC")


@dataclass(frozen=True, slots=True)
class Position:
    """How far a feed has been read: the rows taken so far, by partition."""

    offsets: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Where a feed stood between two epochs: what another feed of the relation needs to go on from there.

    `offsets` are those of its `Position`, `latest` the largest event time taken by partition (in the unit of its type). Nothing keeps the
    past of a table or view, so `seen` has its rows as the changes that were taken make them, with how often each is there as `WEIGHT`.
    """

    offsets: Mapping[int, int]
    latest: Mapping[int, int] = field(default_factory=dict)
    seen: pa.Table | None = None


class Feed(Protocol):
    """One relation, read by one continuous query. Everything but `wake` belongs to one thread at a time.

    A relation of the database gives its rows in the order of the writes, whose numbers (`Commits.sequence`) all local relations
    share; an external one (files, Kafka) has no such numbers.
    """

    name: str

    @property
    def schema(self) -> pa.Schema:
        """The columns of what `take` gives: those of the relation that were asked for when the feed was opened."""

    @property
    def retracts(self) -> bool:
        """Rows can be withdrawn (tables, views)."""

    @property
    def external(self) -> bool:
        """The rows come from outside (files, Kafka): partitions without rows may be idle, and no write of the database has them."""

    @property
    def next_sequence(self) -> int | None:
        """The number of the write that the next row belongs to: 0 for what was there when the feed was opened and for rows of external
        relations; None if nothing waits now."""

    @property
    def ended(self) -> bool:
        """All was taken, and no more will come."""

    def take(self, max_rows: int, sequence: int) -> Delta | None:
        """Give the next rows of writes up to number `sequence`, at most `max_rows` (changes of a table: whole writes, whatever their
        size); None if there are none. May read files.

        Raises:
            SourceError: a file is gone, changed or corrupt.
        """

    @property
    def watermarks(self) -> Mapping[int, int | None]:
        """By partition, the watermark after what was taken, in microseconds since 1970 (UTC); empty if the relation has no event time."""

    @property
    def position(self) -> Position:
        """Where it stands after what was taken."""

    def bookmark(self) -> Bookmark:
        """Tell all that another feed needs to go on after what was taken."""

    def resume(self, bookmark: Bookmark) -> None:
        """Go on where another feed stood, before anything is taken. What was there since then is history, without an order; of a table or
        view, that is the difference between what was seen and what there is.

        Raises:
            SourceError: rows that come next are gone, or it cannot be the same relation.
        """

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Call `notify()`, from any thread, whenever rows may have come or the end; None stops that."""

    def close(self) -> None:
        """Let the relation forget what it kept for this feed."""
