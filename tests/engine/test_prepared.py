"""A query that comes again is answered from what is there then: relations, types and sizes as they are, parameters as given."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

import anyio
import anyio.from_thread
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq
from streamq.errors import BindError, DataError

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(workers=2, target_partitions=2, single_task_rows=100) as db:
        yield db


async def values(db: streamq.Database, sql: str, *parameters: object) -> list[object]:
    """Give the first column of an answer."""
    return (await db.fetch(sql, parameters)).column(0).to_pylist()


async def test_a_relation_of_other_types_is_another(db: streamq.Database) -> None:
    """Registered again with other columns, types or rows, a relation is read as it is now."""
    sql = "SELECT v FROM changing WHERE v = ?"
    await db.register("changing", pa.table({"v": [1, 2]}))
    assert await values(db, sql, 2) == [2]
    await db.unregister("changing")
    with pytest.raises(BindError, match="changing does not exist"):
        await db.fetch(sql, [2])
    await db.register("changing", pa.table({"w": [1], "v": ["2"]}))
    assert await values(db, sql, "2") == ["2"]
    table = await db.fetch(sql, [2])
    assert table.schema.field("v").type == pa.string()
    await db.unregister("changing")
    await db.register("changing", pa.table({"w": [1]}))
    with pytest.raises(BindError, match="v"):
        await db.fetch(sql, [2])


async def test_a_view_is_what_it_was_last_defined_as(db: streamq.Database) -> None:
    """CREATE OR REPLACE VIEW changes what the queries say that name it, also by way of another view; so does a table in place of it."""
    await db.execute("CREATE VIEW seen AS SELECT 1 AS v")
    await db.execute("CREATE VIEW around AS SELECT v FROM seen")
    sql = "SELECT v FROM around"
    assert await values(db, sql) == [1]
    await db.execute("CREATE OR REPLACE VIEW seen AS SELECT 2 AS v")
    assert await values(db, sql) == [2]
    await db.execute("DROP VIEW around")
    await db.execute("CREATE TABLE around (v VARCHAR, PRIMARY KEY (v))")
    await db.insert("around", {"v": "a"})
    assert await values(db, sql) == ["a"]


async def test_inserts_are_seen_and_planned_for(db: streamq.Database) -> None:
    """The plan of a query is one for as many rows as there are each time: first one task, then several."""
    await db.execute("CREATE SOURCE growing (k BIGINT)")
    sql = "SELECT k % 2 AS p, count(*) AS n FROM growing GROUP BY p"
    tasks = []
    for rows in (10, 1_000):
        await db.insert("growing", pa.table({"k": range(rows)}))
        async with db.query(sql) as stream:
            counted = (await stream.read_all()).to_pylist()
            tasks.append((await stream.statistics()).tasks)
        seen = rows if rows == 10 else rows + 10
        assert sorted(row["n"] for row in counted) == [seen // 2, seen // 2]
    assert tasks[0] == 1 < tasks[1]


async def test_values_and_their_types_are_each_times_own(db: streamq.Database) -> None:
    """Numbers, texts, NULL, what cannot be converted: as if each were the first."""
    await db.register("mixed", pa.table({"id": [1, 2, 3_000_000_000], "name": ["a", "2", None]}))
    sql = "SELECT id FROM mixed WHERE id = ?"
    assert await values(db, sql, 1) == [1]
    assert await values(db, sql, 2) == [2]
    assert await values(db, sql, None) == []
    assert await values(db, sql, 3_000_000_000) == [3_000_000_000]
    assert await values(db, sql, "2") == [2]
    with pytest.raises(DataError):
        await db.fetch(sql, ["two"])
    assert await values(db, sql, 2.0) == [2]
    assert await values(db, sql, 2) == [2]
    assert [await values(db, "SELECT id FROM mixed ORDER BY id LIMIT ?", count) for count in (1, 2, 1)] == [[1], [1, 2], [1]]
    assert [await values(db, "SELECT ? AS v", value) for value in (1, "1", None, 1)] == [[1], ["1"], [None], [1]]


async def test_files_are_pruned_by_each_times_values(db: streamq.Database, tmp_path: Path) -> None:
    """Which parts of a file are read follows from the values, of a plan that was made for others."""
    path = tmp_path / "days.parquet"
    table = pa.table({"id": range(40), "day": [f"2020-{month}-05" for month in range(1, 5) for _ in range(10)]})
    pq.write_table(table, path, row_group_size=10)
    await db.register("days", str(path))
    for number in (5, 35, 15):
        async with db.query("SELECT id FROM days WHERE id = ?", [number], partitions=2) as stream:
            assert (await stream.read_all()).to_pylist() == [{"id": number}]
            (scan,) = (await stream.statistics()).scans
        assert (scan.splits, scan.pruned) == (1, 3)
    # As texts they are not in the order of times.
    sql = "SELECT count(*) AS n FROM days WHERE day = ?"
    for month in (1, 4):
        assert (await db.fetch(sql, [dt.datetime(2020, month, 5)], partitions=2)).to_pylist() == [{"n": 10}]


async def test_explain_says_what_runs(db: streamq.Database) -> None:
    """EXPLAIN of a query that has run is EXPLAIN of one that has not."""
    await db.register("explained", pa.table({"id": [1, 2]}))
    sql = "SELECT id FROM explained WHERE id > ?"
    before = await db.explain(sql, [1])
    assert await values(db, sql, 1) == [2]
    assert await db.explain(sql, [1]) == before


class Cancelling(Mapping[str, object]):
    """Parameters that cancel a scope when the query is bound with them."""

    def __init__(self, scope: anyio.CancelScope) -> None:
        self._scope = scope

    def __getitem__(self, name: str) -> object:
        anyio.from_thread.run_sync(self._scope.cancel)
        return 1

    def __iter__(self) -> Iterator[str]:
        return iter(["x"])

    def __len__(self) -> int:
        return 1


async def test_a_query_that_is_cancelled_while_it_is_bound_is_not_planned(db: streamq.Database) -> None:
    """Nobody waits for the plan any more, in which the wrong option would be an error."""
    sql = "SELECT $x AS x WITH (executor = 'nowhere')"
    with pytest.raises(BindError, match="nowhere"):
        await db.fetch(sql, {"x": 1})
    with anyio.CancelScope() as scope:
        await db.fetch(sql, Cancelling(scope))
    assert scope.cancelled_caught
