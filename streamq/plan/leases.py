"""Hands the splits of a scan out to workers, as leases that start large and end small.

Scheduling by factoring: leases come in rounds of one a worker, all of a round about equal, each round a share of what is left.
So few leases cover most rows, and the small ones at the end even out workers of different speed. Pure and synchronous: whoever
calls decides when.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamq.plan.splits import Lease, Split

STREAMED_ROWS = 4_000_000
"""A lease whose rows go straight to the reader is no larger: rows of other leases should not have to wait for its end."""
STREAMED_SHARE = 0.8
"""The share of a round where rows go to the reader: a lease costs little more than its rows, so there may be many."""
LEASES_A_WORKER = 16
"""A lease where rows go to the reader is no smaller than it would be if each worker had this many alike, but for the splits' size."""
KEPT_SHARE = 0.8
"""The share of the first round where rows are kept; the second is the rest. A lease may keep a row for every group, so there are few."""


class LeaseQueue:
    """The splits of one scan that are still to be read.

    Every split is in exactly one lease, whatever the order of calls. Leases are numbered by position.
    `streaming` tells that the rows go to the reader: more rounds, and no lease above `STREAMED_ROWS`.

    >>> splits = [Split(0, n * 10, n * 10 + 10, 10, 1) for n in range(20)]
    >>> queue = LeaseQueue(splits, workers=2)
    >>> [len(queue.take(worker).splits) for worker in (0, 1, 1, 0)]
    [8, 8, 2, 2]
    >>> queue = LeaseQueue(splits, workers=2, streaming=True)
    >>> [len(queue.take(worker).splits) for worker in (0, 1, 1, 0, 1, 1)]
    [8, 8, 1, 1, 1, 1]
    """

    def __init__(self, splits: Sequence[Split], *, workers: int, streaming: bool = False) -> None:
        if workers < 1:
            raise ValueError(f"workers must be at least 1, not {workers}")
        self._splits = tuple(splits)
        self._workers = workers
        self._streaming = streaming
        self._next = 0
        self._rows_left = sum(split.rows for split in splits)
        self._number = 0
        self._least = self._rows_left / (LEASES_A_WORKER * workers)
        self._round_rows: float = 0
        self._round_left = 0
        self._started: set[int] = set()

    def __repr__(self) -> str:
        return f"<LeaseQueue splits={len(self._splits)} left={self.splits_left} leases={self._number} workers={self._workers}>"

    @property
    def splits_left(self) -> int:
        """Splits that no worker has."""
        return len(self._splits) - self._next

    def take(self, worker: int) -> Lease | None:
        """Give the next lease to a worker; None if nothing is left."""
        self._started.add(worker)
        if self._next == len(self._splits):
            return None
        end = self._end_of_lease()
        lease = Lease(self._number, self._splits[self._next : end])
        self._number += 1
        self._next = end
        self._rows_left -= lease.rows
        return lease

    def _end_of_lease(self) -> int:
        if self._round_left == 0:
            self._begin_round()
        self._round_left -= 1
        # Workers that have not come yet find a split each: all start at once.
        last = len(self._splits) - max(0, self._workers - len(self._started))
        rows, end = self._splits[self._next].rows, self._next + 1
        while end < last and rows + self._splits[end].rows <= self._round_rows:
            rows += self._splits[end].rows
            end += 1
        return end

    def _begin_round(self) -> None:
        kept = KEPT_SHARE if self._next == 0 else 1.0
        share = STREAMED_SHARE if self._streaming else kept
        rows = self._rows_left * share / self._workers
        # Splits seldom add up to the share exactly: half a split more lets the last round be one lease a worker.
        half_split = self._rows_left / (len(self._splits) - self._next) / 2
        self._round_rows = min(max(rows, self._least), STREAMED_ROWS) if self._streaming else rows + half_split
        self._round_left = self._workers
