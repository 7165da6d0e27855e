"""Pieces of taking a SELECT apart: its output columns, the names it gives, and rewriting expressions part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count

from sqlglot import exp


@dataclass(slots=True)
class Item:
    """An output column: its expression over the relations, then over what is below the items."""

    name: str
    resolved: exp.Expr
    over: exp.Expr | None = None


@dataclass(slots=True)
class Names:
    """Names for inputs and calls. A name that an output column has belongs to the expression of that column."""

    owners: dict[str, exp.Expr]
    taken: set[str] = field(default_factory=set)

    def give(self, stem: str, node: exp.Expr) -> str:
        candidates = (stem if number == 0 else f"{stem}_{number}" for number in count())
        name = next(name for name in candidates if name.lower() not in self.taken and self.owners.get(name.lower(), node) == node)
        self.taken.add(name.lower())
        return name

    def owned_by(self, node: exp.Expr) -> str | None:
        return next((name for name, owner in self.owners.items() if owner == node), None)


def outside_queries(node: exp.Expr) -> Iterator[exp.Expr]:
    """Go through a tree without entering the queries inside it."""
    inside = node.walk(prune=lambda part: isinstance(part, exp.Query))
    return iter(list(inside))


def has_query(node: exp.Expr) -> bool:
    return node.find(exp.Query) is not None


def rewrite_topmost(node: exp.Expr, replace: Callable[[exp.Expr], exp.Expr | None]) -> exp.Expr:
    """Replace the topmost parts for which `replace` gives something; subqueries stay as they are."""
    if isinstance(node, exp.Query):
        return node.copy()
    found = replace(node)
    if found is not None:
        return found
    copy = node.copy()
    for name, value in node.args.items():
        if isinstance(value, exp.Expr):
            copy.set(name, rewrite_topmost(value, replace))
        elif isinstance(value, list):
            copy.set(name, [rewrite_topmost(part, replace) if isinstance(part, exp.Expr) else part for part in value])
    return copy
