"""How far a query reads next: as rows are written, or from one cut of several relations to another.

Most queries read whatever was written, in its order. One that keeps a materialized view, or reads one, goes by cuts: it chooses a place
in the order of writes, waits until the views that it reads are there, reads all relations up to it, and only then gives the changes.
The views stop at that place, and so does what they read: no two relations are ever seen at different places.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from streamq.storage.barriers import NOTHING, Reached
from streamq.storage.commits import Commits
from streamq.storage.feeds import Feed
from streamq.storage.view import MaterializedView
from streamq.storage.view_feed import ViewFeed


class Pace(Protocol):
    """Belongs to one query, and to one thread at a time."""

    @property
    def whole(self) -> bool:
        """Changes are held back until everything up to the ceiling has been read."""

    def ceiling(self) -> int | None:
        """Give the number of the last write that may be read now; None if nothing may be."""

    def arrive(self, ceiling: int) -> bool:
        """Note that nothing up to the ceiling is left; tells whether the query has come further by that."""

    @property
    def reached(self) -> Reached | None:
        """Where the query has come, if anybody waits for it there."""

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Call `notify()`, from any thread, when somebody waits for the query to come further; None stops that."""


class AsWritten:
    """Reads whatever has been written."""

    __slots__ = ("_sequence",)

    def __init__(self, sequence: Callable[[], int]) -> None:
        self._sequence = sequence

    @property
    def whole(self) -> bool:
        """Changes wait for nothing."""
        return False

    @property
    def reached(self) -> None:
        """Nobody waits for it anywhere."""

    def ceiling(self) -> int | None:
        """Give the number of the last write."""
        return self._sequence()

    def arrive(self, ceiling: int) -> bool:
        """Do nothing: every epoch is as good as another."""
        return False

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Do nothing: nobody waits."""


class ByCuts:
    """Reads from cut to cut. `keeps` is the view that the query keeps, and in which others may ask it to stop."""

    __slots__ = ("_began", "_clock_s", "_commits", "_feeds", "_keeps", "_place", "_target", "_views")

    def __init__(
        self, commits: Commits, feeds: Sequence[Feed], keeps: MaterializedView | None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._commits = commits
        self._feeds = feeds
        self._views = [feed for feed in feeds if isinstance(feed, ViewFeed)]
        self._keeps = keeps
        self._clock_s = clock_s
        self._began = False
        self._place = NOTHING
        self._target: Reached | None = None

    @property
    def whole(self) -> bool:
        """Changes wait until everything up to the cut has been read."""
        return True

    @property
    def reached(self) -> Reached | None:
        """Where the query has come, if it keeps a view."""
        return None if self._keeps is None else self._place

    def ceiling(self) -> int | None:
        """Give the place to which the query is going, once all views that it reads are there; before that, where it is."""
        if self._target is None:
            self._target = self._choose()
        if self._target is not None and all(feed.reached.sequence >= self._target.sequence for feed in self._views):
            return self._target.sequence
        return self._place.sequence if self._place is not NOTHING else None

    def arrive(self, ceiling: int) -> bool:
        """Choose another place next time, if this was the one."""
        if self._target is None or ceiling != self._target.sequence:
            return False
        self._place, self._target = self._target, None
        with self._commits.cut():
            for feed in self._views:
                feed.passed(ceiling)
        return True

    def wake(self, notify: Callable[[], None] | None) -> None:
        """See `Pace`."""
        if self._keeps is not None:
            self._keeps.wake(notify)

    def _choose(self) -> Reached | None:
        with self._commits.cut() as last:
            # The view itself may be behind: it has the place where the query stands once it is handed over.
            stop = None if self._keeps is None else self._keeps.next_stop(self._place)
            if stop is None and self._began and all(feed.next_sequence is None for feed in self._feeds):
                return None
            if self._began and len(self._feeds) == 1 and self._views:
                # What one view has is a cut already.
                there = self._views[0].reached
                target = there if stop is None else min(stop, there)
            elif stop is not None:
                # Who asked for it has asked the views that are read here, too.
                target = stop
            else:
                target = Reached(last, self._clock_s())
                for feed in self._views:
                    feed.stop_at(target)
            self._began = True
        return target if target.sequence > self._place.sequence else None
