"""Cuts: which rows of which feeds belong to the next epoch.

A cut over the relations of the database is a prefix of their writes, in the order of `Commits.sequence`. What was there when the
query began has no order any more, nor have rows of external relations: there, the feed that is furthest behind in event time
goes first, which keeps little waiting for its other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from streamq.operators.base import Delta
from streamq.operators.deltas import joined
from streamq.storage.feeds import Feed

EPOCH_ROWS = 131_072
"""The most rows of an epoch whose size nobody asked for."""
FULL_ROWS = EPOCH_ROWS // 4 * 3
"""An epoch of so many rows is not filled up from a feed that it has rows of: to put two batches together copies both."""


@dataclass(eq=False, slots=True)
class Inlet:
    """A feed and what its rows are for.

    `reads` are the nodes that take them. `looked_up` tells that a `Lookup` reads them: rows of other feeds see them in the order of
    the writes, so the two kinds never share an epoch.
    """

    feed: Feed
    reads: tuple[str, ...]
    looked_up: bool = False
    awaited: bool = True
    """What it gives can still change the answer, so the query ends when this has ended. Not so where it is only looked up."""
    taken: list[Delta] = field(default_factory=list)

    @property
    def contents(self) -> bool:
        """The next rows are what a table held when the query began, which is read like one write, whatever its size."""
        return self.feed.retracts and self.feed.next_sequence == 0

    def give(self) -> Delta | None:
        """Hand over what was taken, as one delta; None if nothing was."""
        taken, self.taken = self.taken, []
        return joined(taken) if taken else None


def take_cut(inlets: Sequence[Inlet], max_rows: int, ceiling: int) -> int:
    """Take the next epoch's rows into the inlets; gives their number.

    `ceiling` is a number of the database's sequence that was read before: later writes wait, because they may show in one
    feed and not yet in another.

    Raises:
        SourceError: a file is gone, changed or corrupt.
    """
    rows = 0
    kind: bool | None = None
    while (inlet := _next(inlets, ceiling)) is not None:
        contents = inlet.contents
        if (rows >= max_rows and not contents) or (kind is not None and kind != inlet.looked_up and not contents):
            break
        if rows >= FULL_ROWS and inlet.taken and not contents:
            break
        room = max(1, (max_rows - rows) // _sharing(inlets, inlet))
        sequence = inlet.feed.next_sequence
        delta = inlet.feed.take(room, _last_before_others(inlets, inlet, ceiling))
        if delta is None:
            if inlet.feed.next_sequence == sequence:
                break
            continue  # it only seemed to have something
        inlet.taken.append(delta)
        rows += delta.num_rows
        kind = inlet.looked_up or bool(kind)
    return rows


def is_drained(inlets: Sequence[Inlet], ceiling: int) -> bool:
    """Tell whether nothing up to a ceiling is left."""
    return _next(inlets, ceiling) is None


def _next(inlets: Sequence[Inlet], ceiling: int) -> Inlet | None:
    waiting = [inlet for inlet in inlets if _waits(inlet.feed.next_sequence, ceiling)]
    return min(waiting, key=_turn, default=None)


def _waits(sequence: int | None, ceiling: int) -> bool:
    return sequence is not None and sequence <= ceiling


def _turn(inlet: Inlet) -> tuple[int, bool, bool, bool, int, int]:
    """Tell whose turn it is, the least first: by sequence, then tables, then whoever is behind in event time, then in rows."""
    times = inlet.feed.watermarks.values()
    behind = min((time for time in times if time is not None), default=0)
    started = bool(times) and None not in times
    sequence = inlet.feed.next_sequence
    assert sequence is not None
    return sequence, not inlet.looked_up, not inlet.feed.retracts, started, behind, sum(inlet.feed.position.offsets.values())


def _sharing(inlets: Sequence[Inlet], chosen: Inlet) -> int:
    """Count the feeds that have rows without an order: they share an epoch. A write that has a number is alone."""
    if chosen.feed.next_sequence != 0:
        return 1
    return sum(inlet.feed.next_sequence == 0 and inlet.looked_up == chosen.looked_up for inlet in inlets)


def _last_before_others(inlets: Sequence[Inlet], chosen: Inlet, ceiling: int) -> int:
    """Give the number of the last write that no other feed has one before."""
    sequences = [inlet.feed.next_sequence for inlet in inlets if inlet is not chosen]
    others = min((sequence for sequence in sequences if sequence is not None), default=ceiling + 1)
    own = chosen.feed.next_sequence
    assert own is not None
    return max(own, min(ceiling, others - 1))
