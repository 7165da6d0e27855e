"""From a logical plan to a physical one: the entry of this package.

A query is planned from its leaves up. Each node gives rows in stages that are still open; what reads them goes on
in the same tasks where that is right. What is open at the top becomes the stages that emit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from streamq.config import clamp_partitions
from streamq.plan.blocks import plan_block
from streamq.plan.draft import Draft, Rows, is_single
from streamq.plan.fragments import (
    SORT_KEY_COLUMN,
    CoPartitions,
    Emit,
    Leases,
    Once,
    Partitions,
    Passthrough,
    PhysicalPlan,
    ScanInput,
    SortedRuns,
    describe_strategy,
)
from streamq.plan.leaves import Result, attach, complete, order_terms
from streamq.plan.relations import RelationSnapshot
from streamq.plan.render import Clauses, direction, quote, string
from streamq.plan.sizes import rows_to_go_through
from streamq.sql.logical import Block, Query, Union, Whole


def plan_query(
    query: Query,
    snapshots: Mapping[str, RelationSnapshot],
    *,
    target_partitions: int,
    broadcast_bytes: int,
    final_partitions: int = 1,
    single_task_rows: int = 0,
) -> PhysicalPlan:
    """Choose how a query runs over the snapshots of its relations, which are keyed by relation name.

    `target_partitions` is how many partitions an exchange makes (clamped to 1..256). Join inputs of up to `broadcast_bytes` are given
    whole to every task. `final_partitions` is how many tasks merge partial groups: more than one pays where
    groups are about as many as rows. Of up to `single_task_rows` rows, everything is done by one task.
    """

    def draft(*, one_task: bool) -> Draft:
        return Draft(snapshots, clamp_partitions(target_partitions), broadcast_bytes, clamp_partitions(final_partitions), one_task)

    plan = _finish(draft(one_task=False), query)
    rows = rows_to_go_through(query, snapshots)
    if not single_task_rows or rows > single_task_rows or not _is_divided(plan, snapshots):
        return plan
    gathered = draft(one_task=True)
    more = f"more of them would run as {describe_strategy(plan.strategy)}"
    gathered.choose(
        Passthrough("single"), f"one task is done with {rows:,} rows (at most {single_task_rows:,}) before several had begun; {more}"
    )
    return _finish(gathered, query)


def _is_divided(plan: PhysicalPlan, snapshots: Mapping[str, RelationSnapshot]) -> bool:
    """Tell whether a plan has more than one task."""
    if len(plan.stages) > 1:
        return True
    (stage,) = plan.stages
    match stage.driver:
        case Leases(name):
            relations = {source.name: source.relation for source in stage.fragment.inputs if isinstance(source, ScanInput)}
            return len(snapshots[relations[name]].splits) > 1
        case CoPartitions(count=count) | Partitions(count=count):
            return count > 1
        case Once():
            return False
        case _:
            assert_never(stage.driver)


def _finish(draft: Draft, query: Query) -> PhysicalPlan:
    result = _plan(draft, query)
    limit, offset = _emit(draft, result)
    if not draft.choices:
        _choose_passthrough(draft, result)
    return PhysicalPlan(tuple(draft.stages), tuple(draft.choices), limit, offset, query.schema)


def _plan(draft: Draft, query: Query) -> Result:
    match query:
        case Block():
            return plan_block(draft, query, lambda inner: _plan(draft, inner))
        case Union():
            return _plan_union(draft, query)
        case Whole():
            return _plan_whole(draft, query)
        case _:
            assert_never(query)


def _plan_union(draft: Draft, union: Union) -> Result:
    names = tuple(union.schema.names)
    results = [replace(_plan(draft, branch), names=names) for branch in union.branches]
    parts = tuple(part for result in results for part in complete(draft, result, draft.new_name("branch")))
    return Result((draft.unite(parts),) if draft.one_task else parts, names, names, bare=True)


def _plan_whole(draft: Draft, whole: Whole) -> Result:
    names = tuple(whole.schema.names)
    # A query without relations has nothing to divide: its one task is no fallback.
    fallback = _slug(whole.reason) if whole.leaves else None
    draft.choose(Passthrough("single"), f"{whole.reason}: one task runs it over complete inputs", fallback=fallback)
    start = Rows(Once(), (), (), "", single=True, label="whole query")
    rows = attach(draft, (start,), whole.leaves, lambda inner: _plan(draft, inner))
    return Result(tuple(part.view(draft.new_name("whole"), whole.sql) for part in rows), names, names, bare=True)


def _slug(reason: str) -> str:
    """Make a label of a reason.

    >>> _slug("EXCEPT ALL: counts rows")
    'except_all_counts_rows'
    """
    return re.sub(r"[^a-z0-9]+", "_", reason.lower()).strip("_")[:40].rstrip("_")


# What is open at the top


def _emit(draft: Draft, result: Result) -> tuple[int | None, int]:
    """Make the stages that emit; give the limit and offset that are left to the merge."""
    if result.order and result.limit is None and len(result.rows) > 1:
        result = replace(result, rows=draft.cut(result.rows, "keep", "order"))
    shown = ("*",) if result.bare and not result.order else result.shown()
    if is_single(result.rows):
        (rows,) = result.rows
        draft.finish(rows, Emit(), rows.label, shown, **_ending(rows, result))
        return None, 0
    if result.order:
        (rows,) = result.rows
        key = f"{_sort_key(rows, result)} AS {quote(SORT_KEY_COLUMN)}"
        draft.finish(rows, SortedRuns(), f"{rows.label}, sort", (*result.shown(), key), order_by=[quote(SORT_KEY_COLUMN)])
    else:
        for rows in result.rows:
            draft.finish(rows, Emit(), rows.label, shown)
    return result.limit, result.offset


def _ending(rows: Rows, result: Result) -> Clauses:
    """Give the clauses that are left to do, those only: a fragment without any may be the text of its last view."""
    clauses = Clauses()
    if result.order:
        clauses["order_by"] = order_terms(rows, result.order)
    if result.limit is not None:
        clauses["limit"] = result.limit
    if result.offset:
        clauses["offset"] = result.offset
    return clauses


def _sort_key(rows: Rows, result: Result) -> str:
    terms = ", ".join(f"{rows.from_sql}.{term.sql}, {string(direction(term))}" for term in result.order)
    return f"create_sort_key({terms})"


def _choose_passthrough(draft: Draft, result: Result) -> None:
    if is_single(result.rows):
        draft.choose(Passthrough("single"), "there is one piece of work, so one task does it")
    else:
        draft.choose(Passthrough("round_robin"), "every row is computed on its own: tasks take leases as they get free")
