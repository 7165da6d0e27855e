"""Leases: every split once, large first, small last."""

from __future__ import annotations

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
    turns=st.lists(st.integers(0, 8), max_size=80),
)
def test_every_split_is_handed_out_once(rows: list[int], workers: int, streaming: bool, turns: list[int]) -> None:
    """Whichever worker comes when, the leases have every split once, in order of number."""
    splits = splits_of(*rows)
    queue = LeaseQueue(splits, workers=workers, streaming=streaming)
    leases = [lease for worker in turns if (lease := queue.take(worker % workers)) is not None]
    leases += drain(queue)
    assert [split for lease in leases for split in lease.splits] == splits
    assert [lease.number for lease in leases] == list(range(len(leases)))


def test_leases_shrink_to_single_splits() -> None:
    """Where rows go to the reader, a worker's first lease is most of its share of everything, the last ones are single splits."""
    leases = drain(LeaseQueue(splits_of(*[100] * 64), workers=2, streaming=True))
    sizes = [len(lease.splits) for lease in leases]
    assert sizes[0] == 25
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-2:] == [1, 1]


def test_kept_rows_come_from_few_leases() -> None:
    """Where rows are kept, each worker has one large lease and one that evens out."""
    queue = LeaseQueue(splits_of(*[100] * 64), workers=2)
    leases = [queue.take(worker) for worker in (0, 1, 0, 1, 0)]
    assert [len(lease.splits) if lease else 0 for lease in leases] == [26, 26, 6, 6, 0]


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


def test_state_is_in_the_repr() -> None:
    """The repr shows how far the queue is."""
    queue = LeaseQueue(splits_of(1, 1, 1), workers=1)
    queue.take(0)
    assert repr(queue) == "<LeaseQueue splits=3 left=1 leases=1 workers=1>"
