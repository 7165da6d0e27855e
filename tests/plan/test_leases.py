"""Leases: every split once, large first, small last."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.plan.leases import STREAMED_ROWS, LeaseQueue
from streamq.plan.splits import Lease, Split


def splits_of(*rows: int) -> list[Split]:
    """Make splits of one unit with these numbers of rows; the last is open."""
    splits, first = [], 0
    for number, count in enumerate(rows):
        end = None if number == len(rows) - 1 else first + count
        splits.append(Split(0, first, end, count, count * 8))
        first += count
    return splits


def drain(queue: LeaseQueue, workers: int = 1) -> list[Lease]:
    """Take all leases, the workers in turn."""
    leases: list[Lease] = []
    while (lease := queue.take(len(leases) % workers)) is not None:
        leases.append(lease)
    return leases


@given(
    rows=st.lists(st.integers(0, 3_000_000), max_size=60),
    workers=st.integers(1, 9),
    streaming=st.booleans(),
    turns=st.lists(st.tuples(st.integers(0, 8), st.booleans()), max_size=80),
)
def test_every_split_is_handed_out_once(rows: list[int], workers: int, streaming: bool, turns: list[tuple[int, bool]]) -> None:
    """Whichever worker comes when, and whichever leases are given back once, the leases done have every split once, in order of number."""
    splits = splits_of(*rows)
    queue = LeaseQueue(splits, workers=workers, streaming=streaming)
    done: list[Lease] = []
    failed: set[int] = set()
    for worker, fails in turns:
        lease = queue.take(worker % workers)
        if lease is None:
            break
        if fails and lease.number not in failed:
            failed.add(lease.number)
            queue.give_back(lease)
        else:
            done.append(lease)
    done += drain(queue)
    done.sort(key=lambda lease: lease.number)
    assert [split for lease in done for split in lease.splits] == splits
    assert [lease.number for lease in done] == list(range(len(done)))


def test_leases_shrink_to_single_splits() -> None:
    """The first lease is half a worker's share of everything, the last ones single splits."""
    leases = drain(LeaseQueue(splits_of(*[100] * 64), workers=2))
    sizes = [len(lease.splits) for lease in leases]
    assert sizes[0] == 16
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-3:] == [1, 1, 1]


def test_streamed_leases_are_bounded() -> None:
    """A lease for the reader has no more than STREAMED_ROWS rows while its splits allow that."""
    leases = drain(LeaseQueue(splits_of(*[122_880] * 80), workers=2, streaming=True))
    assert max(lease.rows for lease in leases) <= STREAMED_ROWS


def test_all_workers_start_at_once() -> None:
    """With as many splits as workers, one large, everyone gets a split."""
    queue = LeaseQueue(splits_of(1_000_000, 1, 1, 1), workers=4)
    assert [len(lease.splits) for lease in (queue.take(worker) for worker in range(4)) if lease] == [1, 1, 1, 1]


def test_more_workers_than_splits() -> None:
    """Workers that come too late get nothing."""
    queue = LeaseQueue(splits_of(5), workers=8)
    assert [queue.take(worker) is None for worker in range(8)] == [False] + [True] * 7


def test_no_splits() -> None:
    """A scan without splits has no lease."""
    assert LeaseQueue([], workers=3).take(0) is None


def test_a_lease_is_given_back_once() -> None:
    """A lease that fails twice is not offered again."""
    queue = LeaseQueue(splits_of(1, 1), workers=1)
    lease = queue.take(0)
    assert lease is not None
    queue.give_back(lease)
    assert queue.take(1) == lease
    with pytest.raises(ValueError, match="given back before"):
        queue.give_back(lease)


def test_a_foreign_lease_is_refused() -> None:
    """A lease that was never handed out cannot be given back."""
    with pytest.raises(ValueError, match="not of this queue"):
        LeaseQueue(splits_of(1), workers=1).give_back(Lease(0, ()))


def test_state_is_in_the_repr() -> None:
    """The repr shows how far the queue is."""
    queue = LeaseQueue(splits_of(1, 1, 1), workers=1)
    queue.take(0)
    assert repr(queue) == "<LeaseQueue splits=3 left=2 leases=1 workers=1>"
