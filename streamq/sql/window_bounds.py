"""The arithmetic of tumbling and hopping windows, and marks by which their bounds are known again after other rewriting.

All arithmetic is in microseconds since 1970 (UTC), so that windows are aligned to the epoch and their lengths are exact.
Marks are kept in the metadata of syntax trees, which copies of a tree keep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlglot import exp

from streamq.sql.text import column, identifier
from streamq.sql.trees import call, number, operand
from streamq.sql.window_grammar import TimeWindow

HOPS = "window#hops"
DISTANCE = "window#distance"
"""How far a row is from the start of one of its hopping windows: the column of the relation `HOPS`."""
_TIMED = "streamq timed"
_BOUND = "streamq bound"


@dataclass(frozen=True, slots=True)
class Timed:
    """What makes rows late: `size`, `slide` and `offset` of the windows of `tumble` and `hop`, in microseconds.

    `session` and `interval` (a join with a time bound) take a row whatever its window.
    """

    kind: Literal["tumble", "hop", "session", "interval"]
    size: int = 0
    slide: int = 0
    offset: int = 0


# Marks


def mark_timed(condition: exp.Expression, window: TimeWindow) -> exp.Expression:
    """Mark the condition that a SELECT's rows have an event time: it is where late rows go too."""
    lengths = tuple(window.microseconds(name) for name in ("size", "slide", "offset"))
    condition.meta[_TIMED] = (window.args["kind"], *lengths)
    return condition


def timed_of(condition: exp.Expr) -> tuple[Timed, exp.Expr] | None:
    """Give what a marked condition says, and the time that it is about."""
    found = condition.meta_get(_TIMED)
    return None if found is None else (Timed(*found), condition.this.this.unnest())


def mark_bound(node: exp.Expression, window: TimeWindow, plus_us: int) -> exp.Expression:
    """Mark an expression that tells a window's end by adding `plus_us`."""
    node.meta[_BOUND] = (window.args["kind"], plus_us)
    return node


def bound_mark(node: exp.Expr) -> tuple[Literal["tumble", "hop"], int] | None:
    """Give the kind of window that a marked expression bounds, and how far its end is."""
    found: tuple[Literal["tumble", "hop"], int] | None = node.meta_get(_BOUND)
    return found


# Arithmetic


def distance(time: exp.Expression, step: int, offset: int) -> exp.Expression:
    """Give the microseconds from the last multiple of `step` to `time`."""
    since: exp.Expression = call("epoch_us", time.copy())
    if offset % step:
        since = exp.Paren(this=exp.Sub(this=since, expression=number(offset % step)))
    positive = exp.Add(this=exp.Mod(this=since, expression=number(step)), expression=number(step))
    return exp.Mod(this=exp.Paren(this=positive), expression=number(step))


def before(time: exp.Expression, microseconds: exp.Expression) -> exp.Expression:
    """Move a time back."""
    return exp.Sub(this=operand(time), expression=call("to_microseconds", microseconds))


def after(time: exp.Expression, microseconds: int) -> exp.Expression:
    """Move a time forward."""
    return exp.Add(this=operand(time), expression=call("to_microseconds", number(microseconds)))


def hops(time: exp.Expression, size: int, slide: int, offset: int) -> exp.Join:
    """Repeat each row for each of its hopping windows, with its distance from the window's start."""
    distances = call("range", distance(time, slide, offset), number(size), number(slide))
    alias = exp.TableAlias(this=identifier(HOPS), columns=[identifier(DISTANCE)])
    return exp.Join(this=exp.Unnest(expressions=[distances], alias=alias), kind="CROSS")


def end_of_window(timed: Timed, time: exp.Expression) -> exp.Expression:
    """Give the end of a row's tumbling window, or of that hopping window whose distance `HOPS` gives."""
    if timed.kind == "hop":
        return after(before(time, column(DISTANCE, HOPS)), timed.size)
    return after(before(time, distance(time, timed.size, timed.offset)), timed.size)


def first_end(timed: Timed, time: exp.Expression) -> exp.Expression:
    """Give the end of the first of a row's windows; NULL where it is between two windows."""
    if timed.kind == "tumble":
        return end_of_window(timed, time)
    nearest = exp.Paren(this=distance(time, timed.slide, timed.offset))
    room = exp.Paren(this=exp.Sub(this=number(timed.size - 1), expression=nearest))
    steps = exp.Paren(this=exp.IntDiv(this=room, expression=number(timed.slide)))
    farthest = exp.Add(this=nearest.copy(), expression=exp.Mul(this=steps, expression=number(timed.slide)))
    end = after(before(time, farthest), timed.size)
    return exp.Case(ifs=[exp.If(this=exp.LT(this=nearest.copy(), expression=number(timed.size)), true=end)])
