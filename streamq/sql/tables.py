"""Table references in a syntax tree: which are CTEs, which are relations, and replacing them."""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from streamq.sql.binder import SYSTEM_TABLES
from streamq.sql.statements import Select
from streamq.sql.text import identifier

Replace = Callable[[exp.Table, frozenset[str]], exp.Expr | None]
"""Gives what a table reference becomes (None: as it is), told the names of the CTEs in sight."""


def table_name(table: exp.Table) -> str | None:
    """Give the lower-case name of the relation that a reference can mean; None for functions and qualified names."""
    if not isinstance(table.this, exp.Identifier) or table.catalog or table.db not in ("", SYSTEM_TABLES):
        return None
    return table.name.lower()


def map_tables(node: exp.Expr, replace: Replace) -> exp.Expr:
    """Replace the references to anything but CTEs in a copy of a tree. References to a CTE are not offered to `replace`."""
    copy = node.copy()
    _map(copy, frozenset(), replace)
    return copy


def tables(node: exp.Expr) -> list[tuple[exp.Table, frozenset[str]]]:
    """List the references that `map_tables` offers, with the names of the CTEs in sight."""
    found: list[tuple[exp.Table, frozenset[str]]] = []

    def note(table: exp.Table, visible: frozenset[str]) -> None:
        found.append((table, visible))

    _map(node, frozenset(), note)
    return found


def _map(node: exp.Expr, visible: frozenset[str], replace: Replace) -> None:
    with_ = node.args.get("with_")
    if with_ is not None:
        for cte in with_.expressions:
            own = visible | {cte.alias.lower()} if with_.args.get("recursive") else visible
            _map(cte.this, own, replace)
            visible |= {cte.alias.lower()}
    if isinstance(node, exp.Table):
        is_cte = isinstance(node.this, exp.Identifier) and not node.db and node.name.lower() in visible
        if not is_cte and (replacement := replace(node, visible)) is not None:
            node.replace(replacement)
            # Tables that it is joined with, in parentheses, have come along as they are.
            for join in replacement.args.get("joins") or ():
                _map(join, visible, replace)
            return
    for name, value in list(node.args.items()):
        if name == "with_":
            continue
        for part in list(value) if isinstance(value, list) else [value]:
            if isinstance(part, exp.Expr):
                _map(part, visible, replace)


def leaf_table(table: exp.Table, leaf: str) -> exp.Table:
    """Give the reference to a leaf in place of a table, under the name that the user's references have."""
    copy = table.copy()
    alias = copy.args.get("alias") or exp.TableAlias()
    if not alias.this:
        alias.set("this", identifier(table.name))
    copy.set("this", identifier(leaf))
    copy.set("db", None)
    copy.set("alias", alias)
    return copy


def names_read(select: Select) -> frozenset[str]:
    """Give the lower-case names of the relations and views that a SELECT's text names, not those inside the views."""
    names = (table_name(table) for table, _ in tables(select.ast))
    return frozenset(name for name in names if name is not None)
