"""Column resolution: what a name means among the relations of one FROM.

Every reference becomes `alias.column` with both names as they are, so that pruning a relation's columns, or giving it
system columns, can never change what a name means.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
from sqlglot import exp

from streamq.sql.items import rewrite_topmost
from streamq.sql.text import column, identifier
from streamq.sql.walks import find_all


class NotLowered(Exception):
    """A SELECT that is not taken apart; it runs whole. The text is the reason, and a label of metrics: nothing of the SELECT is in it."""


@dataclass(frozen=True, slots=True)
class Binding:
    """One relation of FROM. `columns` maps the visible name (lower case) to the column's own; `hidden` are not in `*`.

    `leaf` is None for what FROM computes itself (UNNEST). `movable` tells that a condition of
    WHERE on its columns may be applied before the joins.
    """

    alias: str
    columns: dict[str, str]
    schema: pa.Schema
    leaf: str | None = None
    hidden: frozenset[str] = frozenset()
    movable: bool = True

    def type_of(self, name: str) -> pa.DataType:
        return self.schema.field(name).type


_RESOLVED = "resolved"
AliasLookup = Callable[[str], exp.Expr | None]


@dataclass(slots=True)
class Scope:
    """The relations that names can refer to, in order of FROM. `merged` are the columns that USING makes one."""

    bindings: list[Binding] = field(default_factory=list)
    merged: dict[str, tuple[list[str], exp.Expr]] = field(default_factory=dict)

    def binding(self, alias: str) -> Binding | None:
        return next((binding for binding in self.bindings if binding.alias.lower() == alias.lower()), None)

    def lookup(self, name: str) -> exp.Expr | None:
        """Find an unqualified column."""
        if name.lower() in self.merged:
            return self.merged[name.lower()][1].copy()
        for binding in self.bindings:
            if name.lower() in binding.columns:
                return _reference(binding.columns[name.lower()], binding.alias)
        return None

    def star(self, table: str | None) -> Iterator[tuple[str, exp.Expr]]:
        """Give the columns of `*` or `table.*`: visible name and reference."""
        seen: set[str] = set()
        for binding in self.bindings:
            if table is not None and binding.alias.lower() != table.lower():
                continue
            for visible, own in binding.columns.items():
                if own in binding.hidden:
                    continue
                if table is None and visible in self.merged and binding.alias in self.merged[visible][0]:
                    if visible not in seen:
                        seen.add(visible)
                        yield own, self.merged[visible][1].copy()
                    continue
                yield visible, _reference(own, binding.alias)

    def resolve(self, node: exp.Expr, aliases: AliasLookup | None = None, first: AliasLookup | None = None) -> exp.Expr:
        """Give a copy of an expression in which every column reference is qualified; subqueries stay as they are.

        An unqualified name is looked up by `first`, then as a column, then by `aliases`.

        Raises:
            NotLowered: a name is none of these.
        """

        def replace(part: exp.Expr) -> exp.Expr | None:
            match part:
                case exp.Comprehension():
                    raise NotLowered("list comprehension")
                case exp.Column():
                    return self._resolve_column(part, aliases, first)
                case _:
                    return None

        return rewrite_topmost(node, replace)

    def _resolve_column(self, node: exp.Column, aliases: AliasLookup | None, first: AliasLookup | None) -> exp.Expr:
        if node.meta_get(_RESOLVED):
            return node.copy()
        if isinstance(node.this, exp.Star):
            raise NotLowered("star inside an expression")
        parts = [part.name for part in node.parts]
        if len(parts) == 1 and first is not None and (found := first(parts[0])) is not None:
            return found
        if len(parts) > 1 and (binding := self.binding(parts[0])) is not None and parts[1].lower() in binding.columns:
            return _fields(_reference(binding.columns[parts[1].lower()], binding.alias), parts[2:])
        base = self.lookup(parts[0])
        if base is None and aliases is not None:
            base = aliases(parts[0])
        if base is None:
            raise NotLowered("a name that is no column" if self.binding(parts[0]) is None else "a row used as a value")
        return _fields(base, parts[1:])


def _reference(name: str, alias: str) -> exp.Column:
    reference = column(name, alias)
    reference.meta[_RESOLVED] = True
    return reference


def _fields(base: exp.Expr, names: list[str]) -> exp.Expr:
    for name in names:
        base = exp.Dot(this=exp.paren(base, copy=False) if not isinstance(base, exp.Dot) else base, expression=identifier(name))
    return base


def expand_star(scope: Scope, projection: exp.Expr) -> list[exp.Expr]:
    """Expand `*`, `t.*` (with EXCLUDE, REPLACE, RENAME) and `COLUMNS(…)` of a projection; anything else is given back alone.

    Raises:
        NotLowered: a form that is not understood.
    """
    star, table = _star_of(projection)
    if star is not None:
        return _apply_modifiers(scope, star, table)
    found = find_all(projection, exp.Columns)
    if not found:
        return [projection]
    if len(found) > 1 or found[0].args.get("unpack"):
        raise NotLowered("COLUMNS used more than once")
    return [_replace_columns(projection, reference) for reference in _chosen(scope, found[0])]


def _star_of(projection: exp.Expr) -> tuple[exp.Star | None, str | None]:
    if isinstance(projection, exp.Star):
        return projection, None
    if isinstance(projection, exp.Column) and isinstance(projection.this, exp.Star):
        return projection.this, projection.table or None
    return None, None


def _apply_modifiers(scope: Scope, star: exp.Star, table: str | None) -> list[exp.Expr]:
    excluded = {part.name.lower() for part in star.args.get("except_") or ()}
    replaced = {part.alias.lower(): part.this for part in star.args.get("replace") or ()}
    if star.args.get("rename") or any(isinstance(part, exp.Column) and part.table for part in star.args.get("except_") or ()):
        raise NotLowered("RENAME or a qualified EXCLUDE")
    return [replaced.get(name.lower(), reference) for name, reference in scope.star(table) if name.lower() not in excluded]


def _chosen(scope: Scope, columns: exp.Columns) -> list[exp.Expr]:
    star, table = _star_of(columns.this)
    if star is not None:
        return _apply_modifiers(scope, star, table)
    if isinstance(columns.this, exp.Literal) and columns.this.is_string:
        pattern = re.compile(columns.this.name)
        return [reference for name, reference in scope.star(None) if pattern.search(name)]
    raise NotLowered("COLUMNS with a lambda or list")


def _replace_columns(projection: exp.Expr, reference: exp.Expr) -> exp.Expr:
    copy = projection.copy()
    target = copy.find(exp.Columns)
    assert target is not None
    if target is copy:
        return reference
    target.replace(reference.copy())
    return copy
