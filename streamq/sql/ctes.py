"""CTEs: which of them a place in a query sees, and whether each can be put in where it is named."""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from streamq.sql.columns import NotLowered
from streamq.sql.functions import calls, is_volatile
from streamq.sql.trees import unwrap
from streamq.sql.walks import find_all

CteScope = Mapping[str, exp.CTE]
"""The CTEs that a place can name, by lower-case name, in order of definition."""
_ORDER_DEPENDENT = frozenset(
    {"first", "last", "any_value", "arbitrary", "list", "array_agg", "string_agg", "listagg", "group_concat", "mode"}
)


def enter(node: exp.Expr, ctes: CteScope) -> CteScope:
    """Give the CTEs that the body of a query sees.

    Raises:
        NotLowered: inlining one of them would change the answer.
    """
    with_ = node.args.get("with_")
    if with_ is None:
        return ctes
    inner = dict(ctes)
    for cte in with_.expressions:
        name = cte.alias.lower()
        uses = _uses(node, name)
        if with_.args.get("recursive") and _uses(cte.this, name):
            raise NotLowered("recursive CTE")
        if uses > 1 and _depends_on_order(cte.this):
            raise NotLowered("CTE that is read twice and may differ from reading to reading")
        if name in inner:
            raise NotLowered("CTE that hides another")
        inner[name] = cte
    return inner


def named_cte(table: exp.Table, ctes: CteScope) -> tuple[exp.Expr, CteScope, list[str]] | None:
    """Find the CTE that a table reference names: its query, the CTEs it sees, the names of its column list."""
    cte = ctes.get(table.name.lower()) if not table.db else None
    if cte is None:
        return None
    names = list(ctes)
    before = {name: ctes[name] for name in names[: names.index(table.name.lower())]}
    return cte.this, before, [part.name for part in cte.args["alias"].args.get("columns") or ()]


def standalone(node: exp.Expr, ctes: CteScope) -> exp.Expr:
    """Give a query that carries the CTEs it needs: a copy, if it needs any of `ctes`."""
    query = unwrap(node)
    needed = read_ctes(query, ctes) if ctes else set()
    if not needed:
        return query
    copy = query.copy()
    own = copy.args.get("with_")
    expressions = [ctes[name].copy() for name in ctes if name in needed] + (list(own.expressions) if own is not None else [])
    copy.set("with_", exp.With(expressions=expressions, recursive=own.args.get("recursive") if own is not None else None))
    return copy


def read_ctes(node: exp.Expr, ctes: CteScope) -> set[str]:
    """Name the CTEs that a query reads, and those that they read."""
    found: set[str] = set()
    pending = [node]
    while pending:
        for table in find_all(pending.pop(), exp.Table):
            name = table.name.lower()
            if not table.db and name in ctes and name not in found:
                found.add(name)
                pending.append(ctes[name].this)
    return found


def _uses(node: exp.Expr, name: str) -> int:
    return sum(table.name.lower() == name and not table.db for table in find_all(node, exp.Table))


def _depends_on_order(node: exp.Expr) -> bool:
    """Tell whether running a query twice may give two answers over the same rows."""
    if is_volatile(node) or node.find(exp.Window, exp.Limit, exp.Offset) is not None:
        return True
    if any(distinct.args.get("on") for distinct in node.find_all(exp.Distinct)):
        return True
    return any(name in _ORDER_DEPENDENT for _, name in calls(node))
