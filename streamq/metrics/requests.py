"""Counts the requests of a service."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from streamq.execution.histogram import NO_QUERIES, Histogram
from streamq.metrics import definitions as m
from streamq.metrics.samples import Sample


class Requests:
    """Counts on one thread, and may be read on any: dictionaries are copied in one step, and what is in them does not change."""

    def __init__(self) -> None:
        self._running = 0
        self._answered: Counter[tuple[str, str]] = Counter()
        self._durations: dict[str, Histogram] = {}

    def began(self) -> None:
        """Count a request that has come."""
        self._running += 1

    def ended(self, route: str, code: str, elapsed_s: float) -> None:
        """Count its end. There are few routes and few codes."""
        self._running -= 1
        self._answered[route, code] += 1
        self._durations[route] = self._durations.get(route, NO_QUERIES).counting(elapsed_s)

    def samples(self) -> Iterator[Sample]:
        """Give the numbers so far."""
        yield Sample(m.REQUESTS_RUNNING, (), self._running)
        for labels, count in self._answered.copy().items():
            yield Sample(m.REQUESTS, labels, count)
        for route, durations in self._durations.copy().items():
            yield Sample(m.REQUEST_DURATION, (route,), durations)
