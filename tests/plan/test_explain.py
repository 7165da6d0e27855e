"""EXPLAIN is a text that a reader can follow; golden files hold it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pytest

from streamq.plan.executor import ExecutorChoice
from streamq.plan.explain import StageRun, WorkerRun, explain
from streamq.plan.planner import plan_query
from streamq.sql.logical import Block, Bound, Call, Join, Named, Ordering, Query, Scan, Union, Whole
from tests.plan.blocks import block, names
from tests.plan.constants import scans_of
from tests.plan.queries import relations

GOLDEN = Path(__file__).parent / "golden"
ORDERS = Scan("orders#1", "orders", ("id", "customer", "amount"))
CUSTOMERS = Scan("customers#2", "customers", ("customer", "name"))
NUMBERS = pa.schema([("id", pa.int64()), ("amount", pa.float64())])

SCAN = block(replace(ORDERS, filter="id > 20", bounds=(Bound("id", ">", "20"),)), names("id", "amount"), NUMBERS, where="(t.id > 20)")
GROUPS = block(
    ORDERS,
    names("customer", "amount"),
    pa.schema([("customer", pa.int64()), ("s", pa.float64())]),
    keys=names("customer"),
    calls=(Call("s", "sum(amount)", (Named("sum(amount)", "s$part"),), 'sum("s$part")'),),
    having="s > 1",
    items=names("customer", "s"),
)
MEDIANS = replace(GROUPS, calls=(Call("s", "median(amount)", (), ""),))
TOP = replace(SCAN, order=(Ordering("amount", True, False),), limit=5, offset=2)
JOINED = replace(
    block(ORDERS, names("id", "name"), pa.schema([("id", pa.int64()), ("name", pa.string())])),
    leaves=(ORDERS, CUSTOMERS),
    joins=(Join("left", "customers#2", (("orders#1", "customer", "customer", "BIGINT"),), False),),
    from_sql='"orders#1" AS o LEFT JOIN "customers#2" AS c ON o.customer = c.customer',
)
PLANS: dict[str, tuple[Query, int]] = {
    "scan": (SCAN, 500),
    "limit": (replace(SCAN, limit=10, offset=3), 500),
    "sort": (replace(SCAN, order=(Ordering("amount", True, False),)), 500),
    "top_n": (TOP, 500),
    "two_phase_aggregate": (GROUPS, 500),
    "exchanged_aggregate": (MEDIANS, 500),
    "distinct": (replace(SCAN, distinct=True), 500),
    "broadcast_join": (JOINED, 5_000),
    "repartition_join": (JOINED, 500),
    "window": (replace(SCAN, items=(*names("id"), Named("rank() OVER (ORDER BY id)", "amount")), partition_by=((),)), 500),
    "union": (Union((SCAN, replace(SCAN, leaves=(ORDERS,), where=None)), NUMBERS), 500),
    "whole": (Whole('SELECT id, amount FROM "orders#1" AS t', (ORDERS,), "recursive CTE", NUMBERS, False), 500),
}


def text_of(query: Query, broadcast_bytes: int) -> str:
    """Explain a plan over small relations."""
    given = relations(split_rows=10)
    plan = plan_query(query, given, target_partitions=4, broadcast_bytes=broadcast_bytes)
    return explain(plan, given, scans_of(plan, given), ExecutorChoice("thread", "the rows are in this process's memory"), 4)


@pytest.mark.parametrize("name", PLANS)
def test_golden(name: str) -> None:
    """The text of EXPLAIN is that of the golden file."""
    assert text_of(*PLANS[name]) == (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class Measured:
    """What a query's statistics have for EXPLAIN ANALYZE."""

    stages: tuple[StageRun, ...]


def test_analyze_adds_what_stages_took() -> None:
    """Rows, bytes, time and balance are shown by stage and worker."""
    given = relations()
    plan = plan_query(SCAN, given, target_partitions=4, broadcast_bytes=0)
    run = StageRun(0, 3, (WorkerRun(0, 30, 2048, 0.003), WorkerRun(1, 10, 1024, 0.001)))
    text = explain(plan, given, scans_of(plan, given), ExecutorChoice("thread", "asked for"), 4, Measured((run,)))
    assert "ran: 3 tasks, 40 rows, 3 kB, balance 1.50" in text
    assert "worker 1: 10 rows, 1 kB, 1.0 ms" in text


def test_balance_of_nothing_is_even() -> None:
    """A stage that took no time is balanced."""
    assert StageRun(0, 1, (WorkerRun(0, 0, 0, 0.0),)).balance == 1.0


def test_a_block_is_explained_with_its_whole_target() -> None:
    """The effective number of partitions is shown."""
    assert isinstance(SCAN, Block)
    assert "target_partitions: 4" in text_of(SCAN, 0)
