"""Pruning: only what certainly has no row is left out."""

from __future__ import annotations

import datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.plan.pruning import prune
from streamq.plan.splits import ColumnRange, Split
from streamq.sql.logical import Bound
from tests.oracle import connect_duckdb
from tests.plan.constants import evaluate


def kept(low: Any, high: Any, op: Any, literal: str) -> bool:
    """Tell whether a split with this range of `c` is kept."""
    splits, pruned = prune([Split(0, 0, None, 10, 10, (ColumnRange("c", low, high, 0),))], [Bound("c", op, literal)], evaluate)
    assert len(splits) + pruned == 1
    return bool(splits)


@pytest.mark.parametrize(
    ("low", "high", "op", "literal"),
    [
        (1, 5, "=", "6"),
        (1, 5, "<", "1"),
        (1, 5, "<=", "0"),
        (1, 5, ">", "5"),
        (1, 5, ">=", "6"),
        (1, 5, "in", "(0, 7)"),
        (1, 5, "in", "(9)"),
        ("b", "d", "<", "'b'"),
        (datetime.date(2013, 1, 1), datetime.date(2013, 1, 31), ">", "DATE '2013-02-01'"),
        (datetime.date(2013, 1, 1), datetime.date(2013, 1, 31), ">", "'2013-02-01'"),
        (datetime.datetime(2013, 1, 1), datetime.datetime(2013, 1, 31), "<", "DATE '2013-01-01'"),
        (Decimal("1.5"), Decimal("2.5"), "=", "3"),
        (1.0, 2.0, "=", "3.5"),
        (1.0, 2.0, "<", "0.5"),
    ],
)
def test_excluded_splits_go(low: object, high: object, op: str, literal: str) -> None:
    """A range in which nothing can satisfy the bound is pruned."""
    assert not kept(low, high, op, literal)


@pytest.mark.parametrize(
    ("low", "high", "op", "literal"),
    [
        (1, 5, "=", "5"),
        (1, 5, "<", "2"),
        (1, 5, "<=", "1"),
        (1, 5, ">", "4"),
        (1, 5, "in", "(0, 3)"),
        (1, 5, "=", "NULL"),
        (1, 5, "in", "(9, NULL)"),
        (1, 5, "=", "$p1"),
        (None, None, "=", "5"),
        (None, 5, "<", "0"),
        (1.0, 2.0, ">", "3"),
        (1.0, 2.0, ">=", "CAST('nan' AS DOUBLE)"),
        (1.0, 2.0, "=", "CAST('nan' AS DOUBLE)"),
        (0.10000000149011612, 0.10000000149011612, "=", "0.1"),
        (2**53 + 1, 2**53 + 1, "=", "9007199254740992.0::DOUBLE"),
        (1, 5, "=", "'9'"),
        ("a", "b", "=", "9"),
        (True, True, "=", "0"),
        (datetime.date(2013, 1, 1), datetime.date(2013, 1, 31), ">", "'31/12/2013'"),
        (datetime.datetime(2013, 1, 1), datetime.datetime(2013, 1, 2), ">", "TIMESTAMPTZ '2014-01-01 00:00:00+00'"),
    ],
)
def test_doubtful_splits_stay(low: object, high: object, op: str, literal: str) -> None:
    """Where DuckDB might find a row, or the values cannot be compared with certainty, the split is kept."""
    assert kept(low, high, op, literal)


def test_unbounded_columns_prune_nothing() -> None:
    """Statistics of other columns say nothing."""
    splits = [Split(0, 0, None, 10, 10, (ColumnRange("other", 1, 2, 0),))]
    assert prune(splits, [Bound("c", "=", "9")], evaluate) == (tuple(splits), 0)


@given(
    values=st.lists(st.integers(-4, 4) | st.none(), min_size=1, max_size=5),
    op=st.sampled_from(["=", "<", "<=", ">", ">=", "in"]),
    constant=st.integers(-5, 5) | st.sampled_from([-4.5, 0.5, 3.5]),
)
def test_no_row_is_lost(values: list[int | None], op: Any, constant: float) -> None:
    """A pruned split has no row that DuckDB would find."""
    present = [value for value in values if value is not None]
    low, high = (min(present), max(present)) if present else (None, None)
    literal = f"({constant})" if op == "in" else str(constant)
    rows = ", ".join(f"({'NULL' if value is None else value})" for value in values)
    with connect_duckdb() as session:
        found = session.sql(f"SELECT count(*) FROM (VALUES {rows}) AS t(c) WHERE c {op} {literal}").fetchall()[0][0]
    assert kept(low, high, op, literal) or not found
