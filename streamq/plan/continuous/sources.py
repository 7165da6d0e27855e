"""The FROM clause of a block: its leaves, read or planned, joined and filtered, give the block's inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import pyarrow as pa

from streamq.plan.continuous.draft import Draft
from streamq.plan.continuous.names import column_of
from streamq.plan.continuous.recompute import recompute
from streamq.plan.continuous.rows import SINGLE, Facts, Once, Rows, Step, Window, as_named
from streamq.plan.dataflow import WINDOWS, Read, Sessions, Side
from streamq.plan.exchanges import Hash
from streamq.plan.render import named, quote, select
from streamq.plan.sources import describe as leaf_text
from streamq.sql.catalog import SYSTEM_SCHEMA, WATERMARK, RelationInfo, watermark_type
from streamq.sql.logical import Block, Derived, Leaf, Named, Query, Scan, SessionRows

PlanQuery = Callable[[Query, str], Rows]
"""Plans a query under a path."""


@dataclass(frozen=True, slots=True)
class Source:
    """A leaf of a FROM clause, its rows, and the name it has there."""

    leaf: Leaf
    rows: Rows
    alias: str

    @property
    def table(self) -> str:
        return self.leaf.name


def open_leaf(draft: Draft, leaf: Leaf, path: str, plan: PlanQuery, *, plainly: bool = True) -> Rows:
    """Give the rows of a leaf. `plainly` tells that later changes of them change the result."""
    match leaf:
        case Scan():
            return _read(draft, leaf, path, plainly=plainly)
        case Derived():
            return plan(leaf.query, path)
        case _:
            assert_never(leaf)


def _read(draft: Draft, scan: Scan, path: str, *, plainly: bool) -> Rows:
    relation = draft.catalog[scan.relation]
    known = {field.name: field for field in (*_watermark_field(relation), *SYSTEM_SCHEMA, *relation.schema)}
    names = relation.schema.names if scan.columns is None else (scan.columns or relation.schema.names[:1])
    changes = relation.kind in ("table", "materialized view")
    if changes and plainly:
        draft.endless[relation.name] = relation.kind
    node = Read(f"{path}/read", scan, pa.schema([known[name] for name in names]), changes)
    timely = 0 if relation.watermark is not None and not changes else None
    return draft.add(node, Facts(key=_primary_key(relation, names), timely_us=timely))


def _watermark_field(relation: RelationInfo) -> list[pa.Field]:
    """Give the column of the watermark before a row, as feeds have it, if the relation has one."""
    if relation.watermark is None:
        return []
    return [pa.field(WATERMARK, watermark_type(relation.schema.field(relation.watermark[0]).type))]


def _primary_key(relation: RelationInfo, names: Sequence[str]) -> tuple[frozenset[str], ...] | None:
    if not relation.primary_key or not set(relation.primary_key) <= set(names):
        return None
    return tuple(frozenset({name}) for name in relation.primary_key)


# The inputs of a block


def project_inputs(draft: Draft, block: Block, rows: Rows, path: str, source: str, sides: Sequence[Side]) -> Rows:
    """Filter joined rows and compute the block's inputs. `source` is the text after FROM."""
    inputs = block.inputs or (Named("1", "one"),)
    what = "unnest" if block.unnests else "filter" if block.where is not None else "project"
    facts = rows.facts.through(inputs, rows.names)
    if block.unnests:
        facts = replace(facts, key=None)
    facts = _with_windows(block, facts, path)
    if sides:
        facts = replace(facts, complete=frozenset(), timely_us=None)
    lossless = not block.unnests
    projected = draft.step(rows, inputs, source=source, where=block.where, lossless=lossless, label=what, facts=facts, sides=sides)
    return replace(projected, once=None if sides else _once(block, projected))


def _once(block: Block, rows: Rows) -> Once | None:
    """Say how rows that a block repeats for their hopping windows, or that its leaf has so, can be read once."""
    panes = block.panes
    if panes is None:
        return rows.once if block.bare_windows else None
    columns = (*named(panes.inputs), f"{panes.count} AS {quote(WINDOWS)}")
    step = Step("", columns, panes.from_sql, panes.where)
    windows = frozenset(window.name for window in block.windows if window.kind == "hop")
    return Once(len(rows.steps) - 1, step, windows, panes.slide_us)


def _with_windows(block: Block, facts: Facts, path: str) -> Facts:
    """Take over which inputs tell when the rows' windows close, and forget all others."""
    windows = {}
    for window in block.windows:
        known = facts.windows.get(window.name)
        if known is not None and known.plus_us <= window.plus_us:
            windows[window.name] = replace(known, delay_us=window.plus_us - known.plus_us)
        else:
            windows[window.name] = Window(f"{path} {window.kind}", window.plus_us, inclusive=window.kind == "session")
    return replace(facts, windows=windows, complete=facts.complete & windows.keys())


def subquery_sides(draft: Draft, leaves: Sequence[Leaf], path: str, plan: PlanQuery) -> list[Side]:
    """Give every partition the results of subqueries."""
    sides = []
    for number, leaf in enumerate(leaves, 1):
        place = f"{path}/subquery{number}"
        draft.because(f"{leaf_text(leaf)} is read inside an expression: when it changes, all rows are evaluated again")
        sides.append(draft.side(_filtered(draft, leaf, open_leaf(draft, leaf, place, plan)), leaf.name, place))
    return sides


def _filtered(draft: Draft, leaf: Leaf, rows: Rows) -> Rows:
    """Leave out what no part of the query can use."""
    if isinstance(leaf, Scan) and leaf.filter is not None:
        return draft.step(rows, as_named(rows.names), where=leaf.filter, label="filter")
    return rows


# Session windows


def with_sessions(draft: Draft, block: Block, sessions: SessionRows, rows: Rows, path: str) -> Rows:
    """Put rows into sessions. Late rows are left out first, so that they join nothing, and so are rows without a time."""
    keys = [Named(sql, f"#session{number}") for number, sql in enumerate(sessions.keys, 1)]
    owns = [column_of(key.sql, rows.names) or key.name for key in keys]
    time = column_of(sessions.time, rows.names) or "#time"
    added = [key for key, own in zip(keys, owns, strict=True) if own == key.name]
    added += [Named(sessions.time, time)] if time == "#time" else []
    late = f"({block.late}) IS NOT TRUE AND " if block.late is not None else ""
    where = f"{late}({sessions.time}) IS NOT NULL"
    rows = draft.step(rows, [*as_named(rows.names), *added], where=where, label="event times")
    rows = draft.settled(rows, f"{path}/input")
    bound = draft.describe(f"SELECT {quote(time)} + to_microseconds(0) AS bound FROM rows", {"rows": rows.schema}).field(0).type
    schema = pa.schema([*rows.schema, pa.field(sessions.start, bound), pa.field(sessions.end, bound)])
    exchange = draft.hashed(rows, owns)
    closes = any(window.kind == "session" for window in block.windows)
    final = draft.final and closes and not rows.retracts
    node = Sessions(
        f"{path}/sessions",
        draft.edge(rows, exchange),
        tuple(owns),
        time,
        sessions.gap_us,
        sessions.start,
        sessions.end,
        final,
        schema,
        retracts=not final,
        closes=closes,
    )
    windows = {sessions.end: Window(path, 0, inclusive=True)} if closes else {}
    placed = exchange.columns if isinstance(exchange, Hash) else SINGLE
    complete = frozenset(windows) if final else frozenset()
    return draft.add(node, Facts(placed=placed, windows=windows, complete=complete), draft.wide(rows))


# Any FROM clause


def recomputed_inputs(
    draft: Draft, block: Block, sources: Sequence[Source], path: str, plan: PlanQuery, keys: Sequence[Sequence[str]] | None
) -> Rows:
    """Run FROM and WHERE over complete leaves; `keys` are columns of the leaves that rows which join are equal in."""
    tables = [(source.table, source.rows) for source in sources]
    for number, leaf in enumerate(block.input_subqueries, 1):
        tables.append((leaf.name, open_leaf(draft, leaf, f"{path}/where/subquery{number}", plan)))
        keys = None
    sql = select(named(block.inputs) or ('1 AS "one"',), block.from_sql, where=block.where)
    return recompute(draft, f"{path}/join", tables, sql, keys=keys, null_matches=False, label="join")
