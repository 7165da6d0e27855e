"""Distributes one SELECT: each step runs inside the tasks that have the rows as long as that is right, else cuts the stage first."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from streamq.plan.aggregation import aggregate
from streamq.plan.draft import Draft, Spread, is_single, labelled, together
from streamq.plan.fragments import FullyPartitionable, Passthrough, TwoPhaseAggregation
from streamq.plan.leaves import PlanQuery, Result, attach
from streamq.plan.render import direction, is_name, named, plain, quote
from streamq.plan.sources import join_leaves
from streamq.sql.logical import Block, Ordering


def plan_block(draft: Draft, block: Block, plan: PlanQuery) -> Result:
    """Distribute a SELECT: join, aggregate, windows, items, DISTINCT, ORDER BY and LIMIT."""
    window_keys = _window_keys(block)
    rows = join_leaves(draft, block, plan, _grouping(block, window_keys))
    if block.keys is not None:
        rows = aggregate(draft, block, rows, window_keys)
    if block.having is not None:
        rows = draft.step(attach(draft, rows, block.output_subqueries, plan), "having", where=block.having)
    rows = _bring_windows_together(draft, block, rows, window_keys)
    bare = [item.name for item in block.items] == _names_below(block)
    if not _names_only(block):
        bare = True
        rows = attach(draft, rows, block.output_subqueries, plan)
        rows = draft.step(rows, "items", named(block.items), qualify=block.qualify, distinct=block.distinct)
    if block.distinct and not is_single(rows):
        draft.choose(TwoPhaseAggregation(), "DISTINCT: every task removes its duplicates, one task those between them")
        rows = draft.step(draft.cut(rows, "keep", "distinct"), "items", distinct=True)
    return _limited(draft, block, rows, bare=bare)


def _names_only(block: Block) -> bool:
    """Tell whether the items are columns that the rows have already, under the same names."""
    return block.qualify is None and not block.distinct and all(is_name(item.sql, item.name) for item in block.items)


def _names_below(block: Block) -> list[str]:
    """Name the columns that the rows have before the items."""
    if block.keys is None:
        return [column.name for column in block.inputs]
    return [key.name for key in block.keys] + [call.name for call in block.calls]


# Window functions


def _window_keys(block: Block) -> frozenset[str]:
    """Name the plain columns by which every window function of the block partitions."""
    if not block.partition_by:
        return frozenset()
    return frozenset(name for name in _names_below(block) if all(any(is_name(sql, name) for sql in terms) for terms in block.partition_by))


def _grouping(block: Block, window_keys: frozenset[str]) -> frozenset[str]:
    """Name the inputs by which it would help to have rows together from the start."""
    if block.keys is None:
        return window_keys
    return frozenset(column.name for column in block.inputs if any(is_name(key.sql, column.name) for key in block.keys))


def _bring_windows_together(draft: Draft, block: Block, rows: Spread, keys: frozenset[str]) -> Spread:
    if not block.partition_by:
        return rows
    if is_single(rows):
        if draft.stages:
            draft.choose(Passthrough("single"), "the window functions run in the one task that has all rows by then")
        return rows
    if block.first_ranks is not None and not together(rows, keys):
        draft.choose(TwoPhaseAggregation(), f"every task keeps its rows where {block.first_ranks}, and those are ranked again together")
        rows = labelled(draft.step(rows, "first ranks", qualify=block.first_ranks), "first ranks")
    if not keys:
        reason = "the window functions have no PARTITION BY column in common: one task computes them"
        draft.choose(Passthrough("single"), reason, fallback="global_window")
        return draft.cut(rows, "keep", "window")
    names = tuple(plain(name) for name in sorted(keys))
    if together(rows, keys):
        draft.choose(FullyPartitionable(names), f"window functions over {', '.join(names)}: the rows are already partitioned so")
        return rows
    draft.choose(FullyPartitionable(names), f"window functions: rows are hashed by {', '.join(names)} into {draft.partitions} partitions")
    return draft.exchange(rows, [quote(name) for name in sorted(keys)], keys, "exchange", "window")


# ORDER BY and LIMIT


def _limited(draft: Draft, block: Block, rows: Spread, *, bare: bool) -> Result:
    columns = tuple(item.name for item in block.items[: len(block.items) - block.hidden])
    names = tuple(block.schema.names)
    bare = bare and not block.hidden and columns == names
    result = Result(rows, columns, names, block.order, block.limit, block.offset, bare)
    if block.limit is None:
        return result
    if block.order:
        result = replace(result, order=(*block.order, *_tie_breakers(block)))
    if is_single(rows):
        return result
    first = block.limit + block.offset
    if not block.order:
        return replace(result, rows=draft.step(rows, "first", limit=first))
    draft.choose(TwoPhaseAggregation(), f"ORDER BY with LIMIT: every task keeps its first {first} rows, one task picks from them")
    terms = tuple(f"{term.sql} {direction(term)}" for term in result.order)
    best = draft.step(rows, "first", order_by=terms, limit=first)
    return replace(result, rows=draft.cut(best, "top n", "merge top n"))


def _tie_breakers(block: Block) -> list[Ordering]:
    """Order equal rows by their other columns, so that which of them are taken depends on values and not on arrival."""
    given = {term.sql for term in block.order}
    return [
        Ordering(quote(item.name), descending=False, nulls_first=False)
        for item, field in zip(block.items, block.schema, strict=False)
        if not pa.types.is_nested(field.type) and given.isdisjoint({item.name, quote(item.name)})
    ]
