"""Rows that are hard on a continuous query: one key that has nearly all, a million keys, and rows on which an expression fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import duckdb
import pyarrow as pa
import pytest

import streamq
from tests.must.watch import PATIENCE_S

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
KEYS = {
    "hot key": ("SELECT CASE WHEN i % 10 > 0 THEN 7 ELSE i END AS k, i AS v FROM range(100000) AS r(i)", 4_096),
    "hot string": ("SELECT CASE WHEN i % 10 > 0 THEN 'the hot key' ELSE 'key ' || i END AS k, i AS v FROM range(100000) AS r(i)", 4_096),
    "million keys": ("SELECT i * 7919 % 1000003 AS k, i AS v FROM range(1000000) AS r(i)", None),
    "many strings": ("SELECT 'key ' || (i * 7919 % 200003) AS k, i AS v FROM range(200000) AS r(i)", None),
}
LAST = """SELECT k, c, s, lo, hi FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY epoch DESC, _op = 'delete') AS r FROM changes)
WHERE r = 1 AND _op <> 'delete'"""


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    """A database whose sources have three partitions."""
    async with streamq.connect(executor="thread", workers=2, target_partitions=3) as db:
        yield db


@pytest.mark.parametrize(("rows", "epoch_rows"), KEYS.values(), ids=KEYS.keys())
async def test_groups_of_uneven_keys_are_exact(db: streamq.Database, rows: str, epoch_rows: int | None) -> None:
    """The last change of every key is the group that DuckDB makes of all rows."""
    with duckdb.connect() as oracle:
        table = oracle.sql(rows).to_arrow_table()
        await db.register("uneven", table)
        sql = "SELECT k, count(*) AS c, sum(v)::BIGINT AS s, min(v) AS lo, max(v) AS hi FROM uneven GROUP BY k"
        batches = []
        async with db.query(f"{sql} EMIT CHANGES", epoch_rows=epoch_rows, partitions=3, timeout=PATIENCE_S) as stream:
            async for batch in stream:
                number = pa.array([stream.progress.epoch] * batch.num_rows, pa.int64())
                batches.append(batch.append_column("epoch", number))
        await db.unregister("uneven")
        oracle.register("uneven", table)
        oracle.register("changes", pa.Table.from_batches(batches))
        oracle.execute(f"CREATE TABLE expected AS {sql}")
        oracle.execute(f"CREATE TABLE last AS {LAST}")
        assert oracle.sql("TABLE last EXCEPT ALL TABLE expected").fetchall() == []
        assert oracle.sql("SELECT (SELECT count(*) FROM last) - (SELECT count(*) FROM expected)").fetchall() == [(0,)]


FAILING = {
    "projection": ("SELECT k, 10 // k AS q FROM s", "10 // k"),
    "filter": ("SELECT k FROM s WHERE 10 // k < 100", "10 // k"),
    "cast": ("SELECT k, word::INTEGER AS w FROM s", "word"),
    "group key": ("SELECT 10 // k AS q, count(*) AS c FROM s GROUP BY 1", "10 // k"),
    "argument": ("SELECT k, sum(10 // k) AS q FROM s GROUP BY k", "10 // k"),
    "having": ("SELECT k, count(*) AS c FROM s GROUP BY k HAVING 10 // k < 100", "10 // k"),
    "window function": ("SELECT k, sum(10 // k) OVER (PARTITION BY k) AS q FROM s", "10 // k"),
    "subquery": ("SELECT k FROM s WHERE k < (SELECT max(10 // k) FROM s)", "10 // k"),
    "top": ("SELECT k FROM s ORDER BY 10 // k LIMIT 3", "10 // k"),
}


@pytest.mark.parametrize(("sql", "expression"), FAILING.values(), ids=FAILING.keys())
async def test_a_failing_expression_ends_the_query(db: streamq.Database, sql: str, expression: str) -> None:
    """DataError names the expression and the rows, with a hint; nothing of that epoch is emitted."""
    await db.execute("CREATE SOURCE s (k INTEGER, word VARCHAR)")
    try:
        await db.insert("s", [{"k": 5, "word": "1"}] * 4)
        seen: list[int | None] = []
        with pytest.raises(streamq.DataError) as raised:
            async with db.query(f"{sql} EMIT CHANGES", progress=True, timeout=PATIENCE_S) as stream:
                await stream.start()
                while not seen or stream.progress.positions["s"] < 4:
                    await anext(stream)
                    seen.append(stream.progress.epoch)
                await db.insert("s", [{"k": 1, "word": "2"}, {"k": 0, "word": "x"}, {"k": 2, "word": "3"}])
                while True:
                    await anext(stream)
                    assert stream.progress.positions["s"] == 4
        message = str(raised.value)
        assert expression in message
        assert "TRY" in message
        assert "s rows 4 to 6" in message
    finally:
        await db.execute("DROP SOURCE s")
