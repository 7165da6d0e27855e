"""GROUP BY: accumulators by group where the calls allow it, else whole groups computed again when they change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from streamq.plan.continuous.accumulable import accumulable, function_of, means, merged, parts_of
from streamq.plan.continuous.draft import Draft
from streamq.plan.continuous.names import columns_of
from streamq.plan.continuous.recompute import group_columns, recompute
from streamq.plan.continuous.rows import SINGLE, Facts, Key, Placement, Rows, Step, as_named
from streamq.plan.continuous.state import MERGE
from streamq.plan.dataflow import INPUT, WINDOWS, Accumulate, Aggregate, Closing, Distinct, Hop, Recompute, edges
from streamq.plan.exchanges import Gather, Hash, Keep
from streamq.plan.render import is_name, named, quote, select
from streamq.sql.logical import Block, Call, Named


@dataclass(frozen=True, slots=True)
class Kept:
    """A call that an accumulator keeps: over the column `argument`, which is computed as `sql` (None for count_star)."""

    call: Call
    function: str
    argument: str | None
    sql: str | None
    type: pa.DataType
    wide: bool


def aggregate(draft: Draft, block: Block, rows: Rows, path: str) -> Rows:
    """Aggregate rows that have a block's inputs into rows of its keys and calls."""
    keys = block.keys or ()
    if keys and not block.calls:
        return _distinct_keys(draft, block, rows, path)
    rows = _ready_to_close(draft, block, rows, path)
    kept = _kept_calls(draft, block, rows)
    if kept is None and keys and (argument := _only_distinct_argument(block.calls)) is not None:
        return _count_distinct(draft, block, rows, path, argument)
    if kept is None:
        return _recomputed(draft, block, rows, path)
    if not keys and draft.partitions > 1 and not rows.retracts:
        return _in_two_phases(draft, block, rows, path, kept)
    return _accumulated(draft, block, rows, path, kept)


# What is known of groups


def _facts(block: Block, rows: Rows, placed: Placement, *, complete: bool) -> Facts:
    """Say what is known of rows of keys and calls. `complete` tells that a group comes once, when its window closes."""
    keys = block.keys or ()
    facts = rows.facts.through(keys, rows.names)
    names: Key = tuple(frozenset({key.name}) for key in keys)
    windows = {name: window for name, window in facts.windows.items() if name in {key.name for key in keys}}
    return Facts(_without_bounds(names, windows), placed, windows, frozenset(windows) if complete else frozenset())


def _without_bounds(key: Key, windows: Mapping[str, object]) -> Key:
    """Let the start or the end of a tumbling or hopping window stand for both, where both are grouped by."""
    bounds: dict[str, set[str]] = {}
    others: list[frozenset[str]] = []
    for part in key:
        (name,) = part
        window = windows.get(name)
        if window is None or getattr(window, "inclusive", False):
            others.append(part)
        else:
            bounds.setdefault(getattr(window, "origin", ""), set()).add(name)
    return (*others, *(frozenset(names) for names in bounds.values()))


def _hash_names(block: Block, rows: Rows) -> tuple[str, ...]:
    """Name the keys by which groups are brought together: those that later window functions partition by, if that is no window."""
    names = tuple(key.name for key in block.keys or ())
    facts = rows.facts.through(block.keys or (), rows.names)
    common = [n for n in names if block.partition_by and all(any(is_name(sql, n) for sql in terms) for terms in block.partition_by)]
    common = [name for name in common if name not in facts.windows]
    return tuple(common) or names


def _closing(block: Block, rows: Rows) -> Closing | None:
    """Find the group key that tells when its groups' window closes."""
    facts = rows.facts.through(block.keys or (), rows.names)
    found = next((key.name for key in block.keys or () if key.name in facts.windows), None)
    return None if found is None else facts.windows[found].closing(found)


def _ready_to_close(draft: Draft, block: Block, rows: Rows, path: str) -> Rows:
    """Before groups that are given once: rows that can be withdrawn wait until their window has closed."""
    window = _grouping_window(block, rows)
    if not draft.final or window is None or not rows.retracts:
        return rows
    return draft.held(rows, f"{path}/input", window)


def _grouping_window(block: Block, rows: Rows) -> str | None:
    """Find the column of the rows, itself a group key, that tells when their window closes."""
    owns = columns_of((key.sql for key in block.keys or ()), rows.names)
    return next((own for own in owns if own in rows.facts.windows), None)


# Accumulators


def _kept_calls(draft: Draft, block: Block, rows: Rows) -> list[Kept] | None:
    """Say how every call is kept, None if one cannot be."""
    calls = block.calls
    if any(not call.function or call.distinct or len(call.arguments) > 1 for call in calls):
        return None
    arguments = [_argument(call) for call in calls]
    columns = [Named(sql, f"#argument{number}") for number, sql in enumerate(arguments, start=1) if sql is not None]
    types: dict[str, pa.DataType] = {}
    if columns:
        types = {field.name: field.type for field in draft.step(rows, columns).schema}
    kept = []
    results = _result_types(draft, block, rows)
    owns = columns_of((sql or "" for sql in arguments), rows.names)
    for number, (call, sql, own) in enumerate(zip(calls, arguments, owns, strict=True), start=1):
        name = f"#argument{number}" if sql is not None else None
        function = "count" if call.function == "count_star" and sql is not None else call.function
        argument = types[name] if name is not None else None
        if (function != "count_star" and argument is None) or not accumulable(function, argument, rows.retracts):
            return None
        result, wide = results[call.name]
        kept.append(Kept(call, function, own or name, sql, result, wide))
    return kept


def _argument(call: Call) -> str | None:
    """Write the value that a call aggregates; rows that its FILTER leaves out give NULL."""
    argument = call.arguments[0] if call.arguments else None
    if call.function == "count_star":
        argument = None if call.condition is None else "1"
    if argument is None or call.condition is None:
        return argument
    return f"CASE WHEN {call.condition} THEN {argument} END"


def _result_types(draft: Draft, block: Block, rows: Rows) -> dict[str, tuple[pa.DataType, bool]]:
    """Give the type of every call's result, and whether it is a HUGEINT."""
    opened = draft.called(rows, "inputs") if not rows.steps else rows
    columns = tuple(f"{call.sql} AS {quote(call.name)}" for call in block.calls)
    whole = draft.sql_of(replace(opened, steps=(*opened.steps, Step("calls", columns, quote(draft.source(opened)))), carries=()))
    inputs = draft.inputs_of(opened)
    schema = draft.describe(whole, inputs)
    wide = draft.wide_of(whole, inputs, schema)
    return {field.name: (field.type, field.name in wide) for field in schema}


def _projected(draft: Draft, block: Block, rows: Rows, kept: Sequence[Kept]) -> Rows:
    """Give rows the keys and the calls' arguments as columns."""
    keys = block.keys or ()
    columns = {key.name: key for key in keys}
    for call in kept:
        if call.argument is not None and call.sql is not None:
            columns.setdefault(call.argument, Named(call.sql, call.argument))
    bare = columns_of((column.sql for column in columns.values()), rows.names) == [column.name for column in columns.values()]
    if bare and (not rows.steps or columns.keys() == set(rows.names)):
        return rows
    if not columns:
        columns["one"] = Named("1", "one")
    return draft.step(rows, list(columns.values()), label="arguments")


def _schema(rows: Rows, keys: Sequence[Named], calls: Sequence[Accumulate]) -> pa.Schema:
    return pa.schema([*(rows.schema.field(key.name) for key in keys), *(pa.field(call.name, call.type) for call in calls)])


def _accumulated(draft: Draft, block: Block, rows: Rows, path: str, kept: Sequence[Kept]) -> Rows:
    keys = block.keys or ()
    closing = _closing(block, rows)
    closes = draft.final and closing is not None
    if closes and _in_panes(block, rows, kept):
        return _hopped(draft, block, rows, path, kept)
    by = _hash_names(block, rows)
    facts = _facts(block, rows, by or SINGLE, complete=closes)
    projected = draft.settled(_projected(draft, block, rows, kept), f"{path}/input")
    calls = tuple(Accumulate(call.call.name, function_of(call.function), call.argument, call.type) for call in kept)
    exchange = draft.hashed(projected, by)
    if isinstance(exchange, Hash):
        facts = replace(facts, placed=exchange.columns)
    node = Aggregate(
        id=f"{path}/aggregate",
        input=draft.edge(projected, exchange),
        keys=tuple(key.name for key in keys),
        calls=calls,
        emit="close" if closes else "delta",
        closing=closing,
        schema=_schema(projected, keys, calls),
        retracts=not closes,
    )
    return draft.add(node, facts, [*(call.call.name for call in kept if call.wide), *draft.wide(projected)])


# Hopping windows


def _in_panes(block: Block, rows: Rows, kept: Sequence[Kept]) -> bool:
    """Tell whether rows are in hopping windows that are given when they close, and of which only their bounds matter here."""
    if rows.once is None or rows.retracts:
        return False
    said = [key.sql for key in block.keys or ()]
    keys = [sql for sql, own in zip(said, columns_of(said, rows.names), strict=True) if own not in rows.once.windows]
    return len(keys) < len(block.keys or ()) and not rows.once.used_in([*keys, *(call.sql for call in kept if call.sql is not None)])


def _hopped(draft: Draft, block: Block, rows: Rows, path: str, kept: Sequence[Kept]) -> Rows:
    """Keep a row once, with those that are in the same windows, and put windows together when they close."""
    keys, once, closing = block.keys or (), rows.once, _closing(block, rows)
    assert once is not None
    assert closing is not None
    owns = columns_of((key.sql for key in keys), rows.names)
    bounds = tuple(key.name for key, own in zip(keys, owns, strict=True) if own in once.windows)
    by = tuple(name for name in _hash_names(block, rows) if name not in bounds)
    facts = _facts(block, rows, by or SINGLE, complete=True)
    counted = replace(block, keys=(*keys, Named(quote(WINDOWS), WINDOWS)))
    projected = draft.settled(_projected(draft, counted, rows.read_once(), kept), f"{path}/input")
    calls = tuple(Accumulate(call.call.name, function_of(call.function), call.argument, call.type) for call in kept)
    exchange = draft.hashed(projected, by)
    if isinstance(exchange, Hash):
        facts = replace(facts, placed=exchange.columns)
    node = Hop(
        id=f"{path}/aggregate",
        input=draft.edge(projected, exchange),
        keys=tuple(key.name for key in keys),
        bounds=bounds,
        slide_us=once.slide_us,
        calls=calls,
        closing=closing,
        schema=_schema(projected, keys, calls),
    )
    draft.because("hopping windows: rows that are in the same windows are kept together once, and windows put together when they close")
    return draft.add(node, facts, [*(call.call.name for call in kept if call.wide), *draft.wide(projected)])


# One group of all rows


def _in_two_phases(draft: Draft, block: Block, rows: Rows, path: str, kept: Sequence[Kept]) -> Rows:
    """Aggregate in every partition, then merge its one row with the others'."""
    names: dict[str, dict[str, str]] = {}
    calls: list[Accumulate] = []
    types = _part_types(draft, block, rows, kept)
    for call in kept:
        names[call.call.name] = {part: f"{call.call.name}${part}" for part in parts_of(call.function)}
        calls += [
            Accumulate(name, function_of(part), None if part == "count_star" else call.argument, types[name])
            for part, name in names[call.call.name].items()
        ]
    projected = draft.settled(_projected(draft, block, rows, kept), f"{path}/input")
    local = Aggregate(
        id=f"{path}/partial",
        input=draft.edge(projected, Keep()),
        keys=(),
        calls=tuple(calls),
        emit="delta",
        closing=None,
        schema=_schema(projected, (), calls),
        retracts=True,
    )
    partial = draft.add(local)
    columns = [Named(merged(call.function, names[call.call.name], wide=call.wide), call.call.name) for call in kept]
    extra = means(names, {call.call.name: call.function for call in kept})
    source = f"(SELECT *, {', '.join(extra)} FROM {quote(INPUT)})" if extra else quote(INPUT)
    sql = select(named(columns), source)
    schema = draft.describe(sql, {INPUT: partial.schema})
    draft.because("one group of all rows: every partition aggregates its own, and partition 0 merges a row of each")
    node = Recompute(f"{path}/merge", (draft.edge(partial, Gather()),), (INPUT,), ((),), sql, schema, retracts=True, label=MERGE)
    return draft.add(node, Facts(key=(), placed=SINGLE), (call.call.name for call in kept if call.wide))


def _part_types(draft: Draft, block: Block, rows: Rows, kept: Sequence[Kept]) -> dict[str, pa.DataType]:
    """Give the types of the calls' parts, by their names."""
    calls = []
    for call in kept:
        for part in parts_of(call.function):
            sql = "count(*)" if part == "count_star" else f"{part}({call.sql})"
            calls.append(Call(f"{call.call.name}${part}", sql, (), ""))
    return {name: kind for name, (kind, _) in _result_types(draft, replace(block, calls=tuple(calls)), rows).items()}


# Whole groups


def _recomputed(draft: Draft, block: Block, rows: Rows, path: str) -> Rows:
    keys = block.keys or ()
    closing = _closing(block, rows)
    closes = draft.final and closing is not None
    by = _hash_names(block, rows)
    # Keys are columns before the SQL groups by them, so that their rows can be found again.
    inputs = as_named(rows.names)
    own = dict(zip((key.name for key in keys), columns_of((key.sql for key in keys), rows.names), strict=True))
    added = [key for key in keys if own[key.name] != key.name]
    rows = draft.step(rows, [*inputs, *added], label="keys") if added else rows
    rows = draft.settled(rows, f"{path}/input")
    if closes and closing is not None:
        rows = draft.held(rows, f"{path}/input", closing.column, by)
    why = ", ".join(call.sql for call in block.calls if not call.function or call.distinct) or ", ".join(call.sql for call in block.calls)
    if keys:
        draft.because(f"{why}: the groups that an epoch touches are computed again from their rows")
    else:
        draft.because(f"{why} over all rows: computed again from all of them in every epoch")
    columns = [*as_named([key.name for key in keys]), *(Named(call.sql, call.name) for call in block.calls)]
    columns += group_columns([key.name for key in keys]) if not closes else []
    sql = select(named(columns) or ('count(*) AS "rows"',), quote(INPUT), group_by=len(keys))
    facts = _facts(block, rows, None, complete=closes) if keys else Facts(key=())
    groups = recompute(
        draft,
        f"{path}/aggregate",
        [(INPUT, rows)],
        sql,
        keys=[[key.name for key in keys]] if keys else None,
        by=[by] if keys else None,
        facts=facts,
        once=closes,
        closing=None if closes else closing,
        grouped=bool(keys) and not closes,
        label="aggregate",
    )
    exchange = edges(draft.nodes[groups.node])[0].exchange
    return groups.knowing(placed=exchange.columns) if isinstance(exchange, Hash) else groups


# Calls that are about different values


def _distinct_keys(draft: Draft, block: Block, rows: Rows, path: str) -> Rows:
    """Group by keys without a call: give each different key once."""
    keys = block.keys or ()
    projected = draft.step(rows, keys, label="keys")
    return distinct(draft, projected, path).knowing(key=_facts(block, rows, None, complete=False).key)


def distinct(draft: Draft, rows: Rows, path: str) -> Rows:
    """Give each different row once."""
    rows = draft.settled(rows, f"{path}/distinct/input")
    found = rows.closing()
    exchange = draft.hashed(rows, rows.names)
    node = Distinct(f"{path}/distinct", draft.edge(rows, exchange), rows.schema, rows.retracts, None if found is None else found[1])
    facts = replace(rows.facts, key=rows.facts.key or tuple(frozenset({name}) for name in rows.names))
    placed = exchange.columns if isinstance(exchange, Hash) else SINGLE
    return draft.add(node, replace(facts, placed=placed), draft.wide(rows))


def _only_distinct_argument(calls: Sequence[Call]) -> str | None:
    """Find the argument of which all calls count the different values, if there is one such."""
    arguments = {call.arguments for call in calls if call.function == "count" and call.distinct and call.condition is None}
    if len(arguments) != 1 or any(call.function != "count" or not call.distinct or call.condition is not None for call in calls):
        return None
    (argument,) = arguments
    return argument[0] if len(argument) == 1 else None


def _count_distinct(draft: Draft, block: Block, rows: Rows, path: str, argument: str) -> Rows:
    """Count different values: keep the pairs of key and value that are there, then count those of each key."""
    keys = block.keys or ()
    value = "#value"
    projected = draft.step(rows, [*keys, Named(argument, value)], label="values")
    by = _hash_names(block, rows)
    projected = draft.settled(projected, f"{path}/values/input")
    found = projected.closing([key.name for key in keys])
    exchange = draft.hashed(projected, by)
    placed = exchange.columns if isinstance(exchange, Hash) else SINGLE
    closing = None if found is None else found[1]
    node = Distinct(f"{path}/values", draft.edge(projected, exchange), projected.schema, projected.retracts, closing)
    values = draft.add(node, replace(projected.facts, placed=placed, key=None), draft.wide(projected))
    draft.because(f"count(DISTINCT {argument}): the different values of each group are kept, and counted")
    calls = tuple(replace(call, sql=f"count({quote(value)})", arguments=(quote(value),), distinct=False) for call in block.calls)
    counted = replace(block, keys=as_named([key.name for key in keys]), calls=calls)
    kept = _kept_calls(draft, counted, values)
    assert kept is not None
    return _accumulated(draft, counted, values, path, kept)
