"""One SELECT as nodes: its rows, groups, items, and what is ordered and limited at the end."""

from __future__ import annotations

from streamq.plan.continuous.aggregation import aggregate, distinct
from streamq.plan.continuous.draft import Draft
from streamq.plan.continuous.joins import join_leaves
from streamq.plan.continuous.names import column_of
from streamq.plan.continuous.over import limited, window_functions
from streamq.plan.continuous.recompute import recompute
from streamq.plan.continuous.rows import Rows, as_named
from streamq.plan.continuous.sources import PlanQuery, open_leaf, project_inputs, subquery_sides, with_sessions
from streamq.plan.dataflow import LateRows
from streamq.plan.render import named, quote, select
from streamq.sql.logical import Block, Leaf, Named, Scan


def plan_block(draft: Draft, block: Block, path: str, plan: PlanQuery, *, top: bool) -> Rows:
    """Plan a SELECT. `top` tells that it is the query itself, not one inside it."""
    rows = input_rows(draft, block, path, plan)
    if block.keys is not None:
        rows = aggregate(draft, block, rows, path)
    looks_around = bool(block.partition_by) or block.qualify is not None
    read_by_row = block.output_subqueries if block.having is not None or not looks_around else ()
    sides = subquery_sides(draft, read_by_row, f"{path}/select", plan)
    if block.having is not None:
        rows = draft.step(rows, as_named(rows.names), where=block.having, label="having", sides=sides)
    if sides:
        rows = rows.knowing(windows={}, complete=frozenset(), timely_us=None)
    if looks_around:
        rows = _windows(draft, block, rows, path, plan)
    elif not _names_only(block, rows):
        rows = draft.step(rows, block.items, label="project", sides=sides)
    if block.distinct:
        rows = distinct(draft, rows, path)
    return _shown(draft, block, limited(draft, block, rows, path, top=top))


def input_rows(draft: Draft, block: Block, path: str, plan: PlanQuery) -> Rows:
    """Give rows that have the block's inputs."""
    if len(block.leaves) != 1:
        return join_leaves(draft, block, path, plan)
    (leaf,) = block.leaves
    rows = open_leaf(draft, leaf, f"{path}/from", plan)
    if block.late is not None:
        draft.late.append(LateRows(rows.node, block.late, _event_time(draft, leaf)))
    if block.sessions is not None:
        rows = with_sessions(draft, block, block.sessions, rows, f"{path}/sessions")
    sides = subquery_sides(draft, block.input_subqueries, f"{path}/where", plan)
    if _gives_its_leaf(block, rows):
        return rows.knowing(windows={}, complete=frozenset())
    return project_inputs(draft, block, draft.called(rows, leaf.name), path, block.from_sql, sides)


def _event_time(draft: Draft, leaf: Leaf) -> str:
    """Give the column by which rows of a relation are late."""
    assert isinstance(leaf, Scan)
    watermark = draft.catalog[leaf.relation].watermark
    assert watermark is not None
    return watermark[0]


def _gives_its_leaf(block: Block, rows: Rows) -> bool:
    """Tell whether a block's inputs are columns of its only leaf, just as they are."""
    if block.where is not None or block.unnests or block.input_subqueries or block.windows:
        return False
    return bool(block.inputs) and all(column_of(given.sql, rows.names) == given.name for given in block.inputs)


def _windows(draft: Draft, block: Block, rows: Rows, path: str, plan: PlanQuery) -> Rows:
    """Compute window functions; with subqueries beside them, over all rows."""
    if not block.output_subqueries:
        return window_functions(draft, block, rows, path)
    tables = [("rows", rows)]
    tables += [(leaf.name, open_leaf(draft, leaf, f"{path}/over/subquery{n}", plan)) for n, leaf in enumerate(block.output_subqueries, 1)]
    draft.because("subqueries beside window functions: all rows are computed again in every epoch, in one partition")
    sql = select(named(block.items), quote("rows"), qualify=block.qualify)
    return recompute(draft, f"{path}/window", tables, sql, label="window functions")


def _names_only(block: Block, rows: Rows) -> bool:
    """Tell whether the items are the columns that the rows have already, and no others."""
    return [item.name for item in block.items] == rows.names and all(column_of(item.sql, rows.names) == item.name for item in block.items)


def _shown(draft: Draft, block: Block, rows: Rows) -> Rows:
    """Leave out hidden columns and give the others the names of the result, where these are different from each other."""
    items = block.items[: len(block.items) - block.hidden]
    names = block.schema.names
    if len(set(names)) < len(names):
        names = [item.name for item in items]
    if [item.name for item in items] == list(names) and len(items) == len(rows.names):
        return rows
    columns = [Named(quote(item.name), name) for item, name in zip(items, names, strict=True)]
    return draft.step(rows, columns, label="project")
