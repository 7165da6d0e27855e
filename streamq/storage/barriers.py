"""Places in the order of writes at which materialized views stop, so that several relations are seen at one cut."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

FOREVER = 1 << 62
"""Behind every write: what has reached it changes no more."""


@dataclass(frozen=True, slots=True, order=True)
class Reached:
    """A place in the order of writes: all up to number `sequence`, and the time of a steady clock at which there were no others."""

    sequence: int
    at_s: float


NOTHING = Reached(-1, float("-inf"))
"""Before anything has been read."""
AT_THE_END = Reached(FOREVER, float("inf"))


class Barriers:
    """Those who wait for a view to be at a cut. Not thread-safe: the commit lock guards it."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Reached, Callable[[], object]]] = []

    def next(self, after: Reached) -> Reached | None:
        """Give the first place behind `after` at which the view must stop."""
        return min((place for place, _ in self._waiting if place.sequence > after.sequence), default=None)

    def add(self, place: Reached, arrived: Callable[[], object]) -> None:
        """Have `arrived()` called when the view is there."""
        self._waiting.append((place, arrived))

    def arrive(self, sequence: int) -> None:
        """Call those who wait for a place up to `sequence`, which is one of them unless the view changes no more."""
        there = [arrived for place, arrived in self._waiting if place.sequence <= sequence]
        self._waiting = [(place, arrived) for place, arrived in self._waiting if place.sequence > sequence]
        for arrived in there:
            arrived()
