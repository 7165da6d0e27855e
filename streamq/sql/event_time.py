"""Event time of a block in a continuous query: its late rows go, and the columns that tell when its windows close are named."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from streamq.sql.closing import delay_us, window_columns, window_ends
from streamq.sql.intervals import FoundBound
from streamq.sql.lateness import drop_in_block, drop_late_rows, hand_up_watermark, is_event_time, keep_sql, windows_horizon
from streamq.sql.logical import Block, Derived, Leaf, Scan, WindowColumn
from streamq.sql.panes import has_bare_windows, with_panes
from streamq.sql.text import name_sql
from streamq.sql.window_bounds import HOPS, Timed, bound_mark, timed_of

if TYPE_CHECKING:
    from streamq.sql.lower import Lowering


def time_block(
    low: Lowering, block: Block, conditions: Sequence[exp.Expr], bounds: Sequence[FoundBound], inputs: Mapping[exp.Expr, str]
) -> Block:
    """Drop a block's late rows and name its windows. `conditions` are those of WHERE, `bounds` those of joins, resolved."""
    timed: set[str] = set()
    whole = block
    for condition in conditions:
        if (found := timed_of(condition)) is not None and isinstance(found[1], exp.Column) and _is_timed(low, block, found[1]):
            alone = not timed
            timed.add(found[1].table)
            block = replace(_drop(low, block, found[1], found[0]), panes=None)
            if found[0].kind == "hop" and alone:
                block = with_panes(block, whole, found[1], found[0], windows_horizon(low, block.leaves[0]), conditions, inputs)
    for column in dict.fromkeys(column for bound in bounds for column in (bound.left, bound.right)):
        block = _drop(low, block, column, Timed("interval"))
    windows = tuple(_windows(low, block, timed, inputs))
    return replace(block, windows=windows, bare_windows=has_bare_windows(block, conditions, inputs))


def _is_timed(low: Lowering, block: Block, time: exp.Column) -> bool:
    if time.table not in block.aliases:
        return False
    return is_event_time(low, block.leaves[block.aliases.index(time.table)], time.name)


def _drop(low: Lowering, block: Block, time: exp.Column, timed: Timed) -> Block:
    number = block.aliases.index(time.table)
    leaf, alias, watermark = block.leaves[number], block.aliases[number], None
    if isinstance(leaf, Scan) and len(block.leaves) == 1:
        return drop_in_block(low, block, time.name, timed, windows=True)
    leaf = drop_late_rows(low, leaf, time.name, timed)
    if timed.kind == "hop":
        leaf, watermark = hand_up_watermark(low, leaf, time.name)
    block = replace(block, leaves=(*block.leaves[:number], leaf, *block.leaves[number + 1 :]))
    if watermark is None:
        return block
    keep = keep_sql(low, timed, time, alias, watermark)
    return replace(block, where=keep if block.where is None else f"({block.where}) AND {keep}")


def _windows(low: Lowering, block: Block, timed: set[str], inputs: Mapping[exp.Expr, str]) -> Iterator[WindowColumn]:
    if any(not _is_constant(leaf) for leaf in block.input_subqueries):
        return  # rows come and go with the subquery's result
    known = [window_columns(leaf) for leaf in block.leaves]
    for node, name in inputs.items():
        found = _window(low, block, timed, node, known)
        if found is None:
            continue
        number, window = found
        delay = delay_us(block.leaves, block.joins, number, known)
        if delay is not None:
            yield replace(window, name=name, plus_us=window.plus_us + delay)


def _window(
    low: Lowering, block: Block, timed: set[str], node: exp.Expr, known: Sequence[Mapping[str, WindowColumn]]
) -> tuple[int, WindowColumn] | None:
    """Give the leaf whose window an input bounds, and the window."""
    if (mark := bound_mark(node)) is not None:
        tables = {part.table for part in node.find_all(exp.Column)} - {HOPS}
        alias = next(iter(tables)) if len(tables) == 1 else ""
        return (block.aliases.index(alias), WindowColumn("", mark[1], mark[0])) if alias in timed else None
    if isinstance(node, exp.Dot) and node.expression.name.lower() == "end" and isinstance(node.this.unnest(), exp.Column):
        struct = node.this.unnest()
        number = block.aliases.index(struct.table) if struct.table in block.aliases else -1
        end = window_ends(block.leaves[number]).get(struct.name) if number >= 0 else None
        return None if end is None else (number, end)
    if not isinstance(node, exp.Column) or node.table not in block.aliases:
        return None
    number = block.aliases.index(node.table)
    if block.sessions is not None and node.name == block.sessions.end:
        times = {name_sql(name): name for name in _names(block.leaves[0])}
        is_time = is_event_time(low, block.leaves[0], times[block.sessions.time])
        return (0, WindowColumn("", 0, "session")) if is_time else None
    window = known[number].get(node.name)
    return None if window is None else (number, window)


def _names(leaf: Leaf) -> list[str]:
    return list(leaf.columns or ()) if isinstance(leaf, Scan) else list(leaf.query.schema.names)


def _is_constant(leaf: Leaf) -> bool:
    return isinstance(leaf, Derived) and not getattr(leaf.query, "leaves", True)
