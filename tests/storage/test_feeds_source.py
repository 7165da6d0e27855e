"""Feeds of pushed sources: rows in insert order from a cut on, watermarks, retention."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.errors import SourceError, StreamClosed
from streamq.kernels.session import Interrupted
from streamq.storage.commits import Commits
from streamq.storage.feeds import WATERMARK, Start
from streamq.storage.insertion import Writer
from streamq.storage.source import PushedSource
from streamq.storage.source_feed import SourceFeed
from streamq.storage.source_options import SourceOptions
from streamq.storage.watermarks import constant_delay_us
from tests.oracle import connect_duckdb

SCHEMA = pa.schema([("id", pa.int64()), ("key", pa.string()), ("ts", pa.timestamp("us"))])
ALL = ("id", "key", "ts", "_timestamp", "_partition", "_offset")
FIVE_SECONDS = ("ts", "ts - INTERVAL '5' SECOND")
BASE = datetime(2024, 1, 1)


def source(
    *,
    shards: int = 3,
    partition_by: tuple[str, ...] = (),
    watermark: tuple[str, str] | None = None,
    options: SourceOptions | None = None,
    clock_us: Callable[[], int] | None = None,
    commits: Commits | None = None,
    max_bytes: int = 1 << 30,
) -> PushedSource:
    return PushedSource(
        "s",
        SCHEMA,
        commits=commits or Commits(),
        shards=shards,
        partition_by=partition_by,
        watermark=watermark,
        options=options or SourceOptions(),
        clock_us=clock_us,
        max_bytes=max_bytes,
    )


def rows(count: int, first: int = 0) -> pa.Table:
    ids = np.arange(first, first + count)
    keys = pa.array([f"k{i}" for i in range(7)]).take(ids % 7)
    return pa.table({"id": ids, "key": keys, "ts": pa.array(ids * 1_000_000).cast(pa.timestamp("us"))})


def drain(feed: SourceFeed, max_rows: int = 1 << 20, sequence: int = 1 << 60) -> pa.Table:
    parts = []
    while (delta := feed.take(max_rows, sequence)) is not None:
        assert 0 < delta.num_rows <= max_rows
        assert delta.weights is None
        assert delta.rows.schema == feed.schema
        parts.append(delta.rows)
    return pa.Table.from_batches(parts, feed.schema)


def ids(feed: SourceFeed, max_rows: int = 1 << 20, sequence: int = 1 << 60) -> list[int]:
    return list(drain(feed, max_rows, sequence)["id"].to_pylist())


batches = st.lists(st.integers(0, 40) | st.just(9_000), max_size=6)


@given(
    before=batches,
    after=batches,
    shards=st.integers(1, 5),
    keyed=st.booleans(),
    max_rows=st.sampled_from([7, 100, 5_000, 100_000]),
    data=st.data(),
)
def test_takes_are_the_source_in_insert_order(
    before: list[int], after: list[int], shards: int, keyed: bool, max_rows: int, data: st.DataObject
) -> None:
    """Whatever was inserted before and after the feed was opened: each row comes once, in order, and is what a snapshot has of it."""
    if sum(before) + sum(after) > 1_000:  # many takes prove no more than some
        max_rows = max(max_rows, 5_000)
    pushed = source(shards=shards, partition_by=("key",) if keyed else ())
    total = 0
    for count in before:
        total += pushed.insert(rows(count, total)).rows
    feed = pushed.follow(ALL)
    parts = [drain(feed, max_rows)] if data.draw(st.booleans()) else []
    for count in after:
        total += pushed.insert(rows(count, total)).rows
        if data.draw(st.booleans()):
            parts.append(drain(feed, max_rows))
    parts.append(drain(feed, max_rows))
    taken = pa.concat_tables(parts)
    assert np.array_equal(taken["id"], np.arange(total))
    assert taken.equals(pushed.snapshot().read(None, ALL).table.sort_by("id"))


@pytest.mark.parametrize("max_rows", [1, 3, 1000])
def test_a_take_ends_at_the_sequence_asked_for(max_rows: int) -> None:
    """A write may be taken in parts, and none is touched before its number is asked for."""
    commits = Commits()
    pushed, other = source(commits=commits), source(commits=commits)
    pushed.insert(rows(5))
    feed = pushed.follow(("id",))
    sequences = [feed.next_sequence]
    pushed.insert(rows(4, 5))
    other.insert(rows(1))
    pushed.insert(rows(4, 9))
    assert ids(feed, max_rows, 0) == [0, 1, 2, 3, 4]
    sequences.append(feed.next_sequence)
    assert feed.take(10, 1) is None
    assert ids(feed, max_rows, 3) == [5, 6, 7, 8]
    sequences.append(feed.next_sequence)
    assert ids(feed, max_rows, 4) == [9, 10, 11, 12]
    assert [*sequences, feed.next_sequence] == [0, 2, 4, None]
    assert feed.position.offsets == {0: 13}


def test_one_take_goes_through_many_writes() -> None:
    """Small writes that waited come together."""
    pushed = source()
    feed = pushed.follow(("id",))
    for number in range(50):
        pushed.insert(rows(1, number))
    delta = feed.take(1000, 1 << 60)
    assert delta is not None
    assert delta.rows["id"].to_pylist() == list(range(50))


def test_rows_in_one_piece_are_not_copied() -> None:
    """What lies in a row in a shard is given as it lies there."""
    pushed = source(shards=1)
    pushed.insert(rows(100_000))
    feed = pushed.follow(("id",))
    delta = feed.take(100_000, 0)
    assert delta is not None
    kept = pushed.snapshot().read(None, ["id"]).table["id"].chunk(0)
    assert delta.rows["id"].buffers()[1].address == kept.buffers()[1].address


@pytest.mark.parametrize(("start", "first"), [("earliest", 0), ("latest", 6), (0, 0), (15, 2), (20, 2), (21, 4), (1_000, 8)])
def test_start(start: Start, first: int) -> None:
    """A feed begins at the oldest row, the next one, or the first that arrived at a time, which may still lie ahead."""
    now = [0]
    pushed = source(clock_us=lambda: now[0])
    for number in range(3):
        now[0] += 10
        pushed.insert(rows(2, 2 * number))
    feed = pushed.follow(("id",), start)
    now[0] = 999
    pushed.insert(rows(2, 6))
    now[0] = 1_000
    pushed.insert(rows(2, 8))
    assert ids(feed) == list(range(first, 10))


def test_a_finished_source_ends_its_feeds() -> None:
    """The end comes behind the last row."""
    pushed = source()
    feed = pushed.follow(("id",))
    pushed.insert(rows(3))
    ended = [feed.ended]
    pushed.finish()
    ended.append(feed.ended)
    assert ids(feed) == [0, 1, 2]
    assert [*ended, feed.ended] == [False, False, True]


def test_a_source_may_have_ended_before() -> None:
    """A feed of a finished, empty source has ended when it opens."""
    pushed = source()
    pushed.finish()
    assert pushed.follow(("id",)).ended


def test_a_dropped_source_fails_its_feeds() -> None:
    """A query whose source is gone does not look as if it had ended."""
    pushed = source()
    feed = pushed.follow(("id",))
    pushed.drop()
    assert feed.next_sequence == 0
    assert not feed.ended
    with pytest.raises(SourceError, match="was dropped"):
        feed.take(1, 1)
    with pytest.raises(SourceError, match="has been dropped"):
        pushed.insert(rows(1))


def test_wake_is_called_for_rows_and_the_end() -> None:
    """A feed calls for each write with rows and for the end, and no more once that is stopped."""
    pushed = source()
    feed = pushed.follow(("id",))
    calls: list[int] = []
    feed.wake(lambda: calls.append(pushed.inserted))
    pushed.insert(rows(2))
    pushed.insert(rows(0))
    pushed.insert(rows(1, 2))
    assert calls == [2, 3]
    pushed.finish()
    assert calls == [2, 3, 3]
    feed.wake(None)
    pushed.drop()
    assert len(calls) == 3


def test_a_feed_without_columns_counts_rows() -> None:
    """Rows without columns have one of NULLs."""
    pushed = source(watermark=FIVE_SECONDS)
    pushed.insert(rows(3))
    delta = pushed.follow(()).take(10, 0)
    assert delta is not None
    assert delta.rows.to_pylist() == [{"__row": None}] * 3


EXPRESSIONS = [
    "ts - INTERVAL '5' SECOND",
    "ts",
    "ts - INTERVAL 2 MINUTES",
    "ts - INTERVAL 1 MONTH",
    "ts - INTERVAL '1' DAY - INTERVAL '1' HOUR",
    "date_trunc('hour', ts)",
    "CASE WHEN second(ts) < 30 THEN ts END",
    "(ts - INTERVAL '250' MILLISECOND)",
]


@given(
    times=st.lists(st.none() | st.integers(-(10**6), 10**6), max_size=60),
    cuts=st.lists(st.integers(1, 9), max_size=8),
    expression=st.sampled_from(EXPRESSIONS),
    shards=st.integers(1, 4),
    max_rows=st.integers(1, 20),
)
def test_watermarks_are_exact_by_row(times: list[int | None], cuts: list[int], expression: str, shards: int, max_rows: int) -> None:
    """W(row) is what a window function over the insert order gives, whatever the shards, the writes and the takes."""
    pushed = source(shards=shards, watermark=("ts", expression))
    feed = pushed.follow(("id", WATERMARK, "ts"))
    stamps = [None if time is None else BASE + timedelta(seconds=time, milliseconds=7) for time in times]
    table = pa.table({"id": pa.array(range(len(times)), pa.int64()), "ts": pa.array(stamps, pa.timestamp("us"))})
    first = 0
    for length in [*cuts, len(times)]:
        pushed.insert(table.slice(first, length))
        first += length
    taken = drain(feed, max_rows)
    with connect_duckdb() as con:
        con.register("rows", table)
        expected = con.sql(
            f"SELECT ({expression}) FROM (SELECT id, max(ts) OVER "
            "(ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS ts FROM rows) ORDER BY id"
        ).fetchall()
        last = con.sql(f"SELECT epoch_us({expression}) FROM (SELECT max(ts) AS ts FROM rows)").fetchall()[0][0]
    assert taken["id"].to_pylist() == list(range(len(times)))
    assert taken[WATERMARK].to_pylist() == [value for (value,) in expected]
    assert feed.watermarks == {0: last}


def test_an_infinite_event_time_is_no_subtraction() -> None:
    """DuckDB's infinity minus an interval is infinity."""
    pushed = source(watermark=FIVE_SECONDS)
    pushed.insert({"id": [1, 2], "ts": pa.array([2**63 - 1, 0]).cast(pa.timestamp("us"))})
    feed = pushed.follow(("id", WATERMARK))
    drain(feed)
    assert feed.watermarks == {0: 2**63 - 1}


def test_the_watermark_of_a_zoned_time_has_a_zone() -> None:
    """A TIMESTAMPTZ keeps its zone, and is read by DuckDB where the expression is not a constant delay."""
    schema = pa.schema([("ts", pa.timestamp("us", "UTC"))])
    for expression in ("ts - INTERVAL '1' SECOND", "date_trunc('second', ts - INTERVAL '1' SECOND)"):
        pushed = PushedSource("z", schema, commits=Commits(), shards=1, watermark=("ts", expression))
        feed = pushed.follow((WATERMARK,))
        pushed.insert({"ts": pa.array([10_000_000, 5], pa.timestamp("us", "UTC"))})
        delta = feed.take(5, 1)
        assert delta is not None
        assert delta.rows.schema.field(WATERMARK).type == pa.timestamp("us", "UTC")
        assert delta.rows.column(0).cast(pa.int64()).to_pylist() == [None, 9_000_000]


@pytest.mark.parametrize(
    ("expression", "delay"),
    [
        ("ts - INTERVAL '5' SECOND", 5_000_000),
        ('"ts" - interval 5 minutes', 300_000_000),
        ("TS", 0),
        ("ts - INTERVAL 1 MONTH", None),
        ("ts - INTERVAL '5' SECOND - INTERVAL '1' SECOND", None),
        ("ts + INTERVAL '5' SECOND", None),
        ("other", None),
    ],
)
def test_only_plain_delays_are_constant(expression: str, delay: int | None) -> None:
    """What the text does not prove is left to DuckDB."""
    assert constant_delay_us("ts", expression) == delay


def test_rows_inserted_by_threads_come_once() -> None:
    """While threads insert, feeds that open at any moment have every row once, in the order of the snapshot's cut."""
    pushed = source(shards=3)
    started = threading.Barrier(4)

    def insert(worker: int) -> None:
        started.wait()
        for number in range(60):
            pushed.insert({"id": [worker * 1_000 + number] * 3})

    threads = [threading.Thread(target=insert, args=(worker,)) for worker in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    taken: list[list[int]] = []
    feeds: list[SourceFeed] = []
    while any(thread.is_alive() for thread in threads) or not feeds:
        feeds.append(pushed.follow(("id",)))
        taken.append([])
        for feed, found in zip(feeds, taken, strict=True):
            delta = feed.take(50, 1 << 60)
            found.extend(delta.rows["id"].to_pylist() if delta is not None else [])
    for feed, found in zip(feeds, taken, strict=True):
        found.extend(ids(feed))
    expected = pushed.snapshot().read(None, ["id"]).table["id"].to_pylist()
    assert all(sorted(found) == sorted(expected) for found in taken)
    assert all(found == taken[0] for found in taken)


RETENTIONS = [SourceOptions(retention_rows=10), SourceOptions(retention_bytes=400), SourceOptions(retention=timedelta(microseconds=10))]


@pytest.mark.parametrize("options", RETENTIONS, ids=["rows", "bytes", "time"])
def test_an_insert_waits_for_what_a_feed_has_not_taken(options: SourceOptions) -> None:
    """Past the retention nothing unread is dropped: there is no room until the feed has taken it."""
    now = [0]
    pushed = source(options=options, clock_us=lambda: now[0])
    feed = pushed.follow(("id",))
    pushed.insert(rows(20))
    now[0] = 100
    calls: list[str] = []
    insertion = pushed.insertion(rows(5, 20))
    assert insertion.attempt(lambda: calls.append("room")) is None
    assert pushed.snapshot().rows == 20
    assert calls == []
    assert ids(feed) == list(range(20))
    assert calls == ["room"]
    result = insertion.attempt(lambda: calls.append("again"))
    assert result is not None
    assert (result.first_offset, result.last_offset) == (20, 24)
    assert ids(feed) == list(range(20, 25))
    assert calls == ["room"]


@pytest.mark.parametrize("release", ["close", "drop", "finish", "close source"])
def test_waiting_inserts_are_told_whatever_ends_their_wait(release: str) -> None:
    """Closing the feed makes room; a source that is gone, finished or closed refuses the rows."""
    pushed = source(options=SourceOptions(retention_rows=10))
    feed = pushed.follow(("id",))
    pushed.insert(rows(20))
    calls: list[str] = []
    insertion = pushed.insertion(rows(5, 20))
    assert insertion.attempt(lambda: calls.append("room")) is None
    {"close": feed.close, "drop": pushed.drop, "finish": pushed.finish, "close source": pushed.close}[release]()
    assert calls == ["room"]
    if release == "close":
        assert insertion.attempt(lambda: None) is not None
        assert pushed.rows == 10
    else:
        with pytest.raises(StreamClosed if release == "close source" else SourceError):
            insertion.attempt(lambda: None)


def test_an_abandoned_wait_is_forgotten() -> None:
    """Who gave up is not called."""
    pushed = source(options=SourceOptions(retention_rows=10))
    feed = pushed.follow(("id",))
    pushed.insert(rows(20))
    calls: list[str] = []

    def notify() -> None:
        calls.append("room")

    insertion = pushed.insertion(rows(5, 20))
    assert insertion.attempt(notify) is None
    insertion.abandon(notify)
    feed.close()
    assert calls == []


def test_a_thread_that_inserts_waits_for_the_reader() -> None:
    """`insert` returns when its rows are in, however slow the reader, and the reader misses none."""
    pushed = source(options=SourceOptions(retention_rows=10))
    feed = pushed.follow(("id",))
    found: list[int] = []
    most = [0]

    def insert() -> None:
        for number in range(200):
            pushed.insert(rows(1, number))
            most[0] = max(most[0], pushed.rows)
        pushed.finish()

    arrived = threading.Event()
    feed.wake(arrived.set)
    thread = threading.Thread(target=insert)
    thread.start()
    while not feed.ended:
        arrived.wait()
        arrived.clear()
        found += ids(feed, 3)
    thread.join()
    assert found == list(range(200))
    assert most[0] <= 11


def test_a_thread_that_waits_for_room_can_be_interrupted() -> None:
    """Rows that wait when their writer is interrupted are not written, then or later."""
    pushed = source(options=SourceOptions(retention_rows=10))
    feed = pushed.follow(("id",))
    pushed.insert(rows(20))
    writer = Writer()
    failures: list[Interrupted] = []

    def insert() -> None:
        try:
            writer.write(pushed.insertion(rows(5, 20)))
        except Interrupted as error:
            failures.append(error)

    thread = threading.Thread(target=insert)
    thread.start()
    writer.interrupt()
    thread.join()
    feed.close()
    assert len(failures) == 1
    assert pushed.inserted == 20


def test_followers_are_counted() -> None:
    """Statistics tell how many feeds follow and how much the slowest has left."""
    pushed = source()
    pushed.insert(rows(10))
    slow, fast = pushed.follow(("id",)), pushed.follow(("id",))
    ids(fast)
    slow.take(4, 0)
    assert (pushed.followers.count, pushed.followers.behind_rows) == (2, 6)
    assert 0 < pushed.followers.behind_bytes < pushed.bytes
    slow.close()
    assert (pushed.followers.count, pushed.followers.behind_rows, pushed.followers.behind_bytes) == (1, 0, 0)
