"""The leaves of a query as inputs of stages: divided over tasks, exchanged by key, or whole in every task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

from streamq.plan.draft import Draft, Rows, Spread, is_single
from streamq.plan.fragments import Input, Keep, Leases, Once, ScanInput, StageInput
from streamq.plan.joins import ExchangeKey
from streamq.plan.render import direction, quote, select, union_all
from streamq.sql.logical import Derived, Leaf, Ordering, Query, Scan


@dataclass(frozen=True, slots=True)
class Result:
    """The rows of a query, and what is still to be done where they come together.

    `columns` are the names in `rows` of the query's columns; other columns there are hidden ones for `order`. `order`, `limit` and
    `offset` are what no step has applied to all rows yet. `bare` tells that the rows have exactly the result's columns, under their names.
    """

    rows: Spread
    columns: tuple[str, ...]
    names: tuple[str, ...]
    order: tuple[Ordering, ...] = ()
    limit: int | None = None
    offset: int = 0
    bare: bool = False

    def shown(self) -> tuple[str, ...]:
        """Write the result's columns under their own names."""
        if self.columns == self.names:
            return tuple(quote(name) for name in self.names)
        return tuple(f"{quote(column)} AS {quote(name)}" for column, name in zip(self.columns, self.names, strict=True))


PlanQuery = Callable[[Query], Result]
"""Plans a query inside the draft that a leaf belongs to."""


def order_terms(rows: Rows, order: Iterable[Ordering]) -> tuple[str, ...]:
    """Write ORDER BY terms over the columns of `rows`, which aliases of the same SELECT must not hide."""
    return tuple(f"{rows.from_sql}.{term.sql} {direction(term)}" for term in order)


def complete(draft: Draft, result: Result, name: str) -> Spread:
    """Apply what is left of a query's ORDER BY and LIMIT, and give its rows as the view `name`."""
    rows = result.rows
    bounded = result.limit is not None or result.offset > 0
    if bounded and not is_single(rows):
        rows = draft.cut(rows, "keep", "limit")
    if not bounded and result.bare and result.columns == result.names:
        return tuple(part.renamed(name) for part in rows)
    if not bounded:
        # Without a limit the order of a subquery's rows means nothing.
        return tuple(part.view(name, select(result.shown(), part.from_sql)) for part in rows)
    return tuple(
        part.view(
            name,
            select(result.shown(), part.from_sql, order_by=order_terms(part, result.order), limit=result.limit, offset=result.offset),
        )
        for part in rows
    )


def scan_input(scan: Scan) -> ScanInput:
    """Make the input that reads a leaf."""
    return ScanInput(scan.name, scan.relation, scan.columns, scan.filter, scan.bounds)


def divide(draft: Draft, leaf: Leaf, plan: PlanQuery) -> Spread:
    """Open stages whose tasks have the rows of a leaf, divided as they come."""
    match leaf:
        case Scan() if draft.one_task:
            return (Rows(Once(), (scan_input(leaf),), (), leaf.name, single=True),)
        case Scan():
            single = len(draft.snapshots[leaf.relation].splits) <= 1
            return (Rows(Leases(leaf.name), (scan_input(leaf),), (), leaf.name, single),)
        case Derived():
            return complete(draft, plan(leaf.query), leaf.name)
        case _:
            assert_never(leaf)


def attach(draft: Draft, rows: Spread, leaves: Sequence[Leaf], plan: PlanQuery) -> Spread:
    """Give every task all rows of `leaves`."""
    for leaf in leaves:
        if not all(_has(part, leaf.name) for part in rows):
            inputs, views = _whole(draft, leaf, plan)
            rows = tuple(part if _has(part, leaf.name) else _with(part, inputs, views) for part in rows)
    return rows


def _has(rows: Rows, name: str) -> bool:
    return any(given.name == name for given in rows.inputs) or any(given == name for given, _ in rows.views)


def _with(rows: Rows, inputs: Iterable[Input], views: Iterable[tuple[str, str]]) -> Rows:
    return replace(rows, inputs=(*rows.inputs, *inputs), views=(*rows.views, *views))


def _whole(draft: Draft, leaf: Leaf, plan: PlanQuery) -> tuple[tuple[Input, ...], tuple[tuple[str, str], ...]]:
    match leaf:
        case Scan():
            return (scan_input(leaf),), ()
        case Derived() if draft.one_task:
            (part,) = complete(draft, plan(leaf.query), leaf.name)
            return part.inputs, part.views
        case Derived():
            if leaf.name not in draft.kept:
                parts = complete(draft, plan(leaf.query), leaf.name)
                draft.kept[leaf.name] = tuple(draft.finish(part, Keep(), f"{part.label}, keep") for part in parts)
            return collect(draft, leaf.name, draft.kept[leaf.name], partitioned=False)
        case _:
            assert_never(leaf)


def exchange_leaf(draft: Draft, leaf: Leaf, key: ExchangeKey, plan: PlanQuery) -> tuple[tuple[Input, ...], tuple[tuple[str, str], ...]]:
    """Keep the rows of a leaf by the hash of their join key, and give what reads a partition of them."""
    rows = divide(draft, leaf, plan)
    if isinstance(leaf, Scan) and leaf.filter is not None:
        rows = draft.step(rows, "matching", where=leaf.filter)
    stages = tuple(draft.keep_partitions(part, key.casts, draft.partitions, f"{part.label}, exchange") for part in rows)
    return collect(draft, leaf.name, stages, partitioned=draft.partitions > 1)


def collect(draft: Draft, name: str, stages: Sequence[int], *, partitioned: bool) -> tuple[tuple[Input, ...], tuple[tuple[str, str], ...]]:
    """Read kept stages as one input or view called `name`."""
    if len(stages) == 1:
        return (StageInput(name, stages[0], partitioned),), ()
    inputs = tuple(StageInput(draft.new_name("kept"), stage, partitioned) for stage in stages)
    return inputs, ((name, union_all(part.name for part in inputs)),)
