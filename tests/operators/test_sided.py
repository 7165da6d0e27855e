"""Sided: rows evaluated against complete side relations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Side, Sided
from streamq.plan.exchanges import Broadcast, Edge

from .driver import IN, Driver, Row, Script, check, scripts

SCHEMA = pa.schema([("k", pa.string()), ("x", pa.int64())])
SIDE = pa.schema([("k", pa.string()), ("y", pa.float64())])
NODE = Sided(
    "sided",
    IN,
    (Side(Edge("side", Broadcast()), "side"),),
    'SELECT k, x, (SELECT sum(y) FROM side WHERE side.k = "in".k) AS s, "#weight" FROM "in" WHERE x > (SELECT count(*) FROM side)',
    pa.schema([("k", pa.string()), ("x", pa.int64()), ("s", pa.float64())]),
    retracts=True,
)
ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 4))
SIDE_ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([0.5, 0.25, None]))


def reference(rows: list[Row], side: list[Row]) -> Counter[Row]:
    """Rows above the number of side rows, with the sum of those of their key."""
    return Counter((*row, _sum([value for key, value in side if key == row[0] is not None])) for row in rows if row[1] > len(side))


def _sum(values: list[float | None]) -> float | None:
    kept = [value for value in values if value is not None]
    return sum(kept) if kept else None


@given(scripts(ROWS), scripts(SIDE_ROWS))
def test_both_retract(evaluator: Evaluator, rows: Script, side: Script) -> None:
    """Rows come and go as they and the side change."""
    check(Driver(NODE, evaluator, [SCHEMA, SIDE], [True, True]), reference, rows, side)


@given(scripts(ROWS, retracts=False), scripts(SIDE_ROWS))
def test_only_the_side_retracts(evaluator: Evaluator, rows: Script, side: Script) -> None:
    """Where the input is only added to, the SQL has no weights."""
    node = replace(NODE, sql=NODE.sql.replace(', "#weight"', ""))
    check(Driver(node, evaluator, [SCHEMA, SIDE], [False, True]), reference, rows, side)


def test_side_changes_that_cancel_change_nothing(evaluator: Evaluator) -> None:
    """A side that is as it was before the epoch has not changed."""
    driver = Driver(NODE, evaluator, [SCHEMA, SIDE], [True, True])
    driver.step([(("a", 3), 1)], [(("a", 0.1), 1)])
    assert driver.step([], [(("a", 0.1), -1), (("a", 0.1), 1)]) == []


def test_floats_are_withdrawn_as_they_were_given(evaluator: Evaluator) -> None:
    """A sum whose last bits depend on the order of adding is withdrawn as it was given, when its row is."""
    node = replace(NODE, sql=NODE.sql.replace("x > (SELECT count(*) FROM side)", "x > 0"))
    driver = Driver(node, evaluator, [SCHEMA, SIDE], [True, True])
    driver.step([(("a", 1), 1)], [(("a", value), 1) for value in (0.1, 1e16, 0.3, -1e16)])
    for value in (0.1, 1e16, 0.3, -1e16):
        driver.step([], [(("a", value), -1)])
        driver.step([(("b", 1), 1)], [(("a", value), 1)])
    driver.restart()
    driver.step([(("a", 1), -1)], [])
    assert {row[0] for row in driver.given} == {"b"}


def test_a_result_that_differs_in_its_last_bit_is_still_withdrawn(evaluator: Evaluator) -> None:
    """If a row evaluated again does not give what it gave, everything is evaluated, and what was given is withdrawn."""
    # The number of rows evaluated at once stands in for what floating point sums may depend on.
    sql = 'SELECT k, x, 1.0::DOUBLE + count(*) OVER () * 3e-16 AS s, "#weight" FROM "in"'
    driver = Driver(replace(NODE, sql=sql), evaluator, [SCHEMA, SIDE], [True, True])
    driver.step([(("a", 1), 1), (("b", 1), 1), (("c", 1), 1)], [])
    driver.step([(("a", 1), -1)], [])
    assert sorted(row[0] for row in driver.given) == ["b", "c"]
