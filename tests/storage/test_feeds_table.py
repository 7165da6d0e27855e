"""Feeds of tables: the rows at the cut, then exactly what every write changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.config import Config
from streamq.errors import DataError, SourceError
from streamq.operators.base import Delta
from streamq.sql.statements import ColumnDef, CreateSource, CreateTable, Delete, Update
from streamq.storage.catalog import Catalog
from streamq.storage.feeds import Feed, Wanted
from streamq.storage.table import MAX_BACKLOG_BYTES, KeyedTable

Row = tuple[object, ...]


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    made = opened()
    yield made
    made.close()


def opened() -> Catalog:
    made = Catalog(Config(target_partitions=2))
    columns = (ColumnDef("id", "INTEGER"), ColumnDef("name", "VARCHAR"), ColumnDef("n", "DOUBLE"))
    made.create_table(CreateTable("CREATE TABLE t …", "t", columns, ("id",)))
    made.create_source(CreateSource("CREATE SOURCE s …", "s", (ColumnDef("id", "INTEGER"),), None, (), (), False))
    return made


def follow(catalog: Catalog, columns: tuple[str, ...] | None = None) -> Feed:
    return catalog.open_feeds({"t": Wanted("t", columns)})["t"]


def signed(delta: Delta) -> list[tuple[int, Row]]:
    weights = [1] * delta.num_rows if delta.weights is None else delta.weights.tolist()
    return list(zip(weights, [tuple(row.values()) for row in delta.rows.to_pylist()], strict=True))


def taken(feed: Feed, sequence: int = 1 << 60) -> list[list[tuple[int, Row]]]:
    found = []
    while (delta := feed.take(1_000, sequence)) is not None:
        found.append(signed(delta))
    return found


def contents(catalog: Catalog) -> Counter[Row]:
    table = catalog.relation("t")
    assert isinstance(table, KeyedTable)
    return Counter(tuple(row.values()) for row in table.snapshot().read(None, table.schema.names).table.to_pylist())


def update(*assignments: tuple[str, str], where: str | None = None) -> Update:
    return Update("UPDATE …", "t", assignments, where)


def delete(where: str | None = None) -> Delete:
    return Delete("DELETE …", "t", where)


def test_history_is_the_table_at_the_cut(catalog: Catalog) -> None:
    """Rows from before come as additions, in pieces if wanted; a write after the cut comes as its changes."""
    catalog.insert("t", [{"id": i} for i in range(5)])
    feed = follow(catalog, ("id",))
    catalog.insert("t", {"id": 5})
    assert feed.next_sequence == 0
    sizes = []
    while feed.next_sequence == 0:
        delta = feed.take(2, 0)
        assert delta is not None
        assert delta.weights is None
        sizes.append(delta.num_rows)
    assert sizes == [2, 2, 1]
    sequences = [feed.next_sequence]
    assert feed.take(10, catalog.sequence - 1) is None
    assert taken(feed) == [[(1, (5,))]]
    assert [*sequences, feed.next_sequence] == [catalog.sequence, None]
    assert not feed.ended
    assert feed.retracts
    assert feed.watermarks == {}


def test_an_upsert_gives_old_and_new_rows(catalog: Catalog) -> None:
    """Old rows come first; of a key that comes twice only the last row counts."""
    catalog.insert("t", [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}])
    feed = follow(catalog, ("id", "name"))
    taken(feed)
    catalog.insert("t", [{"id": 1, "name": "x"}, {"id": 3, "name": "c"}, {"id": 3, "name": "d"}, {"id": 2, "name": "b"}])
    (changes,) = taken(feed)
    assert changes[0] == (-1, (1, "a"))
    assert sorted(changes[1:]) == [(1, (1, "x")), (1, (3, "d"))]


def test_a_write_without_change_is_none(catalog: Catalog) -> None:
    """Rows written as they were, or none at all, leave nothing to take."""
    catalog.insert("t", [{"id": 1, "name": "a", "n": float("nan")}, {"id": 2}])
    feed = follow(catalog)
    taken(feed)
    catalog.insert("t", [{"id": 1, "name": "a", "n": float("nan")}, {"id": 2}])
    catalog.update(update(("name", "name")))
    catalog.update(update(("id", "id")))
    catalog.delete(delete("id > 7"))
    catalog.insert("t", [])
    assert feed.next_sequence is None


def test_update_and_delete_give_what_they_changed(catalog: Catalog) -> None:
    """UPDATE gives old and new rows, DELETE old ones; keys may change places; parameters work."""
    catalog.insert("t", [{"id": i, "name": "a", "n": i} for i in range(1, 4)])
    feed = follow(catalog, ("id", "n"))
    taken(feed)
    catalog.update(update(("n", "n + 1"), where="id <= $1"), [1])
    catalog.update(update(("id", "4 - id")))
    catalog.delete(delete("id = $id"), {"id": 2})
    first, second, third = taken(feed)
    assert first == [(-1, (1, 1.0)), (1, (1, 2.0))]
    assert sorted(second) == [(-1, (1, 2.0)), (-1, (3, 3.0)), (1, (1, 3.0)), (1, (3, 2.0))]
    assert third == [(-1, (2, 2.0))]


def test_a_failed_write_changes_nothing(catalog: Catalog) -> None:
    """What was rolled back is in no feed."""
    catalog.insert("t", [{"id": 1, "name": "x"}])
    feed = follow(catalog)
    taken(feed)
    with pytest.raises(DataError):
        catalog.update(update(("n", "CAST(name AS DOUBLE)")))
    with pytest.raises(SourceError):
        catalog.update(update(("id", "NULL")))
    assert feed.next_sequence is None


def test_dropping_a_table_fails_its_feeds(catalog: Catalog) -> None:
    """A query whose table is gone does not wait for ever."""
    feed = follow(catalog)
    calls: list[int] = []
    feed.wake(lambda: calls.append(1))
    catalog.drop("t")
    assert calls == [1]
    assert feed.next_sequence == 0
    with pytest.raises(SourceError, match="was dropped"):
        feed.take(1, 1)


def test_a_closed_feed_is_forgotten(catalog: Catalog) -> None:
    """Nothing is kept for a feed that nobody reads."""
    feed = follow(catalog)
    catalog.insert("t", {"id": 1})
    (state,) = [state for state in catalog.statistics() if state.name == "t"]
    assert (state.followers.count, state.followers.behind_rows) == (1, 1)
    feed.close()
    catalog.insert("t", {"id": 2})
    (state,) = [state for state in catalog.statistics() if state.name == "t"]
    assert (state.followers.count, state.followers.behind_rows) == (0, 0)


def test_feeds_open_at_one_cut(catalog: Catalog) -> None:
    """The history of a source and of a table end at the same write, and later writes have their numbers."""
    catalog.insert("t", {"id": 1})
    catalog.insert("s", {"id": [1, 2]})
    feeds = catalog.open_feeds({"a": Wanted("S", ("id",)), "b": Wanted("t", None), "c": Wanted("s", ("id",), "latest")})
    before = catalog.sequence
    catalog.insert("s", {"id": [3]})
    catalog.insert("t", {"id": 2})
    assert [feed.next_sequence for feed in feeds.values()] == [0, 0, before + 1]
    sizes = {key: [delta.num_rows for delta in iter(lambda feed=feed: feed.take(9, before), None)] for key, feed in feeds.items()}  # type: ignore[misc]
    assert sizes == {"a": [2], "b": [1], "c": []}
    assert [feed.next_sequence for feed in feeds.values()] == [before + 1, before + 2, before + 1]


ids = st.integers(0, 6)
names = st.sampled_from(["a", "b", None])
writes = st.one_of(
    st.tuples(st.just("upsert"), st.lists(st.tuples(ids, names), max_size=5)),
    st.tuples(st.just("update"), st.sampled_from(["name = 'a'", "id < 3", "name IS NULL"])),
    st.tuples(st.just("rotate"), st.integers(1, 6)),
    st.tuples(st.just("delete"), ids),
    st.tuples(st.just("open"), st.none()),
    st.tuples(st.just("take"), st.none()),
)


@given(st.lists(writes, max_size=14))
def test_folded_changes_are_the_table(steps: list[tuple[str, object]]) -> None:
    """Whenever a feed was opened and read, adding up what it gave is the table; after each write every row is there once."""
    catalog = opened()
    followed: list[tuple[Feed, Counter[Row]]] = []

    def read() -> None:
        for feed, folded in followed:
            for changes in taken(feed):
                for weight, row in changes:
                    folded[row] += weight
                assert set(folded.values()) <= {0, 1}
            assert +folded == contents(catalog)

    for step, argument in steps:
        match step, argument:
            case "upsert", list(rows):
                catalog.insert("t", {"id": [row[0] for row in rows], "name": [row[1] for row in rows]})
            case "update", str(where):
                catalog.update(update(("name", "CASE WHEN id % 2 = 0 THEN 'b' ELSE name END"), where=where))
            case "rotate", int(by):
                catalog.update(update(("id", f"(id + {by}) % 7")))
            case "delete", int(key):
                catalog.delete(delete(f"id = {key}"))
            case "open", _:
                followed.append((follow(catalog), Counter()))
            case _:
                read()
    read()
    catalog.close()


def test_an_insert_waits_for_a_follower_that_is_far_behind(catalog: Catalog) -> None:
    """Changes are kept for a feed up to a bound; there is room again when it has taken some."""
    feed = follow(catalog)
    catalog.insert("t", {"id": [1], "name": ["x" * (MAX_BACKLOG_BYTES + 1)]})
    calls: list[int] = []
    insertion = catalog.insertion("t", {"id": 2})
    assert insertion.attempt(lambda: calls.append(1)) is None
    assert len(taken(feed)) == 1
    assert calls == [1]
    assert insertion.attempt(lambda: None) is not None
