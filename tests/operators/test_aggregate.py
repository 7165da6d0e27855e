"""Aggregate: groups kept in columns."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import Literal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Accumulate, Aggregate, Closing
from streamq.plan.exchanges import Edge, Gather

from .driver import IN, Driver, Row, Script, check, scripts

SCHEMA = pa.schema([("k", pa.string()), ("w", pa.timestamp("us")), ("x", pa.int64())])
COUNT = Accumulate("n", "count_star", None, pa.int64())
SUM = Accumulate("s", "sum", "x", pa.decimal128(38, 0))
MAX = Accumulate("m", "max", "x", pa.int64())
ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.just(0), st.sampled_from([1, 2, 5, None]))


def aggregate(
    keys: tuple[str, ...],
    calls: tuple[Accumulate, ...],
    emit: Literal["delta", "changelog", "close"] = "delta",
    closing: Closing | None = None,
) -> Aggregate:
    """Make a node and its schema."""
    fields = [*(SCHEMA.field(key) for key in keys), *(pa.field(call.name, call.type) for call in calls)]
    fields += [pa.field("_op", pa.string())] if emit == "changelog" else []
    return Aggregate("aggregate", IN, keys, calls, emit, closing, pa.schema(fields), retracts=emit == "delta")


def counts_and_sums(rows: list[Row]) -> Counter[Row]:
    """Group by k: the number of rows and the sum of x."""
    groups: dict[str | None, list[int | None]] = {}
    for key, _, value in rows:
        groups.setdefault(key, []).append(value)
    return Counter((key, len(values), _sum(values)) for key, values in groups.items())


def _sum(values: list[int | None]) -> int | None:
    kept = [value for value in values if value is not None]
    return sum(kept) if kept else None


@given(scripts(ROWS))
def test_delta_with_retraction(evaluator: Evaluator, script: Script) -> None:
    """Counts and sums follow additions and withdrawals; groups without rows are gone."""
    check(Driver(aggregate(("k",), (COUNT, SUM)), evaluator, [SCHEMA], [True]), counts_and_sums, script)


@given(scripts(ROWS, retracts=False))
def test_delta_over_additions(evaluator: Evaluator, script: Script) -> None:
    """A maximum is right after every epoch."""

    def maxima(rows: list[Row]) -> Counter[Row]:
        keys = {key for key, _, _ in rows}
        return Counter((key, max((row[2] for row in rows if row[0] == key and row[2] is not None), default=None)) for key in keys)

    check(Driver(aggregate(("k",), (MAX,)), evaluator, [SCHEMA], [False]), maxima, script)


@given(scripts(ROWS))
def test_no_keys(evaluator: Evaluator, script: Script) -> None:
    """There is one group, with or without rows."""
    driver = Driver(aggregate((), (COUNT, SUM)), evaluator, [SCHEMA], [True])
    check(driver, lambda rows: Counter([(len(rows), _sum([row[2] for row in rows]))]), script)


@given(scripts(ROWS), st.booleans())
def test_changelog(evaluator: Evaluator, script: Script, counted: bool) -> None:
    """One row a changed group: applied by key, they make the result; deletes say the row as it was."""
    driver = Driver(replace(aggregate(("k",), (COUNT, SUM), "changelog"), retracts=True), evaluator, [SCHEMA], [True])
    table: dict[object, Row] = {}
    present: Counter[Row] = Counter()
    for epoch in script.epochs:
        given = driver.step(epoch)
        assert len({row[0] for row, _ in given}) == len(given)
        for row, _ in given:
            if row[-1] == "insert":
                assert row[0] not in table
                table[row[0]] = row[:-1]
            elif row[-1] == "update":
                assert table[row[0]] != row[:-1]
                table[row[0]] = row[:-1]
            else:
                assert table.pop(row[0]) == row[:-1]
        for row, weight in epoch:
            present[row] += weight
        assert Counter(table.values()) == counts_and_sums(list(present.elements()))


def test_changelog_leaves_out_what_is_the_same(evaluator: Evaluator) -> None:
    """A group whose row is as it was does not change."""
    driver = Driver(aggregate(("k",), (MAX,), "changelog"), evaluator, [SCHEMA], [False])
    assert driver.step([(("a", 0, 5), 1)]) == [(("a", 5, "insert"), 1)]
    assert driver.step([(("a", 0, 3), 1)]) == []
    assert driver.step([(("a", 0, 7), 1)]) == [(("a", 7, "update"), 1)]


def test_delta_leaves_out_what_is_the_same(evaluator: Evaluator) -> None:
    """A group whose row is as it was is neither withdrawn nor given."""
    driver = Driver(aggregate(("k",), (MAX,)), evaluator, [SCHEMA], [False])
    driver.step([(("a", 0, 5), 1), (("b", 0, None), 1)])
    assert driver.step([(("a", 0, 5), 1), (("b", 0, None), 1)]) == []
    assert driver.step([(("b", 0, 1), 1)]) == [(("b", None), -1), (("b", 1), 1)]


def test_a_zero_of_the_other_sign_is_another_value(evaluator: Evaluator) -> None:
    """What keeps the rows to the last bit is told of it: it would not know the row that is withdrawn later."""
    schema = pa.schema([("k", pa.string()), ("w", pa.timestamp("us")), ("x", pa.float64())])
    node = aggregate(("k",), (Accumulate("m", "max", "x", pa.float64()),))
    node = replace(node, schema=pa.schema([("k", pa.string()), ("m", pa.float64())]))
    driver = Driver(node, evaluator, [schema], [False])
    changes = [len(driver.step([(("a", 0, x), 1)])) for x in (-0.0, 0.0, 0.0, math.nan, math.nan)]
    assert changes == [1, 2, 0, 2, 0]


def test_idle_partition_has_no_row(evaluator: Evaluator) -> None:
    """Where all rows go to partition 0, the others have no row of no keys."""
    node = replace(aggregate((), (COUNT,)), input=Edge("in", Gather()))
    assert Driver(node, evaluator, [SCHEMA], [False], partition=1).step([]) == []
    assert Driver(node, evaluator, [SCHEMA], [False], partition=0).step([]) == [((0,), 1)]


def test_one_group_after_a_restart(evaluator: Evaluator) -> None:
    """The row of no keys is given once, not again after a restart."""
    driver = Driver(aggregate((), (COUNT,)), evaluator, [SCHEMA], [False])
    driver.step([])
    driver.restart()
    assert driver.step([]) == []
    assert driver.step([(("a", 0, 1), 1)]) == [((0,), -1), ((1,), 1)]


def test_partial_rows_of_several_partitions(evaluator: Evaluator) -> None:
    """One that takes over the partial rows of two partitions keeps both, and adds to the first."""
    drivers = [Driver(aggregate((), (COUNT,)), evaluator, [SCHEMA], [False]) for _ in range(2)]
    for driver in drivers:
        driver.step([(("a", 0, 1), 1)])
    tables = [driver.operator.snapshot()["groups"] for driver in drivers]
    drivers[0].operator = drivers[0].make()
    drivers[0].operator.restore({"groups": pa.concat_tables(tables)})
    assert drivers[0].step([(("a", 0, 1), 1)]) == [((1,), -1), ((2,), 1)]
    assert drivers[0].operator.snapshot()["groups"].num_rows == 2


@pytest.mark.parametrize("restart", [False, True])
def test_close_gives_groups_once(evaluator: Evaluator, restart: bool) -> None:
    """A group's row is given when its window closes, at its start + size here, and its state goes."""
    driver = Driver(aggregate(("w", "k"), (COUNT,), "close", Closing("w", 10)), evaluator, [SCHEMA], [False])
    assert driver.step([(("a", 0, 1), 1), (("b", 10, 1), 1), (("a", 0, 1), 1)], horizon_us=9) == []
    if restart:
        driver.restart()
    ((row, _),) = driver.step([(("b", 10, 1), 1)], horizon_us=10)
    assert row[1:] == ("a", 2)
    assert driver.operator.state_rows == 1
    ((row, _),) = driver.step([], ended=True)
    assert row[1:] == ("b", 2)
    assert driver.operator.state_rows == 0


def test_close_forgets_groups_without_rows(evaluator: Evaluator) -> None:
    """A group whose rows were all withdrawn before its window closed is never given."""
    driver = Driver(aggregate(("w", "k"), (COUNT,), "close", Closing("w", 10)), evaluator, [SCHEMA], [True])
    driver.step([(("a", 0, 1), 1), (("b", 0, 1), 1)])
    driver.step([(("a", 0, 1), -1), (("c", 5, 1), 1)])
    assert [row[1:] for row, _ in driver.step([], horizon_us=10)] == [("b", 1)]
    assert [row[1:] for row, _ in driver.step([], horizon_us=15)] == [("c", 1)]


def test_closed_groups_stay_given(evaluator: Evaluator) -> None:
    """In other modes groups of closed windows are forgotten, and not withdrawn."""
    driver = Driver(aggregate(("w", "k"), (COUNT,), "delta", Closing("w", 10)), evaluator, [SCHEMA], [False])
    driver.step([(("a", 0, 1), 1)], horizon_us=10)
    assert driver.operator.state_rows == 0
    assert sum(driver.given.values()) == 1


def test_withdrawing_what_is_not_there_names_the_operator(evaluator: Evaluator) -> None:
    """A group with fewer than no rows is a fault of the program."""
    with pytest.raises(AssertionError, match=r"^aggregate: "):
        Driver(aggregate(("k",), (COUNT,)), evaluator, [SCHEMA], [True]).step([(("a", 0, 1), -1)])
