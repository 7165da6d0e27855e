"""Inserts that may have to wait: rows that have been converted, and are written as soon as there is room for them.

Nothing here waits but `write`. Whoever can wait without a thread calls `attempt` again when it is notified.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

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
    while True:
        room = threading.Event()
        result = insertion.attempt(room.set)
        if result is not None:
            return result
        room.wait()
