"""Static partitions: ranges, residues, batches in turn."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.plan.partitioning import assign_ranges, assign_round_robin, choose_partitions


def test_ten_thousand_rows_in_four() -> None:
    """10,000 rows in 4 partitions are four ranges of 2,500, the last without an end."""
    assert choose_partitions(10_000, 4).strategy == "range"
    assert assign_ranges(10_000, 4) == ((0, 2500), (2500, 5000), (5000, 7500), (7500, None))


def test_fifty_rows_in_four() -> None:
    """50 rows in 4 partitions are 12 a partition, too few for ranges."""
    info = choose_partitions(50, 4)
    assert (info.rows_per_partition, info.strategy) == (12, "modulo")


@pytest.mark.parametrize(("rows", "strategy"), [(399, "modulo"), (400, "range"), (0, "modulo"), (1, "modulo")])
def test_the_limit_is_a_hundred_rows_each(rows: int, strategy: str) -> None:
    """Ranges begin at 100 rows a partition, rounded down."""
    assert choose_partitions(rows, 4).strategy == strategy


@pytest.mark.parametrize("settings", [{"exact": False}, {"ordered": False}])
def test_estimates_and_unordered_rows_get_no_ranges(settings: dict[str, bool]) -> None:
    """A range needs an order and an exact count."""
    assert choose_partitions(10_000, 4, **settings).strategy == "modulo"


def test_an_unknown_count_gets_no_ranges() -> None:
    """Without a count there are no bounds."""
    assert choose_partitions(None, 4).strategy == "modulo"


@given(
    st.sampled_from([0, 1, 2, 99, 100, 101, 399, 400, 401, 10_000, 10_007]),
    st.sampled_from([1, 2, 3, 4, 7, 8, 255, 256]),
    st.integers(0, 500),
)
def test_ranges_cover_every_row_once(rows: int, partitions: int, uncounted: int) -> None:
    """Every row is in one range, rows beyond the count too."""
    ranges = assign_ranges(rows, partitions)
    found = [
        number for number in range(rows + uncounted) if sum(first <= number < (end or number + 1) for first, end in ranges if end != 0) == 1
    ]
    assert len(found) == rows + uncounted


@given(st.integers(0, 1000), st.sampled_from([1, 2, 3, 7, 8, 255, 256]))
def test_batches_are_dealt_in_turn(batches: int, partitions: int) -> None:
    """Batch i goes to partition i mod n, so partitions differ by one batch at most and none is lost."""
    dealt = assign_round_robin(range(batches), partitions)
    assert len(dealt) == partitions
    assert all(batch % partitions == number for number, part in enumerate(dealt) for batch in part)
    assert sorted(batch for part in dealt for batch in part) == list(range(batches))
    assert max(map(len, dealt)) - min(map(len, dealt)) <= 1
