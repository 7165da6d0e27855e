"""What a SELECT's expressions mean: names become columns of FROM or aliases, and what later parts need becomes an input."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from streamq.sql.aggregates import is_aggregate
from streamq.sql.binder import aggregate_names
from streamq.sql.columns import NotLowered, expand_star
from streamq.sql.items import Item, Names, outside_queries
from streamq.sql.logical import Leaf, SessionRows
from streamq.sql.sources import Sources, add_session_columns, read_from
from streamq.sql.subqueries import Subqueries
from streamq.sql.text import unique_names
from streamq.sql.walks import holds

if TYPE_CHECKING:
    from streamq.sql.ctes import CteScope
    from streamq.sql.lower import Lowering


class Resolution:
    """One SELECT over its FROM: its output columns, and the inputs found so far."""

    def __init__(self, low: Lowering, select: exp.Select, ctes: CteScope, schema: pa.Schema, sessions: SessionRows | None) -> None:
        self.low = low
        self.select = select
        self.schema = schema
        self.sources: Sources = read_from(low, select, ctes)
        self.sessions = sessions
        self.implied_keys: list[str] = []
        if sessions is not None:
            add_session_columns(self.sources, sessions, schema)
        self.scope = self.sources.visible
        self.subqueries = Subqueries(low, self.scope, ctes)
        self.inputs: dict[exp.Expr, str] = {}
        self.keys: dict[exp.Expr, str] | None = None
        self.calls: dict[exp.Expr, str] = {}
        self.aliases: dict[str, exp.Expr] = {}
        self.items: list[Item] = []
        self.names = Names({})

    def _clause(self, name: str) -> exp.Expr | None:
        clause = self.select.args.get(name)
        return clause.this if clause is not None else None

    def _resolve(self, node: exp.Expr, *, alias_first: bool = False) -> exp.Expr:
        node = self.subqueries.bind(node)
        if not alias_first:
            return self.scope.resolve(node, self._alias)
        # Inside an aggregate a name is a column; outside, an alias unless a grouping column has the name.
        inner = node.transform(lambda part: self.scope.resolve(part, self._alias) if self._is_aggregate(part) else part)
        return self.scope.resolve(inner, self._alias, self._alias_over_ungrouped)

    def _alias(self, name: str) -> exp.Expr | None:
        found = self.aliases.get(name.lower())
        if found is None:
            return None
        return found.copy() if isinstance(found, exp.Column | exp.Literal | exp.Func) else exp.paren(found)

    def _alias_over_ungrouped(self, name: str) -> exp.Expr | None:
        column_ = self.scope.lookup(name)
        if column_ is not None and (self.keys is None or column_ in self.keys):
            return None
        return self._alias(name)

    def _later(self, node: exp.Expr | None) -> exp.Expr | None:
        return None if node is None else self._resolve(node, alias_first=self.keys is not None)

    def _read_items(self) -> None:
        expanded: list[tuple[exp.Expr, str | None]] = []
        for projection in self.select.expressions:
            alias = projection.alias if isinstance(projection, exp.Alias) else None
            bare = projection.this if isinstance(projection, exp.Alias) else projection
            for part in expand_star(self.scope, bare):
                resolved = self._resolve(part)
                while isinstance(resolved, exp.Paren):
                    resolved = resolved.this
                expanded.append((resolved, alias))
                if alias is not None:
                    self.aliases.setdefault(alias.lower(), resolved)
        if len(expanded) != len(self.schema):
            raise NotLowered("columns that are not counted")
        names = unique_names(self.schema.names)
        self.items = [Item(name, node) for name, (node, _) in zip(names, expanded, strict=True)]
        self.names = Names({item.name.lower(): item.resolved for item in self.items})

    def _is_aggregate(self, node: exp.Expr) -> bool:
        if not is_aggregate(node, aggregate_names()):
            return False
        parent: exp.Expr | None = node.parent
        child: exp.Expr | None = node
        while isinstance(parent, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls) and parent.this is child:
            parent, child = parent.parent, parent
        return not (isinstance(parent, exp.Window) and parent.this is child)

    def _has_aggregate(self, node: exp.Expr) -> bool:
        return any(self._is_aggregate(part) for part in outside_queries(node))

    def _input(self, node: exp.Expr, stem: str = "value") -> str:
        if node not in self.inputs:
            if holds(node, exp.Explode):
                self._check_unnest(node)
            stem = node.name if isinstance(node, exp.Column) else stem
            self.inputs[node] = self.names.give(stem, node)
        return self.inputs[node]

    def _check_unnest(self, node: exp.Expr) -> None:
        if any(explode.expressions for explode in node.find_all(exp.Explode)):
            raise NotLowered("UNNEST with options")
        if self._has_windows or self.select.args.get("qualify"):
            raise NotLowered("UNNEST beside window functions")

    @cached_property
    def _has_windows(self) -> bool:
        return any(holds(item.resolved, exp.Window) for item in self.items)

    def _leaves(self) -> Iterator[tuple[Leaf, str]]:
        return zip(self.sources.leaves, self.sources.aliases(), strict=True)

    def _sorted_inputs(self) -> list[tuple[exp.Expr, str]]:
        positions = {
            (binding.alias, own): (number, place)
            for number, binding in enumerate(self.sources.scope.bindings)
            for place, own in enumerate(binding.columns.values())
        }
        last = (len(positions), 0)
        pairs = list(self.inputs.items())
        return sorted(
            pairs, key=lambda pair: positions.get((pair[0].table, pair[0].name), last) if isinstance(pair[0], exp.Column) else last
        )
