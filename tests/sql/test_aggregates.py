"""Aggregates in two phases: merging partial results gives what DuckDB gives in one."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlglot import parse_one

from streamq.sql.aggregates import decompose, merge_sql
from streamq.sql.binder import Binder
from streamq.sql.logical import Call

SCHEMA = pa.schema(
    [("i", pa.int32()), ("l", pa.int64()), ("d", pa.float64()), ("e", pa.float64()), ("f", pa.float32()), ("b", pa.bool_()),
     ("s", pa.string()),
     ("n", pa.decimal128(9, 2)), ("t", pa.timestamp("us"))]
)  # fmt: skip
EXACT = (
    """
count(*) · count(i) · count(DISTINCT i) · count(DISTINCT s) · count(DISTINCT d) · sum(DISTINCT l) · avg(DISTINCT i) · count_if(i > 2)
sum(i) · sum(l) · sum(n) · sum(d) · sum(f) · sum(b) · avg(i) · avg(l) · avg(d) · min(i) · max(s) · min(t) · max(d) · min(DISTINCT i)
bool_and(b) · bool_or(b) · bit_and(l) · bit_or(i) · bit_xor(i) · sum(i) FILTER (WHERE b) · count(*) FILTER (WHERE i > 1) · max(n)
count(DISTINCT i) FILTER (WHERE b) · regr_count(d, e) · count(DISTINCT (i, s)) · avg(i) FILTER (WHERE s = 'a') · sum(i * 2 + 1)
""".replace("\n", " · ")
    .strip(" ·")
    .split(" · ")
)
CLOSE = (
    """
stddev(d) · stddev_pop(d) · stddev_samp(i) · variance(d) · var_samp(l) · var_pop(d) · var_pop(d) FILTER (WHERE b) · covar_samp(d, e)
covar_pop(d, i)
regr_sxx(d, e) · regr_syy(d, e) · regr_sxy(d, e) · regr_avgx(d, e) · regr_avgy(d, e) · product(d) · kahan_sum(d) · avg(f)
""".replace("\n", " · ")
    .strip(" ·")
    .split(" · ")
)
GROUP_AT_ONCE = (
    """
avg(n) · avg(t) · median(d) · mode(i) · quantile_cont(d, 0.5) · quantile_disc(i, 0.5) · mad(d) · list(i)
string_agg(s, ',') · first(i) · last(i)
arg_min(i, d) · arg_max(s, i) · max(i, 2) · list(i ORDER BY d) · approx_count_distinct(i) · histogram(i) · entropy(i)
""".replace("\n", " · ")
    .strip(" ·")
    .split(" · ")
)

DYADIC = st.integers(-64, 64).map(lambda n: n / 8)
ROW = st.fixed_dictionaries(
    {
        "i": st.none() | st.integers(-5, 5),
        "l": st.none() | st.integers(-(2**40), 2**40),
        "d": st.none() | DYADIC,
        "e": st.none() | DYADIC,
        "f": st.none() | DYADIC,
        "b": st.none() | st.booleans(),
        "s": st.none() | st.sampled_from(["", "a", "b", "ab"]),
        "n": st.none() | st.integers(-999, 999).map(lambda n: Decimal(n) / 100),
        "t": st.none() | st.integers(0, 10**15),
    }
)
PARTS = st.lists(st.lists(ROW, max_size=6), min_size=1, max_size=8)


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    connection = duckdb.connect(config={"threads": 1})
    yield connection
    connection.close()


def two_phase(text: str, binder: Binder, name: str = "x") -> Call:
    with binder.session({}) as session:
        types = session.type_names(SCHEMA)
        inputs = ", ".join(f"CAST(NULL AS {type_}) AS {column}" for column, type_ in zip(SCHEMA.names, types, strict=True))
        (call,) = decompose({name: parse_one(text, read="duckdb")}, session, f"SELECT {inputs}", is_global=True)
        return call


@pytest.fixture(scope="module")
def exact_calls(binder: Binder) -> list[Call]:
    return [two_phase(text, binder, f"x{number}") for number, text in enumerate(EXACT)]


@pytest.fixture(scope="module")
def close_calls(binder: Binder) -> list[Call]:
    return [two_phase(text, binder, f"x{number}") for number, text in enumerate(CLOSE)]


def both_ways(
    calls: Sequence[Call], parts: Sequence[Sequence[Mapping[str, object]]], database: duckdb.DuckDBPyConnection
) -> list[tuple[str, object, object]]:
    """Every call with its value merged from the parts and its value over all rows, types included."""
    for number, rows in enumerate(parts):
        database.register(f"part{number}", pa.Table.from_pylist(list(rows), SCHEMA))
    database.register("rows", pa.Table.from_pylist([row for rows in parts for row in rows], SCHEMA))
    merged = database.execute(merge_sql(calls, *(f"FROM part{number}" for number in range(len(parts)))))
    merged_types, merged_values = [column[1] for column in merged.description or ()], merged.fetchall()[0]
    whole = database.execute(f"SELECT {', '.join(call.sql for call in calls)} FROM rows")
    assert merged_types == [column[1] for column in whole.description or ()]
    return list(zip((call.sql for call in calls), merged_values, whole.fetchall()[0], strict=True))


def _near(value: object, *, relative: float, absolute: float) -> object:
    return pytest.approx(value, rel=relative, abs=absolute, nan_ok=True) if isinstance(value, float) else value


@pytest.mark.parametrize("text", [*EXACT, *CLOSE])
def test_aggregate_has_two_phases(text: str, binder: Binder) -> None:
    """Aggregates whose partial results merge are decomposed."""
    assert two_phase(text, binder).partial


@given(PARTS)
def test_merged_value_is_exact(exact_calls: list[Call], database: duckdb.DuckDBPyConnection, parts: list[list[dict[str, object]]]) -> None:
    """Over values without rounding both ways give the same, of the same type, also for empty parts and no rows."""
    for sql, merged, whole in both_ways(exact_calls, parts, database):
        assert merged == whole, sql


@given(PARTS)
def test_merged_moment_is_close(close_calls: list[Call], database: duckdb.DuckDBPyConnection, parts: list[list[dict[str, object]]]) -> None:
    """Moments merge within rounding, and are NULL exactly where DuckDB's are."""
    for sql, merged, whole in both_ways(close_calls, parts, database):
        assert merged == _near(whole, relative=1e-9, absolute=1e-6), sql


@given(st.lists(st.lists(st.floats(-1e9, 1e9), max_size=5), min_size=1, max_size=8))
def test_float_sum_is_within_tolerance(binder: Binder, database: duckdb.DuckDBPyConnection, parts: list[list[float]]) -> None:
    """Sums and averages of any floats differ by at most 1e-9 of the sum of magnitudes."""
    calls = [two_phase(text, binder, text[:3]) for text in ("sum(d)", "avg(d)")]
    magnitude = sum(abs(value) for part in parts for value in part)
    for sql, merged, whole in both_ways(calls, [[{"d": value} for value in part] for part in parts], database):
        assert merged == _near(whole, relative=0, absolute=1e-9 * magnitude), sql


def test_variance_of_large_values_is_stable(binder: Binder, database: duckdb.DuckDBPyConnection) -> None:
    """A small spread around a large mean is not lost in the merge."""
    parts = [[{"d": 1e9 + part + row / 4} for row in range(5)] for part in range(4)]
    ((_, merged, _),) = both_ways([two_phase("var_samp(d)", binder)], parts, database)
    exact = statistics.variance([Fraction(str(row["d"])) for part in parts for row in part])
    assert merged == pytest.approx(float(exact), rel=1e-9)


@pytest.mark.parametrize("text", GROUP_AT_ONCE)
def test_other_aggregates_need_their_group_at_once(text: str, binder: Binder) -> None:
    """What cannot be merged exactly has no partial."""
    assert two_phase(text, binder).partial == ()


def test_distinct_in_groups_is_not_decomposed(binder: Binder) -> None:
    """COUNT(DISTINCT) has partials for a global aggregate only."""
    with binder.session({}) as session:
        (call,) = decompose({"x": parse_one("count(DISTINCT i)", read="duckdb")}, session, "SELECT 1 AS i", is_global=False)
    assert call.partial == ()


def test_nan_and_signed_zero_count_as_duckdb_counts(binder: Binder, database: duckdb.DuckDBPyConnection) -> None:
    """NaN equals NaN and -0 equals 0 among distinct values."""
    values = [0.0, -0.0, math.nan, math.nan, math.inf, None, 1.5]
    ((_, merged, whole),) = both_ways([two_phase("count(DISTINCT d)", binder)], [[{"d": value}] for value in values], database)
    assert merged == whole
