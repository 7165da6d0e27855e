"""Paces: from cut to cut, over a real catalog whose views a test moves on."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from streamq.sql.parse import parse_one
from streamq.sql.statements import CreateSource
from streamq.storage.barriers import NOTHING, Reached
from streamq.storage.catalog import Catalog
from streamq.storage.feeds import Feed, Wanted
from streamq.storage.view import MaterializedView
from streamq.storage.view_feed import ViewFeed
from streamq.streaming.pace import ByCuts

SCHEMA = pa.schema([("n", pa.int64())])


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    opened = Catalog()
    statement = parse_one("CREATE SOURCE s (n BIGINT)")
    assert isinstance(statement, CreateSource)
    opened.create_source(statement)
    yield opened
    opened.close()


def view(catalog: Catalog, name: str) -> MaterializedView:
    made = catalog.materialized(name, SCHEMA, sql="SELECT n FROM s", key=None, reads=frozenset({"s"}))
    catalog.add(made)
    return made


def feeds(catalog: Catalog, *names: str) -> list[Feed]:
    return list(catalog.open_feeds({name: Wanted(name, None) for name in names}).values())


def pace(catalog: Catalog, opened: list[Feed], keeps: MaterializedView | None = None) -> ByCuts:
    if keeps is not None:
        keeps.kept_by([feed for feed in opened if isinstance(feed, ViewFeed)])
    return ByCuts(catalog.commits, opened, keeps, lambda: 0.0)


def write(catalog: Catalog) -> int:
    catalog.insert("s", {"n": [1]})
    return catalog.sequence


def reach(made: MaterializedView, sequence: int, rows: int = 1) -> None:
    made.apply([pa.record_batch({"n": pa.array([1] * rows, pa.int64())})], Reached(sequence, 0.0))


def test_nothing_is_read_before_the_views_are_there(catalog: Catalog) -> None:
    """The first cut is the last write at the start; until each view is there, nothing may be read."""
    made = view(catalog, "v")
    last = write(catalog)
    by_cuts = pace(catalog, feeds(catalog, "s", "v"))
    assert by_cuts.ceiling() is None
    later = write(catalog)
    assert made.next_stop(NOTHING) == Reached(last, 0.0)
    reach(made, last)
    assert by_cuts.ceiling() == last
    assert by_cuts.arrive(last)
    assert by_cuts.ceiling() == last
    assert made.next_stop(NOTHING) == Reached(later, 0.0)
    reach(made, later)
    assert by_cuts.ceiling() == later


def test_a_view_stops_where_it_was_asked_to(catalog: Catalog) -> None:
    """Later writes wait until it has been there."""
    made = view(catalog, "v")
    first = write(catalog)
    by_cuts = pace(catalog, feeds(catalog, "s"), made)
    with catalog.commits.cut():
        made.request(Reached(first, 0.0), lambda: None)
    last = write(catalog)
    assert by_cuts.ceiling() == first
    assert by_cuts.arrive(first)
    assert by_cuts.reached == Reached(first, 0.0)
    made.apply([], Reached(first, 0.0))
    assert by_cuts.ceiling() == last


def test_the_next_stop_is_seen_before_the_view_has_the_last(catalog: Catalog) -> None:
    """What the query has computed up to a place may still be on its way into the view when it goes on to the next one."""
    made = view(catalog, "v")
    by_cuts = pace(catalog, feeds(catalog, "s"), made)
    places = []
    for _ in range(2):
        places.append(write(catalog))
        with catalog.commits.cut():
            made.request(Reached(places[-1], 0.0), lambda: None)
    for place in places:
        assert by_cuts.ceiling() == place
        assert by_cuts.arrive(place)


def test_one_view_alone_is_followed_as_far_as_it_is(catalog: Catalog) -> None:
    """It is asked to stop once, for the start, and then goes its own way."""
    made = view(catalog, "v")
    (feed,) = opened = feeds(catalog, "v")
    by_cuts = pace(catalog, opened)
    first = by_cuts.ceiling()
    assert first is None
    reach(made, catalog.sequence, rows=0)
    assert by_cuts.ceiling() == 0
    assert by_cuts.arrive(0)
    write(catalog)
    place = write(catalog)
    write(catalog)
    reach(made, place)
    assert (feed.next_sequence, made.next_stop(NOTHING)) == (place, None)
    assert by_cuts.ceiling() == place


def test_views_that_went_different_ways_meet(catalog: Catalog) -> None:
    """A reader of two views waits for the one that is behind, and finds the other where it was asked to stop, not beyond."""
    one, two = view(catalog, "v"), view(catalog, "w")
    opened = feeds(catalog, "v", "w")
    by_cuts = pace(catalog, opened)
    assert by_cuts.ceiling() is None
    for made in (one, two):
        reach(made, 0, rows=0)
    assert by_cuts.ceiling() == 0
    by_cuts.arrive(0)
    place = write(catalog)
    reach(one, place)
    assert by_cuts.ceiling() == 0
    beyond = write(catalog)
    reach(one, beyond)
    reach(two, place)
    assert by_cuts.ceiling() == place
    taken = [feed.take(10, place) for feed in opened]
    assert [delta is not None and delta.num_rows for delta in taken] == [1, 1]
    assert [feed.next_sequence for feed in opened] == [beyond, None]


def test_a_view_that_has_failed_keeps_nobody_waiting(catalog: Catalog) -> None:
    """Its feed is read at once, and raises."""
    made = view(catalog, "v")
    by_cuts = pace(catalog, feeds(catalog, "s", "v"))
    assert by_cuts.ceiling() is None
    made.end(None)
    assert by_cuts.ceiling() == catalog.sequence
