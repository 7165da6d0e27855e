"""What is computed without DuckDB is what DuckDB gives, and everything else is left to it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.direct import direct

BIG = 2**62
TABLE = pa.record_batch(
    {
        "i": pa.array([0, 1, -5, None, 2**31 - 1, -(2**31), 7, 500], pa.int32()),
        "j": pa.array([1, 1, None, 3, -7, 0, 2**31 - 1, 499], pa.int32()),
        "b": pa.array([BIG, -BIG, 0, None, 1, 5, 500, -1], pa.int64()),
        "u": pa.array([0, 255, None, 3, 1, 5, 200, 9], pa.uint8()),
        "x": pa.array([0.1, -0.0, None, float("nan"), float("inf"), 1e308, -1e308, 3.0], pa.float64()),
        "y": pa.array([3.0, 0.0, 1.0, None, float("-inf"), 1e308, 10.0, float("nan")], pa.float64()),
        "s": pa.array(["", "a", "A", None, "é", "ab", "z'", "a\0"]),
        "r": pa.array(["a", "a", None, "b", "e", "abc", "z'", "a"]),
        "p": pa.array([True, False, None, True, False, None, True, False]),
        "q": pa.array([True, None, None, False, True, False, False, True]),
        "t": pa.array([datetime(2024, 1, n) for n in range(1, 8)] + [None], pa.timestamp("us")),
        "w": pa.array([None, *(datetime(2024, 1, n) for n in range(7, 0, -1))], pa.timestamp("us")),
        "l": pa.array([[1], [], None, [2, None], [3], [4], [5], [6]], pa.list_(pa.int64())),
    }
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as made:
        made.register("in", pa.Table.from_batches([TABLE]))
        yield made


def both(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Give the rows as they are computed here and by DuckDB, whose types must be the same."""
    computed = direct(con, sql, {"in": TABLE.schema})
    assert computed is not None, sql
    ours, theirs = computed(TABLE), con.sql(sql).to_arrow_table()
    assert ours.schema.types == theirs.schema.types
    return _text(ours), _text(theirs)


def _text(rows: pa.RecordBatch | pa.Table) -> list[dict[str, object]]:
    """Give rows with floats as text: NaN equals itself, and -0.0 is not 0.0."""
    return [{name: repr(value) if isinstance(value, float) else value for name, value in row.items()} for row in rows.to_pylist()]


OPERATORS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
INTEGERS = st.sampled_from([0, 1, -5, 200, 500, -(2**31), 2**31 - 1])
SMALL = st.integers(0, 255)
STRINGS = st.sampled_from(["''", "'a'", "'é'", "'z'''", "'ab'"])


def pair(*names: str) -> st.SearchStrategy[str]:
    return st.builds("{} {} {}".format, st.sampled_from(names), OPERATORS, st.sampled_from(names))


CONDITIONS = st.recursive(
    st.one_of(
        pair("i", "j"),
        pair("s", "r"),
        pair("t", "w"),
        pair("p", "q"),
        st.builds("{} {} {}".format, st.sampled_from(["i", "j", "b"]), OPERATORS, INTEGERS),
        st.builds("u {} {}".format, OPERATORS, SMALL),
        st.builds("{} {} {}".format, st.sampled_from(["s", "r"]), OPERATORS, STRINGS),
        st.builds("{} IS {}NULL".format, st.sampled_from(TABLE.schema.names), st.sampled_from(["", "NOT "])),
        st.sampled_from(["p", "q"]),
    ),
    lambda inner: st.one_of(
        st.builds("(({}) AND ({}))".format, inner, inner),
        st.builds("(({}) OR ({}))".format, inner, inner),
        st.builds("NOT ({})".format, inner),
        st.builds("coalesce({}, true)".format, inner),
        st.builds("({}) IS NULL".format, inner),
    ),
    max_leaves=6,
)
DOUBLES = st.recursive(
    st.sampled_from(["x", "y", "x * i", "u - y"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*"), inner),
    max_leaves=4,
)


@given(st.data())
def test_what_is_computed_here_is_what_duckdb_gives(con: duckdb.DuckDBPyConnection, data: st.DataObject) -> None:
    """Conditions and arithmetic, in SELECTs that read each other, give the same rows in the same order."""
    first, second, condition, double = (data.draw(part) for part in (CONDITIONS, CONDITIONS, CONDITIONS, DOUBLES))
    sql = f"""WITH "rows#1" AS (SELECT * FROM "in"), "filter 2" AS (SELECT e.*, ({condition}) AS c FROM "rows#1" AS e WHERE {first})
        SELECT i AS "i", l, c AS again, {double} AS d FROM "filter 2" WHERE {second}"""
    sql = sql.replace("e.*", ", ".join(f'e.{name} AS "{name}"' for name in TABLE.schema.names))
    ours, theirs = both(con, sql)
    assert ours == theirs


def test_names_are_found_as_duckdb_finds_them(con: duckdb.DuckDBPyConnection) -> None:
    """Names have no case; a table is called as it was called last."""
    ours, theirs = both(con, 'WITH one AS (SELECT "I" AS "s", S AS other FROM "in") SELECT "One"."S" AS a, OTHER FROM one WHERE one.s > 0')
    assert ours == theirs


@pytest.mark.parametrize(
    "sql",
    [
        'SELECT x FROM "in" WHERE x > y',
        'SELECT x FROM "in" WHERE x > 1',
        'SELECT i FROM "in" WHERE i > 1.5',
        'SELECT i FROM "in" WHERE i > 3000000000',
        'SELECT u FROM "in" WHERE u > -1',
        'SELECT i FROM "in" WHERE i > b',
        "SELECT i FROM \"in\" WHERE t > '2024-01-01'",
        'SELECT i FROM "in" WHERE l = l',
        'SELECT i + j AS n FROM "in"',
        'SELECT x / y AS n FROM "in"',
        'SELECT x * b AS n FROM "in"',
        'SELECT x * 2 AS n FROM "in"',
        'SELECT i AS n, n FROM "in"',
        'SELECT DISTINCT i FROM "in"',
        'SELECT i FROM "in" ORDER BY i',
        'SELECT i FROM "in" LIMIT 1',
        'SELECT i FROM "in" TABLESAMPLE 10%',
        'SELECT i FROM "in" GROUP BY i',
        'SELECT count(*) AS n FROM "in"',
        'SELECT sum(x) OVER () AS n FROM "in"',
        'SELECT i FROM "in" QUALIFY row_number() OVER () = 1',
        'SELECT * EXCLUDE (i) FROM "in"',
        'SELECT * REPLACE (j AS i) FROM "in"',
        'SELECT COLUMNS(*) FROM "in"',
        'SELECT unnest(l) AS n FROM "in"',
        'SELECT a.i FROM "in" AS a, "in" AS b',
        'SELECT a.n FROM "in" AS a(n)',
        'SELECT a AS row FROM "in" AS a',
        'SELECT i.j FROM (SELECT {j: 1} AS i FROM "in") AS i',
        'WITH a(n) AS (SELECT i FROM "in") SELECT n FROM a',
        'SELECT i FROM "in" WHERE i IN (SELECT 1)',
        'SELECT i FROM "in" UNION ALL SELECT j FROM "in"',
        'SELECT i FROM "in" WHERE coalesce(p, false)',
        'SELECT i FROM "in" WHERE $1',
        'SELECT 1 AS one FROM "in"',
        'SELECT i AS n, j AS "N" FROM "in"',
    ],
)
def test_everything_else_is_left_to_duckdb(con: duckdb.DuckDBPyConnection, sql: str) -> None:
    """What is not known to be the same, or might fail, is not computed here."""
    assert direct(con, sql, {"in": TABLE.schema}) is None


@pytest.mark.parametrize(
    "kind",
    [
        pa.string_view(), pa.large_string(), pa.dictionary(pa.int8(), pa.string()), pa.duration("us"), pa.date64(), pa.time32("s"),
        pa.timestamp("us", "Europe/Berlin"), pa.month_day_nano_interval(), pa.list_view(pa.int8()), pa.null(),
        pa.run_end_encoded(pa.int32(), pa.int8()), pa.struct([("a", pa.string_view())]), pa.map_(pa.string(), pa.large_binary()),
    ],
    ids=str,
)  # fmt: skip
def test_types_that_duckdb_gives_back_as_others_are_left_to_it(con: duckdb.DuckDBPyConnection, kind: pa.DataType) -> None:
    """A column that is only handed on has the type that it has where DuckDB computes the query."""
    assert direct(con, 'SELECT a FROM "in"', {"in": pa.schema([("a", kind)])}) is None


def test_a_select_hides_the_table_whose_name_it_has(con: duckdb.DuckDBPyConnection) -> None:
    """Names of tables have no case either."""
    ours, theirs = both(con, 'WITH "IN" AS (SELECT j AS i FROM "in") SELECT i FROM "in"')
    assert ours == theirs
