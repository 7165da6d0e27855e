"""What is wrong with a statement, its parameters or its files is said before anything runs, in words that help."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
SYNTAX, BIND, UNSUPPORTED = streamq.SqlSyntaxError, streamq.BindError, streamq.UnsupportedError


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor="thread", workers=1) as db:
        await db.execute("CREATE SOURCE s (k BIGINT, name VARCHAR, v DOUBLE, ts TIMESTAMP, tags VARCHAR[])")
        await db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, v VARCHAR)")
        await db.execute("CREATE VIEW w AS SELECT k FROM s")
        await db.register("r", pa.table({"n": [1, 2]}))
        yield db


async def assert_nothing_ran(db: streamq.Database) -> None:
    statistics = await db.statistics()
    assert (statistics.running, sum(statistics.outcomes.values())) == (0, 0)


# `^` stands before what the error points at; without it the place is not known.
QUERIES: list[tuple[type[streamq.SqlError], str, tuple[str, ...]]] = [
    # Malformed
    (SYNTAX, "", ("no statement",)),
    (SYNTAX, "^SELEC 1", ("'SELEC'", "did you mean SELECT")),
    (SYNTAX, "SELECT k FROM^", ("end of the text", "a relation")),
    (SYNTAX, "SELECT k,^, v FROM s", ("','",)),
    (SYNTAX, "SELECT (k ^FROM s", ("'FROM'",)),
    (SYNTAX, "SELECT k FROM s WHERE^", ("end of the text", "missing")),
    (SYNTAX, "SELECT k FROM s GROUP ^k", ("'k'",)),
    (SYNTAX, "SELECT ^'abc FROM s", ("string", "does not end")),
    (SYNTAX, "SELECT 1; ^SELECT 2", ("one statement", "one by one")),
    (SYNTAX, "SELECT k FROM s EMIT ^SOMETIMES", ("CHANGES, FINAL or ON WINDOW CLOSE", "'SOMETIMES'")),
    (SYNTAX, "SELECT malformed syntax ^here...", ("'here'",)),
    (SYNTAX, "SELECT * FROM ^TUMBLE(s, ts)", ("TUMBLE(relation, ts, size",)),
    # Unknown names
    (BIND, "SELECT ^nosuch FROM s", ('"nosuch"', "not found")),
    (BIND, "SELECT k,\n  ^nme FROM s", ('"nme"', '"name"')),
    (BIND, "SELECT ^s.nosuch FROM s", ('"s"', '"nosuch"')),
    (BIND, "SELECT ^x.k FROM s", ('table "x"', '"s"')),
    (BIND, "SELECT * FROM ^ss", ("relation ss does not exist", "did you mean s?")),
    (BIND, "SELECT * FROM ^nosuch", ("relation nosuch", "r, s, t, w")),
    (BIND, "SELECT k FROM s WHERE EXISTS (SELECT 1 FROM ^nosuch)", ("relation nosuch",)),
    (BIND, "SELECT ^nosuch(k) FROM s", ("nosuch", "does not exist")),
    (BIND, "SELECT name::^nosuchtype FROM s", ("nosuchtype", "does not exist")),
    (BIND, "SELECT k FROM s GROUP BY ^nosuch", ('"nosuch"',)),
    (BIND, "SELECT * FROM s JOIN t USING (^id)", ('"id"', "left side")),
    (BIND, "SELECT * FROM s JOIN t ON s.k = ^t.nosuch", ('"nosuch"', '"t"')),
    (BIND, "SELECT ^v FROM s JOIN t ON s.k = t.id", ("Ambiguous", "s.v", "t.v")),
    (BIND, "SELECT * EXCLUDE (^zz) FROM s", ('"zz"',)),
    (BIND, "SELECT rank() OVER (PARTITION BY ^zz ORDER BY k) FROM s", ('"zz"',)),
    (BIND, "SELECT k FROM s WITH (^colour = 1)", ("no option 'colour'", "target_partitions")),
    (BIND, "SELECT * FROM ^read_parquet('x')", ("cannot read files", "register")),
    # Types
    (BIND, "SELECT k ^+ name FROM s", ("+ does not take BIGINT and VARCHAR", "CAST")),
    (BIND, "SELECT ^-name FROM s", ("- does not take VARCHAR", "CAST")),
    (BIND, "SELECT ^upper(k) FROM s", ("upper", "(BIGINT)", "VARCHAR")),
    (BIND, "SELECT k FROM s WHERE ^name > ts", ("VARCHAR", "TIMESTAMP", "cast")),
    (BIND, "SELECT * FROM TUMBLE(s, k, INTERVAL '1' MINUTE)", ("time window", "TIMESTAMP", "BIGINT")),
    (BIND, "SELECT k FROM s UNION SELECT k, name FROM s", ("same number", "columns")),
    (BIND, "SELECT k FROM s WHERE k IN ^(SELECT k, v FROM s)", ("2 columns", "expected 1")),
    (BIND, "SELECT k FROM s LIMIT ^-1", ("negative",)),
    # Clauses that cannot apply
    (BIND, "SELECT ^k, sum(v) FROM s", ('"k"', "GROUP BY", "ANY_VALUE(k)")),
    (BIND, "SELECT sum(k) FROM s WHERE ^sum(k) > 1", ("WHERE", "aggregate")),
    (BIND, "SELECT sum(^sum(k)) FROM s", ("nested",)),
    (BIND, "SELECT ^row_number() FROM s", ("without OVER", "OVER ()")),
    (BIND, "SELECT k FROM s WITH (target_partitions = 'a')", ("target_partitions", "whole number", "'a'")),
    (BIND, "SELECT k FROM s WITH (executor = 'gpu')", ("executor", "'process' or 'thread'", "'gpu'")),
    (UNSUPPORTED, "DELETE FROM t", ("execute()",)),
    (UNSUPPORTED, "^PRAGMA threads = 1", ("PRAGMA",)),
]


@pytest.mark.parametrize(("kind", "marked", "words"), QUERIES, ids=[case[1].replace("\n", " ")[:60] or "empty" for case in QUERIES])
async def test_a_wrong_query_is_explained(db: streamq.Database, kind: type[streamq.SqlError], marked: str, words: tuple[str, ...]) -> None:
    """The error has its class, its place and the words that matter, and no query was started."""
    sql = marked.replace("^", "")
    with pytest.raises(streamq.SqlError) as raised:
        await db.fetch(sql)
    assert type(raised.value) is kind
    said = str(raised.value)
    assert [word for word in words if word not in said] == [], said
    if "^" in marked:
        before = marked[: marked.index("^")]
        place = (before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)
        assert (raised.value.line, raised.value.column) == place, said
    await assert_nothing_ran(db)


@pytest.mark.parametrize(
    ("sql", "params", "words"),
    [
        ("SELECT ?", None, ("$1", "1 wanted, 0 given")),
        ("SELECT ?", [1, 2], ("$2", "1 wanted, 2 given")),
        ("SELECT 1", [1], ("0 wanted, 1 given",)),
        ("SELECT $a", {}, ("no value", "$a")),
        ("SELECT $a", {"a": 1, "b": 2}, ("$b",)),
        ("SELECT $a", [1], ("$a", "mapping")),
        ("SELECT ?", {"a": 1}, ("positional", "sequence")),
        ("SELECT $1, $a", [1], ("named", "positional")),
        ("SELECT ?, $2", [1, 2], ("?", "$1")),
        ("SELECT ?", "abc", ("string", "list or tuple")),
        ("SELECT ?", 5, ("int", "list or tuple")),
        ("SELECT ?", [object()], ("object", "no SQL value")),
        ("SELECT k FROM s LIMIT ?", [-1], ("negative",)),
        ("SELECT k + ? FROM s", [[1]], ("+ does not take BIGINT and INTEGER[]",)),
    ],
)
async def test_wrong_parameters_are_explained(db: streamq.Database, sql: str, params: object, words: tuple[str, ...]) -> None:
    """Too few, too many, of the wrong form or type: a BindError that says which, and no query was started."""
    with pytest.raises(streamq.BindError) as raised:
        await db.fetch(sql, params)  # type: ignore[arg-type] # wrong on purpose
    said = str(raised.value)
    assert [word for word in words if word not in said] == [], said
    await assert_nothing_ran(db)


@pytest.mark.parametrize(
    ("kind", "sql", "words"),
    [
        (BIND, "CREATE SOURCE s (k BIGINT)", ("source named 's' already", "drop it")),
        (BIND, "CREATE SOURCE x (k NOSUCH)", ("x.k", "no type NOSUCH")),
        (BIND, "CREATE SOURCE x (k BIGINT, k INT)", ("two columns", "'k'")),
        (BIND, "CREATE SOURCE x (_offset BIGINT)", ("'_offset'", "another name")),
        (BIND, "CREATE SOURCE x (k BIGINT) PARTITION BY (z)", ("'z'", "columns: k")),
        (BIND, "CREATE SOURCE x (k BIGINT) WITH (shard = 1)", ("'shard'", "did you mean 'shards'")),
        (BIND, "CREATE SOURCE x (k BIGINT) WITH (shards = 0)", ("positive whole number", "0")),
        (BIND, "CREATE SOURCE x (k BIGINT, WATERMARK FOR ts AS ts)", ("'ts'", "columns: k")),
        (BIND, "CREATE SOURCE x (k BIGINT, WATERMARK FOR k AS k)", ("'k'", "BIGINT", "not a timestamp")),
        (BIND, "CREATE SOURCE x (ts TIMESTAMP, WATERMARK FOR ts AS ts - other)", ("ts - other", "INTERVAL")),
        (BIND, "CREATE SOURCE x (ts TIMESTAMP, WATERMARK FOR ts AS year(ts))", ("year(ts)", "BIGINT", "not a timestamp")),
        (UNSUPPORTED, "CREATE SOURCE x (k BIGINT) WITH (connector = 'kafka')", ("'kafka'", "'memory'")),
        (SYNTAX, "CREATE TABLE x (k BIGINT)", ("PRIMARY KEY", "CREATE SOURCE")),
        (BIND, "CREATE TABLE x (k BIGINT, PRIMARY KEY (z))", ("'z'", "x")),
        (BIND, "CREATE VIEW x AS SELECT nosuch FROM s", ('"nosuch"',)),
        (BIND, "CREATE MATERIALIZED VIEW x AS SELECT k FROM nosuch", ("relation nosuch",)),
        (BIND, "CREATE OR REPLACE VIEW w AS SELECT k FROM w", ("read itself",)),
        (BIND, "DROP SOURCE nosuch", ("'nosuch'", "s, t, w, r")),
        (BIND, "DROP TABLE s", ("'s' is a source", "DROP SOURCE")),
        (BIND, "DROP SOURCE s", ("read by w", "CASCADE")),
        (BIND, "INSERT INTO nosuch VALUES (1)", ("'nosuch'",)),
        (BIND, "INSERT INTO s VALUES (1)", ("1 column for 5", "k, name, v, ts, tags")),
        (BIND, "INSERT INTO s (k, nmae) VALUES (1, 'a')", ("'nmae'", "did you mean 'name'")),
        (BIND, "INSERT INTO s (k, K) VALUES (1, 2)", ("twice", "'K'")),
        (BIND, "INSERT INTO r VALUES (1)", ("registered relation", "cannot be written")),
        (BIND, "UPDATE s SET k = 1", ("'s' is a source", "a table")),
        (BIND, "UPDATE t SET zz = 1", ("'zz'", "columns: id, v")),
        (BIND, "UPDATE t SET v = nosuch", ('"nosuch"', "line 1, column 18")),
        (BIND, "DELETE FROM t WHERE nosuch", ('"nosuch"', "line 1, column 21")),
        (BIND, "UPDATE t SET v = ?", ("parameters: 1",)),
        (BIND, "DESCRIBE nosuch", ("'nosuch'",)),
        (SYNTAX, "SHOW EVERYTHING", ("RELATIONS", "'EVERYTHING'")),
        (UNSUPPORTED, "SELECT 1", ("query() or fetch()",)),
        (UNSUPPORTED, "ALTER TABLE t ADD COLUMN z INT", ("ALTER", "create it again")),
    ],
)
async def test_a_wrong_statement_is_explained(db: streamq.Database, kind: type[streamq.SqlError], sql: str, words: tuple[str, ...]) -> None:
    """Statements fail with a class and words that help; nothing was made or changed, and no query was started."""
    before = (await db.execute("SHOW RELATIONS")).table
    with pytest.raises(streamq.SqlError) as raised:
        await db.execute(sql)
    assert type(raised.value) is kind
    said = str(raised.value)
    assert [word for word in words if word not in said] == [], said
    assert (await db.execute("SHOW RELATIONS")).table == before
    await assert_nothing_ran(db)


async def test_wrong_files_and_objects_are_explained(db: streamq.Database, tmp_path: Path) -> None:
    """Files that are missing, unreadable or of different columns are refused at registration, by name."""
    pq.write_table(pa.table({"a": [1], "b": ["x"]}), tmp_path / "x-1.parquet")
    pq.write_table(pa.table({"a": [1], "c": ["x"]}), tmp_path / "x-2.parquet")
    pq.write_table(pa.table({"a": ["1"], "b": ["x"]}), tmp_path / "x-3.parquet")
    (tmp_path / "bad.parquet").write_text("hello world")
    (tmp_path / "y-1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "y-2.csv").write_text("a,c\n1,2\n")
    here = str(tmp_path)
    for path, words in [
        (f"{here}/x-[12].parquet", ("x-2.parquet", "no column 'b'", "x-1.parquet")),
        (f"{here}/x-[13].parquet", ("'a'", "VARCHAR in", "x-3.parquet", "BIGINT in", "x-1.parquet")),
        (f"{here}/y-*.csv", ("y-2.csv", "no column 'b'", "y-1.csv")),
        ([f"{here}/x-1.parquet", f"{here}/y-1.csv"], ("several formats", "csv", "parquet")),
        (f"{here}/bad.parquet", ("bad.parquet", "not a readable Parquet file")),
        (f"{here}/nosuch.parquet", ("nosuch.parquet", "No such file")),
        (f"{here}/*.nope", ("no file matches", "*.nope")),
        (here, ("is a directory", "*.parquet")),
        (5, ("int", "Arrow")),
    ]:
        with pytest.raises(streamq.SourceError) as raised:
            await db.register("g", path)
        said = str(raised.value)
        assert [word for word in words if word not in said] == [], said
    with pytest.raises(streamq.SourceError, match="needs a name"):
        await db.register("", pa.table({"a": [1]}))
    with pytest.raises(streamq.BindError, match="source named 's' already"):
        await db.register("s", pa.table({"a": [1]}))
    with pytest.raises(streamq.BindError, match="timestamp columns"):
        await db.register("g", pa.table({"a": [1]}), watermark="a - 5")
    shown = (await db.execute("SHOW RELATIONS")).table
    assert shown is not None
    assert "g" not in shown["name"].to_pylist()
    await assert_nothing_ran(db)
