"""The watermark of a query, over the partitions of its relations."""

from __future__ import annotations

from streamq.streaming.records import EpochRecord
from streamq.streaming.watermarks import FOREVER_US, Reading, Watermarks, WatermarkTracker


def source(name: str, watermark: int | None, *, ended: bool = False) -> Reading:
    return Reading(name, {0: watermark}, {0: 0}, ended=ended)


def kafka(watermarks: dict[int, int | None], offsets: dict[int, int]) -> Reading:
    return Reading("k", watermarks, offsets, external=True)


def test_it_is_the_least() -> None:
    """The relation that is furthest behind decides."""
    assert WatermarkTracker(30).advance([source("a", 5), source("b", 3)], 0).query == 3


def test_there_is_none_before_every_partition_has_one() -> None:
    """A relation without an event time yet holds all back."""
    marks = WatermarkTracker(30).advance([source("a", 5), source("b", None)], 0)
    assert marks == Watermarks(None, {"a": 5, "b": None})


def test_relations_without_event_time_do_not_count() -> None:
    """A table holds nobody back."""
    assert WatermarkTracker(30).advance([source("a", 5), Reading("t", {}, {0: 9})], 0) == Watermarks(5, {"a": 5})


def test_it_never_goes_back() -> None:
    """A partition that comes late does not take time with it."""
    tracker = WatermarkTracker(30)
    tracker.advance([kafka({0: 7}, {0: 1})], 0)
    assert tracker.advance([kafka({0: 7, 1: 2}, {0: 1, 1: 1})], 1).query == 7


def test_a_source_that_has_ended_holds_nobody_back() -> None:
    """At the end of a source its watermark is past everything."""
    tracker = WatermarkTracker(30)
    assert tracker.advance([source("a", 5, ended=True), source("b", 8)], 0).query == 8
    assert tracker.advance([source("a", 5, ended=True), source("b", 8, ended=True)], 0).query == FOREVER_US


def test_an_idle_partition_of_an_external_source_holds_nobody_back() -> None:
    """Without rows for the timeout it is idle; with rows it counts again."""
    tracker = WatermarkTracker(30)
    assert tracker.advance([kafka({0: 7, 1: 2}, {0: 1, 1: 1})], 0).query == 2
    assert tracker.idle_at_s(0) == 30
    marks = tracker.advance([kafka({0: 9, 1: 2}, {0: 2, 1: 1})], 30)
    assert marks.query == 9
    assert marks.idle == {("k", 1)}
    marks = tracker.advance([kafka({0: 12, 1: 10}, {0: 3, 1: 2})], 31)
    assert (marks.query, marks.idle) == (10, frozenset())


def test_if_all_partitions_are_idle_time_stands_still() -> None:
    """Silence everywhere says nothing about event time."""
    tracker = WatermarkTracker(30)
    tracker.advance([kafka({0: 7, 1: 2}, {0: 1, 1: 1})], 0)
    marks = tracker.advance([kafka({0: 7, 1: 2}, {0: 1, 1: 1})], 60)
    assert (marks.query, marks.idle) == (2, frozenset())


def test_pushed_sources_are_never_idle() -> None:
    """A source of the database that gets no rows holds the others back however long it takes."""
    tracker = WatermarkTracker(30)
    tracker.advance([source("a", 5), source("b", 3)], 0)
    assert tracker.advance([source("a", 9), source("b", 3)], 1_000).query == 3
    assert tracker.idle_at_s(0) is None


def test_the_horizon_is_the_watermark_less_the_lateness() -> None:
    """Operators forget what is before it; at the end lateness does not matter any more."""
    record = EpochRecord(1, 0, {}, Watermarks(100), ended=False)
    assert record.epoch(30).horizon_us == 70
    assert EpochRecord(1, 0, {}, Watermarks(FOREVER_US), ended=False).epoch(30).horizon_us == FOREVER_US
    assert EpochRecord(1, 0, {}, Watermarks(None), ended=False).epoch(30).horizon_us is None
