"""Time windows as plain SQL: every spelling, and how it composes with the rest of a query."""

from collections.abc import Iterator

import duckdb
import pytest

from streamq.errors import BindError
from streamq.sql.aliases import expand_lateral_aliases, name_unnested_columns
from streamq.sql.dialect import generate
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select
from streamq.sql.windows import rewrite_time_windows
from tests.oracle import connect_duckdb

COLUMNS = {"k", "ts", "v", "customer_id", "event_time", "amount", "hashtags", "likes", "retweets", "replies", "engagement_score"}


@pytest.fixture(name="con")
def open_session() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB session with a few rows."""
    with connect_duckdb() as con:
        con.execute("CREATE TEMP TABLE t (k INT, ts TIMESTAMP, v INT)")
        con.execute(
            "INSERT INTO t VALUES (1, '2024-01-01 00:00:30', 1), (1, '2024-01-01 00:05:30', 2), (2, '1969-12-31 23:59:59', 5), (1, NULL, 7)"
        )
        con.execute("CREATE TEMP TABLE u AS SELECT k, v AS w FROM t WHERE k = 1 AND v = 1")
        yield con


def rewrite(sql: str) -> str:
    """Give the plain SQL of a query whose only watermark is `t.ts`."""
    select = parse_one(sql)
    assert isinstance(select, Select)
    ast = expand_lateral_aliases(name_unnested_columns(select.ast), COLUMNS)
    return generate(rewrite_time_windows(ast, lambda name: "ts" if name == "t" else None))


TUMBLED = [("1969-12-31 23:59:00", 1), ("2024-01-01 00:00:00", 1), ("2024-01-01 00:05:00", 1)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT window_start AS s, count(*) FROM TUMBLE(t, ts, 1m) GROUP BY s",
        "SELECT x.window_start AS s, count(*) FROM TUMBLE(t, ts, INTERVAL '1' MINUTE) AS x GROUP BY s",
        "SELECT t.window_start AS s, count(*) FROM TUMBLE((SELECT * FROM t), t.ts, '1 minute') AS t GROUP BY s",
        "SELECT window_start AS s, count(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL 60 SECOND)) GROUP BY s",
        "SELECT TUMBLE(ts, 1m).start AS s, count(*) FROM t GROUP BY TUMBLE(ts, 1m)",
        "SELECT window.start AS s, count(*) AS n FROM (SELECT TUMBLING(ts, 60s) AS window FROM t) GROUP BY window",
        "SELECT s, n FROM (SELECT TUMBLE(ts, 1m) AS window, count(*) AS n, window.start AS s FROM t GROUP BY window)",
        "SELECT TUMBLE(ts, 1m).start AS s, count(*) FROM t GROUP BY ALL",
        "SELECT TUMBLE(ts, 1m).start AS s, count(*) FROM t GROUP BY 1",
        "SELECT window_start AS s, count(*) FROM t WINDOW TUMBLING(1m)",
        "SELECT window_start AS s, count(*) FROM t AS x WINDOW TUMBLING(ts, 1m)",
        "SELECT window_start AS s, count(*) FROM t WINDOW TUMBLING(1m) GROUP BY k",
        "SELECT window_start AS s, count(*) FROM t GROUP BY k WINDOW TUMBLING(1m)",
        "WITH c AS (SELECT * FROM TUMBLE(t, ts, 1m)) SELECT window_start AS s, count(*) FROM c GROUP BY s",
        "SELECT HOP(ts, 1m, 1m).start AS s, count(*) FROM t GROUP BY HOP(ts, 1m, 1m)",
        "SELECT SLIDING(ts, 1m, 1m).start AS s, count(*) FROM t GROUP BY SLIDING(ts, 1m, 1m)",
        "SELECT window_start AS s, count(*) FROM t WINDOW HOPPING(1m, 1m) GROUP BY k",
        "SELECT window_start AS s, count(*) FROM HOP(t, ts, 1m, 1m) GROUP BY s",
    ],
)
def test_spellings_of_tumbling(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Every spelling of one-minute windows gives the same windows."""
    rows = con.sql(f"SELECT s::VARCHAR, * EXCLUDE (s) FROM ({rewrite(sql)}) ORDER BY 1").fetchall()
    assert rows == TUMBLED


SESSIONS = [(1, "2024-01-01 00:00:30", "2024-01-01 00:10:30", 2), (2, "1969-12-31 23:59:59", "1970-01-01 00:04:59", 1)]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT k, SESSION(ts, 5m) AS s, count(*) AS n FROM t GROUP BY k, s",
        "SELECT k, SESSION(ts, 5m) AS s, count(*) AS n FROM t GROUP BY 1, 2",
        "SELECT x.k, SESSION(x.ts, '5 minutes') AS s, count(*) AS n FROM t AS x GROUP BY x.k, SESSION(x.ts, '5 minutes')",
        "SELECT k, {'start': window_start, 'end': window_end} AS s, count(*) AS n FROM t GROUP BY k WINDOW SESSION(5m)",
        "SELECT k, {'start': window_start, 'end': window_end} AS s, count(*) AS n FROM SESSION(t PARTITION BY k, ts, 5m) GROUP BY ALL",
        "SELECT k, {'start': window_start, 'end': window_end} AS s, count(*) AS n "
        "FROM TABLE(SESSION(TABLE t PARTITION BY (k), DESCRIPTOR(ts), INTERVAL '5' MINUTE)) GROUP BY k, window_start, window_end",
    ],
)
def test_spellings_of_session(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Every spelling of sessions per key gives the same sessions; a row exactly one gap later belongs to the session."""
    rows = con.sql(f"SELECT k, s.start::VARCHAR, s.end::VARCHAR, n FROM ({rewrite(sql)}) ORDER BY k").fetchall()
    assert rows == SESSIONS


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT * FROM TUMBLE(t, ts, 1m) WHERE v = 2", 1),
        ("SELECT *, HOP(ts, 1m, 3m) FROM t", 9),
        ("SELECT *, SESSION(ts, 5m) FROM t", 3),
        ("SELECT x.k, u.w FROM TUMBLE(t, ts, 1m) AS x JOIN u ON x.k = u.k", 2),
        ("SELECT t.k, SESSION(t.ts, 5m) AS s, sum(u.w) FROM t LEFT JOIN u USING (k) GROUP BY t.k, s", 2),
        ("SELECT HOP(t.ts, 1m, 2m) AS s, count(*) FROM t, u WHERE t.k = u.k GROUP BY s", 4),
        ("SELECT TUMBLE(ts, 1m) AS s, n, count(*) FROM t CROSS JOIN UNNEST([1, 2]) AS n GROUP BY s, n", 6),
        ("SELECT k FROM t WHERE TUMBLE(ts, 1m).start > TIMESTAMP '2000-01-01'", 2),
        ("SELECT k FROM u WHERE EXISTS (SELECT 1 FROM TUMBLE(t, ts, 1m) AS x WHERE x.k = u.k)", 1),
        ("SELECT TUMBLE(ts, 1m) AS s FROM t GROUP BY s HAVING s.end > TIMESTAMP '2000-01-01' ORDER BY s.start LIMIT 1", 1),
        ("SELECT lower(k::VARCHAR) AS l, SESSION(ts, 5m) AS s, count(*) FROM t GROUP BY l, s HAVING count(*) > 1", 1),
        ("SELECT a.k FROM TUMBLE(t, ts, 1m) AS a JOIN HOP(t, ts, 1m, 2m) AS b ON a.window_start = b.window_start", 3),
        ("SELECT k, HOP(ts, 3m, 1m) FROM t", 1),
        ("(SELECT TUMBLE(ts, 1m) FROM t) UNION ALL (SELECT TUMBLE(ts, 5m) FROM t)", 6),
    ],
)
def test_composes(con: duckdb.DuckDBPyConnection, sql: str, rows: int) -> None:
    """Windows go with joins, filters, subqueries, UNNEST and set operations."""
    assert len(con.sql(rewrite(sql)).fetchall()) == rows


@pytest.mark.parametrize(
    "sql", ["SELECT *, TUMBLE(ts, 1m) AS w FROM t", "SELECT *, HOP(ts, 1m, 2m) AS w FROM t", "SELECT *, SESSION(ts, 1m) AS w FROM t"]
)
def test_star_has_no_inner_columns(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """What the rewriting needs in between is not in `*`."""
    assert con.sql(rewrite(sql)).columns == ["k", "ts", "v", "w"]


@pytest.mark.parametrize("sql", ["SELECT * FROM TUMBLE(t, ts, 1m)", "SELECT * FROM HOP(t, ts, 1m, 2m)", "SELECT * FROM SESSION(t, ts, 1m)"])
def test_table_functions_add_two_columns(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """A table function adds `window_start` and `window_end`."""
    assert con.sql(rewrite(sql)).columns == ["k", "ts", "v", "window_start", "window_end"]


def test_system_columns_pass_table_functions(con: duckdb.DuckDBPyConnection) -> None:
    """System columns, which `*` does not have, can be named behind a table function."""
    assert "SELECT *, _offset" in rewrite("SELECT _offset, window_start FROM TUMBLE(t, ts, 1m)")


def test_session_keeps_output_names(con: duckdb.DuckDBPyConnection) -> None:
    """Columns and expressions without an alias keep the names they would have."""
    assert con.sql(rewrite("SELECT t.k, count(v), SESSION(ts, 1m) FROM t GROUP BY t.k, SESSION(ts, 1m)")).columns == [
        "k",
        "count(v)",
        "window",
    ]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT count(*) FROM u WINDOW TUMBLING(1m)", "no relation has a watermark"),
        ("SELECT count(*) FROM t JOIN t AS s USING (k) WINDOW TUMBLING(1m)", "several relations"),
        ("WITH t AS (SELECT 1 AS ts) SELECT count(*) FROM t WINDOW TUMBLING(1m)", "no relation has a watermark"),
        ("SELECT k, count(*) FROM t GROUP BY ALL WINDOW TUMBLING(1m)", "GROUP BY ALL"),
        ("SELECT k, SESSION(ts, 1m), count(*) FROM t GROUP BY ALL", "name the keys"),
        ("SELECT TUMBLE(ts, 1m), TUMBLE(ts, 2m) FROM t", "one time window"),
        ("SELECT k FROM t WHERE HOP(ts, 1m, 2m).start > '2000-01-01'", "only tumbling"),
        ("SELECT TUMBLE(TIMESTAMP '2000-01-01', 1m)", "needs FROM"),
        ("SELECT t.*, SESSION(ts, 1m) FROM t", "name the columns"),
    ],
)
def test_rejects(sql: str, message: str) -> None:
    """A window that cannot be meant is a BindError that says why."""
    with pytest.raises(BindError, match=message):
        rewrite(sql)


def test_session_per_customer(con: duckdb.DuckDBPyConnection) -> None:
    """The session query with fraud flags gives one row a customer and session."""
    con.execute(
        "CREATE TABLE transactions AS SELECT i % 2 AS customer_id, TIMESTAMP '2024-01-01' + INTERVAL 45 MINUTE * (i // 2) "
        "+ INTERVAL 1 SECOND * (CASE WHEN i >= 8 THEN 1 ELSE 0 END) AS event_time, 3000.0 AS amount FROM range(12) AS r(i)"
    )
    rows = con.sql(
        rewrite("""
        SELECT customer_id, SESSION(event_time, INTERVAL '45' MINUTE) as session_window, COUNT(*) as event_count,
            SUM(amount) as session_total, AVG(amount) as avg_transaction, MIN(event_time) as session_start, MAX(event_time) as session_end,
            CASE WHEN COUNT(*) > 20 THEN 'suspicious_velocity'
            WHEN SUM(amount) > 10000.0 THEN 'high_value_alert' ELSE 'normal' END as fraud_flag
        FROM transactions
        GROUP BY customer_id, SESSION(event_time, INTERVAL '45' MINUTE)
        EMIT CHANGES;""")
    ).fetchall()
    assert sorted((row[0], row[2], row[7]) for row in rows) == [
        (0, 2, "normal"),
        (0, 4, "high_value_alert"),
        (1, 2, "normal"),
        (1, 4, "high_value_alert"),
    ]


def test_rank_over_window_alias(con: duckdb.DuckDBPyConnection) -> None:
    """Aliases of the window and of an aggregate may be used in OVER: the rank is within the window, over all hashtags."""
    con.execute(
        "CREATE TABLE posts AS SELECT TIMESTAMP '2024-01-01' AS event_time, h AS hashtags, l AS likes, 0 AS retweets, 0 AS replies, "
        "1.0 AS engagement_score "
        "FROM (VALUES (['#ai', '#ml'], 3), (['#ai'], 4), (['#db', '#ml'], 4), (['#ai', '#db'], 0), (['#x'], 9)) AS v(h, l)"
    )
    rows = con.sql(
        rewrite("""
        SELECT hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE) as window, COUNT(*) as mention_count,
            SUM(likes + retweets + replies) as total_engagement, AVG(engagement_score) as avg_engagement,
            RANK() OVER (PARTITION BY window ORDER BY total_engagement DESC) as trending_rank
        FROM posts
        CROSS JOIN UNNEST(hashtags) AS hashtag
        GROUP BY hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE)
        HAVING COUNT(*) > 1
        EMIT CHANGES""")
    ).fetchall()
    assert sorted((row[0], row[3], row[5]) for row in rows) == [("#ai", 7, 1), ("#db", 4, 3), ("#ml", 7, 1)]
