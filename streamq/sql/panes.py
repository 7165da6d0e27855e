"""Hopping windows without repeating rows: a row is read once, with its first window and how many windows it is in.

This is possible where nothing but the windows' own bounds depends on which of its windows a row is in. The windows of a row follow each
other, and those that it is late for are the first of them: so its first one and their number tell them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlglot import exp

from streamq.sql.closing import window_columns
from streamq.sql.logical import Block, Named, Panes, Scan
from streamq.sql.text import column, name_sql, sql_of
from streamq.sql.window_bounds import DISTANCE, HOPS, Timed, bound_mark, distance, hops

COUNT = "window#count"
_NEAREST = "window#nearest"
_HOP = '"window#hop"'


def with_panes(
    block: Block, rows: Block, time: exp.Column, timed: Timed, horizon: str, conditions: Sequence[exp.Expr], inputs: Mapping[exp.Expr, str]
) -> Block:
    """Say how a block reads its rows once, if it can. `rows` is the block with all rows, late ones too; `horizon` is what windows that
    a row is late for do not end after, over the bare columns of the leaf.
    """
    if len(block.leaves) != 1 or block.input_subqueries or block.sessions is not None or timed.size <= timed.slide:
        return block
    leaf, alias = name_sql(block.leaves[0].name), name_sql(block.aliases[0])
    repeated = f"{leaf} AS {alias} {sql_of(hops(time, timed.size, timed.slide, timed.offset)).strip()}"
    if block.from_sql != repeated or any(_hop_columns(condition) for condition in conditions):
        return block
    if any(_hop_columns(node) and bound_mark(node) is None for node in inputs):
        return block
    once = f"{_counted(leaf, column(time.name), timed, horizon)} AS {alias}"
    where = f"{name_sql(COUNT)} > 0" if rows.where is None else f"({rows.where}) AND {name_sql(COUNT)} > 0"
    read = tuple(Named(sql_of(_of_first(node)), name) for node, name in inputs.items())
    return replace(block, panes=Panes(once, where, read, name_sql(COUNT), timed.slide))


def has_bare_windows(block: Block, conditions: Sequence[exp.Expr], inputs: Mapping[exp.Expr, str]) -> bool:
    """Tell whether a block uses the window columns of its one leaf only as they are."""
    if len(block.leaves) != 1 or isinstance(block.leaves[0], Scan) or block.input_subqueries or block.laterals:
        return False
    windows = {name.lower() for name in window_columns(block.leaves[0])}
    computed = (found for node in (*conditions, *inputs) if not isinstance(node, exp.Column) for found in node.find_all(exp.Column))
    bare = (node for node in inputs if isinstance(node, exp.Column))
    # A column without its leaf may be the leaf itself, a row with all its columns.
    return all(found.table for found in bare) and all(found.table and found.name.lower() not in windows for found in computed)


def _counted(leaf: str, time: exp.Column, timed: Timed, horizon: str) -> str:
    """Write a leaf's rows with the number of their windows, and the distance from the start of the first one."""
    nearest, count, at = name_sql(_NEAREST), name_sql(COUNT), sql_of(time)
    size, slide = timed.size, timed.slide

    def end(far: str) -> str:
        return f"({at} - to_microseconds({far})) + to_microseconds({size})"

    steps = f"({size - 1} - {nearest}) // {slide}" if size % slide else str(size // slide - 1)
    kept = f"len(list_filter(range({nearest}, {size}, {slide}), lambda {_HOP}: {end(_HOP)} > {horizon}))"
    every = f"{steps} + 1" if size % slide else str(size // slide)
    first = end(f"({nearest} + ({steps}) * {slide})")
    # All windows of a row end after it, which is cheaper to see than when the first one does.
    whole = f"WHEN coalesce({at} >= {horizon}, true) THEN {every} WHEN {first} > {horizon} THEN {every}"
    number = f"CASE {whole} ELSE {kept} END"
    near = f"SELECT *, {sql_of(distance(time, slide, timed.offset))} AS {nearest} FROM {leaf}"
    counted = f"SELECT *, CASE WHEN {nearest} < {size} THEN {number} ELSE 0 END AS {count} FROM ({near})"
    return f"(SELECT *, {nearest} + ({count} - 1) * {slide} AS {name_sql(DISTANCE)} FROM ({counted}))"


def _hop_columns(node: exp.Expr) -> list[exp.Column]:
    return [found for found in node.find_all(exp.Column) if found.table == HOPS]


def _of_first(node: exp.Expr) -> exp.Expr:
    """Write a value of one of a row's windows for the first one."""
    copy = node.copy()
    for found in _hop_columns(copy):
        found.set("table", None)
    return copy
