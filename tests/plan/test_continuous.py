"""Continuous plans mean what their queries mean: a small interpreter runs them, and DuckDB the query."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping

import pyarrow as pa
import pytest

from streamq.plan.continuous import plan_continuous
from streamq.plan.dataflow import Dataflow
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.logical import BoundQuery
from streamq.sql.parse import parse_one
from streamq.sql.render import render_whole
from streamq.sql.statements import Select
from tests.plan.continuous_queries import CATALOG, QUERIES, RELATIONS
from tests.plan.continuous_reference import Reference


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    """Share one binder."""
    binder = Binder()
    yield binder
    binder.close()


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Share one interpreter."""
    return Reference()


@pytest.fixture(scope="module")
def rows() -> Mapping[str, pa.Table]:
    """Share the rows, which are registered only where they change."""
    return {name: with_system_columns(table) for name, table in RELATIONS.items()}


def bound(sql: str, binder: Binder) -> BoundQuery:
    """Bind a query."""
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    return bind_query(statement, CATALOG, binder=binder)


def planned(sql: str, binder: Binder, reference: Reference, partitions: int = 3) -> Dataflow:
    """Plan a continuous query."""
    return plan_continuous(bound(sql, binder), CATALOG, partitions=partitions, describe=reference.describe)


def bag(table: pa.Table) -> Counter[tuple[object, ...]]:
    """Count rows, whatever their order; floats to ten digits."""
    return Counter(zip(*([_value(value) for value in column.to_pylist()] for column in table.columns), strict=True))


def _value(value: object) -> object:
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else float(f"{value:.10g}")
    return repr(value) if isinstance(value, list | dict) else value


@pytest.mark.parametrize("name", QUERIES)
def test_answer(name: str, binder: Binder, reference: Reference, rows: Mapping[str, pa.Table]) -> None:
    """The changes of a query over all rows fold to its answer, however many partitions there are."""
    expected = reference.run(render_whole(bound(QUERIES[name], binder).plan), rows)
    continuous = bound(f"{QUERIES[name]} EMIT CHANGES", binder)
    for partitions in (1, 3):
        dataflow = plan_continuous(continuous, CATALOG, partitions=partitions, describe=reference.describe)
        found = reference.result(dataflow, rows, partitions)
        assert bag(found) == bag(expected), partitions
        assert found.schema.types == expected.schema.types
        assert found.schema.names == expected.schema.names


TIMED = [name for name, sql in QUERIES.items() if any(word in sql for word in ("TUMBLE", "HOP", "SESSION", "INTERVAL"))]


@pytest.mark.parametrize("name", TIMED)
def test_final_answer(name: str, binder: Binder, reference: Reference, rows: Mapping[str, pa.Table]) -> None:
    """What a query gives as final is its answer, when all windows have closed."""
    dataflow = planned(f"{QUERIES[name]} EMIT FINAL", binder, reference)
    assert dataflow.changelog == "append"
    found = reference.result(dataflow, rows, 3)
    assert bag(found) == bag(reference.run(render_whole(bound(QUERIES[name], binder).plan), rows))


def with_system_columns(table: pa.Table) -> pa.Table:
    """Add the columns that a source's rows have besides, with a watermark before everything."""
    if "ts" not in table.column_names:
        return table
    columns = {
        "_timestamp": pa.array([0] * len(table), pa.timestamp("us", "UTC")),
        "_partition": pa.array([0] * len(table), pa.int32()),
        "_offset": pa.array(range(len(table)), pa.int64()),
        "_watermark": pa.nulls(len(table), pa.timestamp("us")),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table
