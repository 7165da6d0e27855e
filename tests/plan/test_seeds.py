"""The queries of other systems' notes: each gets the strategy that fits it, and an EXPLAIN that a reader can follow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from streamq.plan.executor import choose_executor
from streamq.plan.explain import explain
from streamq.plan.planner import plan_query
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select
from tests.plan.constants import scans_of
from tests.plan.seeds import SEEDS, Seed

GOLDEN = Path(__file__).parent / "golden"
every_seed = pytest.mark.parametrize("name", SEEDS)


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    """Share one binder."""
    binder = Binder()
    yield binder
    binder.close()


def text_of(seed: Seed, binder: Binder) -> str:
    """Explain a query as a database with the default settings does."""
    statement = parse_one(seed.sql)
    assert isinstance(statement, Select)
    query = bind_query(statement, seed.catalog(), binder=binder).plan
    plan = plan_query(query, seed.relations, target_partitions=4, broadcast_bytes=10 << 20, single_task_rows=10_000)
    executor = choose_executor(plan, seed.relations, wanted="auto", process_bytes=16 << 20, processes=True)
    return explain(plan, seed.relations, scans_of(plan, seed.relations), executor, 4)


def file_of(name: str) -> Path:
    """Name a query's golden file."""
    return GOLDEN / f"{re.sub('[ .]', '_', name)}.txt"


@every_seed
def test_golden(name: str, binder: Binder) -> None:
    """The text of EXPLAIN is that of the golden file, which begins with the query."""
    sql, _, explained = file_of(name).read_text(encoding="utf-8").partition("\n\n")
    assert sql == SEEDS[name].sql
    assert text_of(SEEDS[name], binder) == explained


@every_seed
def test_strategy(name: str, binder: Binder) -> None:
    """Joins, subqueries and window functions decide before GROUP BY does, and partitions that exist before new ones."""
    assert text_of(SEEDS[name], binder).splitlines()[0] == f"strategy: {SEEDS[name].strategy}"
