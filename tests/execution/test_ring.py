"""The memory that a worker process shares with its parent: what is copied, what is lent, and when a slot is free."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa
import pytest

from streamq.execution.ring import Ring, RingFull

SLOTS = 4

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has worker processes")


@pytest.fixture
def ring() -> Iterator[Ring]:
    """Make a ring of which this process has both sides."""
    made = Ring.make(SLOTS, 4096)
    yield made
    made.close()


def rows(number: int) -> pa.RecordBatch:
    """Give a batch that is like no other."""
    return pa.record_batch({"n": [number] * 100})


def is_full(ring: Ring) -> bool:
    """Tell whether a worker would have to wait."""
    os.set_blocking(ring.free_fd, False)
    with suppress(BlockingIOError):
        os.eventfd_read(ring.free_fd)
        os.eventfd_write(ring.free_fd, 1)
        return False
    return True


def test_a_copy_frees_its_slot(ring: Ring) -> None:
    """What was copied is the reader's own, however often its slot is filled again."""
    copies = [ring.take(*ring.put([rows(number), rows(-number)])) for number in range(3 * SLOTS)]
    assert copies == [[rows(number), rows(-number)] for number in range(3 * SLOTS)]


def test_a_loan_holds_its_slot_until_the_last_of_it_is_gone(ring: Ring) -> None:
    """A lent slot is filled again once neither a batch of it nor a slice of a column is left."""
    [first, second] = ring.take(*ring.put([rows(1), rows(2)]), lend=True)
    others = [ring.put([rows(3)]) for _ in range(SLOTS - 1)]
    assert is_full(ring)
    part = second.column("n").slice(50)
    del first, second
    assert is_full(ring)
    assert part.to_pylist() == [2] * 50
    del part
    number, _ = ring.put([rows(4)])
    assert number not in [other for other, _ in others]


def test_no_more_than_half_is_lent(ring: Ring) -> None:
    """Whoever keeps what was lent has copies from then on, and the worker goes on."""
    kept = [ring.take(*ring.put([rows(number)]), lend=True) for number in range(10 * SLOTS)]
    assert kept == [[rows(number)] for number in range(10 * SLOTS)]
    del kept[0]
    free = [ring.put([rows(0)]) for _ in range(SLOTS // 2 + 1)]
    assert is_full(ring)
    assert len({number for number, _ in free}) == SLOTS // 2 + 1


def test_what_is_too_large_leaves_its_slot_free(ring: Ring) -> None:
    """A batch that no slot can hold is refused, as often as it comes."""
    for _ in range(2 * SLOTS):
        with pytest.raises(RingFull, match="1 batches do not fit into 4096 bytes"):
            ring.put([pa.record_batch({"n": range(1000)})])
    assert ring.take(*ring.put([rows(1)])) == [rows(1)]


def test_there_may_be_more_slots_than_a_page_has_bytes() -> None:
    """What tells which slots are in use is in none of them."""
    slots = 2 * mmap.PAGESIZE + 1
    made = Ring.make(slots, 1024)
    try:
        lent = [made.put([rows(0).slice(0, 1)])[0] for _ in range(slots)]
        assert lent == list(range(slots))
        assert made.take(0, 1024) == [rows(0).slice(0, 1)]
    finally:
        made.close()


def test_loans_outlive_their_ring() -> None:
    """What was lent stays as it was when the ring has been closed, and its end closes nothing else."""
    made = Ring.make(SLOTS, 4096)
    lent = made.take(*made.put([rows(7)]), lend=True)
    free_fd = made.free_fd
    made.close()
    del made
    ours = os.eventfd(0)
    try:
        os.dup2(ours, free_fd)
        assert lent == [rows(7)]
        del lent
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.eventfd_read(ours)
    finally:
        os.close(free_fd)
        if ours != free_fd:
            os.close(ours)
