"""Window functions, QUALIFY, ORDER BY with LIMIT: what looks at rows beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamq.plan.continuous.draft import Draft
from streamq.plan.continuous.recompute import group_columns, recompute
from streamq.plan.continuous.rows import SINGLE, Facts, Rows
from streamq.plan.dataflow import INPUT, First, Recompute, TopN, edges
from streamq.plan.exchanges import Gather, Hash
from streamq.plan.render import is_name, named, plain, quote, select
from streamq.sql.logical import Block, Ordering

# Window functions


def window_functions(draft: Draft, block: Block, rows: Rows, path: str) -> Rows:
    """Compute items with window functions, and QUALIFY, over the rows of the partitions that an epoch touches."""
    keys = _common_keys(block, rows)
    window = next((key for key in keys if key in rows.facts.windows), None)
    once = draft.final and window is not None and window in rows.facts.complete and not rows.retracts
    if draft.final and window is not None and not once:
        rows = draft.held(rows, f"{path}/window/input", window, keys)
        once = True
    if not keys:
        rows = _first_ranks(draft, block, rows, path)
    closing = rows.facts.windows[window].closing(window) if window is not None and not once else None
    shown = ", ".join(plain(key) for key in keys)
    draft.because(
        f"window functions over {shown}: the partitions that an epoch touches are computed again"
        if keys
        else "the window functions have no PARTITION BY column in common: all rows are computed again in every epoch, in one partition"
    )
    grouped = bool(keys) and not once
    sql = select(named([*block.items, *(group_columns(keys) if grouped else [])]), quote(INPUT), qualify=block.qualify)
    facts = rows.facts.through(block.items, rows.names)
    facts = replace(facts, timely_us=None, complete=facts.complete if once else frozenset())
    # Without the partition's key among its columns, a closed window's rows are not withdrawn, but others' may be.
    facts = replace(facts, windows=facts.windows if window is not None else {})
    by = _spread_by(rows, keys)
    result = recompute(
        draft,
        f"{path}/window",
        [(INPUT, rows)],
        sql,
        keys=[keys] if keys else None,
        by=[by] if keys else None,
        once=once,
        closing=closing,
        grouped=grouped,
        label="window functions",
    )
    placed = Facts(placed=_hashed_by(draft, result)).through(block.items, rows.names).placed if keys else SINGLE
    return replace(result, facts=replace(facts, placed=placed))


def _hashed_by(draft: Draft, rows: Rows) -> tuple[str, ...] | None:
    """Name the columns by which the one input of the node that gives rows is hashed."""
    exchange = edges(draft.nodes[rows.node])[0].exchange
    return exchange.columns if isinstance(exchange, Hash) else None


def _common_keys(block: Block, rows: Rows) -> list[str]:
    """Name the plain columns by which every window function of the block partitions."""
    return [
        name for name in rows.names if block.partition_by and all(any(is_name(sql, name) for sql in terms) for terms in block.partition_by)
    ]


def _spread_by(rows: Rows, keys: Sequence[str]) -> list[str]:
    """Name what rows are hashed by: rather not by a time window, of which few are open at a time."""
    return [key for key in keys if key not in rows.facts.windows] or list(keys)


def _first_ranks(draft: Draft, block: Block, rows: Rows, path: str) -> Rows:
    """Let every partition leave out rows that cannot be among the first of all."""
    if block.first_ranks is None or draft.partitions == 1 or rows.placed == SINGLE:
        return rows
    rows = draft.settled(rows, f"{path}/first/input")
    draft.because(f"every partition keeps its rows where {block.first_ranks}, and those are ranked again together")
    sql = select(("*",), quote(INPUT), qualify=block.first_ranks)
    edge = draft.edge(rows, draft.kept(rows))
    node = Recompute(f"{path}/first", (edge,), (INPUT,), ((),), sql, rows.schema, retracts=True, label="first ranks")
    return draft.add(node, replace(rows.facts, placed=None, complete=frozenset()), draft.wide(rows))


# ORDER BY and LIMIT


def limited(draft: Draft, block: Block, rows: Rows, path: str, *, top: bool) -> Rows:
    """Apply ORDER BY with LIMIT and OFFSET. Hidden columns are still there. `top` tells that this is the query's own LIMIT."""
    if block.limit is None and not block.offset:
        return rows
    rows = draft.settled(rows, f"{path}/limit/input")
    if block.limit is None:
        draft.because("OFFSET without LIMIT: all rows are ordered again in every epoch")
        order = [*block.order, *_tie_breakers(block, rows)]
        terms = [f"{term.sql} {'DESC' if term.descending else 'ASC'} NULLS {'FIRST' if term.nulls_first else 'LAST'}" for term in order]
        sql = select(("*",), quote(INPUT), order_by=terms, offset=block.offset)
        return recompute(draft, f"{path}/limit", [(INPUT, rows)], sql, facts=Facts(key=rows.facts.key, placed=SINGLE), label="offset")
    if top and not block.order and not rows.retracts:
        node = First(f"{path}/limit", draft.edge(rows, Gather()), block.limit, block.offset, rows.schema, retracts=False)
        return draft.add(node, replace(rows.facts, placed=SINGLE), draft.wide(rows))
    return _top(draft, block, rows, path, block.limit)


def _top(draft: Draft, block: Block, rows: Rows, path: str, limit: int) -> Rows:
    if not block.order:
        draft.because("LIMIT without ORDER BY: the first rows in the order of all columns, so that the choice depends on values alone")
    order = (*block.order, *_tie_breakers(block, rows))
    facts = Facts(key=rows.facts.key, placed=SINGLE)
    if draft.partitions > 1 and rows.placed != SINGLE:
        local = TopN(f"{path}/first", draft.edge(rows, draft.kept(rows)), order, limit + block.offset, 0, rows.schema, retracts=True)
        rows = draft.add(local, replace(rows.facts, placed=None), draft.wide(rows))
    node = TopN(f"{path}/limit", draft.edge(rows, Gather()), order, limit, block.offset, rows.schema, retracts=True)
    return draft.add(node, facts, draft.wide(rows))


def _tie_breakers(block: Block, rows: Rows) -> list[Ordering]:
    """Order equal rows by their other columns, so that which of them are taken depends on values and not on arrival."""
    given = {term.sql for term in block.order}
    return [Ordering(quote(name), descending=False, nulls_first=False) for name in rows.names if given.isdisjoint({name, quote(name)})]
