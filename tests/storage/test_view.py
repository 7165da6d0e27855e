"""Materialized views: what epochs make of them, what followers get."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.errors import DataError, SourceError
from streamq.storage.barriers import NOTHING, Reached
from streamq.storage.commits import Commits
from streamq.storage.cut import Cut
from streamq.storage.stored import TableStore
from streamq.storage.view import MaterializedView
from streamq.storage.view_feed import BACKLOG_BYTES, ViewFeed

SCHEMA = pa.schema([("k", pa.float64()), ("v", pa.string())])
CHANGES = pa.schema([pa.field("_op", pa.string()), *SCHEMA])
Row = tuple[object, object]


@pytest.fixture
def store() -> Iterator[TableStore]:
    opened = TableStore(Commits())
    yield opened
    opened.close()


def view(store: TableStore, key: tuple[str, ...] | None) -> MaterializedView:
    return MaterializedView("V 1", SCHEMA, sql="SELECT …", key=key, reads=frozenset({"s"}), store=store)


def apply(store: TableStore, made: MaterializedView, changes: list[pa.RecordBatch]) -> None:
    """Let a write of another relation come, and the view with it."""
    with store.commits.commit() as number:
        place = Reached(number, float(number))
    made.apply(changes, place)


def batch(*rows: tuple[str, object, object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(CHANGES.names, row, strict=True)) for row in rows], schema=CHANGES)


def contents(made: MaterializedView) -> Counter[Row]:
    return Counter((row["k"], row["v"]) for row in made.snapshot().read(None, ["k", "v"]).table.to_pylist())


def follow(made: MaterializedView, store: TableStore) -> ViewFeed:
    with store.writing:
        return made.follow(None)


def fold(feed: ViewFeed, folded: Counter[Row]) -> int:
    count = 0
    while (delta := feed.take(1_000, 1 << 60)) is not None:
        weights = [1] * delta.num_rows if delta.weights is None else delta.weights.tolist()
        for weight, row in zip(weights, delta.rows.to_pylist(), strict=True):
            folded[row["k"], row["v"]] += weight
        count += delta.num_rows
    return count


def test_upserts_by_key(store: TableStore) -> None:
    """Inserts add, updates replace, deletes remove; NULL is a key; an epoch is no write of its own."""
    made = view(store, ("k",))
    apply(store, made, [batch(("insert", 1, "a"), ("insert", None, "n")), batch(("insert", 2, "b"))])
    assert store.commits.sequence == 1
    before = made.snapshot()
    apply(store, made, [batch(("delete", 1, "a"), ("update", None, "m"), ("insert", 3, "c"))])
    assert contents(made) == Counter([(None, "m"), (2, "b"), (3, "c")])
    assert before.rows == 3
    assert (made.rows, made.reached.sequence, store.commits.sequence) == (3, 2, 2)


def test_a_global_aggregate_has_one_row(store: TableStore) -> None:
    """With the empty key every row replaces the last."""
    made = view(store, ())
    for number in range(3):
        apply(store, made, [batch(("update" if number else "insert", number, "x"))])
    assert contents(made) == Counter([(2, "x")])


def test_an_append_changelog_adds(store: TableStore) -> None:
    """Batches without `_op` are rows."""
    made = view(store, None)
    for _ in range(2):
        apply(store, made, [pa.record_batch({"k": [1.0], "v": ["a"]}, schema=SCHEMA)])
    assert contents(made) == Counter({(1, "a"): 2})


def test_a_bag_loses_single_instances(store: TableStore) -> None:
    """Without a key a delete removes one of equal rows, NULL and NaN among them."""
    made = view(store, None)
    apply(store, made, [batch(("insert", 1, "a"), ("insert", 1, "a"), ("insert", math.nan, None), ("insert", math.nan, None))])
    apply(store, made, [batch(("delete", 1, "a"), ("delete", math.nan, None))])
    assert sorted(map(str, contents(made).elements())) == ["(1.0, 'a')", "(nan, None)"]


def test_without_changes_it_is_further_all_the_same(store: TableStore) -> None:
    """Where it has come is noted, and its followers have nothing to take."""
    made = view(store, None)
    feed = follow(made, store)
    apply(store, made, [batch()])
    assert (made.reached.sequence, feed.next_sequence) == (1, None)


def test_a_slow_follower_gets_the_net_change(store: TableStore) -> None:
    """What waits for it is bounded by the view, not by the epochs; another follower has every one; both fold to the view."""
    made = view(store, ("k",))
    slow, fast = follow(made, store), follow(made, store)
    folded: tuple[Counter[Row], Counter[Row]] = (Counter(), Counter())
    text = "x" * 1_000_000
    rows = 0
    for epoch in range(30):
        apply(store, made, [batch(("update" if epoch else "insert", 1, f"{epoch}{text}"))])
        rows += fold(fast, folded[1])
        assert slow.behind[1] <= BACKLOG_BYTES + 3_000_000
    assert rows == 59
    assert fold(slow, folded[0]) < 30
    assert +folded[0] == +folded[1] == contents(made)


def test_changes_have_the_number_of_the_write_they_result_from(store: TableStore) -> None:
    """Not one of their own: who reads the view and what it is made of takes both at one place."""
    made = view(store, None)
    feed = follow(made, store)
    apply(store, made, [])
    apply(store, made, [batch(("insert", 1, "a"))])
    assert (feed.next_sequence, store.commits.sequence) == (2, 2)
    assert feed.take(10, 1) is None
    assert feed.take(10, 2) is not None


def test_a_request_stops_the_view_once(store: TableStore) -> None:
    """Who asks for a place is called when the view is there, not before; who asks for one where it is, at once."""
    made = view(store, None)
    called: list[int] = []
    with store.commits.commit() as number:
        place = Reached(number, 0.0)
    with store.commits.cut():
        made.request(place, lambda: called.append(made.reached.sequence))
    assert (made.next_stop(NOTHING), called) == (place, [])
    made.apply([], place)
    assert (made.next_stop(NOTHING), called) == (None, [1])
    with store.commits.cut():
        made.request(place, lambda: called.append(made.reached.sequence))
    assert called == [1, 1]


def test_views_below_stop_where_one_is_asked_to(store: TableStore) -> None:
    """A request goes down to what the view reads, before anything there can pass the place."""
    lower = view(store, None)
    feed = follow(lower, store)
    upper = MaterializedView("upper", SCHEMA, sql="SELECT …", key=None, reads=frozenset({"v 1"}), store=store)
    upper.kept_by([feed])
    with store.commits.commit() as number:
        place = Reached(number, 0.0)
    with store.commits.cut():
        upper.request(place, lambda: None)
    assert (lower.next_stop(NOTHING), upper.next_stop(NOTHING)) == (place, place)


def test_changes_on_both_sides_of_a_stop_are_summed_up_apart(store: TableStore) -> None:
    """A slow follower that has asked for a place finds the view there, whatever came behind it."""
    made = view(store, ("k",))
    feed = follow(made, store)
    text = "x" * (BACKLOG_BYTES // 4)
    apply(store, made, [batch(("insert", 1, "0"))])
    apply(store, made, [batch(("update", 1, f"1{text}"))])
    with store.commits.cut() as last:
        feed.stop_at(Reached(last, 0.0))
    for number in range(2, 9):
        apply(store, made, [batch(("update", 1, f"{number}{text}"))])
    folded: Counter[Row] = Counter()
    delta = feed.take(10, 2)
    assert delta is not None
    assert [row["v"][0] for row in delta.rows.to_pylist()] == ["1"]
    assert feed.take(10, 2) is None
    folded[1.0, f"1{text}"] += 1
    fold(feed, folded)
    assert +folded == contents(made)


def test_a_view_that_has_failed_says_so_to_all(store: TableStore) -> None:
    """Whoever reads, follows or waits gets the error, of its kind, with the view's name."""
    made = view(store, None)
    feed = follow(made, store)
    with store.commits.cut() as last:
        cut = Cut({"v": made}, store.commits)
    assert (last, cut.ready) == (0, False)
    made.end(DataError("1//0"))
    assert cut.ready
    for read in (cut.snapshots, made.snapshot, lambda: feed.take(1, 1)):
        with pytest.raises(DataError, match="materialized view V 1 has failed: 1//0"):
            read()
    assert feed.next_sequence == 0


def test_a_dropped_view_tells_who_follows_or_waits(store: TableStore) -> None:
    """With an error that says that it was dropped."""
    made = view(store, None)
    feed = follow(made, store)
    cut = Cut({"v": made}, store.commits)
    with store.writing:
        made.drop()
    for read in (cut.snapshots, lambda: feed.take(1, 1)):
        with pytest.raises(SourceError, match="V 1 was dropped"):
            read()


def test_a_feed_ends_with_its_view(store: TableStore) -> None:
    """Once everything was taken, and not before."""
    made = view(store, None)
    feed = follow(made, store)
    apply(store, made, [batch(("insert", 1, "a"))])
    made.end(None)
    assert not feed.ended
    fold(feed, Counter())
    assert feed.ended


def test_a_stale_view_is_good_enough_where_it_may_be(store: TableStore) -> None:
    """A cut waits for a view, unless it has all that is older than the staleness that its reader accepts."""
    made = view(store, None)
    apply(store, made, [batch(("insert", 1, "a"))])
    with store.commits.commit():
        pass
    assert made.reached == Reached(1, 1.0)
    assert not Cut({"v": made}, store.commits, None, lambda: 1.0).ready
    assert not Cut({"v": made}, store.commits, 5.0, lambda: 6.1).ready
    cut = Cut({"v": made}, store.commits, 5.0, lambda: 6.0)
    assert cut.ready
    assert cut.snapshots()["v"].rows == 1


rows = st.lists(st.tuples(st.sampled_from([None, 0.0, 1.0]), st.sampled_from(["a", "b"])), max_size=6)


@given(st.lists(rows, max_size=8), st.integers(0, 7), st.booleans())
def test_followers_fold_to_the_view(states: list[list[Row]], opened_at: int, read_often: bool) -> None:
    """Whatever state follows the other: the view has it, and the changes of a feed that was opened in between add up to it."""
    store = TableStore(Commits())
    made = view(store, None)
    feed: ViewFeed | None = None
    folded: Counter[Row] = Counter()
    current: Counter[Row] = Counter()
    for number, state in enumerate(states):
        if number == opened_at:
            feed = follow(made, store)
        target = Counter(state)
        changes = [("delete", *row) for row in (current - target).elements()] + [("insert", *row) for row in (target - current).elements()]
        apply(store, made, [batch(*changes)])
        current = target
        assert contents(made) == current
        if feed is not None and read_often:
            fold(feed, folded)
            assert +folded == current
    if feed is not None:
        fold(feed, folded)
        assert +folded == current
    store.close()
