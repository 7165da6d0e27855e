"""What a continuous query reads of a relation: its rows so far, then every change, in order and without a gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from streamq.operators.base import Delta

WATERMARK = "_watermark"
"""A column that the rows of a source carry in continuous queries: W(row), the watermark before the row in its partition; NULL
before the first event time."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a feed has been read: the rows taken so far, by partition."""

    offsets: Mapping[int, int]


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

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Call `notify()`, from any thread, whenever rows may have come or the end; None stops that."""

    def close(self) -> None:
        """Let the relation forget what it kept for this feed."""
