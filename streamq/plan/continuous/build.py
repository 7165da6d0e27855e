"""From a bound continuous query to a dataflow: the entry of this package.

A query is planned from its leaves up. Rows go on with row-wise SELECTs until something needs them in a node, so that what can
be computed row by row is one node. Every construct has an exact general way (`recompute`); faster nodes are taken where they apply.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import assert_never

import pyarrow as pa

from streamq.errors import BindError
from streamq.plan.continuous.accumulable import type_name
from streamq.plan.continuous.blocks import plan_block
from streamq.plan.continuous.draft import Describe, Draft
from streamq.plan.continuous.recompute import recompute
from streamq.plan.continuous.rows import Facts, Rows, as_named
from streamq.plan.continuous.sources import open_leaf
from streamq.plan.continuous.ttl import forgetting
from streamq.plan.dataflow import OP, Aggregate, Changelog, Dataflow, Hold, Map, Read
from streamq.plan.dataflow import Union as UnionNode
from streamq.plan.exchanges import Keep
from streamq.plan.render import quote
from streamq.sql.catalog import CatalogView
from streamq.sql.logical import Block, BoundQuery, Continuous, Named, Query, Union, Whole

ROOT = "query"


def plan_continuous(bound: BoundQuery, catalog: CatalogView, *, partitions: int, describe: Describe) -> Dataflow:
    """Plan a continuous query for `partitions` partitions. `describe` gives the schema of a SELECT over tables of given schemas.

    Raises:
        BindError: the query cannot be continuous, with what to write instead.
    """
    continuous = bound.continuous or Continuous("changes")
    _check(bound)
    draft = Draft(catalog, describe, partitions, final=continuous.emit == "final")
    rows = _plan(draft, bound.plan, ROOT, top=True)
    rows = _conformed(draft, rows, bound.schema)
    if draft.final:
        rows = _finished(draft, bound, rows)
    return _dataflow(draft, bound, continuous, rows)


def _plan(draft: Draft, query: Query, path: str, *, top: bool = False) -> Rows:
    match query:
        case Block():
            return plan_block(draft, query, path, lambda inner, at: _plan(draft, inner, at), top=top)
        case Union():
            return _plan_union(draft, query, path)
        case Whole():
            return _plan_whole(draft, query, path)
        case _:
            assert_never(query)


# Set operations and what was not taken apart


def _plan_union(draft: Draft, union: Union, path: str) -> Rows:
    names = union.schema.names if len(set(union.schema.names)) == len(union.schema) else [f"c{n}" for n in range(len(union.schema))]
    parts = []
    for number, branch in enumerate(union.branches, 1):
        rows = _plan(draft, branch, f"{path}/branch{number}")
        if rows.names != list(names):
            columns = [Named(quote(own), name) for own, name in zip(rows.names, names, strict=True)]
            rows = draft.step(rows, columns, label="project")
        parts.append(draft.settled(rows, f"{path}/branch{number}/output"))
    node = UnionNode(f"{path}/union", tuple(draft.edge(rows, Keep()) for rows in parts), parts[0].schema, any(r.retracts for r in parts))
    wide = frozenset.intersection(*(draft.wide(rows) for rows in parts))
    return draft.add(node, _united(parts), wide)


def _united(parts: list[Rows]) -> Facts:
    """Say what is known of the rows of all branches."""
    first, *others = (rows.facts for rows in parts)
    windows = {}
    for name, window in first.windows.items():
        same = [facts.windows.get(name) for facts in others]
        if all(w is not None and (w.plus_us, w.inclusive) == (window.plus_us, window.inclusive) for w in same):
            windows[name] = replace(window, delay_us=max([window.delay_us, *(w.delay_us for w in same if w is not None)]))
    complete = frozenset(
        name
        for name in first.complete & windows.keys()
        if all(name in facts.complete and facts.windows[name].delay_us == windows[name].delay_us for facts in others)
    )
    timely = None if any(facts.timely_us is None for facts in (first, *others)) else max(f.timely_us or 0 for f in (first, *others))
    placed = first.placed if all(facts.placed == first.placed for facts in others) else None
    return Facts(None, placed, windows, complete, timely)


def _plan_whole(draft: Draft, whole: Whole, path: str) -> Rows:
    tables = [
        (leaf.name, open_leaf(draft, leaf, f"{path}/side{number}", lambda inner, at: _plan(draft, inner, at)))
        for number, leaf in enumerate(whole.leaves, 1)
    ]
    if whole.by_row and (conformed := _by_row(draft, whole, [rows for _, rows in tables])) is not None:
        draft.because("INTERSECT and EXCEPT: the rows that an epoch touches are counted again on both sides")
        tables = [(name, rows) for (name, _), rows in zip(tables, conformed, strict=True)]
        keys = [rows.names for rows in conformed]
        return recompute(draft, f"{path}/set", tables, whole.sql, keys=keys, label="set operation")
    if tables:
        draft.because(f"{whole.reason}: everything is computed again in every epoch, in one partition")
    return recompute(draft, f"{path}/whole", tables, whole.sql, label="whole query" if tables else "constant rows")


def _by_row(draft: Draft, whole: Whole, sides: list[Rows]) -> list[Rows] | None:
    """Give the sides of a set operation the types of its result, so that equal rows have equal columns; None if it cannot."""
    conformed = []
    for rows in sides:
        types = [None if own.type == field.type else type_name(field.type) for own, field in zip(rows.schema, whole.schema, strict=True)]
        if any(own.type != field.type and kind is None for own, field, kind in zip(rows.schema, whole.schema, types, strict=True)):
            return None
        columns = [
            Named(quote(name) if kind is None else f"CAST({quote(name)} AS {kind})", name)
            for name, kind in zip(rows.names, types, strict=True)
        ]
        conformed.append(rows if not any(types) else draft.step(rows, columns, label="cast"))
    return conformed


# The result


def _conformed(draft: Draft, rows: Rows, schema: pa.Schema) -> Rows:
    """Give the result's columns their names and types."""
    types = [type_name(wanted.type) if own.type != wanted.type else None for own, wanted in zip(rows.schema, schema, strict=True)]
    if rows.names == schema.names and not any(types):
        return rows
    columns = [
        Named(quote(own) if kind is None else f"CAST({quote(own)} AS {kind})", name)
        for own, name, kind in zip(rows.names, schema.names, types, strict=True)
    ]
    return draft.step(rows, columns, label="project")


def _finished(draft: Draft, bound: BoundQuery, rows: Rows) -> Rows:
    """Let rows that can be withdrawn wait until nothing changes them any more."""
    if not rows.retracts:
        return rows
    found = rows.closing()
    if found is not None:
        return draft.held(rows, f"{ROOT}/output", found[0])
    if draft.endless:
        raise _no_end(draft, bound)
    rows = draft.settled(rows, f"{ROOT}/output")
    draft.because("no time window closes these rows: they are given when all sources have ended")
    node = Hold(f"{ROOT}/output/hold", draft.edge(rows, draft.kept(rows)), None, rows.schema)
    return draft.add(node, Facts(key=rows.facts.key), draft.wide(rows))


def _no_end(draft: Draft, bound: BoundQuery) -> BindError:
    which = " and ".join(f"{kind} {name}" for name, kind in sorted(draft.endless.items()))
    return BindError(
        f"EMIT FINAL would never give a row: {which} can change at any time and never ends, and no time window closes the rows",
        sql=bound.sql,
        hint="join a table with FOR SYSTEM_TIME AS OF PROCTIME(), group by a time window, or write EMIT CHANGES",
    )


def _dataflow(draft: Draft, bound: BoundQuery, continuous: Continuous, rows: Rows) -> Dataflow:
    key = _key(rows)
    # Changes of several epochs that are emitted together are made net from whole old and new rows.
    together = continuous.every_s is not None or _reads_views(draft)
    ready = key is not None and not together and _can_say_changes(draft, rows)
    changelog: Changelog = "append" if not rows.retracts else "retract" if key is None else "upsert"
    _check_names(bound, changelog)
    if ready:
        rows = _saying_changes(draft, rows)
    elif rows.steps:
        rows = draft.settled(rows, f"{ROOT}/output")
    elif isinstance(draft.nodes[rows.node], Read):
        opened = draft.step(draft.called(rows, "rows"), as_named(rows.names))
        rows = draft.settled(opened, f"{ROOT}/output")
    _check_clock(bound, draft, continuous)
    return Dataflow(
        nodes=forgetting(list(draft.nodes.values()), continuous.state_ttl_s),
        output=rows.node,
        schema=bound.schema,
        key=key,
        changelog=changelog,
        ready=ready,
        continuous=continuous,
        late=tuple(draft.late),
        parameters=bound.parameters,
        reasons=tuple(draft.reasons),
    )


def _key(rows: Rows) -> tuple[str, ...] | None:
    """Choose the columns of the key: of those that can stand for a part of it, the first."""
    if rows.facts.key is None:
        return None
    chosen = {next(name for name in rows.names if name in part) for part in rows.facts.key}
    return tuple(name for name in rows.names if name in chosen)


def _reads_views(draft: Draft) -> bool:
    """Tell whether the query goes from cut to cut, maybe by several epochs."""
    reads = (node for node in draft.nodes.values() if isinstance(node, Read))
    return any(draft.catalog[node.scan.relation].kind == "materialized view" for node in reads)


def _can_say_changes(draft: Draft, rows: Rows) -> bool:
    """Tell whether the last node but for projections is an aggregation, whose changes by key are the result's."""
    node = draft.nodes[rows.node]
    return isinstance(node, Aggregate) and node.emit == "delta" and rows.lossless and not rows.sides


def _saying_changes(draft: Draft, rows: Rows) -> Rows:
    """Let the aggregation say what it does to its groups, and the projection pass that on."""
    node = draft.nodes[rows.node]
    assert isinstance(node, Aggregate)
    schema = pa.schema([*node.schema, pa.field(OP, pa.string())])
    draft.nodes[node.id] = replace(node, emit="changelog", schema=schema, retracts=False)
    carrying = replace(rows, weighted=False, schema=pa.schema([*rows.schema, pa.field(OP, pa.string())]), carries=(OP,))
    return draft.settled(carrying, f"{ROOT}/output")


# What a continuous query cannot be


def _check(bound: BoundQuery) -> None:
    names = [name.lower() for name in bound.schema.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BindError(f"two columns of the result are called {twice[0]}", sql=bound.sql, hint="give each a name of its own: … AS name")


def _check_names(bound: BoundQuery, changelog: Changelog) -> None:
    if changelog != "append" and any(name.lower() == OP for name in bound.schema.names):
        raise BindError(f"{OP} is the column that says what a change does", sql=bound.sql, hint=f"call the query's own {OP} something else")


_CLOCK = re.compile(r"\$now\b")


def _check_clock(bound: BoundQuery, draft: Draft, continuous: Continuous) -> None:
    """Refuse what is not the same when it is computed again: a row that is withdrawn must be the row that was added."""
    if not (bound.volatile or continuous.reads_clock):
        return
    for node in draft.nodes.values():
        sql = getattr(node, "sql", None)
        if sql is None or not (bound.volatile or _CLOCK.search(sql)):
            continue
        if not isinstance(node, Map) or draft.nodes[node.input.node].retracts:
            what = "a volatile function" if bound.volatile else "the clock"
            raise BindError(
                f"{what} is read where rows can be withdrawn, and would not give the same again",
                sql=bound.sql,
                hint="compute it in a subquery over the source, before rows are joined or aggregated",
            )
