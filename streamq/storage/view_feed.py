"""What a continuous query reads of a materialized view: its rows, then its changes, summed up where the query is slow."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from itertools import groupby
from typing import Protocol

from streamq.storage.barriers import Reached
from streamq.storage.table_feed import Change, ChangeLog, TableFeed
from streamq.storage.versions import TableVersion

BACKLOG_BYTES = 16 << 20
"""Changes that wait for one follower beyond this are summed up: what is left is at most the view, out and in."""


class ViewLog(ChangeLog, Protocol):
    """The view, as its feeds see it."""

    @property
    def reached(self) -> Reached:
        """Up to which write its rows are."""

    @property
    def complete(self) -> bool:
        """It changes no more."""

    def request(self, place: Reached, arrived: Callable[[], object]) -> None:
        """Have the view stop at a place."""


class ViewFeed(TableFeed):
    """A `Feed` of one materialized view. A change has the number of the last write that it results from."""

    def __init__(self, view: ViewLog, columns: tuple[str, ...] | None, version: TableVersion) -> None:
        super().__init__(view, columns, version)
        self._view = view
        self._limit = BACKLOG_BYTES
        self._stops: tuple[int, ...] = ()

    @property
    def reached(self) -> Reached:
        """Up to which write the feed has, or had, all changes; forever, if it can only fail."""
        return self._view.reached

    @property
    def ended(self) -> bool:
        """The view changes no more, and all was taken."""
        return self._view.complete and self.next_sequence is None

    def stop_at(self, place: Reached) -> None:
        """Have the view stop at a place, and keep its changes up to there apart from later ones. Who calls holds the commit lock."""
        self._stops = (*self._stops, place.sequence)
        self._view.request(place, self.call)

    def passed(self, sequence: int) -> None:
        """Forget the stops up to `sequence`. Who calls holds the commit lock."""
        self._stops = tuple(stop for stop in self._stops if stop > sequence)

    def settle(self) -> None:
        """Make one change, with the last number, of all that wait between two stops, if they are many."""
        if self.backlog <= self._limit:
            return
        with self._taking:
            # A stop is never before a change that is there, so one that comes meanwhile parts nothing of these.
            stops = sorted(self._stops)
            waiting = list(self._pending)
            runs = [list(run) for _, run in groupby(waiting, key=lambda entry: bisect_left(stops, entry[0]))]
            summed = [(run[-1][0], self._table.net([change for _, change in run])) for run in runs]
            left: list[tuple[int, Change]] = [(number, change) for number, change in summed if change.rows]
            size = sum(change.bytes for _, change in left)
            self._went += sum(change.bytes for _, change in waiting) - size
            # Not changed in place: the reader may be looking.
            self._pending = left
            # Not again before as much has come once more: the work stays in proportion to the changes.
            self._limit = max(BACKLOG_BYTES, 2 * size)
