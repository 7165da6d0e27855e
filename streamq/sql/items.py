"""Pieces of taking a SELECT apart: its output columns, the names it gives, and rewriting expressions part by part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar

from sqlglot import exp

from streamq.sql.marks import keep_marks
from streamq.sql.walks import children, holds, parts

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


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
    _owned: dict[exp.Expr, str] = field(init=False)
    _used: dict[str, int] = field(default_factory=dict)
    """How many candidates of a stem, from its first, are all taken."""

    def __post_init__(self) -> None:
        self._owned = first_by((owner, name) for name, owner in self.owners.items())

    def give(self, stem: str, node: exp.Expr) -> str:
        used = self._used.get(stem, 0)
        while _candidate(stem, used).lower() in self.taken:
            used += 1
        self._used[stem] = used
        candidates = (_candidate(stem, number) for number in count(used))
        name = next(name for name in candidates if name.lower() not in self.taken and self.owners.get(name.lower(), node) == node)
        self.taken.add(name.lower())
        return name

    def owned_by(self, node: exp.Expr) -> str | None:
        return self._owned.get(node)


def _candidate(stem: str, number: int) -> str:
    return stem if number == 0 else f"{stem}_{number}"


def first_by(pairs: Iterable[tuple[_Key, _Value]]) -> dict[_Key, _Value]:
    """Give the value that each key has first.

    >>> first_by([("a", 1), ("b", 2), ("a", 3)])
    {'a': 1, 'b': 2}
    """
    found: dict[_Key, _Value] = {}
    for key, value in pairs:
        found.setdefault(key, value)
    return found


class Outputs:
    """The output columns of a SELECT by what they are over what is below them, and the hidden ones that only its order needs."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.hidden: list[Item] = []
        self._names = first_by((item.over, item.name) for item in items)
        taken = {item.name.lower() for item in items}
        self._free = (name for number in count(1) if (name := f"order_{number}") not in taken)

    def name_of(self, over: exp.Expr) -> str:
        """Give the column that is this expression, perhaps a new one."""
        if over not in self._names:
            self._names[over] = next(self._free)
            self.hidden.append(Item(self._names[over], over, over))
        return self._names[over]


def outside_queries(node: exp.Expr) -> Iterator[exp.Expr]:
    """Go through a tree without entering the queries inside it."""
    return iter(parts(node, into_queries=False))


def has_query(node: exp.Expr) -> bool:
    return holds(node, exp.Query)


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
        pending.extend(reversed(children(part)))
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
