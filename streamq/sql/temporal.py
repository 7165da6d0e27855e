"""Joins with a table as it is when a row is processed: `JOIN t FOR SYSTEM_TIME AS OF PROCTIME()`."""

from __future__ import annotations

from sqlglot import exp

from streamq.sql.walks import find_all

_AS_OF_NOW = "as of now"


def join_at_cut(ast: exp.Expr) -> exp.Expr:
    """Read the tables of temporal joins at the query's one cut, which is what a snapshot query sees. Gives a new tree if there are any."""
    if not any(table.args.get("version") for table in find_all(ast, exp.Table)):
        return ast
    copy = ast.copy()
    for table in copy.find_all(exp.Table):
        if table.args.get("version") is not None:
            table.set("version", None)
            table.meta[_AS_OF_NOW] = True
    return copy


def is_as_of_now(node: exp.Expr) -> bool:
    """Tell whether a part of FROM is to be looked up as it is when a row comes."""
    return bool(node.meta_get(_AS_OF_NOW))


def keep_as_of_now(node: exp.Expr, table: exp.Expr) -> None:
    """Say the same of what stands in a table's place."""
    if is_as_of_now(table):
        node.meta[_AS_OF_NOW] = True
