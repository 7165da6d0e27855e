"""Relations that lie in partitions by a key are joined, grouped and windowed without an exchange."""

from __future__ import annotations

from collections import Counter

import pytest

from streamq.plan.fragments import CoPartitions, FullyPartitionable, PhysicalPlan
from streamq.plan.planner import plan_query
from streamq.sql.bind import bind_query
from streamq.sql.catalog import RelationInfo
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select
from tests.oracle import connect_duckdb
from tests.plan.queries import tables
from tests.plan.reference import MemoryRelation, partitioned, run_plan

QUERIES = (
    "SELECT customer, median(amount) AS m FROM orders GROUP BY customer",
    "SELECT o.customer, o.kind, count(*) AS n FROM orders AS o GROUP BY o.customer, o.kind",
    "SELECT id, row_number() OVER (PARTITION BY customer ORDER BY id) AS r FROM orders",
    "SELECT a.id, b.id AS other FROM orders a JOIN twins b ON a.customer = b.customer",
    "SELECT a.id, b.id AS other FROM orders a FULL JOIN twins b ON a.customer = b.customer AND a.id = b.id + 1",
)


def relations(other: int = 4) -> dict[str, MemoryRelation]:
    """Make two relations in partitions by customer, the second in `other` of them."""
    orders = tables()["orders"]
    return {"orders": partitioned(orders, "customer", 4), "twins": partitioned(orders.slice(9), "customer", other)}


def plan(sql: str, given: dict[str, MemoryRelation]) -> PhysicalPlan:
    """Plan with nothing small enough to be broadcast."""
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    catalog = {name: RelationInfo(name, "source", snapshot.schema) for name, snapshot in given.items()}
    return plan_query(bind_query(statement, catalog).plan, given, target_partitions=4, broadcast_bytes=0)


@pytest.mark.parametrize("sql", QUERIES)
def test_partitions_are_used_as_they_lie(sql: str) -> None:
    """One stage reads partition by partition, and the answer is DuckDB's."""
    given = relations()
    physical = plan(sql, given)
    assert isinstance(physical.strategy, FullyPartitionable)
    assert [type(stage.driver) for stage in physical.stages] == [CoPartitions]
    with connect_duckdb() as session:
        session.register("orders", tables()["orders"])
        session.register("twins", tables()["orders"].slice(9))
        expected = session.sql(sql).fetchall()
    assert Counter(map(tuple, (row.values() for row in run_plan(physical, given).to_pylist()))) == Counter(expected)


def test_different_numbers_of_partitions_are_exchanged() -> None:
    """Relations in 4 and in 3 partitions do not meet where they lie."""
    physical = plan(QUERIES[3], relations(other=3))
    assert not any(isinstance(stage.driver, CoPartitions) for stage in physical.stages)
