"""Time bounds of joins: `a.ts BETWEEN b.ts - INTERVAL '1' HOUR AND b.ts`, in any of its spellings, as two numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from sqlglot import exp

from streamq.sql.durations import NotADuration, duration_of
from streamq.sql.logical import TimeBound
from streamq.sql.text import sql_of

IsEventTime = Callable[[exp.Column], bool]


@dataclass(frozen=True, slots=True)
class FoundBound:
    """A bound between the times `left` and `right`, and the conditions that set it."""

    bound: TimeBound
    left: exp.Column
    right: exp.Column
    conditions: tuple[exp.Expr, ...]


@dataclass(frozen=True, slots=True)
class _Moment:
    """A column and how far from it."""

    column: exp.Column
    plus_us: int


def find_bound(conditions: Iterable[exp.Expr], right: str, is_event_time: IsEventTime) -> FoundBound | None:
    """Find the bound that conditions, whose columns are qualified, set between the relation `right` and one before it.

    A bound without one of its ends is none, and equal times are a key: rows are not late for it.
    """
    ends: dict[tuple[exp.Column, exp.Column], _Ends] = {}
    for condition in conditions:
        for lesser, greater, strict in _comparisons(condition):
            one, other = _moment(lesser), _moment(greater)
            if one is None or other is None or not (is_event_time(one.column) and is_event_time(other.column)):
                continue
            # lesser + a <= greater + b; strict on whole microseconds is one microsecond less
            room = other.plus_us - one.plus_us - int(strict)
            if one.column.table == right != other.column.table:
                ends.setdefault((other.column, one.column), _Ends()).add_upper(room, condition)
            elif other.column.table == right != one.column.table:
                ends.setdefault((one.column, other.column), _Ends()).add_lower(-room, condition)
    for (left, mine), found in ends.items():
        if found.lowers and found.uppers:
            bound = TimeBound(sql_of(left), sql_of(mine), max(found.lowers), min(found.uppers))
            return FoundBound(bound, left, mine, tuple(found.conditions))
    return None


@dataclass(slots=True)
class _Ends:
    lowers: list[int] = field(default_factory=list)
    uppers: list[int] = field(default_factory=list)
    conditions: list[exp.Expr] = field(default_factory=list)

    def add_lower(self, value: int, condition: exp.Expr) -> None:
        self.lowers.append(value)
        self._note(condition)

    def add_upper(self, value: int, condition: exp.Expr) -> None:
        self.uppers.append(value)
        self._note(condition)

    def _note(self, condition: exp.Expr) -> None:
        if condition not in self.conditions:
            self.conditions.append(condition)


def _comparisons(condition: exp.Expr) -> Iterator[tuple[exp.Expr, exp.Expr, bool]]:
    """Give the pairs of which the first is less than the second, strictly or not, if the condition is true."""
    match condition:
        case exp.Between() if not condition.args.get("symmetric"):
            yield condition.args["low"], condition.this, False
            yield condition.this, condition.args["high"], False
        case exp.LT() | exp.LTE():
            yield condition.left, condition.right, isinstance(condition, exp.LT)
        case exp.GT() | exp.GTE():
            yield condition.right, condition.left, isinstance(condition, exp.GT)


def _moment(node: exp.Expr) -> _Moment | None:
    """Read `column`, `column + interval` and `column - interval`."""
    node = node.unnest()
    match node:
        case exp.Column():
            return _Moment(node, 0)
        case exp.Add():
            return _moved(node.left, node.right, 1) or _moved(node.right, node.left, 1)
        case exp.Sub():
            return _moved(node.left, node.right, -1)
        case _:
            return None


def _moved(node: exp.Expr, by: exp.Expr, sign: int) -> _Moment | None:
    moment = _moment(node)
    if moment is None or isinstance(by.unnest(), exp.Literal):
        return None
    try:
        return _Moment(moment.column, moment.plus_us + sign * duration_of(by))
    except NotADuration:
        return None
