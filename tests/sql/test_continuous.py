"""Continuous queries: their options, what they cannot have, and what binding says of joins, aggregates and the clock."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from streamq.errors import BindError, SqlError
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import Block, BoundQuery, Call, Continuous, Join, TimeBound, Whole
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select

TIME = pa.timestamp("us")
SCHEMAS = {
    "a": {"k": pa.int32(), "ts": TIME, "v": pa.int64(), "tags": pa.list_(pa.string())},
    "b": {"k": pa.int64(), "ts": TIME, "w": pa.float64()},
    "plain": {"k": pa.int32(), "ts": TIME, "v": pa.int64()},
    "late": {"k": pa.int32(), "ts": TIME, "v": pa.int64(), "tags": pa.list_(pa.string())},
    "narrow": {"k": pa.int32(), "ts": TIME},
    "other": {"k": pa.string(), "ts": TIME, "v": pa.int64(), "tags": pa.list_(pa.string())},
    "t": {"k": pa.int32(), "name": pa.string()},
    "f": {"k": pa.int32()},
}
CATALOG = {
    name: RelationInfo(
        name,
        {"t": "table", "f": "registered"}.get(name, "source"),  # type: ignore[arg-type]
        pa.schema(schema),
        system_columns=name not in ("t", "f"),
        primary_key=("k",) if name == "t" else (),
        watermark=("ts", "ts - INTERVAL '5' SECOND") if name in ("a", "b") else None,
    )
    for name, schema in SCHEMAS.items()
}
CATALOG["va"] = RelationInfo("va", "view", pa.schema({"k": pa.int32(), "ts": TIME}), view_sql="SELECT k, ts FROM a WHERE v > 0")


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


def bind(sql: str, binder: Binder) -> BoundQuery:
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    return bind_query(statement, CATALOG, binder=binder)


def block(sql: str, binder: Binder) -> Block:
    plan = bind(sql, binder).plan
    assert isinstance(plan, Block), getattr(plan, "reason", plan)
    return plan


# Options


@pytest.mark.parametrize(
    ("clauses", "expected"),
    [
        ("EMIT CHANGES", Continuous("changes")),
        ("EMIT FINAL", Continuous("final")),
        ("EMIT ON WINDOW CLOSE", Continuous("final")),
        ("EMIT CHANGES EVERY 500ms", Continuous("changes", every_s=0.5)),
        ("EMIT CHANGES WITH (lateness = 10s)", Continuous("changes", lateness_us=10_000_000)),
        ("EMIT CHANGES WITH (lateness = '1 minute', idle_timeout = 5s)", Continuous("changes", lateness_us=60_000_000, idle_timeout_s=5.0)),
        ("EMIT CHANGES WITH (start = 'latest')", Continuous("changes", start="latest")),
        ("EMIT CHANGES WITH (start = latest)", Continuous("changes", start="latest")),
        ("EMIT CHANGES WITH (start = TIMESTAMP '1970-01-01 00:00:01')", Continuous("changes", start=1_000_000)),
        ("EMIT CHANGES WITH (start = '1970-01-01 01:00:00+01:00')", Continuous("changes", start=0)),
        ("EMIT CHANGES WITH (state_ttl = 1h, max_state_bytes = 1000)", Continuous("changes", state_ttl_s=3600.0, max_state_bytes=1000)),
        ("EMIT CHANGES WITH (epoch_rows = 1)", Continuous("changes", epoch_rows=1)),
    ],
)
def test_options(clauses: str, expected: Continuous, binder: Binder) -> None:
    """The clauses behind a query become its way to emit and its options."""
    assert bind(f"SELECT k FROM a {clauses}", binder).continuous == expected


def test_snapshot_query_is_not_continuous(binder: Binder) -> None:
    """Without EMIT a query is a snapshot query, and its clock is pinned."""
    bound = bind("SELECT k, now() AS n FROM a", binder)
    assert bound.continuous is None
    assert isinstance(bound.plan, Block)
    assert "$now" not in " ".join(item.sql for item in (*bound.plan.items, *bound.plan.inputs))


ERRORS = [
    ("SELECT k FROM a EMIT CHANGES WITH (lateness = 5)", "lateness is a length of time, not 5", 36, "1m"),
    ("SELECT k FROM a EMIT CHANGES WITH (lateness = -5s)", "lateness must not be negative", 36, "INTERVAL"),
    ("SELECT k FROM a EMIT CHANGES WITH (idle_timeout = 0s)", "idle_timeout must be positive", 36, "INTERVAL"),
    ("SELECT k FROM a EMIT CHANGES WITH (state_ttl = 'x')", "state_ttl", 48, None),
    ("SELECT k FROM a EMIT CHANGES WITH (start = 'soon')", "start is 'earliest', 'latest' or a timestamp", 36, "'latest'"),
    ("SELECT k FROM a EMIT CHANGES WITH (start = 12)", "start is 'earliest', 'latest' or a timestamp", 36, "'latest'"),
    ("SELECT k FROM a EMIT CHANGES WITH (max_state_bytes = 'big')", "max_state_bytes is a positive whole number", 36, "1000000"),
    ("SELECT k FROM a EMIT CHANGES WITH (max_state_bytes = true)", "max_state_bytes is a positive whole number", 36, "1000000"),
    ("SELECT k FROM a EMIT CHANGES WITH (epoch_rows = 0)", "epoch_rows is a positive whole number", 36, "1000000"),
    ("SELECT k FROM a EMIT CHANGES WITH (max_staleness = 5s)", "a continuous query follows its relations", 36, "leave"),
    ("SELECT k FROM a EMIT CHANGES WITH (latenes = 5s)", "no option 'latenes'", 36, "lateness"),
    ("SELECT k FROM a ORDER BY k EMIT CHANGES", "no end at which its rows could be sorted", 17, "LIMIT n"),
    ("SELECT k, v AS K FROM a EMIT CHANGES", "two columns of the result are called K", 16, "rename"),
    ("SELECT a.k, b.k FROM a JOIN b USING (k) EMIT CHANGES", "two columns of the result are called k", None, "rename"),
    ("SELECT random() FROM a EMIT CHANGES", "random() gives another value each time", 8, "snapshot query"),
    ("SELECT k FROM a WHERE uuid() > '5' EMIT FINAL", "uuid() gives another value each time", 23, "snapshot query"),
    ("SELECT k FROM a TABLESAMPLE 10% EMIT CHANGES", "a sample gives other rows", None, "hash(key)"),
    ("SELECT approx_count_distinct(k) FROM a EMIT CHANGES", "approx_count_distinct() is an estimate", 8, "count(DISTINCT x)"),
    ("SELECT approx_quantile(v, 0.5) FROM a EMIT CHANGES", "approx_quantile() is an estimate", 8, "quantile_cont"),
    ("SELECT k, now() FROM t EMIT CHANGES", "rows that can be withdrawn (table t)", 11, "over a source"),
    ("SELECT k, count(*), now() FROM a GROUP BY k EMIT CHANGES", "rows that can be withdrawn (the groups change", 21, "over a source"),
    ("SELECT a.k, today() FROM a LEFT JOIN b USING (k) EMIT CHANGES", "rows that can be withdrawn (left join)", 13, "over a source"),
    ("SELECT n, now() FROM (SELECT count(*) AS n FROM a) EMIT CHANGES", "rows that can be withdrawn (aggregation)", 11, "over a source"),
    ("SELECT list(v) FROM (SELECT v + 1 AS v FROM a) EMIT CHANGES", "list() depends on the order of its rows", 8, "ORDER BY ts"),
    ("SELECT k, first(name) FROM t GROUP BY k EMIT CHANGES", "first() depends on the order of its rows", 11, "ORDER BY ts"),
    ("SELECT string_agg(name, ',') FROM a JOIN t USING (k) EMIT CHANGES", "string_agg() depends on the order", 8, "ORDER BY ts"),
    ("SELECT k, last(v) FROM a GROUP BY ROLLUP (k) EMIT CHANGES", "last() depends on the order", 11, "ORDER BY ts"),
    ("SELECT k FROM a EMIT CHANGES LATE ROWS INTO nope", "relation nope does not exist", 45, "sources and tables"),
    ("SELECT k FROM a EMIT CHANGES LATE ROWS INTO f", "f takes no rows: it is a registered", 45, "sources and tables"),
    ("SELECT k FROM a EMIT CHANGES LATE ROWS INTO va", "va takes no rows: it is a view", 45, "sources and tables"),
    ("SELECT k FROM a EMIT CHANGES LATE ROWS INTO late", "no row of this query can be late", 45, "WATERMARK"),
    ("SELECT * FROM TUMBLE(a, ts, 1m) EMIT CHANGES LATE ROWS INTO narrow", "it has no column v, tags", 61, "columns of a"),
    ("SELECT * FROM TUMBLE(a, ts, 1m) EMIT CHANGES LATE ROWS INTO other", "k has another type", 61, "columns of a"),
    ("SELECT * FROM TUMBLE(a, ts, 1m) EMIT CHANGES LATE ROWS INTO a", "would come back to it", 61, "another source"),
    ("SELECT a.k FROM a RIGHT JOIN t FOR SYSTEM_TIME AS OF PROCTIME() USING (k) EMIT CHANGES", "RIGHT JOIN does not go", 36, "LEFT JOIN"),
    ("SELECT k FROM t FOR SYSTEM_TIME AS OF PROCTIME() EMIT CHANGES", "stands at the right side of a join", 21, "LEFT JOIN"),
    ("SELECT a.k FROM a JOIN t FOR SYSTEM_TIME AS OF PROCTIME() USING (k) GROUP BY ROLLUP (a.k) EMIT CHANGES", "grouping sets", 30, "JOIN"),
    ("SELECT k FROM a WHERE EXISTS (SELECT 1 FROM TUMBLE(b, ts, 1m) AS x WHERE x.k = a.k) EMIT CHANGES", "late rows would not", 45, "FROM"),
    ("SELECT TUMBLE(ts, 1m).start AS s, k FROM a GROUP BY ROLLUP (s, k) EMIT CHANGES", "late rows would not be known", 8, "FROM TUMBLE"),
]  # fmt: skip


@pytest.mark.parametrize(("sql", "message", "column", "hint"), ERRORS)
def test_errors(sql: str, message: str, column: int | None, hint: str | None, binder: Binder) -> None:
    """What a continuous query cannot have is an error with its place and what to write instead."""
    with pytest.raises(SqlError) as info:
        bind(sql, binder)
    error = info.value
    assert isinstance(error, BindError)
    assert message in error.message
    assert hint is None or hint in (error.hint or "")
    if column is not None:
        assert (error.line, error.column) == (1, column)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k FROM a ORDER BY k LIMIT 3 EMIT CHANGES",
        "SELECT k, first(v) FROM a GROUP BY k EMIT CHANGES",
        "SELECT k, list(DISTINCT name) FROM t GROUP BY k EMIT CHANGES",
        "SELECT k, list(name ORDER BY name) FROM t GROUP BY k EMIT CHANGES",
        "SELECT HOP(ts, 1m, 2m).start AS s, last(v) FROM a GROUP BY s EMIT CHANGES",
        "SELECT a.k, now() AS n FROM a JOIN t FOR SYSTEM_TIME AS OF PROCTIME() USING (k) EMIT CHANGES",
        "SELECT k, count(*) FROM a WHERE ts > now()::TIMESTAMP - INTERVAL '1' DAY GROUP BY k EMIT CHANGES",
        "SELECT k, count(*) FROM a GROUP BY ALL EMIT CHANGES",
        "SELECT * FROM TUMBLE(a, ts, 1m) EMIT CHANGES LATE ROWS INTO late",
        "SELECT k, window_start, count(*) FROM TUMBLE(a, ts, 1m) GROUP BY CUBE (k, window_start) EMIT CHANGES",
    ],
)
def test_what_is_allowed(sql: str, binder: Binder) -> None:
    """What looks like one of the errors and is none."""
    assert bind(sql, binder).continuous is not None


# The clock


@pytest.mark.parametrize(
    ("call", "sql"),
    [
        ("now()", "CAST($now AS TIMESTAMPTZ)"),
        ("current_timestamp", "CAST($now AS TIMESTAMPTZ)"),
        ("current_date", "CAST(CAST($now AS TIMESTAMPTZ) AS DATE)"),
        ("today()", "CAST(CAST($now AS TIMESTAMPTZ) AS DATE)"),
        ("localtimestamp", "CAST(CAST($now AS TIMESTAMPTZ) AS TIMESTAMP)"),
        ("current_time", "CAST(CAST($now AS TIMESTAMPTZ) AS TIMETZ)"),
        ("localtime", "CAST(CAST(CAST($now AS TIMESTAMPTZ) AS TIMESTAMP) AS TIME)"),
    ],
)
def test_clock_is_a_parameter(call: str, sql: str, binder: Binder) -> None:
    """Everything that reads the clock reads `$now`, with the type that it had."""
    bound = bind(f"SELECT k, {call} AS c FROM a EMIT CHANGES", binder)
    assert isinstance(bound.plan, Block)
    assert bound.continuous is not None
    assert bound.continuous.reads_clock
    assert [given.sql for given in bound.plan.inputs if given.name == "c"] == [sql]


def test_clock_of_a_call_is_read_with_the_row(binder: Binder) -> None:
    """An aggregate over the clock has it as an input, so that computing it again finds the same."""
    plan = block("SELECT k, count(*) FILTER (WHERE ts < localtimestamp) AS n FROM a GROUP BY k EMIT CHANGES", binder)
    assert "$now" not in plan.calls[0].sql
    assert any("$now" in given.sql for given in plan.inputs)


# Joins and calls


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        (
            "SELECT a.v, w FROM a JOIN b ON a.k = b.k AND a.v > b.w",
            Join("inner", "b#2", (("a#1", "k", "k", "BIGINT"),), True, "a.k = b.k AND a.v > b.w", ("CAST(a.k AS BIGINT)",), ("b.k",)),
        ),
        (
            "SELECT v, name FROM a LEFT JOIN t FOR SYSTEM_TIME AS OF PROCTIME() USING (k)",
            Join("left", "t#2", (("a#1", "k", "k", "INTEGER"),), False, "a.k = t.k", ("a.k",), ("t.k",), as_of_now=True),
        ),
        (
            "SELECT v, name FROM a, t WHERE a.k = t.k AND v > 3",
            Join("inner", "t#2", (("a#1", "k", "k", "INTEGER"),), True, "a.k = t.k", ("a.k",), ("t.k",)),
        ),
        ("SELECT v, name FROM a CROSS JOIN t", Join("cross", "t#2", (), False)),
    ],
)
@pytest.mark.parametrize("emit", ["", " EMIT CHANGES"])
def test_joins(sql: str, expected: Join, emit: str, binder: Binder) -> None:
    """A join has its whole condition, and its keys over the user's names, cast to a common type."""
    assert block(sql + emit, binder).joins == (expected,)


def test_aliases_are_those_of_from(binder: Binder) -> None:
    """Leaves have the names under which FROM has them."""
    assert block("SELECT x.k, t.name FROM a AS x JOIN t USING (k) EMIT CHANGES", binder).aliases == ("x", "t")


@pytest.mark.parametrize(
    ("sql", "laterals", "entangled"),
    [
        ("SELECT a.k, t.name FROM a JOIN t USING (k)", "", None),
        (
            "SELECT a.k, tag, name FROM a JOIN t USING (k) CROSS JOIN UNNEST(a.tags) AS u(tag)",
            "CROSS JOIN UNNEST(a.tags) AS u(tag)",
            None,
        ),
        (
            "SELECT a.k, tag FROM a CROSS JOIN UNNEST(a.tags) AS u(tag) JOIN t ON t.name = tag",
            "CROSS JOIN UNNEST(a.tags) AS u(tag)",
            "UNNEST before a join",
        ),
        ("SELECT k FROM a WHERE v > (SELECT max(w) FROM b WHERE b.k = a.k)", "", "correlated subquery"),
        ('SELECT x.k FROM a AS "a.b" JOIN t AS x ON "a.b".k = x.k', "", "an alias with a dot"),
    ],
)
def test_joins_one_by_one(sql: str, laterals: str, entangled: str | None, binder: Binder) -> None:
    """A block says what follows its joins, and why they cannot be done one by one."""
    plan = block(f"{sql} EMIT CHANGES", binder)
    assert (plan.laterals, plan.entangled) == (laterals, entangled)


@pytest.mark.parametrize(
    ("call", "function", "arguments", "distinct", "condition"),
    [
        ("count(*)", "count_star", (), False, None),
        ("count()", "count_star", (), False, None),
        ("count(v)", "count", ("v",), False, None),
        ("count(DISTINCT v)", "count", ("v",), True, None),
        ("max(DISTINCT v)", "max", ("v",), False, None),
        ("sum(v + 1) FILTER (WHERE k > 2)", "sum", ("v + 1",), False, "k > 2"),
        ("mean(v)", "avg", ("v",), False, None),
        ("stddev(v)", "stddev_samp", ("v",), False, None),
        ("variance(v)", "var_samp", ("v",), False, None),
        ("median(v)", "median", ("v",), False, None),
        ("list(v ORDER BY ts)", "", (), False, None),
        ("quantile_cont(v, 0.5)", "quantile_cont", ("v", "0.5"), False, None),
        ("sum(v) FILTER (WHERE k IN (SELECT k FROM t))", "sum", ("v",), False, "subquery"),
    ],
)
def test_calls(call: str, function: str, arguments: tuple[str, ...], distinct: bool, condition: str | None, binder: Binder) -> None:
    """A call says which function of what it is; forms with more to them say nothing."""
    (found,) = block(f"SELECT {call} AS c FROM a EMIT CHANGES", binder).calls
    assert isinstance(found, Call)
    assert (found.function, found.arguments, found.distinct, found.condition) == (function, arguments, distinct, condition)


@pytest.mark.parametrize("operator", ["INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"])
def test_set_operations_are_by_row(operator: str, binder: Binder) -> None:
    """INTERSECT and EXCEPT say that copies of a row decide about that row alone."""
    plan = bind(f"SELECT k FROM a {operator} SELECT k FROM t EMIT CHANGES", binder).plan
    assert isinstance(plan, Whole)
    assert plan.by_row


# Time bounds


BOUNDS = [
    ("a.ts BETWEEN b.ts - INTERVAL '1' MINUTE AND b.ts + INTERVAL '30' SECOND", (-30_000_000, 60_000_000)),
    ("b.ts BETWEEN a.ts AND a.ts + INTERVAL '1 hour'", (0, 3_600_000_000)),
    ("a.ts < b.ts AND a.ts + INTERVAL '1' SECOND >= b.ts", (1, 1_000_000)),
    ("b.ts >= a.ts - INTERVAL '1' DAY AND b.ts < a.ts", (-86_400_000_000, -1)),
    ("a.ts - INTERVAL '2' SECOND <= b.ts - INTERVAL '1' SECOND AND b.ts <= INTERVAL '1' SECOND + a.ts", (-1_000_000, 1_000_000)),
    ("a.ts = b.ts", None),
    ("a.ts > b.ts", None),
    ("a.ts BETWEEN b.ts - INTERVAL '1' MONTH AND b.ts", None),
    ("a.ts BETWEEN b.ts - to_seconds(a.k) AND b.ts", None),
]


@pytest.mark.parametrize(("condition", "bound"), BOUNDS)
def test_time_bounds(condition: str, bound: tuple[int, int] | None, binder: Binder) -> None:
    """Comparisons of two event times that leave a fixed room are a time bound, however they are written."""
    expected = None if bound is None else TimeBound("a.ts", "b.ts", *bound)
    for sql in (
        f"SELECT v, w FROM a LEFT JOIN b ON a.k = b.k AND {condition}",
        f"SELECT v, w FROM a, b WHERE a.k = b.k AND {condition}",
        f"SELECT v, w FROM a JOIN b USING (k) WHERE {condition}",
    ):
        for emit in ("", " EMIT CHANGES"):
            (join,) = block(sql + emit, binder).joins
            assert join.time_bound == expected, sql


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT a.v FROM a JOIN plain ON a.k = plain.k AND plain.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR",
        "SELECT a.v FROM a LEFT JOIN b ON a.k = b.k WHERE b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR",
        "SELECT a.v FROM a JOIN (SELECT k, max(ts) AS ts FROM b GROUP BY k) b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR",
        "SELECT a.v FROM a JOIN (SELECT ts + INTERVAL '1' HOUR AS ts FROM b) b ON b.ts BETWEEN a.ts AND a.ts + INTERVAL '1' HOUR",
    ],
)
def test_no_time_bound(sql: str, binder: Binder) -> None:
    """Times that no watermark follows, and WHERE behind an outer join, set no time bound."""
    assert block(f"{sql} EMIT CHANGES", binder).joins[0].time_bound is None


def test_time_bound_through_views_and_subqueries(binder: Binder) -> None:
    """An event time is one through plain queries that name it bare."""
    sql = (
        "WITH x AS (SELECT ts AS seen FROM b) SELECT va.k FROM va JOIN x ON x.seen BETWEEN va.ts AND va.ts + INTERVAL '1' HOUR EMIT CHANGES"
    )
    bound = block(sql, binder).joins[0].time_bound
    assert bound is not None
    assert (bound.left, bound.right, bound.lower_us, bound.upper_us) == ("va.ts", "x.seen", 0, 3_600_000_000)
