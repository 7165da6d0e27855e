"""A stopwatch that adds up how long tasks wait, those that still wait included."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType


class Stopwatch:
    """Runs once for everybody who is inside its `with`, or has started and not stopped it: two that wait for a second are two seconds.

    Used by one thread, read from any: what it knows is replaced in one step.
    """

    __slots__ = ("_clock", "_state")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # How many are inside, and the times at which all came out less those at which all went in.
        self._state = (0, 0.0)

    def start(self) -> None:
        """Begin a wait."""
        inside, balance = self._state
        self._state = (inside + 1, balance - self._clock())

    def stop(self) -> None:
        """End a wait."""
        inside, balance = self._state
        self._state = (inside - 1, balance + self._clock())

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    @property
    def seconds(self) -> float:
        """The time so far, over all who were or are inside."""
        inside, balance = self._state
        return balance + inside * self._clock() if inside else balance
