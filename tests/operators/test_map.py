"""Map and union: what keeps nothing."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from streamq.errors import DataError
from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Map, Union

from .driver import IN, LEFT, RIGHT, Driver

SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.string())])
RESULT = pa.schema([("x", pa.int64())])


def test_map_without_weights(evaluator: Evaluator) -> None:
    """Rows that are only added go through the SQL without weights."""
    node = Map("m", IN, 'SELECT a + 1 AS x FROM "in" WHERE b IS NOT NULL', RESULT, retracts=False)
    assert Driver(node, evaluator, [SCHEMA], [False]).step([((1, "a"), 1), ((2, None), 1)]) == [((2,), 1)]


def test_map_keeps_weights(evaluator: Evaluator) -> None:
    """Every row that a changed row becomes has its weight, wherever the SQL gives it."""
    node = Map("m", IN, 'SELECT "#weight", unnest([a, a * 10]) AS x FROM "in"', RESULT, retracts=True)
    driver = Driver(node, evaluator, [SCHEMA], [True])
    driver.step([((1, "a"), 3)])
    assert driver.step([((1, "a"), -2)]) == [((1,), -2), ((10,), -2)]


def test_map_without_changes_asks_nobody(evaluator: Evaluator) -> None:
    """An epoch without changes gives none."""
    node = Map("m", IN, 'SELECT count(*) AS x FROM "in"', RESULT, retracts=False)
    assert Driver(node, evaluator, [SCHEMA], [False]).step([]) == []


def test_map_reads_parameters_and_clock(evaluator: Evaluator) -> None:
    """SQL reads the query's values by name, and the epoch's time as $now."""
    schema = pa.schema([("x", pa.int64()), ("t", pa.timestamp("us", "UTC"))])
    node = Map("m", IN, 'SELECT a + $p1 AS x, $now AS t FROM "in"', schema, retracts=False)
    driver = Driver(node, evaluator, [SCHEMA], [False], {"p1": 10, "p2": None})
    for microseconds in (1, 2):
        ((row, _),) = driver.step([((1, "a"), 1)])
        assert row == (11, dt.datetime(1970, 1, 1, 0, 0, 0, microseconds, tzinfo=dt.UTC))


def test_map_failing_row(evaluator: Evaluator) -> None:
    """A row that an expression fails on is a DataError that says what failed."""
    node = Map("m", IN, 'SELECT CAST(b AS BIGINT) AS x FROM "in"', RESULT, retracts=False, label="project")
    with pytest.raises(DataError, match=r"project: .*'word'.*TRY_CAST"):
        Driver(node, evaluator, [SCHEMA], [False]).step([((1, "word"), 1)])


def test_map_gives_the_types_of_its_schema(evaluator: Evaluator) -> None:
    """A list's element has DuckDB's name in what it gives, and the schema's in the result."""
    schema = pa.schema([("x", pa.list_(pa.int64()))])
    node = Map("m", IN, 'SELECT [a] AS x FROM "in"', schema, retracts=False)
    assert Driver(node, evaluator, [SCHEMA], [False]).step([((1, "a"), 1)]) == [(((1,),), 1)]


def test_union_takes_columns_by_position(evaluator: Evaluator) -> None:
    """The inputs' changes are given under the names of the result, whatever theirs are."""
    node = Union("u", (LEFT, RIGHT), RESULT, retracts=True)
    driver = Driver(node, evaluator, [pa.schema([("a", pa.int64())]), pa.schema([("b", pa.int64())])], [True, False])
    assert driver.step([((1,), 2)], [((3,), 1)]) == [((1,), 2), ((3,), 1)]
    assert driver.step([((1,), -1)], []) == [((1,), -1)]
