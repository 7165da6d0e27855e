"""The answer of a plan is DuckDB's, however the query is cut into partitions, leases and joins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from streamq.plan.planner import plan_query
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import Query
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select
from tests.oracle import connect_duckdb
from tests.plan.queries import BOUNDED, ORDERED, ROWS, relations, tables
from tests.plan.reference import run_plan

WAYS = ((1, 10**6, 4, 0), (2, 0, 7, 0), (3, 1_500, 5, 0), (7, 0, 50, 0), (8, 500, 3, 0), (4, 500, 6, 10**6))
"""Partitions, bytes up to which a join input is whole in every task, rows of a split, and rows up to which one task does everything."""


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    """Share one binder."""
    binder = Binder()
    yield binder
    binder.close()


def bind(sql: str, binder: Binder) -> Query:
    """Bind a SELECT over the test's tables."""
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    catalog = {name: RelationInfo(name, "registered", table.schema) for name, table in tables().items()}
    return bind_query(statement, catalog, binder=binder).plan


def rows(table: pa.Table) -> list[tuple[object, ...]]:
    """Give rows with floats rounded, for sums in another order."""
    columns = [[round(value, 9) if isinstance(value, float) else value for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns, strict=True))


@pytest.fixture(scope="module")
def oracle() -> Iterator[duckdb.DuckDBPyConnection]:
    """Share one connection that has the tables."""
    with connect_duckdb() as oracle:
        for name, table in tables().items():
            oracle.register(name, table)
        yield oracle


def answer(sql: str, oracle: duckdb.DuckDBPyConnection) -> list[tuple[object, ...]]:
    """Run the query as written."""
    return rows(oracle.sql(sql).to_arrow_table())


def answers(sql: str, binder: Binder) -> Iterator[list[tuple[object, ...]]]:
    """Plan and run the query in every way."""
    query = bind(sql, binder)
    for seed, (partitions, broadcast, split_rows, single) in enumerate(WAYS):
        given = relations(split_rows=split_rows)
        plan = plan_query(
            query,
            given,
            target_partitions=partitions,
            broadcast_bytes=broadcast,
            final_partitions=partitions if seed % 2 else 1,
            single_task_rows=single,
        )
        table = run_plan(plan, given, seed=seed, workers=min(partitions, 4))
        assert table.schema.names == query.schema.names
        yield rows(table)


@pytest.mark.parametrize("sql", ROWS)
def test_rows(sql: str, binder: Binder, oracle: duckdb.DuckDBPyConnection) -> None:
    """The bag of rows is DuckDB's."""
    expected = Counter(answer(sql, oracle))
    assert all(Counter(found) == expected for found in answers(sql, binder))


@pytest.mark.parametrize("sql", ORDERED)
def test_ordered_rows(sql: str, binder: Binder, oracle: duckdb.DuckDBPyConnection) -> None:
    """The sequence of rows is DuckDB's."""
    expected = answer(sql, oracle)
    assert all(found == expected for found in answers(sql, binder))


@pytest.mark.parametrize("sql", BOUNDED)
def test_number_of_rows(sql: str, binder: Binder, oracle: duckdb.DuckDBPyConnection) -> None:
    """LIMIT without ORDER BY gives as many rows as it should, and only rows of the whole result."""
    expected = len(answer(sql, oracle))
    whole = Counter(answer(sql.partition(" LIMIT")[0].partition(" OFFSET")[0], oracle))
    for found in answers(sql, binder):
        assert len(found) == expected
        assert Counter(found) <= whole
