"""Feeds whose rows a test gives, for cuts and coordinators: real ones, of lists."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pyarrow as pa

from streamq.operators.base import Delta
from streamq.storage.feeds import Bookmark, Position


class ListFeed:
    """A feed of writes `(sequence, values)`: values of one BIGINT column `n`, of a table maybe negative for rows that go."""

    def __init__(
        self,
        name: str,
        *writes: tuple[int, Sequence[int]],
        retracts: bool = False,
        external: bool = False,
        watermark_us: int | None = None,
        event_time: bool = False,
    ) -> None:
        self.name = name
        self.retracts = retracts
        self.external = external
        self.ended = False
        self.closed = False
        self._writes = deque((sequence, list(values)) for sequence, values in writes)
        self._taken = 0
        self._event_time = event_time or watermark_us is not None
        self._watermark_us = watermark_us
        self.wakes: Callable[[], None] | None = None

    schema = pa.schema([("n", pa.int64())])

    @property
    def next_sequence(self) -> int | None:
        return self._writes[0][0] if self._writes else None

    def take(self, max_rows: int, sequence: int) -> Delta | None:
        values: list[int] = []
        while self._writes and self._writes[0][0] <= sequence and len(values) < max_rows:
            write = self._writes[0][1]
            count = len(write) if self.retracts else max_rows - len(values)
            values += write[:count]
            del write[:count]
            if not write:
                self._writes.popleft()
        if not values:
            return None
        self._taken += len(values)
        if self._event_time and not self.retracts:
            self._watermark_us = max([*values, *([] if self._watermark_us is None else [self._watermark_us])])
        rows = pa.record_batch({"n": pa.array([abs(value) for value in values], pa.int64())})
        return Delta(rows, np.sign(np.array(values, np.int64)) if self.retracts else None)

    @property
    def watermarks(self) -> Mapping[int, int | None]:
        return {0: self._watermark_us} if self._event_time else {}

    @property
    def position(self) -> Position:
        return Position({0: self._taken})

    def bookmark(self) -> Bookmark:
        return Bookmark(self.position.offsets)

    def resume(self, bookmark: Bookmark) -> None:
        self.take(bookmark.offsets[0], 1 << 60)

    def wake(self, notify: Callable[[], None] | None) -> None:
        self.wakes = notify

    def close(self) -> None:
        self.closed = True

    # What a test does

    def write(self, sequence: int, values: Sequence[int]) -> None:
        """Let rows come."""
        self._writes.append((sequence, list(values)))
        self._ring()

    def finish(self) -> None:
        """Let the end come."""
        self.ended = True
        self._ring()

    def _ring(self) -> None:
        if self.wakes is not None:
            self.wakes()
