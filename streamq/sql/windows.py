"""Time windows in plain DuckDB SQL: the three spellings become expressions and relations that mean the same.

A row without an event time is in no window and goes.

* Tumbling: a window's start is an expression over the row.
* Hopping: the row is repeated for each of its windows, by an UNNEST of its distances from their starts.
* Session: the rows go through `streamq.sql.sessions` first, which gives them the bounds of their session.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from sqlglot import exp

from streamq.errors import BindError
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.sql.sessions import END, START, sessions_of
from streamq.sql.text import column, identifier
from streamq.sql.trees import (
    INPUT_CLAUSES,
    OUTPUT_CLAUSES,
    add_condition,
    clause_nodes,
    hide_from_star,
    is_not_null,
    named,
    selects_inside_out,
    subquery,
)
from streamq.sql.window_bounds import DISTANCE, after, before, distance, hops, mark_bound, mark_timed
from streamq.sql.window_grammar import TimeWindow

WatermarkColumn = Callable[[str], str | None]
"""Gives the event time column of a relation, by its lower-case name; None if it has none."""
_ROWS = "window#rows"


def rewrite_time_windows(ast: exp.Expression, watermark_column: WatermarkColumn) -> exp.Expression:
    """Write every time window of a query as plain SQL. Aliases must have been expanded. Gives a new tree.

    Raises:
        BindError: a window stands where it has no meaning, or its time column cannot be known.
    """
    copy = ast.copy()
    for table in [table for table in copy.find_all(exp.Table) if isinstance(table.this, TimeWindow)][::-1]:
        table.replace(_window_relation(table))
    ctes = {cte.alias.lower() for cte in copy.find_all(exp.CTE)}
    for select in selects_inside_out(copy):
        _rewrite_select(select, lambda name: None if name in ctes else watermark_column(name))
    if copy.find(TimeWindow) is not None:
        raise BindError("a time window stands in SELECT, GROUP BY or FROM of a query only")
    return copy


def _hops(window: TimeWindow) -> exp.Join:
    """Repeat each row for each of its windows: `DISTANCE` is how far it is from the window's start."""
    return hops(window.this, *(window.microseconds(name) for name in ("size", "slide", "offset")))


def _start_and_end(window: TimeWindow) -> tuple[exp.Expression, exp.Expression]:
    """Give the bounds of a row's window, over rows that `_hops` or `sessions_of` prepared where the kind needs it."""
    if window.args["kind"] == "session":
        return column(START), column(END)
    size = window.microseconds("size")
    if window.args["kind"] == "hop":
        start = before(window.this, column(DISTANCE))
    else:
        start = before(window.this, distance(window.this, size, window.microseconds("offset")))
    start = mark_bound(start, window, size)
    return start, mark_bound(after(start, size), window, 0)


# Table functions


def _window_relation(table: exp.Table) -> exp.Subquery:
    """Write `TUMBLE(t, ts, size)` as the rows of `t` with `window_start` and `window_end`."""
    window = table.this
    assert isinstance(window, TimeWindow)
    relation = window.args["relation"]
    alias = table.args.get("alias") or exp.TableAlias()
    if not relation.alias:
        relation.set("alias", exp.TableAlias(this=identifier(relation.name or alias.name or _ROWS)))
    system = _system_columns(table) if isinstance(relation, exp.Table) else []
    rows = exp.Select(expressions=[exp.Star(), *map(column, system)], from_=exp.From(this=relation))
    add_condition(rows, mark_timed(is_not_null(window.this), window))
    if window.args["kind"] == "session":
        rows = sessions_of(rows, window.this, window.args.get("keys") or [], window.microseconds("gap"))
        for bound, name in zip(rows.expressions[-2:], ("window_start", "window_end"), strict=True):
            bound.set("alias", identifier(name))
    else:
        if window.args["kind"] == "hop":
            rows.append("joins", _hops(window))
            hide_from_star(rows, [DISTANCE])
        start, end = _start_and_end(window)
        rows.append("expressions", named(start, "window_start"))
        rows.append("expressions", named(end, "window_end"))
    if not alias.this:
        alias.set("this", identifier(relation.alias_or_name))
    kept = {name: table.args[name] for name in ("joins", "laterals", "pivots", "sample") if table.args.get(name)}
    return exp.Subquery(this=rows, alias=alias, **kept)


def _system_columns(table: exp.Table) -> list[str]:
    """Find the system columns that the query around a table function uses: `*` inside would not have them."""
    select = table.find_ancestor(exp.Select)
    if select is None:
        return []
    own = {"", table.alias_or_name.lower(), table.this.args["relation"].alias_or_name.lower()}
    used = {node.name.lower() for node in select.find_all(exp.Column) if node.table.lower() in own}
    names = [name for name in SYSTEM_SCHEMA.names if name in used]
    hide_from_star(select, names)
    return names


# Grouping functions and the WINDOW clause


def _rewrite_select(select: exp.Select, watermark_column: WatermarkColumn) -> None:
    _apply_window_clause(select, watermark_column)
    windows = [node for node in clause_nodes(select, (*INPUT_CLAUSES, *OUTPUT_CLAUSES)) if isinstance(node, TimeWindow)]
    if not windows:
        return
    window = windows[0]
    if any(other != window for other in windows):
        raise BindError("a SELECT has one time window", hint="compute the other in a subquery or a CTE")
    if select.args.get("from_") is None:
        raise BindError("a time window needs FROM")
    kind = window.args["kind"]
    if kind != "tumble" and any(isinstance(node, TimeWindow) for node in clause_nodes(select, INPUT_CLAUSES)):
        raise BindError(
            "only tumbling windows can stand in WHERE and ON: a row has several hopping windows, and sessions are made of filtered rows",
            hint="filter by the window in HAVING, or around a subquery",
        )
    prototype = window.copy()
    if kind == "session":
        _read_sessions(select, prototype)
    else:
        add_condition(select, mark_timed(is_not_null(prototype.this), prototype))
        if kind == "hop":
            select.append("joins", _hops(prototype))
            hide_from_star(select, [DISTANCE])
    for node in [node for node in clause_nodes(select, (*INPUT_CLAUSES, *OUTPUT_CLAUSES)) if isinstance(node, TimeWindow)]:
        _replace_window(node, *_start_and_end(prototype))


def _replace_window(node: TimeWindow, start: exp.Expression, end: exp.Expression) -> None:
    parent = node.parent
    while isinstance(parent, exp.Paren):
        parent = parent.parent
    if isinstance(parent, exp.Dot) and parent.expression.name.lower() in ("start", "end"):
        field = parent.expression.name.lower()
        replacement = start if field == "start" else end
        bare = replacement if isinstance(parent.parent, exp.Alias) else exp.Paren(this=replacement)
        parent.replace(named(replacement, field) if isinstance(parent.parent, exp.Select) else bare)
    elif _identifies_rows(node):
        node.replace(start)
    else:
        fields = [exp.PropertyEQ(this=identifier(name), expression=value) for name, value in (("start", start), ("end", end))]
        struct = exp.Struct(expressions=fields)
        node.replace(named(struct, "window") if isinstance(node.parent, exp.Select) else struct)


def _identifies_rows(node: TimeWindow) -> bool:
    """Tell whether only the identity of the window matters: then its start is enough."""
    parent = node.parent
    while isinstance(parent, exp.Paren | exp.Tuple | exp.GroupingSets | exp.Rollup | exp.Cube):
        parent = parent.parent
    return isinstance(parent, exp.Group) or (isinstance(parent, exp.Window) and node.arg_key == "partition_by")


def _apply_window_clause(select: exp.Select, watermark_column: WatermarkColumn) -> None:
    """Turn `WINDOW TUMBLING(1m)` into a grouping function, with `window_start` and `window_end` for its bounds."""
    window = select.args.pop("time_window", None)
    if window is None:
        return
    if window.this is None:
        window.set("this", _watermark_of(select, watermark_column))
    group = select.args.get("group") or exp.Group()
    if group.args.get("all"):
        raise BindError("GROUP BY ALL does not go with the clause WINDOW", hint="name the keys, or write the window in SELECT")
    bounds = {"window_start": "start", "window_end": "end"}
    for node in [node for node in clause_nodes(select, OUTPUT_CLAUSES) if isinstance(node, exp.Column) and not node.table]:
        name = node.name.lower()
        if name in bounds and not _is_aliased(select, name):
            bound = exp.Dot(this=window.copy(), expression=identifier(bounds[name]))
            node.replace(named(bound, name) if isinstance(node.parent, exp.Select) else bound)
    if not any(node == window for node in group.expressions):
        group.append("expressions", window)
    select.set("group", group)


def _is_aliased(select: exp.Select, name: str) -> bool:
    return any(isinstance(item, exp.Alias) and item.alias.lower() == name for item in select.expressions)


def _watermark_of(select: exp.Select, watermark_column: WatermarkColumn) -> exp.Expression:
    relations = list(_relations(select))
    found = [(table, time) for table in relations if (time := watermark_column(table.name.lower())) is not None]
    if len(found) != 1:
        raise BindError(
            "the clause WINDOW has no time column, and " + ("several relations have" if found else "no relation has") + " a watermark",
            hint="name it: WINDOW TUMBLING(ts, 1m)",
        )
    table, time = found[0]
    return column(time, table.alias_or_name if len(relations) > 1 or select.args.get("joins") else None)


def _relations(select: exp.Select) -> Iterator[exp.Table]:
    from_ = select.args.get("from_")
    items = [from_.this if from_ else None, *(join.this for join in select.args.get("joins") or ())]
    for item in items:
        if item is not None:
            items.extend(join.this for join in item.args.get("joins") or ())
        if isinstance(item, exp.Table) and not item.db:
            yield item


# Sessions of a SELECT


def _read_sessions(select: exp.Select, window: TimeWindow) -> None:
    """Put FROM and WHERE of a SELECT into a relation whose rows know their session, one session per other GROUP BY key."""
    keys = _session_keys(select, window)
    rows = exp.Select(expressions=[])
    for clause in INPUT_CLAUSES:
        if value := select.args.pop(clause, None):
            rows.set(clause, value)
    add_condition(rows, mark_timed(is_not_null(window.this), window))
    if any(isinstance(item, exp.Star) for item in select.expressions):
        rows.append("expressions", exp.Star())
    _keep_names(select)
    captured = _capture_columns(select, rows)
    found = sessions_of(rows, window.this, keys, window.microseconds("gap"))
    select.set("from_", exp.From(this=subquery(found, _ROWS)))
    hide_from_star(select, [*captured, START, END])
    if group := select.args.get("group"):
        group.append("expressions", column(END))


def _session_keys(select: exp.Select, window: TimeWindow) -> list[exp.Expression]:
    group = select.args.get("group")
    if group is None:
        return []
    if group.args.get("all") or any(group.args.get(name) for name in ("grouping_sets", "rollup", "cube")):
        raise BindError("sessions are per key, so GROUP BY must name the keys", hint="list them: GROUP BY k, SESSION(ts, gap)")
    keys = [_projection_at(select, key) for key in group.expressions]
    return [key for key in keys if key != window]


def _projection_at(select: exp.Select, key: exp.Expression) -> exp.Expression:
    """Resolve `GROUP BY 1`."""
    if not isinstance(key, exp.Literal) or key.is_string or not 1 <= int(key.name) <= len(select.expressions):
        inner = key.unnest()
        assert isinstance(inner, exp.Expression)
        return inner
    resolved = select.expressions[int(key.name) - 1].unalias()
    assert isinstance(resolved, exp.Expression)
    key.replace(resolved.copy())
    return resolved


def _keep_names(select: exp.Select) -> None:
    """Name the expressions that would be named after their text, which is about to change."""
    for item in list(select.expressions):
        if not isinstance(item, exp.Alias | exp.Column | exp.Star | TimeWindow | exp.Dot):
            item.replace(named(item.copy(), item.sql(dialect="duckdb", normalize_functions="lower", comments=False)))


def _capture_columns(select: exp.Select, rows: exp.Select) -> list[str]:
    """Hand every column that the SELECT uses through `rows`, under a name of its own, and refer to that."""
    outputs = {item.alias.lower() for item in select.expressions if isinstance(item, exp.Alias)}
    names: dict[str, str] = {}
    for node in [node for node in clause_nodes(select, OUTPUT_CLAUSES) if isinstance(node, exp.Column)]:
        if isinstance(node.this, exp.Star):
            raise BindError(f"{node.sql()} does not go with SESSION", hint="name the columns")
        if node.find_ancestor(exp.Order) and not node.find_ancestor(exp.Window) and not node.table and node.name.lower() in outputs:
            continue
        if node.find_ancestor(TimeWindow):
            continue
        path = ".".join(part.name.lower() for part in node.parts)
        if path not in names:
            names[path] = f"session#{path}"
            rows.append("expressions", named(node.copy(), names[path]))
        reference = column(names[path])
        node.replace(named(reference, node.name) if isinstance(node.parent, exp.Select) else reference)
    return list(names.values())
