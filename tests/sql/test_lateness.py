"""Time windows and late rows of continuous queries: the plan, run over rows that carry their watermark, keeps what the rule keeps."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import duckdb
import pyarrow as pa
import pytest

from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import Block, BoundQuery, Query, Scan, Union
from streamq.sql.parse import parse_one
from streamq.sql.render import render_whole
from streamq.sql.statements import Select

TIME = pa.timestamp("us")
SCHEMA = pa.schema({"k": pa.int32(), "ts": TIME, "v": pa.int64()})
PLACED = pa.schema([*SCHEMA, pa.field("_partition", pa.int32()), pa.field("_offset", pa.int64())])
START = datetime(2024, 1, 1)
CATALOG = {
    name: RelationInfo(name, "source", SCHEMA, system_columns=True, watermark=("ts", "ts - INTERVAL '5' SECOND")) for name in ("a", "b")
}
CATALOG["plain"] = RelationInfo("plain", "source", SCHEMA, system_columns=True)
CATALOG["t"] = RelationInfo("t", "table", pa.schema({"k": pa.int32(), "name": pa.string()}), primary_key=("k",))
CATALOG["va"] = RelationInfo("va", "view", pa.schema({"k": pa.int32(), "ts": TIME}), view_sql="SELECT k, ts FROM a WHERE v > 2")


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


@pytest.fixture(scope="module", name="con")
def open_session() -> Iterator[duckdb.DuckDBPyConnection]:
    """Rows of two partitions, out of order and with NULLs, that carry the watermark which stood before them."""
    chance = random.Random(7)
    with duckdb.connect() as con:
        con.execute("SET TimeZone = 'UTC'")
        for name in ("a", "b", "plain"):
            rows = []
            for offset in range(150):
                at = START + timedelta(seconds=offset + chance.randint(-25, 10)) if chance.random() > 0.05 else None
                rows.append(
                    {"k": chance.randint(1, 4), "ts": at, "v": chance.randint(1, 9), "_partition": offset % 2, "_offset": offset // 2}
                )
            con.register(f"rows_{name}", pa.Table.from_pylist(rows, PLACED))
            before = "max(ts) OVER (PARTITION BY _partition ORDER BY _offset ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
            con.execute(
                f"CREATE TABLE {name} AS SELECT *, now() AS _timestamp, {before} - INTERVAL 5 SECOND AS _watermark FROM rows_{name}"
            )
        con.execute("CREATE TABLE t AS SELECT k::INT AS k, 'name ' || k AS name FROM range(1, 4) AS r(k)")
        yield con


def bind(sql: str, binder: Binder) -> BoundQuery:
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    return bind_query(statement, CATALOG, binder=binder)


def blocks(query: Query) -> Iterator[Block]:
    """Go through the blocks of a plan, the topmost first."""
    if isinstance(query, Block):
        yield query
    branches = query.branches if isinstance(query, Union) else [leaf.query for leaf in query.leaves if not isinstance(leaf, Scan)]
    for branch in branches:
        yield from blocks(branch)


def starts(alias: str, size: int) -> str:
    return f"time_bucket(INTERVAL {size} SECOND, {alias}.ts)"


TUMBLED = f"""
SELECT {starts("a", 10)} AS s, a.k, count(*) AS n FROM a WHERE {starts("a", 10)} + INTERVAL 10 SECOND > coalesce(_watermark, '-infinity')
GROUP BY ALL"""
HOPPED = """
SELECT s, a.k, count(*) AS n FROM a, (SELECT TIMESTAMP '2023-12-31 23:59:00' + to_seconds(4 * i) AS s FROM range(100) AS r(i)) AS starts
WHERE s <= ts AND ts < s + INTERVAL 10 SECOND AND s + INTERVAL 10 SECOND > coalesce(_watermark - INTERVAL 3 SECOND, '-infinity') {}
GROUP BY ALL"""
IN_TIME = "SELECT * FROM {} WHERE coalesce(ts >= _watermark, true)"
CASES = {
    "tumble": ("SELECT TUMBLE(ts, 10s).start AS s, k, count(*) AS n FROM a GROUP BY s, k", TUMBLED),
    "tumble in from": ("SELECT window_start AS s, k, count(*) AS n FROM TUMBLE(a, ts, 10s) GROUP BY s, k", TUMBLED),
    "tumble through a subquery": (
        "WITH x AS (SELECT k + 0 AS k, ts AS at_time FROM a) SELECT TUMBLE(at_time, 10s).start AS s, k, count(*) AS n FROM x GROUP BY s, k",
        TUMBLED,
    ),
    "hop": ("SELECT HOP(ts, 4s, 10s).start AS s, k, count(*) AS n FROM a GROUP BY s, k", HOPPED.format("")),
    "hop over a view": ("SELECT HOP(ts, 4s, 10s).start AS s, k, count(*) AS n FROM va GROUP BY s, k", HOPPED.format("AND v > 2")),
    "hop in from": ("SELECT window_start AS s, k, count(*) AS n FROM HOP(va, ts, 4s, 10s) GROUP BY s, k", HOPPED.format("AND v > 2")),
    "hop of a join": (
        "SELECT HOP(a.ts, 4s, 10s).start AS s, k, count(*) AS n FROM a JOIN t USING (k) GROUP BY s, k",
        HOPPED.format("AND k IN (SELECT k FROM t)"),
    ),
    "hop of a union": (
        "SELECT HOP(ts, 4s, 10s).start AS s, k, count(*) AS n FROM (SELECT k, ts FROM a UNION ALL SELECT k, ts FROM b) GROUP BY s, k",
        HOPPED.format("").replace("FROM a,", "FROM (SELECT * FROM a UNION ALL SELECT * FROM b) AS a,"),
    ),
    "without a watermark": (
        "SELECT TUMBLE(ts, 10s).start AS s, k, count(*) AS n FROM plain GROUP BY s, k",
        f"SELECT {starts('plain', 10)} AS s, k, count(*) AS n FROM plain WHERE ts IS NOT NULL GROUP BY ALL",
    ),
    "interval join": (
        "SELECT a.v, b.v AS w FROM a JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '2' SECOND AND a.ts",
        f"SELECT a.v, b.v AS w FROM ({IN_TIME.format('a')}) AS a JOIN ({IN_TIME.format('b')}) AS b "
        "ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL 2 SECOND AND a.ts",
    ),
    "outer interval join": (
        "SELECT a.v, b.v AS w FROM a FULL JOIN b ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '2' SECOND AND a.ts",
        f"SELECT a.v, b.v AS w FROM ({IN_TIME.format('a')}) AS a FULL JOIN ({IN_TIME.format('b')}) AS b "
        "ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL 2 SECOND AND a.ts",
    ),
    "plain join": ("SELECT a.v, b.v AS w FROM a JOIN b ON a.k = b.k", "SELECT a.v, b.v AS w FROM a JOIN b ON a.k = b.k"),
}


@pytest.mark.parametrize("name", CASES)
def test_late_rows_are_dropped(name: str, binder: Binder, con: duckdb.DuckDBPyConnection) -> None:
    """The plan gives what the rule, written independently, gives over the same rows."""
    sql, reference = CASES[name]
    lateness = " WITH (lateness = 3s)" if "hop" in name else ""
    plan = bind(f"{sql} EMIT CHANGES{lateness}", binder).plan
    rows = con.sql(render_whole(plan)).fetchall()
    assert sorted(map(repr, rows)) == sorted(map(repr, con.sql(reference).fetchall()))


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k, SESSION(ts, 3s) AS s, count(*) AS n FROM a WHERE v > 2 GROUP BY k, s",
        "SELECT k, window_end, count(*) AS n FROM SESSION(a PARTITION BY k, ts, 3s) GROUP BY ALL",
        "SELECT SESSION(ts, 1s) AS s, sum(v) FROM va JOIN (SELECT DISTINCT k, v FROM a) USING (k) GROUP BY s",
        "SELECT *, SESSION(ts, 2s) AS s FROM a",
        "SELECT k, s.start, max(n) FROM (SELECT k, SESSION(ts, 2s) AS s, count(*) AS n FROM a GROUP BY k, s) GROUP BY ALL",
    ],
)
def test_sessions_are_those_of_the_snapshot(sql: str, binder: Binder, con: duckdb.DuckDBPyConnection) -> None:
    """Over the rows that are not late, a continuous query has the sessions that a snapshot query has."""
    continuous = bind(f"{sql} EMIT CHANGES", binder).plan
    assert any(block.sessions is not None for block in blocks(continuous))
    snapshot = bind(sql, binder).plan
    rows = con.sql(render_whole(continuous)).fetchall()
    try:
        con.execute("ALTER TABLE a RENAME TO all_of_a")
        kept = "SELECT * FROM all_of_a WHERE coalesce(ts >= _watermark, true)"
        con.execute(f"CREATE VIEW a AS {kept}" if "DISTINCT" not in sql else "CREATE VIEW a AS SELECT * FROM all_of_a")
        expected = con.sql(render_whole(snapshot)).fetchall()
    finally:
        con.execute("DROP VIEW a")
        con.execute("ALTER TABLE all_of_a RENAME TO a")
    if "DISTINCT" not in sql:
        assert sorted(map(repr, rows)) == sorted(map(repr, expected))


LATE = {
    "SELECT TUMBLE(ts, 10s) AS w, count(*) FROM a GROUP BY w": f"{starts('a', 10)} + INTERVAL 10 SECOND <= _watermark",
    "SELECT HOP(ts, 4s, 10s) AS w, count(*) FROM va GROUP BY w": "v > 2 AND time_bucket(INTERVAL 4 SECOND, ts - INTERVAL 10 SECOND) "
    "+ INTERVAL 14 SECOND <= _watermark",
    "SELECT HOP(ts, 10s, 4s) AS w, count(*) FROM a GROUP BY w": f"a.ts < {starts('a', 10)} + INTERVAL 4 SECOND "
    f"AND {starts('a', 10)} + INTERVAL 4 SECOND <= _watermark",
    "SELECT k, SESSION(ts, 4s) AS w, count(*) FROM a GROUP BY k, w": "ts < _watermark",
    "SELECT a.v FROM a LEFT JOIN b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' SECOND": "ts < _watermark",
}


@pytest.mark.parametrize("sql", LATE)
def test_late_says_which_rows(sql: str, binder: Binder, con: duckdb.DuckDBPyConnection) -> None:
    """`late` is true for the rows of the source that lose any of their windows."""
    plan = bind(f"{sql} EMIT CHANGES", binder).plan
    late = next(block for block in blocks(plan) if block.late is not None and block.leaves[0].relation == "a")  # type: ignore[union-attr]
    found = con.sql(f"SELECT _partition, _offset FROM a WHERE {late.late} ORDER BY ALL").fetchall()
    assert found == con.sql(f"SELECT _partition, _offset FROM a WHERE {LATE[sql]} ORDER BY ALL").fetchall()
    assert found


def test_late_rows_are_read_whole_where_they_go_somewhere(binder: Binder) -> None:
    """With LATE ROWS INTO the scan reads every column of the source."""
    plan = bind("SELECT TUMBLE(ts, 10s) AS w, count(*) FROM a GROUP BY w EMIT CHANGES LATE ROWS INTO plain", binder).plan
    assert isinstance(plan, Block)
    (scan,) = plan.leaves
    assert isinstance(scan, Scan)
    assert scan.columns == ("k", "ts", "v", "_watermark")


def test_watermark_is_no_column_of_the_user(binder: Binder) -> None:
    """`_watermark` is in no star."""
    bound = bind("SELECT *, HOP(ts, 4s, 10s) AS w FROM (SELECT * FROM a) EMIT CHANGES", binder)
    assert bound.schema.names == ["k", "ts", "v", "w"]
    assert isinstance(bound.plan, Block)
    assert "_watermark" in (bound.plan.where or "")


# Which columns tell when a window closes

WINDOWS = [
    ("SELECT TUMBLE(ts, 10s).start AS s, count(*) FROM a GROUP BY s", {"s": 10}),
    ("SELECT TUMBLE(ts, 10s).end AS e, count(*) FROM a GROUP BY e", {"e": 0}),
    ("SELECT window_start, window_end, count(*) FROM HOP(a, ts, 4s, 10s) GROUP BY ALL", {"window_start": 10, "window_end": 0}),
    ("SELECT window_end, count(*) FROM SESSION(a PARTITION BY k, ts, 4s) GROUP BY k, window_start, window_end", {"window_end": 0}),
    ("WITH x AS (SELECT window_end AS e, v FROM TUMBLE(a, ts, 4s) WHERE v > 1) SELECT e, count(*) FROM x GROUP BY e", {"e": 0}),
    ("SELECT s, max(n) FROM (SELECT k, TUMBLE(ts, 4s).start AS s, count(*) AS n FROM a GROUP BY k, s) GROUP BY s", {"s": 4}),
    ("SELECT w, count(*) FROM (SELECT TUMBLE(ts, 4s) AS w FROM a) GROUP BY w", {"window_end": 0}),
    ("SELECT TUMBLE(ts, 4s) AS w, count(*) FROM a GROUP BY ALL", {"window_end": 0}),
    ("SELECT s, count(*) FROM (SELECT TUMBLE(ts, 4s).start AS s FROM a UNION ALL SELECT TUMBLE(ts, 9s).start FROM b) GROUP BY s", {"s": 9}),
    ("SELECT TUMBLE(a.ts, 4s).start AS s FROM a JOIN t FOR SYSTEM_TIME AS OF PROCTIME() USING (k)", {"s": 4}),
    ("SELECT TUMBLE(a.ts, 4s).start AS s FROM a JOIN b ON b.ts BETWEEN a.ts - INTERVAL 1 SECOND AND a.ts + INTERVAL 7 SECOND", {"s": 11}),
    ("SELECT TUMBLE(b.ts, 4s).start AS s FROM a JOIN b ON b.ts BETWEEN a.ts - INTERVAL 1 SECOND AND a.ts + INTERVAL 7 SECOND", {"s": 5}),
    ("SELECT TUMBLE(a.ts, 4s).start AS s FROM a JOIN t USING (k)", {}),
    ("SELECT TUMBLE(ts, 4s).start AS s FROM plain", {}),
    ("SELECT TUMBLE(ts + INTERVAL 1 SECOND, 4s).start AS s FROM a", {}),
    ("SELECT TUMBLE(ts, 4s).start AS s FROM a WHERE v > (SELECT avg(v) FROM b)", {}),
    ("SELECT s FROM (SELECT TUMBLE(ts, 4s).start AS s FROM a ORDER BY v LIMIT 3)", {}),
    ("SELECT s FROM (SELECT TUMBLE(ts, 4s).start AS s, row_number() OVER (PARTITION BY k ORDER BY v) AS r FROM a)", {}),
    ("SELECT s FROM (SELECT TUMBLE(ts, 4s).start AS s, row_number() OVER (PARTITION BY s ORDER BY v) AS r FROM a)", {"s": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "expected"), WINDOWS)
def test_windows(sql: str, expected: dict[str, int], binder: Binder) -> None:
    """The topmost block names the inputs that bound a window, and how many seconds behind them it closes."""
    plan = bind(f"{sql} EMIT CHANGES", binder).plan
    assert isinstance(plan, Block)
    assert {window.name: window.plus_us // 1_000_000 for window in plan.windows} == expected


def test_keys_that_follow_from_others(binder: Binder) -> None:
    """Of a window that is a key as a struct, the end follows from it."""
    plan = bind("SELECT w, count(*) FROM (SELECT TUMBLE(ts, 4s) AS w FROM a) GROUP BY w EMIT CHANGES", binder).plan
    assert isinstance(plan, Block)
    assert plan.implied_keys == ("window_end",)


def test_snapshot_query_has_no_late_rows(binder: Binder) -> None:
    """A snapshot query reads no watermark."""
    for block in blocks(bind("SELECT HOP(ts, 4s, 10s) AS w, count(*) FROM va GROUP BY w", binder).plan):
        assert block.late is None
        assert block.windows == ()
