"""Walks of syntax trees that change nothing: sqlglot's own, in the same order, without a generator inside a generator for each node."""

from __future__ import annotations

from typing import TypeVar

from sqlglot import exp

_Node = TypeVar("_Node", bound=exp.Expr)


def parts(node: exp.Expr, *, into_queries: bool = True) -> list[exp.Expr]:
    """List the nodes of a tree, level by level, perhaps without what is inside its queries.

    >>> from sqlglot import parse_one
    >>> [part.sql() for part in parts(parse_one("a * 2 + b"))]
    ['a * 2 + b', 'a * 2', 'b', 'a', '2', 'b', 'a']
    """
    found = [node]
    for part in found:
        if not into_queries and isinstance(part, exp.Query):
            continue
        for value in part.args.values():
            if isinstance(value, exp.Expr):
                found.append(value)
            elif isinstance(value, list):
                found.extend([each for each in value if isinstance(each, exp.Expr)])
    return found


def children(node: exp.Expr) -> list[exp.Expr]:
    """List the nodes right below a node."""
    found: list[exp.Expr] = []
    for value in node.args.values():
        if isinstance(value, exp.Expr):
            found.append(value)
        elif isinstance(value, list):
            found.extend([each for each in value if isinstance(each, exp.Expr)])
    return found


def holds(node: exp.Expr, *kinds: type[exp.Expr]) -> bool:
    """Tell whether a tree has a node of some kinds."""
    return any(isinstance(part, kinds) for part in parts(node))


def find_all(node: exp.Expr, *kinds: type[_Node]) -> list[_Node]:
    """List the nodes of some kinds in a tree, level by level."""
    return [part for part in parts(node) if isinstance(part, kinds)]
