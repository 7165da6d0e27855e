"""Few rows are one task's work, whatever the query; EXPLAIN says so, and what more rows would get."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest

from streamq.plan.fragments import Once, Passthrough, PhysicalPlan, TwoPhaseAggregation
from streamq.plan.planner import plan_query
from streamq.plan.sizes import rows_to_go_through
from streamq.sql.logical import Join, Query, Scan, Union
from tests.plan.blocks import block, names
from tests.plan.queries import relations

COUNTS = block(
    Scan("orders#1", "orders", ("kind",)), names("kind"), pa.schema([("kind", pa.string())]), keys=names("kind"), items=names("kind")
)
JOINED = replace(
    block(Scan("orders#1", "orders", ("id",)), names("id", "name"), pa.schema([("id", pa.int64()), ("name", pa.string())])),
    leaves=(Scan("orders#1", "orders", ("id", "customer")), Scan("customers#2", "customers", ("customer", "name"))),
    joins=(Join("inner", "customers#2", (("orders#1", "customer", "customer", "BIGINT"),), False),),
    from_sql='"orders#1" AS o JOIN "customers#2" AS c ON o.customer = c.customer',
)
CROSSED = replace(JOINED, joins=(Join("cross", "customers#2", (), False),))


def plan(query: Query, rows: int) -> PhysicalPlan:
    """Plan over 41 orders and 7 customers."""
    return plan_query(query, relations(), target_partitions=4, broadcast_bytes=0, single_task_rows=rows)


@pytest.mark.parametrize(
    "query",
    [
        COUNTS,
        JOINED,
        Union((COUNTS, replace(COUNTS, leaves=(Scan("orders#2", "orders", ("kind",)),), from_sql='"orders#2" AS t')), COUNTS.schema),
    ],
)
def test_few_rows_are_one_task(query: Query) -> None:
    """Aggregates, joins and unions over few rows are one stage with one task."""
    (stage,) = plan(query, 1_000).stages
    assert stage.driver == Once()


def test_the_reason_is_given() -> None:
    """The choice tells the rows, the bound, and the strategy that more rows would get."""
    (choice,) = plan(COUNTS, 1_000).choices
    assert choice.strategy == Passthrough("single")
    assert "41 rows (at most 1,000)" in choice.reason
    assert "TwoPhaseAggregation" in choice.reason


@pytest.mark.parametrize("rows", [0, 40])
def test_more_rows_are_divided(rows: int) -> None:
    """Above the bound, or without one, a query is divided as its rows are."""
    assert plan(COUNTS, rows).strategy == TwoPhaseAggregation()


def test_joins_without_an_equality_are_their_product() -> None:
    """Few rows that a cross join makes many are no small work."""
    given = relations()
    assert rows_to_go_through(JOINED, given) == 41 + 7
    assert rows_to_go_through(CROSSED, given) == 41 + 7 + 41 * 7
    assert len(plan(CROSSED, 100).stages[0].fragment.inputs) == 2


def test_wide_rows_count_for_several() -> None:
    """The rows of a relation count by their bytes where they are wide."""
    given = relations()
    wide = given | {"orders": replace(given["orders"], bytes=1 << 20)}
    assert rows_to_go_through(COUNTS, wide) == 4_096
