"""Relations through the public interface: create, insert, register, change, describe, drop."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

import streamq

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
ROWS = [{"id": 1, "name": "ann"}, {"id": 2, "name": None}]


async def test_a_source_keeps_every_row(db: streamq.Database) -> None:
    """Pushed rows are seen by the next snapshot, with their places, and not by an earlier one."""
    result = await db.execute("CREATE SOURCE people (id BIGINT, name VARCHAR)")
    assert (result.kind, result.rows) == ("create source", 0)
    assert await db.insert("people", ROWS) == streamq.InsertResult(2, 0, 1)
    assert (await db.fetch("SELECT * FROM people ORDER BY id")).to_pylist() == ROWS
    assert (await db.insert("PEOPLE", {"id": 3, "name": "bob"})).first_offset == 2
    assert (await db.fetch("SELECT count(*) AS c FROM people")).to_pylist() == [{"c": 3}]


async def test_system_columns_are_there_when_asked_for(db: streamq.Database) -> None:
    """`_timestamp`, `_partition` and `_offset` are not in `*`, and are found whatever their case."""
    await db.execute("CREATE SOURCE people (id BIGINT, name VARCHAR) WITH (shards = 1)")
    await db.insert("people", ROWS)
    table = await db.fetch("SELECT id, _PARTITION AS p, _Offset AS o, _TIMESTAMP AS t FROM people ORDER BY id")
    assert [(row["p"], row["o"]) for row in table.to_pylist()] == [(0, 0), (0, 1)]
    assert table.schema.field("t").type == pa.timestamp("us", "UTC")
    assert (await db.fetch("SELECT * FROM people")).column_names == ["id", "name"]


@pytest.mark.parametrize(
    "rows",
    [
        lambda: ROWS,
        lambda: iter(ROWS),
        lambda: {"id": 1, "name": "ann"},
        lambda: pa.table({"name": ["ann"], "id": [1]}),
        lambda: pa.record_batch({"id": pa.array([1], pa.int8()), "name": ["ann"]}),
        lambda: pa.table({"id": [1]}).to_reader(),
        lambda: pd.DataFrame({"id": [1], "name": ["ann"]}),
        lambda: pl.DataFrame({"id": [1], "name": ["ann"]}),
    ],
    ids=["list", "iterator", "dict", "table", "batch", "reader", "pandas", "polars"],
)
async def test_insert_takes_every_form(db: streamq.Database, rows: Callable[[], object]) -> None:
    """Rows come as dicts, Arrow, or anything that gives Arrow; a missing column is NULL."""
    await db.execute("CREATE SOURCE people (id BIGINT, name VARCHAR)")
    assert (await db.insert("people", rows())).rows >= 1
    assert (await db.fetch("SELECT id FROM people WHERE id = 1")).to_pylist() == [{"id": 1}]


async def test_an_async_iterable_commits_batch_by_batch(db: streamq.Database) -> None:
    """What came before a bad batch stays in, and the error says how many rows that was."""
    await db.execute("CREATE SOURCE people (id BIGINT, name VARCHAR)")

    async def batches() -> AsyncIterator[object]:
        yield ROWS
        yield [{"id": 3}]
        yield [{"id": "not a number"}]

    with pytest.raises(streamq.SourceError, match="3 rows had gone in"):
        await db.insert("people", batches())
    assert (await db.fetch("SELECT count(*) AS c FROM people")).to_pylist() == [{"c": 3}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": 1, "nmae": "x"}], "nmae"),
        ([{"id": 1.5}], "id"),
        (pa.table({"id": pa.array([2**63], pa.uint64())}), "id"),
        (42, "rows"),
    ],
)
async def test_rows_that_do_not_fit_are_refused_whole(db: streamq.Database, rows: object, message: str) -> None:
    """Unknown columns and lossy casts are errors that name the column; nothing of the batch goes in."""
    await db.execute("CREATE SOURCE people (id BIGINT, name VARCHAR)")
    with pytest.raises(streamq.SourceError, match=message):
        await db.insert("people", rows)
    assert (await db.fetch("SELECT count(*) AS c FROM people")).to_pylist() == [{"c": 0}]


async def test_a_full_source_refuses_and_says_what_to_do() -> None:
    """`max_source_bytes` bounds a source without retention."""
    async with streamq.connect(max_source_bytes=1000) as db:
        await db.execute("CREATE SOURCE people (id BIGINT, name VARCHAR)")
        with pytest.raises(streamq.ResourceLimit, match="retention"):
            await db.insert("people", pa.table({"id": range(1000)}))


async def test_finish_ends_a_source(db: streamq.Database) -> None:
    """A finished source takes no more rows and stays readable."""
    await db.execute("CREATE SOURCE people (id BIGINT, name VARCHAR)")
    await db.insert("people", ROWS)
    await db.finish("people")
    with pytest.raises(streamq.SourceError, match="finished"):
        await db.insert("people", ROWS)
    assert (await db.fetch("SELECT count(*) AS c FROM people")).to_pylist() == [{"c": 2}]


async def test_a_table_is_upserted_updated_and_deleted(db: streamq.Database) -> None:
    """A table holds one row a key: insert replaces, UPDATE and DELETE change."""
    await db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)")
    assert (await db.execute("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")).rows == 3
    await db.insert("t", [{"id": 2, "v": "B"}])
    assert (await db.execute("UPDATE t SET v = v || '!' WHERE id >= $low", {"low": 2})).rows == 2
    assert (await db.execute("DELETE FROM t WHERE id = ?", [1])).rows == 1
    assert (await db.fetch("SELECT * FROM t ORDER BY id")).to_pylist() == [{"id": 2, "v": "B!"}, {"id": 3, "v": "c!"}]


async def test_insert_select_reads_a_cut_and_writes_all_or_nothing(db: streamq.Database) -> None:
    """INSERT INTO … SELECT sees the rows that were there before it, also of its own target."""
    await db.execute("CREATE SOURCE s (id BIGINT, name VARCHAR)")
    await db.insert("s", ROWS)
    assert (await db.execute("INSERT INTO s (id) SELECT id + 10 FROM s")).rows == 2
    assert sorted(row["id"] for row in (await db.fetch("SELECT id FROM s")).to_pylist()) == [1, 2, 11, 12]
    with pytest.raises(streamq.DataError):
        await db.execute("INSERT INTO s (id) SELECT 1 // (id - 12) FROM s")
    assert (await db.fetch("SELECT count(*) AS c FROM s")).to_pylist() == [{"c": 4}]


async def test_register_takes_files_globs_and_arrow_objects(db: streamq.Database, tmp_path: Path) -> None:
    """A path, a glob, tables, frames, DuckDB relations and datasets are all relations."""
    for number in range(3):
        pq.write_table(pa.table({"n": range(number * 10, number * 10 + 10)}), tmp_path / f"part-{number}.parquet")
    await db.register("one", tmp_path / "part-0.parquet")
    await db.register("many", str(tmp_path / "part-*.parquet"))
    await db.register("arrow", pa.table({"n": range(30)}))
    await db.register("reader", pa.table({"n": range(30)}).to_reader())
    await db.register("pandas", pd.DataFrame({"n": range(30)}))
    await db.register("polars", pl.DataFrame({"n": range(30)}))
    await db.register("duck", duckdb.sql("SELECT range AS n FROM range(30)"))
    await db.register("dataset", pads.dataset(tmp_path, format="parquet"))
    sums = {
        name: (await db.fetch(f"SELECT sum(n)::BIGINT AS s FROM {name}")).to_pylist()[0]["s"]
        for name in ("one", "many", "arrow", "reader", "pandas", "polars", "duck", "dataset")
    }
    assert sums.pop("one") == 45
    assert set(sums.values()) == {435}
    await db.unregister("one")
    with pytest.raises(streamq.BindError, match="one"):
        await db.fetch("SELECT * FROM one")


async def test_views_are_computed_when_read(db: streamq.Database) -> None:
    """A view is its SELECT, over what is there when it is read; what it reads cannot be dropped from under it."""
    await db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    await db.execute("CREATE VIEW big AS SELECT id FROM t WHERE id > 1")
    await db.execute("CREATE VIEW bigger AS SELECT id FROM big WHERE id > 2")
    await db.execute("INSERT INTO t VALUES (1), (2), (3)")
    assert (await db.fetch("SELECT * FROM bigger")).to_pylist() == [{"id": 3}]
    with pytest.raises(streamq.BindError, match="bigger"):
        await db.execute("DROP VIEW big")
    await db.execute("DROP TABLE t CASCADE")
    assert (await db.execute("SHOW RELATIONS")).table.num_rows == 0


async def test_show_and_describe(db: streamq.Database) -> None:
    """SHOW lists relations with their rows, DESCRIBE the columns of one."""
    await db.execute("CREATE SOURCE s (ts TIMESTAMP, v DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)")
    await db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)")
    await db.insert("s", [{"ts": dt.datetime(2024, 1, 1), "v": 1.0}])
    shown = (await db.execute("SHOW RELATIONS")).table
    assert [(row["name"], row["kind"], row["rows"]) for row in shown.to_pylist()] == [("s", "source", 1), ("t", "table", 0)]
    described = (await db.execute("DESCRIBE s")).table
    assert described.column("column").to_pylist() == ["ts", "v"]
    assert described.column("watermark").to_pylist()[0] is not None


async def test_a_snapshot_is_one_cut_while_inserts_go_on(db: streamq.Database) -> None:
    """Rows that are written together into two sources are seen together or not at all, by every query."""
    await db.execute("CREATE SOURCE a (n BIGINT)")
    await db.execute("CREATE TABLE b (n BIGINT PRIMARY KEY)")
    ended = anyio.Event()

    async def write() -> None:
        for n in range(60):
            await db.insert("b", [{"n": n}])
            await db.insert("a", [{"n": n}])
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        while not ended.is_set():
            row = (await db.fetch("SELECT (SELECT count(*) FROM a) AS a, (SELECT count(*) FROM b) AS b")).to_pylist()[0]
            assert row["b"] - row["a"] in (0, 1)


async def test_a_continuous_query_cannot_be_fetched(db: streamq.Database) -> None:
    """EMIT is bound, then refused with what to write instead: there is no one answer to fetch."""
    await db.execute("CREATE SOURCE s (k BIGINT)")
    with pytest.raises(streamq.UnsupportedError, match="EMIT"):
        await db.fetch("SELECT k, count(*) AS c FROM s GROUP BY k EMIT CHANGES")
    with pytest.raises(streamq.BindError, match="nosuch"):
        await db.fetch("SELECT nosuch FROM s EMIT CHANGES")


def test_a_durable_directory_is_refused() -> None:
    """A directory is an UnsupportedError as long as there are no durable databases, never silently in memory."""
    with pytest.raises(streamq.UnsupportedError):
        streamq.connect("data/")
