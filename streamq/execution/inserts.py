"""Inserts that wait for room: as tasks, so that any number of them takes no thread and ends when it is cancelled."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.to_thread

from streamq.flow.bell import Bell
from streamq.storage.insertion import Insertion
from streamq.storage.rows import InsertResult


async def insert_when_room(
    convert: Callable[[], Insertion], limiter: anyio.CapacityLimiter, check_open: Callable[[], None]
) -> InsertResult:
    """Convert rows and write them, once a retention has room for them. `check_open` raises where the database was closed meanwhile.

    Raises:
        SourceError, ResourceLimit, BindError: the rows cannot be written.
    """
    insertion, result = await anyio.to_thread.run_sync(_first_attempt, convert, limiter=limiter)
    if result is not None:
        return result
    bell = Bell()
    ring = bell.ring
    try:
        while (result := await anyio.to_thread.run_sync(insertion.attempt, ring, limiter=limiter)) is None:
            await bell.wait()
            check_open()
        return result
    finally:
        insertion.abandon(ring)
        bell.close()


def _first_attempt(convert: Callable[[], Insertion]) -> tuple[Insertion, InsertResult | None]:
    insertion = convert()
    result = insertion.attempt(_nobody)
    if result is None:
        insertion.abandon(_nobody)
    return insertion, result


def _nobody() -> None:
    """Be called for nobody: most inserts find room, and only the others pay for a way to be woken."""
