"""Every text outside the grammar is a streamq error with the place where it goes wrong."""

import pytest

from streamq.errors import BindError, SqlError, SqlSyntaxError, UnsupportedError
from streamq.sql.parse import parse, parse_one

# `^` stands before the offending token.
CASES: list[tuple[type[SqlError], str, str]] = [
    (SqlSyntaxError, "SELECT malformed syntax ^here...", "at 'here'"),
    (SqlSyntaxError, "SELECT a\n\tFROM t\n\tWHERE a > 1 ^)", "at ')'"),
    (SqlSyntaxError, "SELECT a FROM t EMIT^", "expected CHANGES"),
    (SqlSyntaxError, "SELECT a FROM t EMIT ^SOMETIMES", "expected CHANGES"),
    (SqlSyntaxError, "SELECT a FROM t\nEMIT ON ^CLOSE", "expected WINDOW"),
    (SqlSyntaxError, "SELECT a EMIT ^FROM t", "expected CHANGES"),
    (SqlSyntaxError, "SELECT a FROM t EMIT FINAL\n^EMIT CHANGES", "once"),
    (SqlSyntaxError, "SELECT * FROM (SELECT a FROM t ^EMIT CHANGES)", ""),
    (SqlSyntaxError, "SELECT a FROM t LATE ROWS ^x", "expected INTO"),
    (SqlSyntaxError, "SELECT a FROM t EMIT CHANGES EVERY ^a", "interval"),
    (SqlSyntaxError, "SELECT a FROM t EMIT CHANGES EVERY 5^x", "unit of time"),
    (BindError, "SELECT a FROM t EMIT CHANGES EVERY ^INTERVAL '1' MONTH", "fixed length"),
    (BindError, "SELECT a FROM t EMIT CHANGES EVERY ^0s", "positive"),
    (BindError, "SELECT a FROM t\n^ORDER BY a EMIT CHANGES", "sorted"),
    (BindError, "SELECT a FROM t WITH (^foo = 1)", "no option 'foo'"),
    (SqlSyntaxError, "SELECT a FROM t WITH (start = 1, ^start = 2)", "twice"),
    (SqlSyntaxError, "SELECT a FROM t WITH (start ^1)", "expected ="),
    (SqlSyntaxError, "SELECT a FROM t WITH (start = ^)", "constant"),
    (SqlSyntaxError, "SELECT a FROM t WITH (start = 1) ^WITH (start = 2)", "once"),
    (SqlSyntaxError, "SELECT 1 +^", "something is missing"),
    (SqlSyntaxError, "SELECT (1^", ""),
    (SqlSyntaxError, "SELECT a FROM^", "relation"),
    (SqlSyntaxError, "SELECT a FROM t,^", "relation"),
    (SqlSyntaxError, "SELECT a FROM t JOIN^", "relation"),
    (SqlSyntaxError, "SELECT a FROM t FOR SYSTEM_TIME ^AS OF now()", "PROCTIME"),
    (SqlSyntaxError, "WITH c AS (SELECT 1) ^COPY c TO 'x'", "expected SELECT"),
    (SqlSyntaxError, "SELECT ^'abc", "string"),
    (SqlSyntaxError, 'SELECT 1,\n  ^"abc', "quoted name"),
    (SqlSyntaxError, "SELECT 1 ^/* abc", "comment"),
    (SqlSyntaxError, "SELECT ^$$abc", "dollar"),
    (SqlSyntaxError, "^selct 1", "begin"),
    (SqlSyntaxError, "^1 + 1", "begin"),
    (SqlSyntaxError, "CREATE ^INDEX i ON t (a)", "expected SOURCE"),
    (SqlSyntaxError, "CREATE ^TEMP TABLE t (a INT PRIMARY KEY)", "expected SOURCE"),
    (SqlSyntaxError, "CREATE ^OR REPLACE TABLE t (a INT PRIMARY KEY)", "views"),
    (SqlSyntaxError, "CREATE TABLE ^t (a INT)", "PRIMARY KEY"),
    (SqlSyntaxError, "CREATE TABLE t ^AS SELECT 1", "not part"),
    (SqlSyntaxError, "CREATE TABLE t (a INT PRIMARY KEY, ^PRIMARY KEY (a))", "one PRIMARY KEY"),
    (SqlSyntaxError, "CREATE TABLE t (a INT PRIMARY KEY) ^WITH (x = 1)", ""),
    (SqlSyntaxError, "CREATE TABLE t (a^, b INT PRIMARY KEY)", "type"),
    (SqlSyntaxError, "CREATE TABLE t (a INT ^DEFAULT 1 PRIMARY KEY)", "DEFAULT"),
    (SqlSyntaxError, "CREATE SOURCE s (a INT ^PRIMARY KEY)", "CREATE TABLE"),
    (SqlSyntaxError, "CREATE SOURCE s^.x (a INT)", "one part"),
    (SqlSyntaxError, "CREATE SOURCE s (WATERMARK FOR a AS a, ^WATERMARK FOR b AS b)", "one WATERMARK"),
    (SqlSyntaxError, "CREATE VIEW v AS SELECT a FROM t\n^EMIT CHANGES", "a view is a SELECT"),
    (SqlSyntaxError, "CREATE MATERIALIZED VIEW v AS SELECT a FROM t ^EMIT CHANGES", "up to date"),
    (SqlSyntaxError, "CREATE SINK k AS SELECT a FROM t^", "connector"),
    (SqlSyntaxError, "INSERT ^OR REPLACE INTO t VALUES (1)", "INTO"),
    (SqlSyntaxError, "INSERT INTO t ^SET a = 1", "expected SELECT"),
    (SqlSyntaxError, "INSERT INTO t SELECT 1 ^EMIT CHANGES", "EMIT"),
    (SqlSyntaxError, "INSERT INTO t VALUES (1) ^ON CONFLICT DO NOTHING", ""),
    (SqlSyntaxError, "UPDATE t SET a = 1 ^FROM u", "FROM"),
    (SqlSyntaxError, "UPDATE t SET a =^", "expression"),
    (SqlSyntaxError, "DELETE ^t", "FROM"),
    (SqlSyntaxError, "DELETE FROM t ^USING u", "USING"),
    (SqlSyntaxError, "DROP ^SCHEMA s", "DROP"),
    (SqlSyntaxError, "DROP TABLE t ^u", ""),
    (SqlSyntaxError, "SHOW ^FUNCTIONS", "SHOW"),
    (SqlSyntaxError, "DESCRIBE ^SELECT 1", "EXPLAIN"),
    *[
        (UnsupportedError, f"^{sql}", "not part of streamq's SQL")
        for sql in (
            "COPY t TO 'x'",
            "ATTACH 'x'",
            "INSTALL json",
            "PRAGMA x",
            "SET threads = 1",
            "BEGIN",
            "ALTER TABLE t ADD a INT",
            "LOAD x",
        )
    ],
    (BindError, "SELECT TUMBLE(ts, ^INTERVAL '1' MONTH) FROM t", "fixed length"),
    (BindError, "SELECT TUMBLE(ts, ^0s) FROM t", "positive"),
    (SqlSyntaxError, "SELECT TUMBLE(ts, ^size) FROM t", "interval"),
    (SqlSyntaxError, "SELECT ^TUMBLE(ts) FROM t", "arguments"),
    (SqlSyntaxError, "SELECT ^TUMBLE(1m) FROM t", "arguments"),
    (SqlSyntaxError, "SELECT ^HOP(ts, 1m) FROM t", "arguments"),
    (SqlSyntaxError, "SELECT ^SESSION(ts, 1m, 1m) FROM t", "arguments"),
    (SqlSyntaxError, "SELECT * FROM ^TUMBLE(t, ts)", "arguments"),
    (SqlSyntaxError, "SELECT * FROM TUMBLE(t ^PARTITION BY k, ts, 1m)", "PARTITION BY"),
    (SqlSyntaxError, "SELECT count(*) FROM t WINDOW TUMBLING(1m) ^x", ""),
]


@pytest.mark.parametrize(("kind", "marked", "message"), CASES, ids=[marked[:60] for _, marked, _ in CASES])
def test_error(kind: type[SqlError], marked: str, message: str) -> None:
    """The error has the right class, says what is wrong, and its caret is under the offending token."""
    before, _, after = marked.rpartition("^")
    with pytest.raises(SqlError) as caught:
        parse(before + after)
    error = caught.value
    assert type(error) is kind
    assert message in str(error)
    lines = before.split("\n")
    assert (error.line, error.column) == (len(lines), len(lines[-1]) + 1)


@pytest.mark.parametrize("text", ["", "   \n\t", "-- only a comment", "/* a */ ; ;"])
def test_no_statement(text: str) -> None:
    """A text without a statement is an error that says so."""
    with pytest.raises(SqlSyntaxError, match="no statement"):
        parse(text)


def test_parse_one_takes_one() -> None:
    """A second statement is an error where it begins."""
    with pytest.raises(SqlSyntaxError, match="second") as caught:
        parse_one("SELECT 1;\n  SELECT 2")
    assert (caught.value.line, caught.value.column) == (2, 3)


@pytest.mark.parametrize(
    "text", ["SELECT " + "(" * 5_000 + "1" + ")" * 5_000, "SELECT " + "NOT " * 20_000 + "true", "SELECT a" + "::INT" * 3_000]
)
def test_deep_nesting(text: str) -> None:
    """Nesting beyond what can be parsed is a syntax error."""
    with pytest.raises(SqlSyntaxError, match="nested too deeply"):
        parse(text)


@pytest.mark.parametrize(
    "text", ["SELECT 1" + " + 1" * 1_000, "SELECT true" + " OR n = 1" * 1_000, "SELECT 1" + " UNION ALL SELECT 1" * 1_000]
)
def test_long_chains(text: str) -> None:
    """More operators in a row than what binds them can walk are a syntax error that says how else they are written."""
    with pytest.raises(SqlSyntaxError, match=r"^a chain of operators may have 900 of them, and here one has 1,00[01]") as caught:
        parse(text)
    assert caught.value.sql == text


@pytest.mark.parametrize("nested", ["ARRAY[{}]", "ROW({})", "DECIMAL({})", "CHAR({} USING utf8)", "(SELECT 1 LIMIT {})"])
def test_what_is_tried_again_and_again(nested: str) -> None:
    """Constructs that are read twice at every level are refused before that takes long; a few levels are read."""
    text = "1"
    for depth in range(1, 33):
        text = nested.format(text)
        if depth == 4:
            parse(f"SELECT {text}")
    with pytest.raises(SqlSyntaxError, match="read too often"):
        parse(f"SELECT {text}")


def test_function_calls_on_function_calls() -> None:
    """Each copies what it is called on, so there may be some, and not hundreds in a row."""
    parse("SELECT a" + ".f()" * 30)
    with pytest.raises(SqlSyntaxError, match="read too often"):
        parse("SELECT a" + ".f()" * 240)


def test_combinations_of_pivot() -> None:
    """As many columns as memory cannot hold are refused, and not made."""
    lists = " ".join(f"{column} IN ({', '.join(map(str, range(1_000)))})" for column in "abc")
    with pytest.raises(UnsupportedError, match=r"PIVOT may make 10,000 columns, and this one would make 1,000,000,000"):
        parse(f"SELECT * FROM t PIVOT (sum(n) FOR {lists})")


def test_many_tokens() -> None:
    """A list of ten thousand values is read, and a statement with far more tokens is refused where that is known."""
    listed = f"SELECT n FROM t WHERE n IN ({', '.join(map(str, range(10_000)))})"
    # Of a script each statement by itself.
    assert len(parse(f"{listed}; {listed}; {listed}")) == 3
    with pytest.raises(SqlSyntaxError, match=r"a statement may have 50,000 words, numbers and signs, and this one has 60,00\d") as caught:
        parse(f"SELECT n FROM t WHERE n IN ({', '.join(map(str, range(30_000)))})")
    assert "one parameter" in str(caught.value.hint)


def test_of_one_statement_no_other_is_read() -> None:
    """Where one is expected, only the first is."""
    with pytest.raises(SqlSyntaxError, match="a second begins here"):
        parse_one("SELECT 1; nonsense")


def test_long_text() -> None:
    """A text of a megabyte is read."""
    parse("SELECT " + ", ".join(f"'{'x' * 990}' AS c{number}" for number in range(1_000)))


def test_caret_behind_tabs_and_wide_text() -> None:
    """The caret counts characters, so that it stands under the token whatever is before it."""
    with pytest.raises(SqlSyntaxError) as caught:
        parse("SELECT\n\t'日本' AS x y FROM t")
    text = str(caught.value).splitlines()
    assert text[1][text[2].index("^")] == "y"
