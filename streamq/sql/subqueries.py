"""Subqueries inside expressions: queries of their own where DuckDB binds them alone, text over complete relations where not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sqlglot import exp

from streamq.sql.binder import SYSTEM_TABLES, BindFailed
from streamq.sql.columns import NotLowered, Scope
from streamq.sql.items import rewrite_parts
from streamq.sql.logical import Derived, Leaf, Scan
from streamq.sql.tables import leaf_table, map_tables, table_name
from streamq.sql.text import identifier
from streamq.sql.walks import find_all, holds
from streamq.sql.window_bounds import timed_of

if TYPE_CHECKING:
    from streamq.sql.ctes import CteScope
    from streamq.sql.lower import Lowering

_CORRELATED = "correlated"


@dataclass(slots=True)
class Subqueries:
    """The subqueries of one SELECT. `outer_words` are the names that correlated ones say: columns of FROM may be among them."""

    low: Lowering
    scope: Scope
    ctes: CteScope
    leaves: dict[str, Leaf] = field(default_factory=dict)
    outer_words: set[str] = field(default_factory=set)
    _has_correlated: bool = False

    def bind(self, node: exp.Expr) -> exp.Expr:
        """Give an expression whose subqueries read leaves: itself, if it has none.

        Raises:
            NotLowered: a correlated subquery that cannot be kept as text.
        """
        if not holds(node, exp.Query):
            return node
        return rewrite_parts(node, lambda part: self._bind_query(part) if isinstance(part, exp.Select | exp.SetOperation) else None)

    def is_correlated(self, node: exp.Expr) -> bool:
        """Tell whether an expression contains a correlated subquery."""
        return self._has_correlated and any(part.meta_get(_CORRELATED) for part in find_all(node, exp.Query))

    def all_leaves(self) -> tuple[Leaf, ...]:
        return tuple(self.leaves.values())

    def leaves_in(self, nodes: Iterable[exp.Expr]) -> tuple[Leaf, ...]:
        """Give the leaves that some expressions read."""
        if not self.leaves:
            return ()
        names = {table.name for node in nodes for query in find_all(node, exp.Query) for table in find_all(query, exp.Table)}
        return tuple(leaf for name, leaf in self.leaves.items() if name in names)

    def _bind_query(self, node: exp.Expr) -> exp.Expr:
        try:
            described = self.low.describe(node, self.ctes)
        except BindFailed:
            return self._bind_correlated(node)
        leaf = Derived(self.low.leaf_name("subquery"), self.low.query(node, self.ctes, described.schema))
        self.leaves[leaf.name] = leaf
        return exp.select(exp.Star()).from_(exp.Table(this=identifier(leaf.name)), copy=False)

    def _bind_correlated(self, node: exp.Expr) -> exp.Expr:
        if any(visible != own.lower() for binding in self.scope.bindings for visible, own in binding.columns.items()):
            raise NotLowered("correlated subquery over renamed columns")
        if self.low.continuous is not None and any(timed_of(part) is not None for part in node.find_all(exp.Not)):
            raise NotLowered("time window in a correlated subquery")
        words = {part.name.lower() for part in node.find_all(exp.Identifier)}
        self.outer_words |= words
        copy = map_tables(node, lambda table, _visible: self._leaf(table))
        copy.meta[_CORRELATED] = True
        self._has_correlated = True
        return copy

    def _leaf(self, table: exp.Table) -> exp.Expr | None:
        name = table_name(table)
        if name is None:
            return None
        if not table.db and name in self.ctes:
            raise NotLowered("correlated subquery over a CTE")
        if name not in self.low.catalog:
            raise NotLowered("a name that is no relation")
        relation = self.low.catalog[name]
        columns = (*relation.schema.names, "_timestamp", "_partition", "_offset") if table.db == SYSTEM_TABLES else None
        leaf = Scan(self.low.leaf_name(relation.name), name, columns)
        self.leaves[leaf.name] = leaf
        return leaf_table(table, leaf.name)
