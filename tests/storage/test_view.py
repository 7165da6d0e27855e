"""Materialized views: what epochs make of them, what followers get."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamq.storage.commits import Commits
from streamq.storage.stored import TableStore
from streamq.storage.table_feed import BACKLOG_BYTES, TableFeed
from streamq.storage.view import MaterializedView

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


def batch(*rows: tuple[str, object, object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(CHANGES.names, row, strict=True)) for row in rows], schema=CHANGES)


def contents(made: MaterializedView) -> Counter[Row]:
    return Counter((row["k"], row["v"]) for row in made.snapshot().read(None, ["k", "v"]).table.to_pylist())


def follow(made: MaterializedView, store: TableStore) -> TableFeed:
    with store.writing:
        return made.follow(None)


def fold(feed: TableFeed, folded: Counter[Row]) -> int:
    count = 0
    while (delta := feed.take(1_000, 1 << 60)) is not None:
        weights = [1] * delta.num_rows if delta.weights is None else delta.weights.tolist()
        for weight, row in zip(weights, delta.rows.to_pylist(), strict=True):
            folded[row["k"], row["v"]] += weight
        count += delta.num_rows
    return count


def test_upserts_by_key(store: TableStore) -> None:
    """Inserts add, updates replace, deletes remove; NULL is a key; an epoch is one write."""
    made = view(store, ("k",))
    made.apply([batch(("insert", 1, "a"), ("insert", None, "n")), batch(("insert", 2, "b"))], 1)
    assert store.commits.sequence == 1
    before = made.snapshot()
    made.apply([batch(("delete", 1, "a"), ("update", None, "m"), ("insert", 3, "c"))], 2)
    assert contents(made) == Counter([(None, "m"), (2, "b"), (3, "c")])
    assert before.rows == 3
    assert (made.rows, made.epoch, store.commits.sequence) == (3, 2, 2)


def test_a_global_aggregate_has_one_row(store: TableStore) -> None:
    """With the empty key every row replaces the last."""
    made = view(store, ())
    for number in range(3):
        made.apply([batch(("update" if number else "insert", number, "x"))], number + 1)
    assert contents(made) == Counter([(2, "x")])


def test_an_append_changelog_adds(store: TableStore) -> None:
    """Batches without `_op` are rows."""
    made = view(store, None)
    for number in range(2):
        made.apply([pa.record_batch({"k": [1.0], "v": ["a"]}, schema=SCHEMA)], number)
    assert contents(made) == Counter({(1, "a"): 2})


def test_a_bag_loses_single_instances(store: TableStore) -> None:
    """Without a key a delete removes one of equal rows, NULL and NaN among them."""
    made = view(store, None)
    made.apply([batch(("insert", 1, "a"), ("insert", 1, "a"), ("insert", math.nan, None), ("insert", math.nan, None))], 1)
    made.apply([batch(("delete", 1, "a"), ("delete", math.nan, None))], 2)
    assert sorted(map(str, contents(made).elements())) == ["(1.0, 'a')", "(nan, None)"]


def test_an_epoch_without_changes_is_no_write(store: TableStore) -> None:
    """It is only noted."""
    made = view(store, None)
    made.apply([batch()], 7)
    assert (made.epoch, store.commits.sequence) == (7, 0)


def test_a_slow_follower_gets_the_net_change(store: TableStore) -> None:
    """What waits for it is bounded by the view, not by the epochs; another follower has every one; both fold to the view."""
    made = view(store, ("k",))
    slow, fast = follow(made, store), follow(made, store)
    folded: tuple[Counter[Row], Counter[Row]] = (Counter(), Counter())
    text = "x" * 1_000_000
    rows = 0
    for epoch in range(60):
        made.apply([batch(("update" if epoch else "insert", 1, f"{epoch}{text}"))], epoch)
        rows += fold(fast, folded[1])
        assert slow.behind[1] <= BACKLOG_BYTES + 3_000_000
    assert rows == 119
    assert fold(slow, folded[0]) < 60
    assert +folded[0] == +folded[1] == contents(made)


rows = st.lists(st.tuples(st.sampled_from([None, 0.0, 1.0]), st.sampled_from(["a", "b"])), max_size=6)


@settings(max_examples=25, deadline=None)
@given(st.lists(rows, max_size=8), st.integers(0, 7), st.booleans())
def test_followers_fold_to_the_view(states: list[list[Row]], opened_at: int, read_often: bool) -> None:
    """Whatever state follows the other: the view has it, and the changes of a feed that was opened in between add up to it."""
    store = TableStore(Commits())
    made = view(store, None)
    feed: TableFeed | None = None
    folded: Counter[Row] = Counter()
    current: Counter[Row] = Counter()
    for number, state in enumerate(states):
        if number == opened_at:
            feed = follow(made, store)
        target = Counter(state)
        changes = [("delete", *row) for row in (current - target).elements()] + [("insert", *row) for row in (target - current).elements()]
        made.apply([batch(*changes)], number)
        current = target
        assert contents(made) == current
        if feed is not None and read_often:
            fold(feed, folded)
            assert +folded == current
    if feed is not None:
        fold(feed, folded)
        assert +folded == current
    store.close()
