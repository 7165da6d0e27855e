"""The harness itself: its queries are valid, and it sees every kind of wrong answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.law.continuous import Fold
from tests.law.law import Query, connect_oracle, differences, float_magnitude, rows_of
from tests.law.queries import SHAPES, Shape
from tests.law.relations import Relation, relations
from tests.law.test_law import kinds_for

T = pa.table({"k": [1, 1, 2, 3], "x": [0.5, 0.25, None, -0.0]})


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@settings(max_examples=3)
@given(data=st.data())
def test_duckdb_accepts_every_query(shape: Shape, data: st.DataObject) -> None:
    """Generated queries bind and run in DuckDB, whose answer agrees with itself."""
    t: Relation = data.draw(relations("t", data.draw(kinds_for(shape))))
    u: Relation = data.draw(relations("u", data.draw(kinds_for(shape)), max_rows=8, prefix="u"))
    query: Query = data.draw(st.composite(shape)(t, u))
    with connect_oracle({"t": t.rows, "u": u.rows}) as oracle:
        answer = oracle.sql(query.oracle or query.sql).to_arrow_table()
        assert differences(answer, query, oracle, float_magnitude([t.rows, u.rows])) == []


@pytest.mark.parametrize(
    ("query", "change"),
    [
        (Query("SELECT k FROM t"), lambda rows: rows.slice(1)),
        (Query("SELECT k FROM t"), lambda rows: pa.concat_tables([rows, rows.slice(0, 1)])),
        (Query("SELECT k FROM t"), lambda rows: pa.concat_tables([rows.slice(2), rows.slice(2)])),
        (Query("SELECT k FROM t"), lambda rows: rows.rename_columns(["K"])),
        (Query("SELECT k FROM t"), lambda rows: rows.cast(pa.schema([("k", pa.int32())]))),
        (Query("SELECT k FROM t ORDER BY k", (0,)), lambda rows: rows.take([3, 2, 1, 0])),
        (Query("SELECT k FROM t LIMIT 2", unlimited="SELECT k FROM t WHERE k < 2"), lambda rows: pa.table({"k": [1, 7]})),
        (Query("SELECT x FROM t"), lambda rows: pa.table({"x": [0.5, 0.25, None, 1e-12]})),
        (Query("SELECT x FROM t", approximate=True), lambda rows: pa.table({"x": [0.5, 0.25, None, 1e-6]})),
    ],
    ids=["short", "surplus", "other multiplicity", "names", "types", "order", "not contained", "inexact", "beyond tolerance"],
)
def test_wrong_answers_are_seen(query: Query, change: Callable[[pa.Table], pa.Table]) -> None:
    """An answer that was changed in one way differs."""
    with connect_oracle({"t": T}) as oracle:
        right = oracle.sql(query.sql).to_arrow_table()
        assert differences(right, query, oracle) == []
        assert differences(change(right), query, oracle)


def test_ties_may_come_in_any_order() -> None:
    """Rows with equal order columns may be swapped; LIMIT may take either."""
    query = Query("SELECT k, x FROM t ORDER BY k LIMIT 1", (0,), unlimited="SELECT k, x FROM t")
    with connect_oracle({"t": T}) as oracle:
        assert all(differences(T.slice(row, 1), query, oracle) == [] for row in (0, 1))


def test_floats_that_sql_calls_equal_are_equal() -> None:
    """NaN equals NaN and −0 equals 0, inside lists and structs too."""
    odd = pa.table({"x": [[float("nan")], [-0.0]], "y": [{"a": -0.0}, {"a": float("nan")}]})
    even = pa.table({"x": [[float("nan")], [0.0]], "y": [{"a": 0.0}, {"a": float("nan")}]})
    assert rows_of(odd) == rows_of(even)


FOLDED = pa.schema([("k", pa.int64()), ("n", pa.int64()), ("_op", pa.string())])


def _changes(*rows: tuple[str, int, int]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([{"k": k, "n": n, "_op": op} for op, k, n in rows], schema=FOLDED)


@pytest.mark.parametrize(
    ("changelog", "changes"),
    [
        ("upsert", [("insert", 1, 1), ("insert", 1, 2)]),
        ("upsert", [("update", 1, 1)]),
        ("upsert", [("insert", 1, 1), ("update", 1, 1)]),
        ("upsert", [("insert", 1, 1), ("delete", 2, 1)]),
        ("upsert", [("insert", 1, 1), ("delete", 1, 1)]),
        ("retract", [("insert", 1, 1), ("update", 1, 2)]),
        ("retract", [("delete", 1, 1)]),
    ],
    ids=["key twice", "update of nothing", "update to itself", "delete of nothing", "delete last", "update without a key", "nothing there"],
)
def test_changes_that_do_not_fit_are_seen(changelog: Any, changes: list[tuple[str, int, int]]) -> None:
    """A fold fails on a change that contradicts what is there, or comes in the wrong order."""
    fold = Fold(changelog, ("k",) if changelog == "upsert" else None, FOLDED)
    with pytest.raises(AssertionError):
        fold.take(_changes(*changes))


def test_changes_fold_to_rows() -> None:
    """Inserts, updates and deletes by key leave the rows that a table would have."""
    fold = Fold("upsert", ("k",), FOLDED)
    fold.take(_changes(("insert", 1, 1), ("insert", 2, 1)))
    fold.end_epoch()
    fold.take(_changes(("delete", 1, 1), ("update", 2, 5), ("insert", 3, 7)))
    assert sorted(fold.answer()) == [(2, 5), (3, 7)]
