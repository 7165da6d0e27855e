"""Every statement of the grammar becomes its dataclass."""

from datetime import timedelta
from typing import Any

import pytest

from streamq.sql.parse import parse, parse_one
from streamq.sql.statements import (
    ColumnDef,
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    Delete,
    Describe,
    Drop,
    Explain,
    Insert,
    Select,
    Show,
    Update,
)
from streamq.sql.text import sql_of

CASES: list[tuple[str, type, dict[str, Any]]] = [
    ("SELECT a FROM t", Select, {"sql": "SELECT a FROM t", "emit": None, "options": ()}),
    ("WITH c AS (SELECT 1 AS a) SELECT * FROM c;", Select, {"sql": "WITH c AS (SELECT 1 AS a) SELECT * FROM c"}),
    ("FROM t", Select, {"sql": "FROM t"}),
    ("VALUES (1, 'a')", Select, {"sql": "VALUES (1, 'a')"}),
    ("(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1", Select, {"emit": None}),
    ("SELECT a FROM t EMIT CHANGES", Select, {"sql": "SELECT a FROM t", "emit": "changes", "every_s": None}),
    ("SELECT a FROM t EMIT CHANGES EVERY 500ms", Select, {"emit": "changes", "every_s": 0.5}),
    ("SELECT a FROM t EMIT CHANGES EVERY INTERVAL '2' MINUTE", Select, {"every_s": 120.0}),
    ("SELECT a FROM t EMIT FINAL", Select, {"emit": "final"}),
    ("SELECT a FROM t emit on window close", Select, {"emit": "final"}),
    (
        "SELECT a FROM t x WHERE a > 1 EMIT FINAL LATE ROWS INTO late",
        Select,
        {"sql": "SELECT a FROM t x WHERE a > 1", "late_rows_into": "late"},
    ),
    (
        "SELECT a FROM t EMIT CHANGES WITH (start = 'latest', lateness = 1m, target_partitions = 4, executor = thread)",
        Select,
        {"options": (("start", "latest"), ("lateness", timedelta(minutes=1)), ("target_partitions", 4), ("executor", "thread"))},
    ),
    ("SELECT a FROM t WITH (idle_timeout = '5 minutes')", Select, {"options": (("idle_timeout", timedelta(minutes=5)),)}),
    ("SELECT a FROM t WITH (start = TIMESTAMP '2024-01-01 00:00:00')", Select, {"options": (("start", "2024-01-01 00:00:00"),)}),
    ("SELECT a FROM t ORDER BY a LIMIT 3 EMIT CHANGES", Select, {"emit": "changes"}),
    ("SELECT a FROM stream WHERE value > 100", Select, {"sql": "SELECT a FROM stream WHERE value > 100"}),
    ('SELECT a AS "EMIT" FROM t AS emit', Select, {"emit": None}),
    (
        "CREATE SOURCE IF NOT EXISTS s (a INT NOT NULL, ts TIMESTAMP WITH TIME ZONE, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) "
        "PARTITION BY (a) WITH (connector = 'memory', shards = 4, retention = 1h)",
        CreateSource,
        {
            "name": "s",
            "columns": (ColumnDef("a", "INT", True), ColumnDef("ts", "TIMESTAMP WITH TIME ZONE")),
            "watermark": ("ts", "ts - INTERVAL '5' SECOND"),
            "partition_by": ("a",),
            "options": (("connector", "memory"), ("shards", 4), ("retention", timedelta(hours=1))),
            "if_not_exists": True,
        },
    ),
    ("CREATE SOURCE s (watermark INT)", CreateSource, {"columns": (ColumnDef("watermark", "INT"),), "watermark": None, "options": ()}),
    (
        "CREATE SOURCE s (d DECIMAL(10, 2)[], m MAP(VARCHAR, INT), s STRUCT(x INT, y DATE))",
        CreateSource,
        {"columns": (ColumnDef("d", "DECIMAL(10, 2)[]"), ColumnDef("m", "MAP(VARCHAR, INT)"), ColumnDef("s", "STRUCT(x INT, y DATE)"))},
    ),
    (
        "CREATE TABLE t (a INT PRIMARY KEY, b VARCHAR)",
        CreateTable,
        {"primary_key": ("a",), "columns": (ColumnDef("a", "INT"), ColumnDef("b", "VARCHAR"))},
    ),
    (
        "CREATE TABLE IF NOT EXISTS t (a INT, b VARCHAR, PRIMARY KEY (a, b))",
        CreateTable,
        {"primary_key": ("a", "b"), "if_not_exists": True},
    ),
    ('CREATE TABLE "my table" ("Größe" INT PRIMARY KEY)', CreateTable, {"name": "my table", "primary_key": ("Größe",)}),
    ("CREATE VIEW v AS SELECT 1 AS a", CreateView, {"materialized": False, "or_replace": False}),
    ("CREATE OR REPLACE VIEW v AS SELECT 1 AS a", CreateView, {"or_replace": True}),
    ("CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT 1 AS a EMIT FINAL", CreateView, {"materialized": True, "if_not_exists": True}),
    (
        "CREATE SINK k AS SELECT a FROM t EMIT CHANGES WITH (connector = 'kafka', topic = 'x', lateness = 5s)",
        CreateSink,
        {"name": "k", "options": (("connector", "kafka"), ("topic", "x"))},
    ),
    ("INSERT INTO t VALUES (1, 2), (3, $1)", Insert, {"relation": "t", "columns": ()}),
    ("INSERT INTO t (a, b) SELECT a, b FROM u", Insert, {"columns": ("a", "b")}),
    ("INSERT INTO t (SELECT a FROM u)", Insert, {"columns": ()}),
    (
        "UPDATE t SET a = b + 1, c = ? WHERE a IN (SELECT 1)",
        Update,
        {"assignments": (("a", "b + 1"), ("c", "?")), "where": "a IN (SELECT 1)"},
    ),
    ("UPDATE t SET a = 1", Update, {"assignments": (("a", "1"),), "where": None}),
    ("DELETE FROM t WHERE a = $x", Delete, {"table": "t", "where": "a = $x"}),
    ("DELETE FROM t", Delete, {"where": None}),
    ("DROP SOURCE s", Drop, {"kind": "source", "name": "s", "if_exists": False, "cascade": False}),
    ("DROP TABLE IF EXISTS t CASCADE", Drop, {"kind": "table", "if_exists": True, "cascade": True}),
    ("DROP VIEW v RESTRICT", Drop, {"kind": "view"}),
    ("DROP MATERIALIZED VIEW v", Drop, {"kind": "materialized view"}),
    ("DROP SINK k", Drop, {"kind": "sink"}),
    *[(f"SHOW {what}", Show, {"what": what}) for what in ("relations", "sources", "tables", "views", "sinks", "queries")],
    ("DESCRIBE t", Describe, {"relation": "t"}),
    ("EXPLAIN SELECT 1", Explain, {"analyze": False}),
    ("EXPLAIN ANALYZE SELECT a FROM t EMIT CHANGES", Explain, {"analyze": True}),
]


@pytest.mark.parametrize(("sql", "kind", "fields"), CASES, ids=[sql[:60] for sql, _, _ in CASES])
def test_statement(sql: str, kind: type, fields: dict[str, Any]) -> None:
    """A statement gives the dataclass with these fields."""
    statement = parse_one(sql)
    assert type(statement) is kind
    assert {name: getattr(statement, name) for name in fields} == fields


@pytest.mark.parametrize("sql", [sql for sql, kind, _ in CASES if kind is not Select])
def test_keeps_the_text(sql: str) -> None:
    """`sql` of a statement is its text, without comments around it."""
    assert parse_one(f"/* before */ {sql} ; -- after\n").sql == sql


def test_splits_at_semicolons() -> None:
    """Statements are separated by semicolons, not by those in strings, names and comments."""
    statements = parse("SELECT ';' AS \";\" /* ; */; -- ;\n;\nSHOW TABLES;")
    assert [type(statement) for statement in statements] == [Select, Show]


def test_sink_keeps_the_options_of_its_query() -> None:
    """Options that belong to the query are the query's, all others are the sink's."""
    sink = parse_one("CREATE SINK k AS SELECT a FROM t EMIT CHANGES WITH (connector = 'kafka', lateness = 5s)")
    assert isinstance(sink, CreateSink)
    assert sink.query.options == (("lateness", timedelta(seconds=5)),)


def test_comments_tabs_and_unicode() -> None:
    """Comments, tabs and names in any script are fine everywhere."""
    select = parse_one("SELECT\t/* x */ größe, 表 -- y\nFROM\t\ttäble EMIT /* z */ CHANGES")
    assert isinstance(select, Select)
    assert select.emit == "changes"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("SELECT f($1,$2)||$3", "SELECT F($1, $2) || $3"),
        ("SELECT ?::INT, ?::TEXT", "SELECT CAST(? AS INT), CAST(? AS TEXT)"),
        ("SELECT $a,$b", "SELECT $a, $b"),
        ("SELECT '$a',$b,\"$c\",$d -- $e,$f\n/* $g /* $h, */ $i */,$j", "SELECT '$a', $b, \"$c\", $d, $j"),
        ("SELECT $$a,$b$$,$c$it's $$ $c$,$d", "SELECT 'a,$b', 'it''s $$ ', $d"),
        ("SELECT a$b,$c", "SELECT a$b, $c"),
        ("SELECT l[1], l[1:2], l[1][-1], m['k'], [1, 2][$n]", "SELECT l[1], l[1:2], l[1][-1], m['k'], [1, 2][$n]"),
    ],
)
def test_queries_are_written_as_they_were_read(text: str, written: str) -> None:
    """Dollars begin parameters, whatever is behind them, or strings; an index stays what it is."""
    query = parse_one(text)
    assert isinstance(query, Select)
    assert sql_of(query.ast) == written
