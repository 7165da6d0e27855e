"""Pieces of taking a SELECT apart: its output columns, the names it gives, and rewriting expressions part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count

from sqlglot import exp

from streamq.sql.marks import keep_marks
from streamq.sql.walks import parts


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
    return iter(parts(node, into_queries=False))


def has_query(node: exp.Expr) -> bool:
    return node.find(exp.Query) is not None


def rewrite_topmost(node: exp.Expr, replace: Callable[[exp.Expr], exp.Expr | None]) -> exp.Expr:
    """Replace the topmost parts for which `replace` gives something; subqueries stay as they are."""
    return rewrite_parts(node, lambda part: part.copy() if isinstance(part, exp.Query) else replace(part))


def rewrite_parts(node: exp.Expr, replace: Callable[[exp.Expr], exp.Expr | None]) -> exp.Expr:
    """Copy a tree with the topmost parts replaced for which `replace`, which is asked from left to right, gives something.

    >>> from sqlglot import parse_one
    >>> rewrite_parts(parse_one("a + b * 2"), lambda part: exp.Null() if isinstance(part, exp.Column) else None).sql()
    'NULL + NULL * 2'
    """
    # Without calls of itself and in one pass: chains of operators may have a thousand terms.
    kept: list[exp.Expr] = []
    made: dict[int, exp.Expr] = {}
    pending = [node]
    while pending:
        part = pending.pop()
        found = replace(part)
        if found is not None:
            made[id(part)] = found
            continue
        kept.append(part)
        pending.extend(part.iter_expressions(reverse=True))
    for part in reversed(kept):
        made[id(part)] = _with_parts(part, made)
    return made[id(node)]


def _with_parts(node: exp.Expr, made: Mapping[int, exp.Expr]) -> exp.Expr:
    """Copy one node, with its parts as they were made."""

    def part(value: object) -> object:
        return made[id(value)] if isinstance(value, exp.Expr) else value

    parts = {name: [part(each) for each in value] if isinstance(value, list) else part(value) for name, value in node.args.items()}
    copy = type(node)(**parts)
    copy.comments = node.comments
    keep_marks(copy, node)
    if not isinstance(node, exp.Cast | exp.DataType):
        copy.type = node.type
    return copy
