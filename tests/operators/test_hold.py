"""Hold: rows wait until their window has closed."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.operators.base import Delta, Epoch
from streamq.plan.dataflow import Closing, Hold

from .driver import IN, Driver, Row, Script, delta, scripts

SCHEMA = pa.schema([("t", pa.timestamp("us")), ("x", pa.int64())])
ROWS = st.tuples(st.integers(0, 5), st.integers(0, 2))


@pytest.mark.parametrize("retracts", [False, True])
@given(st.data())
def test_net_rows_of_closed_windows(evaluator: Evaluator, retracts: bool, data: st.DataObject) -> None:
    """At every horizon, the net rows of the windows that have closed were given, once."""
    script: Script = data.draw(scripts(ROWS, retracts=retracts))
    driver = Driver(Hold("hold", IN, Closing("t", 2), SCHEMA), evaluator, [SCHEMA], [retracts])
    present: Counter[Row] = Counter()
    for number, epoch in enumerate(script.epochs):
        if number == script.restart:
            driver.restart()
        closed = {row for row in present if row[0] + 2 <= number - 1}
        epoch = [change for change in epoch if change[0][0] + 2 > number - 1]
        driver.step(epoch, horizon_us=number)
        for row, weight in epoch:
            present[row] += weight
        assert closed <= set(present)
        expected = {row: count for row, count in present.items() if row[0] + 2 <= number and count}
        assert {(_microsecond(row[0]), row[1]): count for row, count in driver.given.items()} == expected
    driver.step([], ended=True)
    assert driver.given.total() == present.total()
    assert driver.operator.state_rows == 0


def _microsecond(value: object) -> int:
    return int(getattr(value, "microsecond"))  # noqa: B009


def test_without_a_window_rows_wait_for_the_end(evaluator: Evaluator) -> None:
    """What is withdrawn before the sources end is never seen."""
    driver = Driver(Hold("hold", IN, None, SCHEMA), evaluator, [SCHEMA], [True])
    assert driver.step([((1, 1), 3), ((1, 2), 1)], horizon_us=10**15) == []
    assert driver.step([((1, 1), -1), ((1, 2), -1)], horizon_us=10**15) == []
    driver.restart()
    assert [row[1] for row, _ in driver.step([], ended=True)] == [1, 1]


def test_changes_that_undo_each_other_take_no_memory(evaluator: Evaluator) -> None:
    """A row that is replaced again and again is kept about once."""
    driver = Driver(Hold("hold", IN, None, SCHEMA), evaluator, [SCHEMA], [True])
    keys = range(20)
    driver.step([((key, 0), 1) for key in keys])
    for number in range(150):
        driver.step([*(((key, number), -1) for key in keys), *(((key, number + 1), 1) for key in keys)])
    assert driver.operator.state_rows < 2_000
    assert [row[1] for row, _ in driver.step([], ended=True)] == [150] * len(keys)


def test_inclusive_end(evaluator: Evaluator) -> None:
    """A session's end still belongs to it: it closes once the horizon is past it."""
    driver = Driver(Hold("hold", IN, Closing("t", inclusive=True), SCHEMA), evaluator, [SCHEMA], [False])
    assert driver.step([((5, 1), 1)], horizon_us=5) == []
    assert len(driver.step([], horizon_us=6)) == 1


@pytest.mark.parametrize(
    ("kind", "value", "opens", "closes"),
    [
        (pa.timestamp("s"), 1, 999_999, 1_000_000),
        (pa.timestamp("ms", "UTC"), 1, 999, 1_000),
        (pa.timestamp("ns"), 1_001, 1, 2),
        (pa.date32(), 1, 86_400_000_000 - 1, 86_400_000_000),
        (pa.timestamp("s"), None, 10**18, None),
        (pa.timestamp("us"), 2**63 - 1, 10**18, None),
    ],
)
def test_units_of_time(evaluator: Evaluator, kind: pa.DataType, value: int | None, opens: int, closes: int | None) -> None:
    """Ends are compared exactly in any unit; NULL and infinity close with the sources only."""
    schema = pa.schema([("x", pa.int64()), ("t", kind)])
    driver = Driver(Hold("hold", IN, Closing("t"), schema), evaluator, [schema], [False])
    driver.operator.process([delta(schema, [((1, value), 1)], retracts=False)], Epoch(1, 1))
    assert driver.operator.state_rows == 1
    for horizon, expected in ((opens, 1), (closes, 0)):
        if horizon is not None:
            given = driver.operator.process([Delta.empty(schema)], Epoch(2, 2, horizon))
            assert given.num_rows == 1 - expected
            assert driver.operator.state_rows == expected
