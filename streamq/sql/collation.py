"""Collations: rules by which text compares, which DuckDB's types carry from query to query and Arrow's do not."""

from __future__ import annotations

from sqlglot import exp

from streamq.sql.walks import find_all


def carries_collation(node: exp.Expr) -> bool:
    """Tell whether a query has a COLLATE that its columns carry on, or that says which rows meet or are one group.

    Those in ORDER BY, and in WHERE over one relation, say nothing beyond their place.
    """
    return any(not _stays(collate) for collate in find_all(node, exp.Collate))


def _stays(collate: exp.Collate) -> bool:
    node: exp.Expr = collate
    parent = node.parent
    while parent is not None and not isinstance(parent, exp.Query):
        if isinstance(parent, exp.Window):
            return False
        node, parent = parent, parent.parent
    return isinstance(node, exp.Order) or (isinstance(node, exp.Where) and parent is not None and not parent.args.get("joins"))
