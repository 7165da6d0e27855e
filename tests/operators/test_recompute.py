"""Recompute: SQL over the rows of the keys that an epoch touches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Closing, Recompute
from streamq.plan.exchanges import Edge, Gather, Keep

from .driver import IN, LEFT, RIGHT, Driver, Row, Script, check, scripts

SCHEMA = pa.schema([("k", pa.string()), ("x", pa.float64())])
MEDIAN = Recompute(
    "recompute",
    (IN,),
    ("in",),
    (("k",),),
    'SELECT k, median(x) AS m, sum(x) AS s, k AS "#group1" FROM "in" GROUP BY k',
    pa.schema([("k", pa.string()), ("m", pa.float64()), ("s", pa.float64())]),
    retracts=True,
    grouped=True,
)
RANKS = Recompute(
    "ranks",
    (IN,),
    ("in",),
    (("k",),),
    'SELECT k, x, rank() OVER (PARTITION BY k ORDER BY x DESC) AS r FROM "in"',
    pa.schema([("k", pa.string()), ("x", pa.float64()), ("r", pa.int64())]),
    retracts=True,
)
FULL = Recompute(
    "full",
    (LEFT, RIGHT),
    ("l", "r"),
    (("k",), ("j",)),
    'SELECT k, x, j, y, coalesce(k, j) AS "#group1" FROM l FULL JOIN r ON k = j',
    pa.schema([("k", pa.string()), ("x", pa.float64()), ("j", pa.string()), ("y", pa.float64())]),
    retracts=True,
    null_matches=False,
    grouped=True,
)
ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0.5, 1.0, 2.5, None]))


def medians(rows: list[Row]) -> Counter[Row]:
    """Group by k: the median and the sum of x, NULLs aside."""
    groups: dict[str | None, list[float]] = {}
    for key, value in rows:
        groups.setdefault(key, []).extend([] if value is None else [value])
    return Counter((key, _median(values), sum(values) if values else None) for key, values in groups.items())


def _median(values: list[float]) -> float | None:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2 if ordered else None


def ranks(rows: list[Row]) -> Counter[Row]:
    """The rank of x among the rows of its k, largest first, NULLs last."""
    order = {row: (row[1] is None, 0 if row[1] is None else -row[1]) for row in rows}
    return Counter((*row, 1 + sum(other[0] == row[0] and order[other] < order[row] for other in rows)) for row in rows)


def full_join(left: list[Row], right: list[Row]) -> Counter[Row]:
    """Join by k = j; rows of either side without a match once, with NULLs."""
    pairs = [(*one, *other) for one in left for other in right if one[0] == other[0] is not None]
    alone = [(*one, None, None) for one in left if one[0] is None or all(one[0] != other[0] for other in right)]
    return Counter(pairs + alone + [(None, None, *one) for one in right if one[0] is None or all(one[0] != other[0] for other in left)])


@given(scripts(ROWS))
def test_grouped(evaluator: Evaluator, script: Script) -> None:
    """An aggregate over groups follows additions and withdrawals."""
    check(Driver(MEDIAN, evaluator, [SCHEMA], [True]), medians, script)


@given(scripts(ROWS))
def test_without_groups(evaluator: Evaluator, script: Script) -> None:
    """Where the SQL does not tell the key, what was given is computed again."""
    check(Driver(RANKS, evaluator, [SCHEMA], [True]), ranks, script)


@given(scripts(ROWS))
def test_without_keys(evaluator: Evaluator, script: Script) -> None:
    """Without keys, everything is recomputed."""
    check(Driver(replace(RANKS, keys=((),)), evaluator, [SCHEMA], [True]), ranks, script)


@given(scripts(ROWS), scripts(ROWS), st.booleans())
def test_two_inputs(evaluator: Evaluator, left: Script, right: Script, grouped: bool) -> None:
    """A full join by recomputation; NULL keys match nothing."""
    node = FULL if grouped else replace(FULL, grouped=False, sql=FULL.sql.replace(', coalesce(k, j) AS "#group1"', ""))
    check(Driver(node, evaluator, [SCHEMA, pa.schema([("j", pa.string()), ("y", pa.float64())])], [True, True]), full_join, left, right)


def test_rows_with_null_keys_are_not_kept(evaluator: Evaluator) -> None:
    """Where NULL matches nothing, rows with a NULL in their key come and go without a trace."""
    driver = Driver(FULL, evaluator, [SCHEMA, pa.schema([("j", pa.string()), ("y", pa.float64())])], [True, True])
    assert driver.step([((None, 1.0), 2)], [((None, 2.0), 1)]) == [((None, 1.0, None, None), 2), ((None, None, None, 2.0), 1)]
    assert driver.operator.state_rows == 0
    assert driver.step([((None, 1.0), -1)], []) == [((None, 1.0, None, None), -1)]


def test_global_aggregate_exists_without_rows(evaluator: Evaluator) -> None:
    """Without keys, the SQL is run in the first epoch, and then when something changes."""
    node = Recompute("all", (IN,), ("in",), ((),), 'SELECT count(*) AS n FROM "in"', pa.schema([("n", pa.int64())]), retracts=True)
    driver = Driver(node, evaluator, [SCHEMA], [False])
    assert driver.step([]) == [((0,), 1)]
    driver.restart()
    assert driver.step([]) == []
    assert driver.step([(("a", 1.0), 1)]) == [((0,), -1), ((1,), 1)]


@pytest.mark.parametrize(("edge", "expected"), [(Edge("in", Gather()), []), (Edge("in", Keep()), [((0,), 1)])])
def test_global_aggregate_of_gathered_rows_exists_once(evaluator: Evaluator, edge: Edge, expected: list[object]) -> None:
    """Where all rows go to partition 0, the others have no row of their own."""
    node = Recompute("all", (edge,), ("in",), ((),), 'SELECT count(*) AS n FROM "in"', pa.schema([("n", pa.int64())]), retracts=True)
    assert Driver(node, evaluator, [SCHEMA], [False], partition=1).step([]) == expected


def test_only_touched_keys_are_read(evaluator: Evaluator) -> None:
    """A row on which the SQL fails does so when its key is touched, not before."""
    node = replace(MEDIAN, sql='SELECT k, 1.0 AS m, CAST(1 // min(x)::INT AS DOUBLE) AS s, k AS "#group1" FROM "in" GROUP BY k')
    driver = Driver(node, evaluator, [SCHEMA], [True])
    driver.step([(("a", 1.0), 1)])
    assert [row[0] for row, _ in driver.step([(("b", 1.0), 1)])] == ["b"]


def test_floats_are_withdrawn_as_they_were_given(evaluator: Evaluator) -> None:
    """A sum's last bits may depend on the order of adding; what is withdrawn is what was given."""
    driver = Driver(MEDIAN, evaluator, [SCHEMA], [True])
    values = [0.1, 1e16, -1e16, 0.3, 0.7]
    for value in values:
        driver.step([(("a", value), 1)])
    driver.restart()
    for value in values:
        driver.step([(("a", value), -1), (("b", value), 1)])
    assert {row[0] for row in driver.given} == {"b"}


def test_once_keeps_nothing(evaluator: Evaluator) -> None:
    """Where a key's rows come in one epoch, nothing is remembered, and what cancels within it is not seen."""
    driver = Driver(replace(MEDIAN, once=True, retracts=False), evaluator, [SCHEMA], [True])
    assert driver.step([(("a", 1.0), 2), (("a", 9.0), 1), (("a", 9.0), -1)]) == [(("a", 1.0, 2.0), 1)]
    assert driver.operator.state_rows == 0
    assert driver.step([(("b", 1.0), 1)]) == [(("b", 1.0, 1.0), 1)]


def test_closed_windows_are_forgotten_and_stay_given(evaluator: Evaluator) -> None:
    """When the horizon reaches a window's end its rows go, and nothing is withdrawn."""
    schema = pa.schema([("end", pa.timestamp("us")), ("x", pa.int64())])
    sql = 'SELECT "end", max(x) AS x, "end" AS "#group1" FROM "in" GROUP BY "end"'
    node = Recompute("w", (IN,), ("in",), (("end",),), sql, schema, retracts=True, closing=Closing("end"), grouped=True)
    driver = Driver(node, evaluator, [schema], [False])
    driver.step([((10, 1), 1), ((20, 2), 1)], horizon_us=9)
    assert driver.operator.state_rows == 4
    driver.restart()
    assert driver.step([], horizon_us=10) == []
    assert driver.operator.state_rows == 2
    assert driver.step([((20, 3), 1)], ended=True)[0][1] == -1
    assert driver.operator.state_rows == 0
    assert sum(driver.given.values()) == 2


def test_withdrawing_what_is_not_there_names_the_operator(evaluator: Evaluator) -> None:
    """A negative multiplicity is a fault of the program."""
    with pytest.raises(AssertionError, match=r"^recompute: "):
        Driver(MEDIAN, evaluator, [SCHEMA], [True]).step([(("a", 1.0), -1)])
