"""Cuts: which rows of which feeds belong to the next epoch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.streaming.cuts import Inlet, take_cut
from tests.streaming.feeds import ListFeed

Epoch = dict[str, list[int]]
Writes = dict[str, list[tuple[int, list[int]]]]


def epochs(inlets: Sequence[Inlet], max_rows: int, ceiling: int = 1_000) -> list[Epoch]:
    """Take cuts until nothing is left; gives the values of each, by feed."""
    cuts = []
    while take_cut(inlets, max_rows, ceiling):
        given = {inlet.feed.name: inlet.give() for inlet in inlets}
        cuts.append({name: delta.rows.column("n").to_pylist() for name, delta in given.items() if delta is not None})
    return cuts


CASES: dict[str, tuple[Writes, int, list[Epoch]]] = {
    "what waits is one epoch": ({"a": [(1, [1, 2]), (2, [3])], "b": [(3, [4])]}, 100, [{"a": [1, 2, 3], "b": [4]}]),
    "an epoch is bounded": ({"a": [(1, [1, 2, 3])]}, 2, [{"a": [1, 2]}, {"a": [3]}]),
    "writes keep their order": ({"a": [(1, [1]), (3, [3])], "b": [(2, [2])]}, 1, [{"a": [1]}, {"b": [2]}, {"a": [3]}]),
    "a cut is a prefix": ({"a": [(2, [2]), (4, [4])], "b": [(1, [1]), (3, [3])]}, 3, [{"a": [2], "b": [1, 3]}, {"a": [4]}]),
    "history shares an epoch": (
        {"a": [(0, [1, 2, 3])], "b": [(0, [4, 5, 6])]},
        2,
        [{"a": [1], "b": [4]}, {"a": [2], "b": [5]}, {"a": [3], "b": [6]}],
    ),
    "history comes first": ({"a": [(1, [9])], "b": [(0, [1, 2])]}, 2, [{"b": [1, 2]}, {"a": [9]}]),
}


@pytest.mark.parametrize("case", CASES)
def test_cuts_of_sources(case: str) -> None:
    """Sources are cut in the order of their writes, at most `max_rows` rows at a time."""
    writes, max_rows, expected = CASES[case]
    assert epochs([Inlet(ListFeed(name, *feed), (name,)) for name, feed in writes.items()], max_rows) == expected


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 4)), max_size=20), st.integers(1, 5))
def test_every_cut_is_a_prefix_of_the_writes(writes: list[tuple[str, int]], max_rows: int) -> None:
    """However writes to several sources are mixed, each epoch takes the next rows of the whole sequence, and all are taken."""
    feeds = {name: ListFeed(name) for name in "abc"}
    everything: list[int] = []
    for sequence, (name, count) in enumerate(writes, start=1):
        values = [len(everything) + n for n in range(count)]
        feeds[name].write(sequence, values)
        everything += values
    cuts = epochs([Inlet(feed, (name,)) for name, feed in feeds.items()], max_rows)
    taken = [sorted(chain(*epoch.values())) for epoch in cuts]
    assert list(chain(*taken)) == everything
    assert all(len(epoch) <= max_rows for epoch in taken)


def test_a_later_write_waits() -> None:
    """What was written after the cut began is not taken: it may show in one feed and not yet in another."""
    feed = ListFeed("a", (1, [1]), (2, [2]))
    assert epochs([Inlet(feed, ("a",))], 10, ceiling=1) == [{"a": [1]}]
    assert feed.next_sequence == 2


def test_tables_are_there_from_the_first_epoch_on() -> None:
    """What tables held when the query began is read like one write, all tables together, before rows of sources."""
    tables = [ListFeed(name, (0, [1, 2, 3]), retracts=True) for name in ("t", "u")]
    source = ListFeed("s", (0, [7, 8]))
    inlets = [Inlet(source, ("s",)), *(Inlet(table, (table.name,)) for table in tables)]
    assert epochs(inlets, 1) == [{"t": [1, 2, 3], "u": [1, 2, 3]}, {"s": [7]}, {"s": [8]}]


def test_a_write_to_a_table_is_one_piece() -> None:
    """An epoch has a table's write whole, however small epochs are to be."""
    inlets = [Inlet(ListFeed("t", (1, [-1, 2, 3]), (2, [-2, 4]), retracts=True), ("t",))]
    assert epochs(inlets, 1) == [{"t": [1, 2, 3]}, {"t": [2, 4]}]


def test_rows_never_share_an_epoch_with_what_they_look_up() -> None:
    """An epoch ends before a row that follows a change of a looked-up table, and before a change that follows a row."""
    source = ListFeed("s", (1, [1]), (2, [2]), (4, [4]))
    table = ListFeed("t", (0, [10]), (3, [-10, 11]), retracts=True)
    inlets = [Inlet(source, ("s",)), Inlet(table, ("t",), looked_up=True)]
    assert epochs(inlets, 100) == [{"t": [10]}, {"s": [1, 2]}, {"t": [10, 11]}, {"s": [4]}]


def test_the_feed_that_is_behind_in_event_time_goes_first() -> None:
    """Of rows without an order, those of the feed with the lower watermark come first; one without any comes before all."""
    ahead, behind = ListFeed("ahead", (0, [100, 101]), watermark_us=50), ListFeed("behind", (0, [20, 90]), watermark_us=10)
    new = ListFeed("new", (0, [60]), event_time=True)
    inlets = [Inlet(feed, (feed.name,)) for feed in (ahead, behind, new)]
    assert [list(epoch) for epoch in epochs(inlets, 1)] == [["new"], ["behind"], ["behind"], ["ahead"], ["ahead"]]
