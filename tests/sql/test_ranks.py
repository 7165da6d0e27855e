"""Upper bounds on ranks are found where dropping rows beyond them, task by task, cannot change an answer."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pytest

from streamq.sql.bind import bind_query
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import Block, Derived
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select

CATALOG = {"t": RelationInfo("t", "registered", pa.schema([("id", pa.int64()), ("k", pa.string()), ("v", pa.float64())]))}
RANK = "rank() OVER (ORDER BY v)"


def lower(sql: str, parameters: Sequence[object] | None = None) -> Block:
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    plan = bind_query(statement, CATALOG, parameters).plan
    assert isinstance(plan, Block)
    return plan


@pytest.mark.parametrize(
    ("condition", "bound"),
    [
        (f"{RANK} <= 3", "RANK() OVER (ORDER BY v) <= 3"),
        (f"{RANK} < 3", "RANK() OVER (ORDER BY v) < 3"),
        (f"{RANK} = 3", "RANK() OVER (ORDER BY v) <= 3"),
        (f"3 > {RANK}", "RANK() OVER (ORDER BY v) < 3"),
        (f"{RANK} BETWEEN 2 AND 5 AND id > 1", "RANK() OVER (ORDER BY v) <= 5"),
        ("row_number() OVER (PARTITION BY k ORDER BY v) <= 1", "ROW_NUMBER() OVER (PARTITION BY k ORDER BY v, id) <= 1"),
        (f"{RANK} <= ?", "RANK() OVER (ORDER BY v) <= 7"),
    ],
)
def test_qualify_bounds_a_rank(condition: str, bound: str) -> None:
    """A comparison of a rank with a number bounds it, ties broken as in QUALIFY itself."""
    block = lower(f"SELECT id FROM t QUALIFY {condition}", [7] if "?" in condition else None)
    assert block.first_ranks == bound


@pytest.mark.parametrize(
    "sql",
    [
        f"SELECT id FROM t QUALIFY {RANK} > 3",
        f"SELECT id FROM t QUALIFY {RANK} <= 3 OR id = 1",
        f"SELECT id FROM t QUALIFY {RANK} <= id",
        f"SELECT id, count(*) OVER () AS n FROM t QUALIFY {RANK} <= 3",
        f"SELECT id, rank() OVER (ORDER BY id) AS other FROM t QUALIFY {RANK} <= 3",
        "SELECT id FROM t QUALIFY percent_rank() OVER (ORDER BY v) <= 1",
        "SELECT id FROM t QUALIFY count(*) OVER (ORDER BY v) <= 1",
    ],
)
def test_other_conditions_do_not(sql: str) -> None:
    """No bound is read from other comparisons, or beside window functions whose value would change."""
    assert lower(sql).first_ranks is None


def inner(sql: str) -> Block:
    """Lower a SELECT from a derived table and give the derived table."""
    (leaf,) = lower(sql).leaves
    assert isinstance(leaf, Derived)
    assert isinstance(leaf.query, Block)
    return leaf.query


def test_where_bounds_the_rank_of_a_derived_table() -> None:
    """What a query around it asks of a rank reaches the query that ranks."""
    assert (
        inner(f"SELECT * FROM (SELECT id, {RANK} AS r FROM t) AS s WHERE r <= 3 AND id > 1").first_ranks == "RANK() OVER (ORDER BY v) <= 3"
    )


@pytest.mark.parametrize("tail", ["LIMIT 5", "ORDER BY id OFFSET 1"])
def test_a_limited_query_keeps_all_its_rows(tail: str) -> None:
    """LIMIT counts the rows of every rank."""
    assert inner(f"SELECT * FROM (SELECT id, {RANK} AS r FROM t {tail}) AS s WHERE r <= 3").first_ranks is None


def test_rows_that_an_outer_join_extends_keep_all_ranks() -> None:
    """WHERE is not asked of the right side of a LEFT JOIN before the join."""
    block = lower(f"SELECT a.id FROM t AS a LEFT JOIN (SELECT id, {RANK} AS r FROM t) AS s ON a.id = s.id WHERE s.r <= 3 OR s.r IS NULL")
    derived = next(leaf for leaf in block.leaves if isinstance(leaf, Derived))
    assert isinstance(derived.query, Block)
    assert derived.query.first_ranks is None
