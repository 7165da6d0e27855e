"""The law: an answer never depends on how it was run.

A `Query` is run by streamq in some way and by DuckDB, on one thread, over the same rows. `differences` says how the answers
differ where they may not. Answers are bags of rows; with ORDER BY the order columns are a sequence as well, so rows that
tie may come in any order; with LIMIT, an answer is any part of the unlimited answer that is as long as DuckDB's.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import pyarrow as pa

from tests.oracle import connect_duckdb

Row = tuple[Any, ...]
RELATIVE_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Query:
    """A query and what its answer may vary in.

    `order` are the positions of the output columns that ORDER BY names. `unlimited` is the query without its LIMIT.
    `approximate` allows floats to differ by 1e-9 of the sum of the magnitudes that went in. `oracle` is the SQL to give
    DuckDB where it lacks the syntax.
    """

    sql: str
    order: tuple[int, ...] = ()
    unlimited: str | None = None
    approximate: bool = False
    oracle: str | None = None


def connect_oracle(relations: Mapping[str, pa.Table]) -> duckdb.DuckDBPyConnection:
    """Connect to DuckDB, on one thread, in UTC, with the relations as views that no other connection sees."""
    oracle = connect_duckdb()
    for name, rows in relations.items():
        oracle.register(name, rows)
    return oracle


def differences(answer: pa.Table, query: Query, oracle: duckdb.DuckDBPyConnection, magnitude: float = 0.0) -> list[str]:
    """Say how an answer differs from DuckDB's; empty if it is right.

    `magnitude` is the sum of the magnitudes of all floats that went in.
    """
    expected = oracle.sql(query.oracle or query.sql).to_arrow_table()
    if answer.column_names != expected.column_names:
        return [f"columns are {answer.column_names}, not {expected.column_names}"]
    if answer.schema.types != expected.schema.types:
        return [f"types are {answer.schema.types}, not {expected.schema.types}"]
    if answer.num_rows != expected.num_rows:
        return [f"{answer.num_rows} rows, not {expected.num_rows}: {_bag_difference(rows_of(answer), rows_of(expected))}"]
    tolerance = tolerance_of(query, magnitude)
    found = _order_differences(answer, expected, query.order)
    if query.unlimited is None:
        return found + bag_differences(rows_of(answer), rows_of(expected), tolerance)
    surplus = Counter(rows_of(answer)) - Counter(rows_of(oracle.sql(query.unlimited).to_arrow_table()))
    return found + ([f"rows that are not in the unlimited answer: {_some(surplus)}"] if surplus else [])


def tolerance_of(query: Query, magnitude: float) -> float:
    """Say by how much a float of the answer may differ."""
    return RELATIVE_TOLERANCE * max(magnitude, 1.0) if query.approximate else 0.0


def bag_differences(answer: Sequence[Row], expected: Sequence[Row], tolerance: float = 0.0) -> list[str]:
    """Compare two bags of rows, floats within `tolerance`.

    >>> bag_differences([(1, 0.5)], [(1, 0.5)])
    []
    >>> bag_differences([(1, 0.5)], [(1, 0.75)], tolerance=0.1)
    ['row (1, 0.5) where (1, 0.75) is right']
    """
    if Counter(answer) == Counter(expected):
        return []
    if tolerance == 0.0:
        return [_bag_difference(answer, expected)]
    pairs = zip(sorted(answer, key=_sort_key), sorted(expected, key=_sort_key), strict=True)
    return [f"row {ours} where {theirs} is right" for ours, theirs in pairs if not _close(ours, theirs, tolerance)][:5]


def rows_of(table: pa.Table) -> list[Row]:
    """Give a table's rows as tuples that are equal exactly where SQL's values are the same (NaN is NaN, −0 is 0).

    >>> rows_of(pa.table({"x": [-0.0, float("nan")]})) == rows_of(pa.table({"x": [0.0, float("nan")]}))
    True
    """
    columns = [[_canonical(value) for value in column.to_pylist()] for column in table.columns]
    return list(zip(*columns, strict=True)) if columns else [()] * table.num_rows


def float_magnitude(tables: Iterable[pa.Table]) -> float:
    """Add up the magnitudes, and their squares, of all finite floats in the tables: what sums and variances are made of."""
    total = 0.0
    for table in tables:
        for column in table.columns:
            if pa.types.is_floating(column.type):
                finite = [abs(value) for value in column.to_pylist() if value is not None and math.isfinite(value)]
                total += sum(finite) + sum(value * value for value in finite)
    return total


def _order_differences(answer: pa.Table, expected: pa.Table, order: Sequence[int]) -> list[str]:
    if not order:
        return []
    ours, theirs = (rows_of(table.select(list(order))) for table in (answer, expected))
    wrong = [f"order columns of row {number} are {a}, not {b}" for number, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
    return wrong[:3]


def _canonical(value: Any) -> Any:
    match value:
        case float():
            return "NaN" if math.isnan(value) else value + 0.0
        case list():
            return tuple(_canonical(item) for item in value)
        case dict():
            return tuple((name, _canonical(item)) for name, item in value.items())
    return value


def _sort_key(row: Row) -> tuple[Any, ...]:
    # Exact values first: rows are then paired by them, and floats only decide among rows that are otherwise equal.
    exact = tuple((type(value).__name__, repr(value)) for value in row if not isinstance(value, float))
    return exact, tuple(value for value in row if isinstance(value, float))


def _close(ours: Row, theirs: Row, tolerance: float) -> bool:
    return all(
        a == b or (isinstance(a, float) and isinstance(b, float) and abs(a - b) <= tolerance) for a, b in zip(ours, theirs, strict=True)
    )


def _bag_difference(answer: Sequence[Row], expected: Sequence[Row]) -> str:
    surplus, missing = Counter(answer) - Counter(expected), Counter(expected) - Counter(answer)
    return f"surplus {_some(surplus)}, missing {_some(missing)}"


def _some(rows: Counter[Row]) -> str:
    shown = ", ".join(f"{count} x {row}" for row, count in rows.most_common(4))
    return f"[{shown}{', …' if len(rows) > 4 else ''}]"
