"""Accumulators against DuckDB's aggregates over the same rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from functools import cache
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.errors import DataError
from streamq.kernels.accumulators import Accumulators
from streamq.plan.dataflow import Accumulate, AccumulatorFunction
from tests.kernels.values import VALUES, laid_out

SUMS: tuple[AccumulatorFunction, ...] = ("count", "sum", "avg")
EXTREMES: tuple[AccumulatorFunction, ...] = ("count", "min", "max")
MOMENTS: tuple[AccumulatorFunction, ...] = ("var_pop", "var_samp", "stddev_pop", "stddev_samp")
DYADIC = st.one_of(st.none(), st.integers(-1000, 1000).map(lambda number: number / 8))


def functions_of(kind: pa.DataType) -> tuple[AccumulatorFunction, ...]:
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return (*SUMS, "min", "max", *MOMENTS)
    if pa.types.is_decimal(kind):
        return (*SUMS, "min", "max")
    if pa.types.is_boolean(kind) or pa.types.is_temporal(kind):
        return EXTREMES
    return ("count",)


KINDS = [
    kind
    for kind in VALUES
    if not (pa.types.is_interval(kind) or pa.types.is_null(kind) or pa.types.is_nested(kind) or pa.types.is_string_view(kind))
    and kind not in (pa.decimal256(70, 3), pa.decimal128(38, 0))
]


def batch_of(kind: pa.DataType, groups: Sequence[int], values: pa.Array) -> pa.RecordBatch:
    schema = pa.schema([pa.field("g", pa.int64()), pa.field("x", kind)])
    return pa.record_batch([pa.array(groups, pa.int64()), values], schema=schema)


@cache
def calls_of(kind: pa.DataType, functions: tuple[AccumulatorFunction, ...]) -> list[Accumulate]:
    """Give calls with the types that DuckDB gives them."""
    types = asked(pa.Table.from_batches([batch_of(kind, [], pa.array([], kind))]), functions).schema.types
    return [Accumulate("n", "count_star", None, types[1])] + [
        Accumulate(function, function, "x", one) for function, one in zip(functions, types[2:], strict=True)
    ]


def asked(rows: pa.Table, functions: Sequence[AccumulatorFunction]) -> pa.Table:
    """Give DuckDB's answer, by group."""
    calls = ", ".join(f"{function}(x)" for function in functions)
    session = oracle()
    session.register("rows", rows)
    return session.sql(f"SELECT g, count(*), {calls} FROM rows GROUP BY g ORDER BY g").to_arrow_table()


@cache
def oracle() -> duckdb.DuckDBPyConnection:
    return duckdb.connect(config={"threads": 1, "autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})


def near(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-9) or (math.isnan(left) and math.isnan(right))
    return bool(left == right)


def assert_same(found: Sequence[pa.Array], answer: pa.Table) -> None:
    for array, column in zip(found, answer.columns[1:], strict=True):
        array.validate(full=True)
        assert array.type == column.type
        assert all(near(*pair) for pair in zip(array.to_pylist(), column.to_pylist(), strict=True)), (array, column)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
def test_values_are_duckdbs(kind: pa.DataType, data: st.DataObject) -> None:
    """Every aggregate of a type is what DuckDB says after any cut into batches, and after a restart."""
    functions = functions_of(kind)
    calls = calls_of(kind, functions)
    sizes = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=3))
    batches = [batch_of(kind, data.draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), data.draw(laid_out(kind, n))) for n in sizes]
    restarted = data.draw(st.integers(0, len(batches)))
    kept = Accumulators(calls, batches[0].schema, retracts=False)
    for number, batch in enumerate(batches):
        if number == restarted:
            again = Accumulators(calls, batch.schema, retracts=False)
            again.restore(np.arange(4), kept.snapshot(np.arange(4)))
            kept = again
        kept.update(batch.column("g").to_numpy(), batch, None)
    answer = asked(pa.Table.from_batches(batches), functions)
    groups = answer.column("g").to_numpy()
    assert_same(kept.values(groups), answer)
    assert kept.counts(groups).tolist() == answer.column(1).to_pylist()


@given(st.lists(st.tuples(st.integers(0, 2), DYADIC, st.integers(1, 3)), max_size=20))
def test_weights_are_repetitions(rows: list[tuple[int, float | None, int]]) -> None:
    """A row with weight 3 is three rows."""
    functions = functions_of(pa.float64())
    batch = batch_of(pa.float64(), [row[0] for row in rows], pa.array([row[1] for row in rows], pa.float64()))
    repeated = batch.take(pa.array(np.repeat(np.arange(len(rows)), [row[2] for row in rows]), pa.int64()))
    kept = Accumulators(calls_of(pa.float64(), functions), batch.schema, retracts=False)
    kept.update(batch.column("g").to_numpy(), batch, np.array([row[2] for row in rows], np.int64))
    answer = asked(pa.Table.from_batches([repeated]), functions)
    assert_same(kept.values(answer.column("g").to_numpy()), answer)


@pytest.mark.parametrize("kind", [pa.int8(), pa.int64(), pa.uint64(), pa.decimal128(9, 2), pa.decimal128(38, 3)], ids=str)
@given(data=st.data())
def test_rows_are_taken_out_again(kind: pa.DataType, data: st.DataObject) -> None:
    """Exact aggregates without some rows are as if those had never been."""
    values = [Decimal(number).scaleb(-2) if pa.types.is_decimal(kind) else number for number in (0, 1, 7, 127)]
    most = {pa.int64(): [2**63 - 1, -(2**63)], pa.uint64(): [2**64 - 1]}.get(kind, [])
    array = pa.array(data.draw(st.lists(st.sampled_from([None, *values, *most]), min_size=1, max_size=15)), kind)
    groups = data.draw(st.lists(st.integers(0, 2), min_size=len(array), max_size=len(array)))
    out = np.array(data.draw(st.lists(st.booleans(), min_size=len(array), max_size=len(array))))
    batch = batch_of(kind, groups, array)
    kept = Accumulators(calls_of(kind, SUMS), batch.schema, retracts=True)
    kept.update(np.array(groups), batch, None)
    gone = batch.filter(pa.array(out))
    kept.update(gone.column("g").to_numpy(), gone, np.full(gone.num_rows, -1))
    answer = asked(pa.Table.from_batches([batch.filter(pa.array(~out))]), SUMS)
    assert_same(kept.values(answer.column("g").to_numpy()), answer)
    left = set(answer.column("g").to_pylist())
    assert kept.counts(np.array(sorted(set(groups) - left), np.int64)).tolist() == [0] * len(set(groups) - left)


def test_an_empty_group_has_no_values() -> None:
    """A group without rows counts 0 and is NULL otherwise; one that was reset likewise."""
    functions = functions_of(pa.int64())
    batch = batch_of(pa.int64(), [0, 1], pa.array([5, 6]))
    kept = Accumulators(calls_of(pa.int64(), functions), batch.schema, retracts=False)
    kept.update(np.array([0, 1]), batch, None)
    kept.reset(np.array([1]))
    for code in (1, 2, 100_000):
        assert [array[0].as_py() for array in kept.values(np.array([code]))] == [0, 0] + [None] * (len(functions) - 1)
    kept.update(np.array([1]), batch.slice(1), None)
    assert [array[0].as_py() for array in kept.values(np.array([1]))][:4] == [1, 1, 6, 6.0]


def test_a_sum_of_integers_is_larger_than_they_are() -> None:
    """Sums of BIGINT and UBIGINT have 128 bits."""
    for kind, value in ((pa.int64(), -(2**63)), (pa.uint64(), 2**64 - 1)):
        batch = batch_of(kind, [0] * 9, pa.array([value] * 9, kind))
        kept = Accumulators(calls_of(kind, ("sum", "avg")), batch.schema, retracts=False)
        kept.update(np.zeros(9, np.int64), batch, None)
        assert [array[0].as_py() for array in kept.values(np.array([0]))] == [9, Decimal(9 * value), float(value)]


@pytest.mark.parametrize("times", [2, 3], ids=["in the result", "in the accumulator"])
def test_a_sum_that_does_not_fit_is_an_error(times: int) -> None:
    """A sum beyond 38 digits is a DataError, never a wrong number."""
    kind = pa.decimal128(38, 0)
    batch = batch_of(kind, [0] * times, pa.array([10**38 - 1] * times, kind))
    kept = Accumulators([Accumulate("s", "sum", "x", kind)], batch.schema, retracts=False)

    def total() -> list[pa.Array]:
        kept.update(np.zeros(times, np.int64), batch, None)
        return kept.values(np.array([0]))

    with pytest.raises(DataError):
        total()


def test_a_sum_that_does_not_fit_its_type_is_an_error() -> None:
    """The type of the call bounds its values."""
    batch = batch_of(pa.int64(), [0, 0], pa.array([2**63 - 1, 1]))
    kept = Accumulators([Accumulate("s", "sum", "x", pa.int64())], batch.schema, retracts=False)
    kept.update(np.zeros(2, np.int64), batch, None)
    with pytest.raises(DataError, match="range of int64"):
        kept.values(np.array([0]))


@pytest.mark.parametrize(("function", "kind"), [("min", pa.int64()), ("sum", pa.float64()), ("var_pop", pa.int64())], ids=str)
def test_what_cannot_be_subtracted_is_refused(function: AccumulatorFunction, kind: pa.DataType) -> None:
    """Extremes, sums of floats and moments are not kept where rows can be withdrawn."""
    with pytest.raises(TypeError, match="take rows out"):
        Accumulators([Accumulate("c", function, "x", pa.float64())], pa.schema([pa.field("x", kind)]), retracts=True)


def test_calls_of_an_argument_share_what_they_keep() -> None:
    """The room that groups take follows the different things that are kept."""
    schema = pa.schema([pa.field("x", pa.int64())])
    both = Accumulators(
        [Accumulate("s", "sum", "x", pa.decimal128(38, 0)), Accumulate("a", "avg", "x", pa.float64())], schema, retracts=False
    )
    one = Accumulators([Accumulate("a", "avg", "x", pa.float64())], schema, retracts=False)
    for kept in (both, one):
        kept.update(np.array([0, 1]), pa.record_batch([pa.array([1, 2])], schema=schema), None)
    assert both.bytes == one.bytes > 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
@given(data=st.data())
def test_groups_merge(kind: pa.DataType, data: st.DataObject) -> None:
    """Groups that were kept in two parts and added up are as if they had been kept in one."""
    exact = st.sampled_from(VALUES[kind]) if not pa.types.is_floating(kind) else DYADIC
    values = data.draw(st.lists(st.tuples(st.integers(0, 3), exact, st.booleans()), max_size=12))
    functions = tuple(name for name in functions_of(kind) if not pa.types.is_floating(kind) or name not in MOMENTS)
    calls = calls_of(kind, functions)
    schema = pa.schema([pa.field("g", pa.int64()), pa.field("x", kind)])
    whole, first, second = (Accumulators(calls, schema, retracts=False) for _ in range(3))
    for part, chosen in ((whole, values), (first, [v for v in values if v[2]]), (second, [v for v in values if not v[2]])):
        rows = batch_of(kind, [group for group, _, _ in chosen], pa.array([value for _, value, _ in chosen], kind))
        part.update(np.array([group for group, _, _ in chosen], np.int64), rows, None)
    codes = np.arange(4)
    try:
        expected = whole.values(codes)
    except DataError:
        return
    first.merge(codes, second, codes)
    for call, one, other in zip(calls, first.values(codes), expected, strict=True):
        if call.function in MOMENTS:
            for mine, theirs in zip(one.to_pylist(), other.to_pylist(), strict=True):
                assert (mine is None) == (theirs is None)
                assert mine is None or math.isnan(mine) == math.isnan(theirs)
                assert mine is None or math.isnan(mine) or math.isclose(mine, theirs, rel_tol=1e-6, abs_tol=1e-6)
        else:
            assert str(one.to_pylist()) == str(other.to_pylist())
