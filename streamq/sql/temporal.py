"""Joins with a table as it is when a row is processed: `JOIN t FOR SYSTEM_TIME AS OF PROCTIME()`."""

from __future__ import annotations

from sqlglot import exp


def join_at_cut(ast: exp.Expr) -> exp.Expr:
    """Read the tables of temporal joins at the query's one cut, which is what a snapshot query sees. Gives a new tree."""
    copy = ast.copy()
    for table in copy.find_all(exp.Table):
        table.set("version", None)
    return copy
