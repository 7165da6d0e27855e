"""Inserts that wait for room: as tasks, so that any number of them takes no thread and ends when it is cancelled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import anyio
import anyio.to_thread

from streamq.execution.statistics import NO_INSERTS, InsertStatistics
from streamq.flow.bell import Bell
from streamq.flow.stopwatch import Stopwatch
from streamq.storage.insertion import Insertion
from streamq.storage.rows import InsertResult


class Inserts:
    """Writes rows for a database, and counts what it has written. `check_open` raises where the database has been closed."""

    def __init__(self, limiter: anyio.CapacityLimiter, check_open: Callable[[], None]) -> None:
        self._limiter = limiter
        self._check_open = check_open
        self._waiting = Stopwatch()
        self._written = NO_INSERTS

    async def write(self, convert: Callable[[], Insertion]) -> InsertResult:
        """Convert rows and write them, once a retention has room for them.

        Raises:
            SourceError, ResourceLimit, BindError: the rows cannot be written.
            StreamClosed: the database was closed before there was room.
        """
        insertion, size, result = await anyio.to_thread.run_sync(_first_attempt, convert, limiter=self._limiter)
        if result is None:
            with self._waiting:
                result = await self._when_room(insertion)
        done = self._written
        self._written = InsertStatistics(done.inserts + 1, done.rows + result.rows, done.bytes + size)
        return result

    def statistics(self) -> InsertStatistics:
        """Tell what has been written. Callable from any thread."""
        return replace(self._written, waited_s=self._waiting.seconds)

    async def _when_room(self, insertion: Insertion) -> InsertResult:
        bell = Bell()
        ring = bell.ring
        try:
            while (result := await anyio.to_thread.run_sync(insertion.attempt, ring, limiter=self._limiter)) is None:
                await bell.wait()
                self._check_open()
            return result
        finally:
            insertion.abandon(ring)


def _first_attempt(convert: Callable[[], Insertion]) -> tuple[Insertion, int, InsertResult | None]:
    insertion = convert()
    result = insertion.attempt(_nobody)
    if result is None:
        insertion.abandon(_nobody)
    return insertion, insertion.bytes, result


def _nobody() -> None:
    """Be called for nobody: most inserts find room, and only the others pay for a way to be woken."""
