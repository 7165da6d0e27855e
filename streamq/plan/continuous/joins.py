"""Joins: a chain of joins of two sides, each kept by its keys; what does not fit is computed again from its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from streamq.errors import BindError
from streamq.plan.continuous.draft import Draft
from streamq.plan.continuous.names import column_of
from streamq.plan.continuous.recompute import recompute
from streamq.plan.continuous.rows import SINGLE, Facts, Key, Placement, Rows, as_named
from streamq.plan.continuous.sources import PlanQuery, Source, open_leaf, project_inputs, recomputed_inputs, subquery_sides
from streamq.plan.dataflow import INPUT, WEIGHT, Interval, Lookup
from streamq.plan.dataflow import Join as JoinNode
from streamq.plan.exchanges import Broadcast, Exchange, Gather, Hash, Keep
from streamq.plan.render import named, quote, select
from streamq.sql.logical import Block, Join, Named, Scan

PAIR = "#pair"
"""The column by which a residual names candidate pairs."""
LEFT_ROWS = frozenset({"inner", "cross", "left", "semi", "anti"})
"""Kinds whose rows come from single rows of the left side: each partition can join its part with all of the right."""
CHAINED = LEFT_ROWS | {"right", "full"}


def join_leaves(draft: Draft, block: Block, path: str, plan: PlanQuery) -> Rows:
    """Give rows of the inputs of a block that joins several leaves."""
    now = {join.right for join in block.joins if join.as_of_now}
    aliases = block.aliases or tuple("" for _ in block.leaves)
    sources = [
        Source(leaf, open_leaf(draft, leaf, f"{path}/from{number}", plan, plainly=leaf.name not in now), alias)
        for number, (leaf, alias) in enumerate(zip(block.leaves, aliases, strict=True), 1)
    ]
    if (why := _not_chained(block)) is None:
        windowed = _complete_windows(draft, block, sources)
        return _join_windows(draft, block, sources, path) if windowed else _chain(draft, block, sources, path, plan)
    if now:
        raise BindError(f"{why} does not go with FOR SYSTEM_TIME AS OF PROCTIME()", hint="join in a subquery, and go on around it")
    keyed = _with_keys(draft, block, sources)
    if keyed is not None:
        draft.because(f"{why}: the rows of the keys that an epoch touches are joined again")
        return _finished(draft, recomputed_inputs(draft, block, keyed[0], path, plan, keyed[1]), path)
    draft.because(f"{why}: all rows are joined again in every epoch, in one partition")
    return _finished(draft, recomputed_inputs(draft, block, sources, path, plan, None), path)


def _not_chained(block: Block) -> str | None:
    """Say why joins cannot be done one by one, None if they can."""
    if not block.leaves:
        return "FROM without a relation"
    if block.unnests:
        return "UNNEST beside a join"
    if not block.aliases:
        return "the names in FROM are not known"
    other = next((join for join in block.joins if join.kind not in CHAINED), None)
    if other is not None:
        return f"{other.kind.upper()} JOIN"
    if any(len(join.left_keys) != len(join.keys) or (join.residual and join.on is None and join.kind != "cross") for join in block.joins):
        return "a join condition that is not known in parts"
    return None


def _finished(draft: Draft, rows: Rows, path: str) -> Rows:
    """Let rows that can be withdrawn wait for their window, where they have one and are wanted when final."""
    found = rows.closing()
    if not draft.final or not rows.retracts or found is None:
        return rows
    return draft.held(rows, path, found[0])


# Joins that are computed again


def _with_keys(draft: Draft, block: Block, sources: Sequence[Source]) -> tuple[list[Source], list[list[str]]] | None:
    """Give the two sides of a join columns for its keys, None if there are none to go by."""
    if len(sources) != 2 or not block.joins[0].keys:
        return None
    keys = block.joins[0].keys
    left = [f"CAST({left} AS {kind})" for _, left, _, kind in keys]
    right = [f"CAST({right} AS {kind})" for _, _, right, kind in keys]
    names = [f"#key{number}" for number in range(1, len(keys) + 1)]
    keyed = []
    for source, expressions in zip(sources, (left, right), strict=True):
        added = [Named(sql, name) for sql, name in zip(expressions, names, strict=True)]
        rows = _reduced(draft, source)
        keyed.append(replace(source, rows=draft.step(rows, [*as_named(rows.names), *added], label="keys")))
    return keyed, [names, names]


def _reduced(draft: Draft, source: Source) -> Rows:
    """Leave out rows that no part of the query can use."""
    if isinstance(source.leaf, Scan) and source.leaf.filter is not None:
        return draft.step(source.rows, as_named(source.rows.names), where=source.leaf.filter, label="filter")
    return source.rows


def _complete_windows(draft: Draft, block: Block, sources: Sequence[Source]) -> bool:
    """Tell whether two sides give the rows of a window in the same epoch, and are joined by it."""
    if not draft.final or len(sources) != 2 or block.input_subqueries:
        return False
    left, right = (source.rows for source in sources)
    for _, left_sql, right_sql, _ in block.joins[0].keys:
        left_own, right_own = column_of(left_sql, left.names), column_of(right_sql, right.names)
        if left_own in left.facts.complete and right_own in right.facts.complete:
            a, b = left.facts.windows[left_own], right.facts.windows[right_own]
            if replace(a, origin="") == replace(b, origin=""):
                return True
    return False


def _join_windows(draft: Draft, block: Block, sources: Sequence[Source], path: str) -> Rows:
    """Join two sides whose windows are complete when they come: nothing is kept."""
    keyed = _with_keys(draft, block, sources)
    assert keyed is not None
    (left, right), keys = keyed
    sql = select(named(block.inputs) or ('1 AS "one"',), block.from_sql, where=block.where)
    draft.because("both sides of the join give whole windows when these close: a window is joined once, and not kept")
    prefixed = _prefixed(left.rows.facts, left.alias).through(block.inputs, [f"{left.alias}.{name}" for name in left.rows.names])
    keep = block.joins[0].kind in LEFT_ROWS
    facts = replace(prefixed, key=None, placed=None) if keep else Facts()
    tables = [(left.table, left.rows), (right.table, right.rows)]
    return recompute(draft, f"{path}/join", tables, sql, keys=keys, facts=facts, null_matches=False, once=True, label="join of windows")


# The chain


def _chain(draft: Draft, block: Block, sources: Sequence[Source], path: str, plan: PlanQuery) -> Rows:
    first, *others = sources
    rows = _flat(draft, first)
    visible = [first]
    for number, (join, right) in enumerate(zip(block.joins, others, strict=True), 2):
        rows = _join(draft, join, rows, visible, right, f"{path}/join{number}")
        if join.kind not in ("semi", "anti"):
            visible.append(right)
    sides = subquery_sides(draft, block.input_subqueries, f"{path}/where", plan)
    source = structs(visible, quote(draft.source(rows)), (quote(WEIGHT),) if rows.weighted else ())
    return _finished(draft, project_inputs(draft, block, draft.opened(rows), path, source, sides), path)


def _flat(draft: Draft, source: Source) -> Rows:
    """Give a leaf's rows columns that are called ``alias.column``."""
    rows = draft.called(_reduced(draft, source), source.table)
    columns = [Named(f"{quote(source.alias)}.{quote(name)}", flat_name(source, name)) for name in rows.names]
    return draft.step(rows, columns, source=f"{quote(source.table)} AS {quote(source.alias)}", label="project")


def _prefixed(facts: Facts, alias: str) -> Facts:
    """Say what is known of rows whose columns are now called ``alias.column``."""

    def name(own: str) -> str:
        return f"{alias}.{own}"

    return replace(
        facts,
        key=None if facts.key is None else tuple(frozenset(map(name, part)) for part in facts.key),
        placed=tuple(map(name, facts.placed)) if isinstance(facts.placed, tuple) else facts.placed,
        windows={name(own): window for own, window in facts.windows.items()},
        complete=frozenset(map(name, facts.complete)),
    )


def flat_name(source: Source, column: str) -> str:
    """Name a leaf's column in rows of several leaves."""
    return f"{source.alias}.{column}"


def structs(visible: Sequence[Source], table: str, more: Sequence[str] = ()) -> str:
    """Write a FROM item in which every leaf is a struct under its alias again, so that ``o.amount`` means what the user wrote."""
    packed = []
    for source in visible:
        fields = (f"{quote(name)} := {quote(flat_name(source, name))}" for name in source.rows.names)
        packed.append(f"struct_pack({', '.join(fields)}) AS {quote(source.alias)}")
    return f"({select([*packed, *more], table)})"


def _join(draft: Draft, join: Join, left: Rows, visible: Sequence[Source], right: Source, path: str) -> Rows:
    """Join what has been joined so far with one more leaf."""
    right_rows = _flat(draft, right)
    bound = join.time_bound
    left_rows, left_names = _keyed(draft, left, visible, [*join.left_keys, *([bound.left] if bound else [])], "left")
    right_rows, right_names = _keyed(draft, right_rows, [right], [*join.right_keys, *([bound.right] if bound else [])], "right")
    left_rows, right_rows = draft.settled(left_rows, f"{path}/left"), draft.settled(right_rows, f"{path}/right")
    interval = None
    delays = left_rows.facts.timely_us, right_rows.facts.timely_us
    if bound is not None and not left_rows.retracts and not right_rows.retracts and delays[0] is not None and delays[1] is not None:
        # Rows that come later than their time says meet others that must still be there.
        delay = max(delays[0], delays[1])
        interval = Interval(left_names.pop(), right_names.pop(), bound.lower_us - delay, bound.upper_us + delay)
    elif bound is not None:
        draft.because(f"{join.right} is joined within a time, but rows of one side can be of any age: both sides are kept")
        left_names.pop(), right_names.pop()
    exchanges = _exchanges(draft, join, left_rows, right_rows, left_names, right_names)
    edges = draft.edge(left_rows, exchanges[0]), draft.edge(right_rows, exchanges[1])
    both = [*left_rows.schema, *([] if join.kind in ("semi", "anti") else right_rows.schema)]
    schema = pa.schema([pa.field(field.name, field.type) for field in both])
    residual = _residual(join, [*visible, right]) if join.on is not None and (join.residual or interval is not None) else None
    keys = tuple(left_names), tuple(right_names)
    kind = "inner" if join.kind == "cross" and (keys[0] or residual) else join.kind
    wide = [*draft.wide(left_rows), *draft.wide(right_rows)]
    if join.as_of_now:
        if left_rows.retracts:
            raise BindError(
                "FOR SYSTEM_TIME AS OF PROCTIME() looks up rows that are only ever added; the left side can be withdrawn",
                hint="join plainly, or look up before aggregating",
            )
        facts = _facts(join, left_rows, right_rows, keys, exchanges, None, lookup=True)
        lookup = Lookup(f"{path}/lookup", *edges, kind, *keys, residual, schema, retracts=False)
        return draft.add(lookup, facts, wide)
    appends = not left_rows.retracts and not right_rows.retracts
    final = draft.final and interval is not None
    retracts = not (appends and (join.kind in ("inner", "cross", "semi") or final))
    facts = _facts(join, left_rows, right_rows, keys, exchanges, interval, lookup=False)
    return draft.add(JoinNode(f"{path}/join", *edges, kind, *keys, residual, schema, retracts, interval, final), facts, wide)


def _keyed(draft: Draft, rows: Rows, visible: Sequence[Source], expressions: Sequence[str], side: str) -> tuple[Rows, list[str]]:
    """Give rows a column for each expression, unless it is one of theirs."""
    flat = [flat_name(source, name) for source in visible for name in source.rows.names]
    names, added = [], []
    for number, sql in enumerate(expressions, 1):
        own = column_of(sql, rows.names)
        names.append(own or f"#{side}{number}")
        if own is None:
            added.append(Named(sql, f"#{side}{number}"))
    if not added:
        return rows, names
    own_columns = [Named(quote(name), name) for name in flat]
    source = structs(visible, quote(draft.source(rows)), [*map(quote, flat), *([quote(WEIGHT)] if rows.weighted else [])])
    return draft.step(draft.opened(rows), [*own_columns, *added], source=source, label="keys"), names


def _residual(join: Join, sides: Sequence[Source]) -> str:
    """Write the SELECT of the candidate pairs that match."""
    assert join.on is not None
    return select((quote(PAIR),), structs(sides, quote(INPUT), (quote(PAIR),)), where=join.on)


def _exchanges(
    draft: Draft, join: Join, left: Rows, right: Rows, left_names: Sequence[str], right_names: Sequence[str]
) -> tuple[Exchange, Exchange]:
    if left_names:
        return (
            Hash(tuple(left_names), in_place=left.placed == tuple(left_names)),
            Hash(tuple(right_names), in_place=right.placed == tuple(right_names)),
        )
    if join.kind in LEFT_ROWS:
        draft.because(f"{join.right} is joined without an equality: every partition has all of it")
        return draft.kept(left), Broadcast()
    draft.because(f"the {join.kind} join with {join.right} has no equality: one partition joins")
    return Gather(), Gather()


# What is known of joined rows


def _facts(
    join: Join,
    left: Rows,
    right: Rows,
    keys: tuple[Sequence[str], Sequence[str]],
    exchanges: tuple[Exchange, Exchange],
    interval: Interval | None,
    *,
    lookup: bool,
) -> Facts:
    """Say what is known of the rows of a join. Which of them have windows, the block says."""
    timely, complete = None, frozenset[str]()
    if lookup:
        timely, complete = left.facts.timely_us, left.facts.complete
    elif interval is not None:
        timely = max(interval.upper_us, -interval.lower_us, 0)
    windows = {**right.facts.windows, **left.facts.windows}
    key = left.facts.key if join.kind in ("semi", "anti") else _both_keys(join, left.facts.key, right.facts.key, keys)
    return Facts(key, _placement(join, left, keys, exchanges), windows, complete, timely)


def _placement(join: Join, left: Rows, keys: tuple[Sequence[str], Sequence[str]], exchanges: tuple[Exchange, Exchange]) -> Placement:
    match exchanges[0]:
        case Hash(columns) if join.kind in LEFT_ROWS:
            return columns
        case Hash() if join.kind == "right":
            return tuple(keys[1])
        case Gather():
            return SINGLE
        case Keep():
            return left.placed
        case _:
            return None


def _both_keys(join: Join, left: Key | None, right: Key | None, keys: tuple[Sequence[str], Sequence[str]]) -> Key | None:
    """Put the keys of both sides together. What is equal in all rows that join can stand for each other."""
    if left is None or right is None:
        return None
    parts = [*left, *right]
    if join.kind in ("inner", "left", "right"):
        equal = list(zip(*keys, strict=True))
        parts = [part | {a for a, b in equal if b in part and join.kind != "right"} for part in parts]
        parts = [part | {b for a, b in equal if a in part and join.kind != "left"} for part in parts]
    return tuple(parts)
