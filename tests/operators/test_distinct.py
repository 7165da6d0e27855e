"""Distinct: each different row once."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Closing, Distinct

from .driver import IN, Driver, Script, canonical, check, scripts

SCHEMA = pa.schema([("k", pa.string()), ("x", pa.float64())])
NODE = Distinct("distinct", IN, SCHEMA, retracts=True)
ROWS = st.tuples(st.sampled_from(["a", None]), st.sampled_from([0.0, -0.0, math.nan, 1.5, None]))


@given(scripts(ROWS))
def test_with_retraction(evaluator: Evaluator, script: Script) -> None:
    """A row is there as long as one of its copies is; NULL is NULL, NaN is NaN and -0.0 is 0.0."""
    check(Driver(NODE, evaluator, [SCHEMA], [True]), lambda rows: Counter({canonical(row) for row in rows}), script)


@given(scripts(ROWS, retracts=False))
def test_over_additions(evaluator: Evaluator, script: Script) -> None:
    """Over rows that are only added nothing is ever withdrawn."""
    driver = Driver(replace(NODE, retracts=False), evaluator, [SCHEMA], [False])
    check(driver, lambda rows: Counter({canonical(row) for row in rows}), script)


def test_closed_windows_are_forgotten(evaluator: Evaluator) -> None:
    """Rows go with their window, and come out once."""
    schema = pa.schema([("end", pa.timestamp("us")), ("x", pa.int64())])
    driver = Driver(Distinct("d", IN, schema, retracts=False, closing=Closing("end")), evaluator, [schema], [False])
    assert len(driver.step([((10, 1), 1), ((10, 1), 1), ((20, 1), 1)], horizon_us=10)) == 2
    driver.restart()
    assert driver.operator.state_rows == 1
    assert driver.step([((20, 1), 1)], horizon_us=20) == []
    assert driver.operator.state_rows == 0


def test_withdrawing_what_is_not_there_names_the_operator(evaluator: Evaluator) -> None:
    """A negative multiplicity is a fault of the program."""
    with pytest.raises(AssertionError, match=r"^distinct: "):
        Driver(NODE, evaluator, [SCHEMA], [True]).step([(("a", 1.0), -1)])
