"""Leaves out splits in which, by their statistics, no row can satisfy the query's bounds.

A split is dropped only when that is certain. Values that Python and DuckDB might compare differently (texts of other
types, NaN, numbers that are equal within rounding) prove nothing.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from streamq.plan.fragments import Leases, PhysicalPlan, ScanInput
from streamq.plan.relations import RelationSnapshot
from streamq.plan.splits import ColumnRange, Split
from streamq.sql.logical import Bound

_EXACT_FLOAT = 2**53
_ROUNDING = 1e-6
"""Further apart than this, relative to their size, numbers of any two types are ordered alike in every type."""


Evaluate = Callable[[str], object]
"""Computes a constant's SQL: its value, or None where it is NULL or cannot be computed."""


@dataclass(frozen=True, slots=True)
class PlannedScan:
    """The scan that drives a stage: the splits to read, and how many were pruned."""

    relation: str
    snapshot: RelationSnapshot
    splits: tuple[Split, ...]
    pruned: int

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits)


def plan_scans(plan: PhysicalPlan, snapshots: Mapping[str, RelationSnapshot], evaluate: Evaluate) -> dict[int, PlannedScan]:
    """Prune the scan of every stage that is driven by leases; by stage id."""
    scans = {}
    for stage in plan.stages:
        for source in stage.fragment.inputs:
            if isinstance(stage.driver, Leases) and isinstance(source, ScanInput) and source.name == stage.driver.input:
                snapshot = snapshots[source.relation]
                splits, pruned = prune(snapshot.splits, source.bounds, evaluate)
                scans[stage.id] = PlannedScan(source.relation, snapshot, splits, pruned)
    return scans


def prune(splits: Sequence[Split], bounds: Sequence[Bound], evaluate: Evaluate) -> tuple[tuple[Split, ...], int]:
    """Give the splits that may have rows for the query, and how many are left out."""
    known = {column_range.column for split in splits for column_range in split.ranges}
    tests = [(bound, values) for bound in bounds if bound.column in known and (values := _constants(bound, evaluate))]
    if not tests:
        return tuple(splits), 0
    kept = tuple(split for split in splits if not _is_excluded(split, tests))
    return kept, len(splits) - len(kept)


def _constants(bound: Bound, evaluate: Evaluate) -> list[object]:
    """Compute the constants of a bound; none if it has a NULL, or may fail when the query runs."""
    # A row value of constants, `(1, 2)`, is a struct whose fields are the constants; `(1)` is the constant.
    value = evaluate(bound.literal)
    values = _members(value) if bound.op == "in" else [value]
    return [] if any(value is None for value in values) else values


def _members(value: object) -> list[object]:
    match value:
        case dict():
            return list(value.values())
        case tuple() | list():
            return list(value)
        case _:
            return [value]


def _is_excluded(split: Split, tests: Iterable[tuple[Bound, list[object]]]) -> bool:
    ranges = {column_range.column: column_range for column_range in split.ranges}
    return any(
        all(_excludes(ranges[bound.column], bound.op, value) for value in values) for bound, values in tests if bound.column in ranges
    )


def _excludes(known: ColumnRange, op: str, value: object) -> bool:
    """Tell whether no value of the range satisfies `value op constant` for certain."""
    if isinstance(value, datetime.date) and (isinstance(known.low, str) or isinstance(known.high, str)):
        return False  # they are compared as times, which texts are not in the order of
    above = known.low is not None and _is_less(value, known.low)
    # Statistics leave NaN out, which DuckDB sorts above every number: a float range has no certain upper end.
    below = known.high is not None and _is_less(known.high, value)
    unbounded = isinstance(known.high, float)
    match op:
        case "=" | "in":
            return above or (below and not _is_nan(value))
        case "<":
            return above or (known.low is not None and _is_equal(value, known.low))
        case "<=":
            return above
        case ">":
            return not unbounded and (below or (known.high is not None and _is_equal(value, known.high)))
        case _:
            return not unbounded and below


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _is_less(left: object, right: object) -> bool:
    """Tell whether `left` is below `right` by DuckDB's order for certain."""
    pair = _comparable(left, right)
    return pair is not None and bool(pair[0] < pair[1])


def _is_equal(left: object, right: object) -> bool:
    pair = _comparable(left, right)
    return pair is not None and bool(pair[0] == pair[1])


def _comparable(left: object, right: object) -> tuple[Any, Any] | None:
    """Bring two values to a type in which Python orders them as DuckDB does; None if that is not certain."""
    if isinstance(left, bool) or isinstance(right, bool):
        return (left, right) if isinstance(left, bool) and isinstance(right, bool) else None
    if isinstance(left, int | float | Decimal) and isinstance(right, int | float | Decimal):
        return _numbers(left, right)
    if isinstance(left, str) and isinstance(right, str):
        # DuckDB compares UTF-8 bytes, which is the order of code points; statistics of texts may be truncated, but only outwards.
        return left, right
    return _times(left, right)


def _numbers(left: int | float | Decimal, right: int | float | Decimal) -> tuple[Any, Any] | None:
    if _is_nan(left) or _is_nan(right):
        return None
    if not isinstance(left, float) and not isinstance(right, float):
        return left, right
    if type(left) is type(right):
        return left, right
    a, b = float(left), float(right)
    return (a, b) if abs(a - b) > _ROUNDING * max(abs(a), abs(b)) else None


def _times(left: object, right: object) -> tuple[Any, Any] | None:
    a, b = _time(left, right), _time(right, left)
    if a is None or b is None or (a.tzinfo is None) != (b.tzinfo is None):
        return None
    return a, b


def _time(value: object, other: object) -> datetime.datetime | None:
    match value:
        case datetime.datetime():
            return value
        case datetime.date():
            return datetime.datetime(value.year, value.month, value.day)
        case str() if isinstance(other, datetime.date):
            return _parsed(value)
        case _:
            return None


def _parsed(text: str) -> datetime.datetime | None:
    """Read a constant as DuckDB reads it beside a date or timestamp; None for every form but ISO's."""
    try:
        parsed = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return parsed if parsed.tzinfo is None else None
