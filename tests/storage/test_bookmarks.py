"""Feeds that go on where others stood."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamq.config import Config
from streamq.connectors import registered
from streamq.errors import SourceError
from streamq.sql.parse import parse_one
from streamq.sql.statements import CreateSource, CreateTable
from streamq.storage.catalog import Catalog
from streamq.storage.feeds import WATERMARK, Bookmark, Feed, Wanted

T0 = datetime(2024, 1, 1)
ALL = 1 << 60


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    opened = Catalog(Config.load({}))
    for sql in (
        "CREATE SOURCE clicks (ts TIMESTAMP, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH (retention_rows = 4)",
        "CREATE TABLE shops (id BIGINT PRIMARY KEY, price DOUBLE, note VARCHAR)",
    ):
        match parse_one(sql):
            case CreateSource() as source:
                opened.create_source(source)
            case CreateTable() as table:
                opened.create_table(table)
    yield opened
    opened.close()


def clicks(*seconds: int) -> pa.Table:
    return pa.table({"ts": pa.array([T0 + timedelta(seconds=s) for s in seconds], pa.timestamp("us")), "n": pa.array(seconds)})


def opened(catalog: Catalog, relation: str, *columns: str, after: Bookmark | None = None) -> Feed:
    return catalog.open_feeds({"it": Wanted(relation, columns, after=after)})["it"]


def drained(feed: Feed) -> list[tuple[object, ...]]:
    """Take everything there is: rows, and last how often each is added."""
    taken: list[tuple[object, ...]] = []
    while (delta := feed.take(2, ALL)) is not None:
        weights = [1] * delta.num_rows if delta.weights is None else delta.weights.tolist()
        taken += [(*row.values(), weight) for row, weight in zip(delta.rows.to_pylist(), weights, strict=True)]
    return taken


def test_a_source_goes_on_with_the_next_row(catalog: Catalog) -> None:
    """Rows that were taken do not come again, and the watermark before the next one is what it would have been."""
    catalog.insert("clicks", clicks(5, 9, 7))
    first = opened(catalog, "clicks", "n", WATERMARK)
    assert first.take(2, ALL) is not None
    bookmark = first.bookmark()
    first.close()
    catalog.insert("clicks", clicks(10))
    second = opened(catalog, "clicks", "n", WATERMARK, after=bookmark)
    assert second.position.offsets == {0: 2}
    assert drained(second) == [(7, T0 + timedelta(seconds=8), 1), (10, T0 + timedelta(seconds=8), 1)]
    second.close()


def test_a_source_that_has_dropped_the_next_rows_cannot_be_gone_on_with(catalog: Catalog) -> None:
    """Rows that nobody followed go with the retention; the error names them."""
    catalog.insert("clicks", clicks(1))
    first = opened(catalog, "clicks", "n")
    bookmark = first.bookmark()
    first.close()
    catalog.insert("clicks", clicks(*range(10)))
    with pytest.raises(SourceError, match=r"clicks has dropped rows 0 to \d+, which come next"):
        opened(catalog, "clicks", "n", after=bookmark)


def test_another_source_of_the_name_is_found_out(catalog: Catalog) -> None:
    """A source that has had fewer rows than were read is another one."""
    with pytest.raises(SourceError, match="it is not the source that was read before"):
        opened(catalog, "clicks", "n", after=Bookmark({0: 3}))


def test_a_table_gives_what_is_different_by_then(catalog: Catalog) -> None:
    """What was seen is the rows less the changes that waited; what comes first is what takes that to the rows of now."""
    catalog.insert("shops", pa.table({"id": [1, 2, 3], "price": [1.0, 2.0, 3.0]}))
    first = opened(catalog, "shops", "id", "price")
    assert len(drained(first)) == 3
    catalog.insert("shops", pa.table({"id": [1, 4], "price": [1.5, 4.0]}))
    bookmark = first.bookmark()
    assert bookmark.seen is not None
    assert sorted(bookmark.seen.column("price").to_pylist()) == [1.0, 2.0, 3.0]
    first.close()
    catalog.insert("shops", pa.table({"id": [2], "price": [2.5]}))
    second = opened(catalog, "shops", "id", "price", after=bookmark)
    assert second.next_sequence == 0
    assert Counter(drained(second)) == Counter([(1, 1.0, -1), (1, 1.5, 1), (2, 2.0, -1), (2, 2.5, 1), (4, 4.0, 1)])
    assert second.position.offsets == {0: 8}
    second.close()


def test_a_table_that_was_not_read_is_read_from_its_beginning(catalog: Catalog) -> None:
    """A feed that was left before it gave anything has seen nothing."""
    catalog.insert("shops", pa.table({"id": [1, 2], "price": [1.0, 2.0]}))
    first = opened(catalog, "shops", "id")
    bookmark = first.bookmark()
    first.close()
    second = opened(catalog, "shops", "id", after=bookmark)
    assert sorted(drained(second)) == [(1, 1), (2, 1)]
    second.close()


def test_a_table_without_a_difference_gives_nothing(catalog: Catalog) -> None:
    """What comes next is then the next write."""
    catalog.insert("shops", pa.table({"id": [1], "price": [1.0]}))
    first = opened(catalog, "shops", "id")
    drained(first)
    second = opened(catalog, "shops", "id", after=first.bookmark())
    assert second.take(1, ALL) is None
    assert second.next_sequence is None
    for feed in (first, second):
        feed.close()


@pytest.mark.parametrize("taken", range(11))
def test_files_go_on_at_a_row(taken: int, catalog: Catalog, tmp_path: Path) -> None:
    """Whole row groups, and rows inside of one, are passed over; the end is known at once."""
    pq.write_table(clicks(*range(10)), tmp_path / "a.parquet", row_group_size=4)
    catalog.add(registered("files", str(tmp_path / "*.parquet"), "ts"))
    first = opened(catalog, "files", "n", WATERMARK)
    for _ in range(taken):
        assert first.take(1, ALL) is not None
    second = opened(catalog, "files", "n", WATERMARK, after=first.bookmark())
    assert second.ended == (taken == 10)
    assert second.watermarks == first.watermarks
    assert drained(second) == [(n, T0 + timedelta(seconds=n - 1) if n else None, 1) for n in range(taken, 10)]
    assert second.ended
    for feed in (first, second):
        feed.close()
