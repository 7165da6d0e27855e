"""What a continuous query reads of a pushed source: rows in insert order, watermarks among them.

A feed is a place in the source's insert sequence. The rows stay in the shards until they are taken: the source keeps what
a feed has not taken, so nothing is queued twice and nothing copied that lies in one piece.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from streamq.errors import SourceError
from streamq.operators.base import Delta
from streamq.storage.feeds import WATERMARK, Bookmark, Position, feed_schema
from streamq.storage.insert_order import in_insert_order
from streamq.storage.shard import Slice
from streamq.storage.watermarks import RunningWatermark


class InsertLog(Protocol):
    """The source, as its feeds see it."""

    name: str
    schema: pa.Schema
    watermark: tuple[str, str] | None

    @property
    def inserted(self) -> int: ...

    @property
    def oldest(self) -> int: ...

    @property
    def finished(self) -> bool: ...

    @property
    def dropped(self) -> bool: ...

    def between(self, first: int, end: int) -> Sequence[Slice]:
        """Give references to rows by their places in the insert sequence."""

    def taken(self) -> None:
        """Note that a feed has moved on."""

    def unfollow(self, feed: SourceFeed) -> None:
        """Keep nothing for a feed any more."""


class SourceFeed:
    """A `Feed` of one pushed source, from `place` in its insert sequence on; what is in it at the start is history."""

    retracts = False
    external = False

    def __init__(self, source: InsertLog, columns: tuple[str, ...] | None, place: int, from_us: int | None = None) -> None:
        self.name = source.name
        self.place = place
        """The place of the next row. Only the reader moves it, and before its first row the source, over rows from before `from_us`."""
        self._source = source
        self._schema = feed_schema(source.schema, tuple(source.schema.names) if columns is None else columns, source.watermark)
        self._from_us = from_us
        self._notify: Callable[[], None] | None = None
        # Writes by their number and the place where their rows end: those that were seen by `take`, and those that were not.
        # Lists, because those of most followers are empty.
        self._opened: list[tuple[int, int]] = [(0, source.inserted)] if source.inserted > place else []
        self._pending: list[tuple[int, int]] = []
        self._watermark: RunningWatermark | None = None
        self._read = self._schema
        if source.watermark is not None:
            event_time = source.schema.field(source.watermark[0])
            self._watermark = RunningWatermark(source.name, event_time.type, source.watermark)
            fields = {field.name: field for field in (*self._schema, event_time) if field.name != WATERMARK}
            self._read = pa.schema(fields.values())

    @property
    def schema(self) -> pa.Schema:
        """The columns that were asked for."""
        return self._schema

    @property
    def next_sequence(self) -> int | None:
        """The number of the write that the next row belongs to; 0 for history, None if nothing waits."""
        if self._source.dropped:
            return 0
        if self._opened:
            return self._opened[0][0]
        return self._pending[0][0] if self._pending else None

    @property
    def ended(self) -> bool:
        """The source was finished, and all was taken."""
        return self._source.finished and self.place == self._source.inserted

    @property
    def watermarks(self) -> Mapping[int, int | None]:
        """The watermark after what was taken: the insert order is one partition."""
        return {} if self._watermark is None else {0: self._watermark.current_us}

    @property
    def position(self) -> Position:
        """The place of the next row in the source's insert sequence."""
        return Position({0: self.place})

    def take(self, max_rows: int, sequence: int) -> Delta | None:
        """Give the next rows of writes up to number `sequence`, at most `max_rows`; fewer where that saves copying them.

        Raises:
            SourceError: the source was dropped.
            DataError: the watermark expression failed.
        """
        if self._source.dropped:
            raise SourceError(f"{self.name} was dropped while a query followed it")
        end = self._end(self.place + max_rows, sequence)
        if end <= self.place:
            return None
        rows = in_insert_order(self._source.between(self.place, end), self._read)
        self.place += rows.num_rows
        passed = 0
        while passed < len(self._opened) and self._opened[passed][1] <= self.place:
            passed += 1
        del self._opened[:passed]
        self._source.taken()
        return Delta(self._with_watermark(rows))

    def bookmark(self) -> Bookmark:
        """Tell the place, and the largest event time so far."""
        latest = None if self._watermark is None else self._watermark.latest
        return Bookmark(self.position.offsets, {} if latest is None else {0: latest})

    def resume(self, bookmark: Bookmark) -> None:
        """Go on at a place. See `Feed`. Who calls holds the commit lock.

        Raises:
            SourceError: the source has dropped rows from there on, or never had so many.
        """
        place, oldest, inserted = bookmark.offsets[0], self._source.oldest, self._source.inserted
        if place > inserted:
            raise SourceError(f"{self.name} has had {inserted} rows, and {place} were read: it is not the source that was read before")
        if place < oldest:
            raise SourceError(f"{self.name} has dropped rows {place} to {oldest - 1}, which come next: its retention was too short")
        self.place = place if self._from_us is None else max(place, self.place)
        self._opened = [(0, inserted)] if inserted > self.place else []
        if self._watermark is not None:
            self._watermark.resume(bookmark.latest.get(0))

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Call `notify()`, from any thread, whenever rows or the end may have come; None stops that."""
        self._notify = notify

    def close(self) -> None:
        """Let the source drop what it kept for this feed."""
        self._notify = None
        self._source.unfollow(self)
        if self._watermark is not None:
            self._watermark.close()

    def committed(self, number: int, end: int, arrived_us: int) -> None:
        """Note a write whose rows end at place `end`. The source calls this, under the commit lock."""
        if self._from_us is not None and arrived_us < self._from_us:
            self.place = end
        else:
            self._pending.append((number, end))

    def call(self) -> None:
        """Tell the reader that there may be something."""
        notify = self._notify
        if notify is not None:
            notify()

    def _end(self, limit: int, sequence: int) -> int:
        """Find how far rows go: not beyond `limit`, and not into a write behind number `sequence`."""
        # Who writes adds to what waits meanwhile: what was seen is taken in one step.
        seen, waiting = 0, len(self._pending)
        while seen < waiting and self._pending[seen][0] <= sequence and not (self._opened and self._opened[-1][1] >= limit):
            self._opened.append(self._pending[seen])
            seen += 1
        del self._pending[:seen]
        end = self.place
        for number, until in self._opened:
            if number > sequence:
                break
            end = until
        return min(end, limit)

    def _with_watermark(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        if self._watermark is None:
            return rows
        times = rows.column(self._source.watermark[0]) if self._source.watermark else None
        if WATERMARK not in self._schema.names:
            self._watermark.advance(times)
            return rows.select(self._schema.names)
        watermark = self._watermark.advance_by_row(times)
        columns = [watermark if name == WATERMARK else rows.column(name) for name in self._schema.names]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)
