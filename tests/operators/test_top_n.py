"""TopN: the first rows in an order."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import TopN
from streamq.sql.logical import Ordering

from .driver import IN, Driver, Row, Script, check, scripts

SCHEMA = pa.schema([("k", pa.string()), ("x", pa.int64())])
ORDER = (Ordering('"x"', True, True), Ordering('"k"', False, False))
NODE = TopN("top", IN, ORDER, 3, 1, SCHEMA, retracts=True)
ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.sampled_from([1, 2, 3, None]))


def top(rows: list[Row]) -> Counter[Row]:
    """Sort by x (descending, NULLs first), then k (NULLs last); rows 2 to 4."""
    ordered = sorted(rows, key=lambda row: (row[1] is not None, -(row[1] or 0), row[0] is None, row[0] or ""))
    return Counter(ordered[1:4])


@given(scripts(ROWS))
def test_with_retraction(evaluator: Evaluator, script: Script) -> None:
    """Rows behind take the place of rows that are withdrawn."""
    check(Driver(NODE, evaluator, [SCHEMA], [True]), top, script)


@given(scripts(ROWS, retracts=False))
def test_over_additions(evaluator: Evaluator, script: Script) -> None:
    """Over rows that are only added, those beyond the limit are not kept."""
    driver = Driver(NODE, evaluator, [SCHEMA], [False])
    check(driver, top, script)
    assert driver.operator.state_rows <= 4


def test_copies_count(evaluator: Evaluator) -> None:
    """A row that is there often takes as many places."""
    driver = Driver(NODE, evaluator, [SCHEMA], [True])
    assert driver.step([(("a", 9), 1_000_000), (("b", 1), 1)]) == [(("a", 9), 3)]
    assert driver.step([(("a", 9), -999_998)]) == [(("a", 9), -2), (("b", 1), 1)]


def test_change_behind_the_limit_changes_nothing(evaluator: Evaluator) -> None:
    """Rows behind come and go unseen."""
    driver = Driver(NODE, evaluator, [SCHEMA], [True])
    driver.step([(("a", value), 1) for value in range(9)])
    assert driver.step([(("a", 0), -1), (("b", 0), 1)]) == []


def test_what_was_given_is_withdrawn_after_partitions_changed(evaluator: Evaluator) -> None:
    """One that takes over the states of two withdraws what is too much of theirs."""
    drivers = [Driver(replace(NODE, offset=0), evaluator, [SCHEMA], [False]) for _ in range(2)]
    for number, driver in enumerate(drivers):
        driver.step([(("a", 10 * number + value), 1) for value in range(3)])
    states = [driver.operator.snapshot() for driver in drivers]
    drivers[0].given += drivers[1].given
    drivers[0].operator = drivers[0].make()
    drivers[0].operator.restore({name: pa.concat_tables([state[name] for state in states]) for name in states[0]})
    drivers[0].step([(("b", 5), 1)])
    assert drivers[0].given == Counter([("a", 10), ("a", 11), ("a", 12)])


@pytest.mark.parametrize("limit", [0, 1])
def test_no_limit_no_rows(evaluator: Evaluator, limit: int) -> None:
    """As many rows are given as the limit says, be it none."""
    driver = Driver(replace(NODE, limit=limit, offset=0), evaluator, [SCHEMA], [False])
    assert len(driver.step([(("a", 1), 1), (("b", 1), 1)])) == limit
