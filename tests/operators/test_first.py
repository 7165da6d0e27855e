"""First: the first rows in order of arrival."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import First

from .driver import IN, Driver, Script, scripts

SCHEMA = pa.schema([("x", pa.int64())])


@given(scripts(st.tuples(st.integers(0, 9)), retracts=False), st.integers(0, 4), st.integers(0, 4))
def test_first_rows(evaluator: Evaluator, script: Script, limit: int, offset: int) -> None:
    """Wherever epochs are cut, and whenever it is restarted, rows offset to offset + limit pass."""
    driver = Driver(First("first", IN, limit, offset, SCHEMA, retracts=False), evaluator, [SCHEMA], [False])
    given = []
    for number, epoch in enumerate(script.epochs):
        if number == script.restart:
            driver.restart()
        given += driver.step(epoch)
    rows = [change for epoch in script.epochs for change in epoch]
    assert given == rows[offset : offset + limit]


def test_copies_count(evaluator: Evaluator) -> None:
    """A row that comes several times at once counts as often."""
    driver = Driver(First("first", IN, 2, 1, SCHEMA, retracts=False), evaluator, [SCHEMA], [True])
    assert driver.step([((1,), 2), ((2,), 3)]) == [((1,), 1), ((2,), 1)]
