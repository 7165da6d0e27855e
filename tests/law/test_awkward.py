"""Awkward values, types, names and parameters in continuous queries: after every insert the changes fold to DuckDB's answer."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest

import streamq
from tests.law.continuous import Fold
from tests.law.engine import PATIENCE_S
from tests.law.law import rows_of
from tests.oracle import connect_duckdb

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
NAN, INF = float("nan"), float("inf")
LONG = "long " * 40_000
Rows = Sequence[Sequence[Any]]
ZEROS: tuple[Rows, ...] = ([(NAN, 1), (-0.0, 2)], [(0.0, 3), (NAN, 4), (None, 5)], [(None, 6), (INF, 1), (-INF, 2)])
PAIRS: tuple[Rows, ...] = ([(1, 2), (1, 2), (2, 50)], [(1, 3), (2, 1), (None, None)], [(2, 2)])
TEXTS: tuple[Rows, ...] = ([("a",), ("A",)], [("b",), (None,)])
STRUCTS: tuple[Rows, ...] = ([({"a": 1, "b": None}, 1), (None, 2)], [({"a": 1, "b": None}, 1), ({"a": None, "b": None}, 2)])
INTS = "s (k INTEGER, v INTEGER)"

CASES: dict[str, tuple[str, str, tuple[Rows, ...]]] = {
    "NaN and zeros as keys": ("s (k DOUBLE, v BIGINT)", "SELECT k, count(*) AS c, sum(v) AS t FROM s GROUP BY k", ZEROS),
    "NaN and zeros joined": ("s (k DOUBLE, v BIGINT)", "SELECT a.k, b.v FROM s a LEFT JOIN s b ON a.k = b.k AND a.v < b.v", ZEROS),
    "NaN and zeros distinct": ("s (k DOUBLE, v BIGINT)", "SELECT DISTINCT k FROM s", ZEROS),
    "infinities added": ("s (k DOUBLE, v BIGINT)", "SELECT sum(k) AS t FROM s WHERE k > 1e10 OR k < -1e10", ZEROS),
    "decimals of 38 digits": (
        "s (k DECIMAL(38,2), v DECIMAL(18,3))",
        "SELECT k, sum(v) AS t, avg(v) AS a, min(v) AS lo FROM s GROUP BY k",
        ([(10**35, 2), (1, 3)], [(10**35, 5), (1, None)]),
    ),
    "sums beyond 64 bits": ("s (k INTEGER, v BIGINT)", "SELECT sum(v) AS t, avg(v) AS a FROM s", ([(1, 2**63 - 1)] * 2, [(1, 2**63 - 1)])),
    "HUGEINT keys": (
        "s (k BIGINT, v BIGINT)",
        "SELECT k::HUGEINT * 1000000000000000000 AS h, sum(v::HUGEINT * 100000000000000000) AS t FROM s GROUP BY 1",
        ([(2**60, 2**60), (1, 3)], [(2**60, 5), (1, None)]),
    ),
    "unsigned keys": (
        "s (k UBIGINT, v UTINYINT)",
        "SELECT k, sum(v) AS t, max(k) AS m FROM s GROUP BY k",
        ([(2**64 - 1, 255), (1, 3)], [(2**64 - 1, 5), (1, None)]),
    ),
    "struct keys": ("s (k STRUCT(a INTEGER, b VARCHAR), v BIGINT)", "SELECT k, count(*) AS c FROM s GROUP BY k", STRUCTS),
    "structs joined": ("s (k STRUCT(a INTEGER, b VARCHAR), v BIGINT)", "SELECT a.v, b.v AS w FROM s a JOIN s b ON a.k = b.k", STRUCTS),
    "list keys": (
        "s (k VARCHAR[], v BIGINT)",
        "SELECT k, count(*) AS c FROM s GROUP BY k",
        ([(["a", None], 1), (None, 2), ([], 3)], [(["a", None], 1), ([None], 2), ([], 3)]),
    ),
    "lists of lists": (
        "s (k INTEGER[][], v BIGINT)",
        "SELECT k, sum(v) AS c FROM s GROUP BY k",
        ([([[1], []], 1), (None, 2), ([], 3)], [([[1], []], 1), ([None], 2), ([], 3)]),
    ),
    "blobs": (
        "s (k BLOB, v BLOB)",
        "SELECT k, max(v) AS a, count(*) AS c FROM s GROUP BY k",
        ([(b"\x00", b""), (None, b"x")], [(b"\x00", b"\xff")]),
    ),
    "booleans": (
        "s (k BOOLEAN, v BOOLEAN)",
        "SELECT k, min(v) AS a, max(v) AS b, bool_and(v) AS c, count(DISTINCT v) AS d FROM s GROUP BY k",
        ([(True, None), (None, False)], [(True, True)]),
    ),
    "intervals": (
        "s (v INTEGER)",
        "SELECT CASE WHEN v = 1 THEN INTERVAL '1' MONTH ELSE INTERVAL '30' DAY END AS i, count(*) AS c FROM s GROUP BY 1",
        ([(1,), (2,)], [(1,)]),
    ),
    "empty and long strings": (
        "s (k VARCHAR, v VARCHAR)",
        "SELECT k, count(v) AS c, max(v) AS m, min(v) AS n FROM s GROUP BY k",
        ([("", ""), (None, None), (LONG, LONG + LONG)], [("", "z"), (LONG, None), ("\x00", "\x00")]),
    ),
    "collated groups": ("s (v VARCHAR)", "SELECT v COLLATE NOCASE AS v, count(*) AS c FROM s GROUP BY 1", TEXTS),
    "collated in a subquery": ("s (v VARCHAR)", "SELECT count(DISTINCT v) AS c FROM (SELECT v COLLATE NOCASE AS v FROM s)", TEXTS),
    "collated join": ("s (v VARCHAR)", "SELECT a.v, b.v AS w FROM s a JOIN s b ON a.v = b.v COLLATE NOCASE", TEXTS),
    "collated condition": ("s (v VARCHAR)", "SELECT v FROM s WHERE v = 'A' COLLATE NOCASE", TEXTS),
    "copies in EXCEPT ALL": (INTS, "SELECT k FROM s EXCEPT ALL SELECT v FROM s", PAIRS),
    "copies withdrawn": (INTS, "SELECT k FROM s WHERE v = (SELECT max(v) FROM s)", PAIRS),
    "group without its key": (INTS, "SELECT count(*) AS c FROM s GROUP BY k", PAIRS),
    "LIMIT 0": (INTS, "SELECT k FROM s ORDER BY v LIMIT 0", PAIRS),
    "LIMIT with OFFSET": (INTS, "SELECT k, v FROM s ORDER BY v, k LIMIT 2 OFFSET 1", PAIRS),
    "five relations": (
        INTS,
        "SELECT a.v AS a, b.v AS b, c.v AS c, d.v AS d, e.v AS e FROM s a JOIN s b ON a.k = b.v LEFT JOIN s c ON b.k = c.v "
        "JOIN s d ON d.k = a.k RIGHT JOIN s e ON e.v = d.v",
        PAIRS,
    ),
    "keys of different types": ("s (k INTEGER, v DOUBLE)", "SELECT b.v FROM s a JOIN s b ON a.k = b.v", ([(1, 1.0), (2, 2.5)], [(2, 2.0)])),
    "nested expressions": (
        INTS,
        "WITH a AS (SELECT k, sum(v) AS t FROM s GROUP BY k), b AS (SELECT t, count(*) AS n FROM a GROUP BY t) "
        "SELECT a.k, b.n FROM a JOIN b USING (t)",
        PAIRS,
    ),
    "names in other scripts": (
        's ("größe" VARCHAR, "日本" INTEGER)',
        'SELECT "größe" AS "ключ", sum("日本") AS "Σ" FROM s GROUP BY 1',
        ([("ß", 1), ("ss", 2)], [("ß", 3), ("SS", 2)]),
    ),
    "names with dots and quotes": (
        's ("a.b" INTEGER, "x y" VARCHAR, "q""q" INTEGER)',
        'SELECT l."a.b", r."q""q", l."x y" FROM s l LEFT JOIN s r ON l."a.b" = r."q""q"',
        ([(1, "a", 3), (2, "b", 1)], [(3, "a", 2)]),
    ),
    "reserved names": ('s ("in" INTEGER, "select" INTEGER)', 'SELECT "in", max("select") AS "from" FROM s GROUP BY "in"', PAIRS),
    "names in other cases": ('s ("K" INTEGER, v INTEGER)', 'SELECT k AS "Key", count(*) AS "N" FROM s GROUP BY K', PAIRS),
    "_op where rows are only added": ("s (_op INTEGER, k INTEGER)", "SELECT _op, k FROM s", PAIRS),
    "_op below": ("s (_op INTEGER, k INTEGER)", "SELECT k, sum(_op) AS t FROM s GROUP BY k", PAIRS),
}  # fmt: skip

PARAMETERS: dict[str, tuple[str, Sequence[object] | Mapping[str, object]]] = {
    "in WHERE and HAVING": ("SELECT k, sum(v) AS t FROM s WHERE v > ? GROUP BY k HAVING sum(v) < ?", [1, 100]),
    "by name": ("SELECT k + $add AS k, count(*) AS t FROM s WHERE v > $least GROUP BY 1", {"add": 5, "least": 1}),
    "in aggregates": ("SELECT k, sum(v * $m) AS t, quantile_cont(v, $q) AS q FROM s GROUP BY k", {"m": 5, "q": 0.5}),
    "in window functions": ("SELECT k, lag(v, 1, $d) OVER (PARTITION BY k ORDER BY v) AS t FROM s", {"d": 5}),
    "in a join": ("SELECT a.k, b.v FROM s a LEFT JOIN s b ON a.k = b.k AND b.v > $1 AND a.v = $2", [2, 2]),
    "in LIMIT": ("SELECT k, v FROM s ORDER BY v DESC, k LIMIT $n", {"n": 2}),
    "in a subquery": ("SELECT k FROM s WHERE v > (SELECT avg(v) + $a FROM s)", {"a": 2}),
    "NULL": ("SELECT k, coalesce($a::INTEGER, v) AS v FROM s", {"a": None}),
}


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    """A database whose sources have three shards."""
    async with streamq.connect(executor="thread", workers=2, target_partitions=3) as db:
        yield db


@pytest.mark.parametrize(("source", "sql", "inserts"), CASES.values(), ids=CASES.keys())
async def test_changes_fold_to_the_answer(db: streamq.Database, source: str, sql: str, inserts: tuple[Rows, ...]) -> None:
    """Columns, types and rows are DuckDB's, whatever the values, types and names."""
    await _compare(db, source, sql, inserts)


@pytest.mark.parametrize(("sql", "values"), PARAMETERS.values(), ids=PARAMETERS.keys())
async def test_parameters_keep_their_values(db: streamq.Database, sql: str, values: Sequence[object] | Mapping[str, object]) -> None:
    """A parameter has its value in every epoch, wherever it stands."""
    await _compare(db, INTS, sql, PAIRS, values)


async def _compare(
    db: streamq.Database,
    source: str,
    sql: str,
    inserts: tuple[Rows, ...],
    values: Sequence[object] | Mapping[str, object] | None = None,
) -> None:
    await db.execute(f"CREATE SOURCE {source}")
    try:
        names = (await db.fetch("SELECT * FROM s")).column_names
        with connect_duckdb() as oracle:
            async with db.query(f"{sql} EMIT CHANGES", values, progress=True, partitions=3, timeout=PATIENCE_S) as stream:
                await stream.start()
                fold = Fold(stream.changelog, stream.key, stream.schema)
                written = 0
                for rows in inserts:
                    await db.insert("s", [dict(zip(names, row, strict=True)) for row in rows])
                    written += len(rows)
                    await _catch_up(stream, fold, written)
                    oracle.register("s", await db.fetch("SELECT * FROM s"))
                    expected = oracle.sql(sql, params=values).to_arrow_table()
                    assert [field for field in stream.schema if field.name in fold.names] == list(expected.schema)
                    assert Counter(map(repr, fold.answer())) == Counter(map(repr, rows_of(expected)))
    finally:
        await db.execute("DROP SOURCE s")


async def _catch_up(stream: streamq.QueryBatchStream, fold: Fold, written: int) -> None:
    while True:
        batch = await anext(stream, None)
        if batch is None:
            return
        fold.take(batch)
        if stream.progress.epoch_complete:
            fold.end_epoch()
            if stream.progress.positions["s"] >= written:
                return


async def test_names_of_streamq_are_refused(db: streamq.Database) -> None:
    """A continuous query cannot use names that begin with #, and says so; a snapshot query can."""
    await db.execute('CREATE SOURCE s ("#weight" INTEGER, k INTEGER)')
    await db.insert("s", [{"#weight": 3, "k": 1}])
    assert (await db.fetch('SELECT sum("#weight")::INTEGER AS "#t" FROM s'))["#t"].to_pylist() == [3]
    for sql in ("SELECT * FROM s", 'SELECT a.k, b."#weight" AS w FROM s a JOIN s b USING (k)', 'SELECT k AS "#group1" FROM s'):
        with pytest.raises(streamq.BindError, match="begin with #"):
            await db.query(f"{sql} EMIT CHANGES").start()
    async with db.query("SELECT k FROM s EMIT CHANGES") as stream:
        assert (await anext(stream)).to_pylist() == [{"k": 1}]
    await db.execute("DROP SOURCE s")


async def test_windows_before_1970(db: streamq.Database) -> None:
    """Windows are aligned to 1970 on both sides of it, and bounds stay half-open."""
    await db.execute("CREATE SOURCE s (ts TIMESTAMP, v INTEGER, WATERMARK FOR ts AS ts - INTERVAL '100000' DAY)")
    epoch, size = dt.datetime(1970, 1, 1), dt.timedelta(minutes=7)
    times = [epoch - size, epoch - size - dt.timedelta(seconds=1), dt.datetime(1900, 1, 1), epoch]
    await db.insert("s", [{"ts": time, "v": 1} for time in times])
    await db.finish("s")
    sql = "SELECT window_start, window_end FROM TUMBLE(s, ts, INTERVAL '7' MINUTE) EMIT CHANGES"
    async with db.query(sql, timeout=PATIENCE_S) as stream:
        windows = [(row["window_start"], row["window_end"]) for row in (await stream.read_all()).to_pylist()]
    await db.execute("DROP SOURCE s")
    starts = [epoch + (time - epoch) // size * size for time in times]
    assert Counter(windows) == Counter((start, start + size) for start in starts)
