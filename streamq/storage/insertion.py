"""Inserts that may have to wait: rows that have been converted, and are written as soon as there is room for them.

Nothing here waits but `write` and a `Writer`. Whoever can wait without a thread calls `attempt` again when it is notified.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from streamq.kernels.session import Interrupted
from streamq.storage.rows import InsertResult

Notify = Callable[[], object]
"""Called from any thread, at most a few instructions long, never twice for one attempt."""


class Insertion(Protocol):
    """Rows for a source or a table. `attempt` until it gives a result; one thread at a time."""

    @property
    def bytes(self) -> int:
        """Their size, as Arrow buffers."""

    def attempt(self, notify: Notify) -> InsertResult | None:
        """Write the rows, all or none; None if a retention has no room for them, as long as a query has not read what it would drop.
        Then `notify()` is called once there may be room, or nothing to write to any more.

        Raises:
            SourceError, ResourceLimit, StreamClosed: they cannot be written, and never will.
        """

    def abandon(self, notify: Notify) -> None:
        """Forget a `notify` that nobody waits for."""


class Waiting:
    """Those who wait for room. Not thread-safe: the commit lock guards it."""

    def __init__(self) -> None:
        self._waiting: list[Notify] = []

    def add(self, notify: Notify) -> None:
        """Remember somebody."""
        self._waiting.append(notify)

    def discard(self, notify: Notify) -> None:
        """Forget somebody, who may have been called already."""
        self._waiting = [other for other in self._waiting if other != notify]

    def call_all(self) -> None:
        """Tell everybody, once."""
        waiting, self._waiting = self._waiting, []
        for notify in waiting:
            notify()


def write(insertion: Insertion) -> InsertResult:
    """Write rows, and keep the calling thread waiting while there is no room. Raises as `Insertion.attempt`."""
    return Writer().write(insertion)


class Writer:
    """Writes rows, and keeps the calling thread waiting while there is no room, unless it is interrupted. One thread at a time writes."""

    def __init__(self) -> None:
        self._room = threading.Event()
        self._interrupted = False

    def write(self, insertion: Insertion) -> InsertResult:
        """Write rows. Raises as `Insertion.attempt`.

        Raises:
            Interrupted: they wait for room, and were told to wait no longer.
        """
        while True:
            room = self._room = threading.Event()
            result = insertion.attempt(room.set)
            if result is not None:
                return result
            # In this order, an interrupt sets the room that is waited for, or is seen.
            if not self._interrupted:
                room.wait()
            if self._interrupted:
                insertion.abandon(room.set)
                raise Interrupted("the rows were not written")

    def interrupt(self) -> None:
        """Wait for room no longer, from now on. From any thread."""
        self._interrupted = True
        self._room.set()
