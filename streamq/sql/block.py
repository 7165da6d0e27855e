"""One SELECT as a `Block`: values that its later parts need become inputs, aggregates become calls, the rest is over those."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from streamq.sql.columns import NotLowered
from streamq.sql.event_time import time_block
from streamq.sql.grouping import Grouping, bare
from streamq.sql.items import Item, Outputs, first_by
from streamq.sql.joins import bound_in_time, join_by_where
from streamq.sql.leaves import prune_leaves
from streamq.sql.logical import Block, Named, Ordering, SessionRows
from streamq.sql.over import break_ties, inline_named_windows, partitions
from streamq.sql.ranks import bound_on_rank, have_one_ranking, is_rank
from streamq.sql.sources import conjuncts
from streamq.sql.text import column, name_sql, sql_of
from streamq.sql.walks import holds

if TYPE_CHECKING:
    from streamq.sql.ctes import CteScope
    from streamq.sql.lower import Lowering

_UNSUPPORTED_CLAUSES = (
    "into",
    "locks",
    "sample",
    "connect",
    "cluster",
    "sort",
    "match",
    "kind",
    "settings",
    "format",
    "pivots",
    "prewhere",
)


def lower_select(low: Lowering, select: exp.Select, ctes: CteScope, schema: pa.Schema, sessions: SessionRows | None = None) -> Block:
    """Take a SELECT apart. The rows of its one leaf get `sessions`, whose bounds are its last two columns.

    Raises:
        NotLowered: some part of it is not recognised.
    """
    for clause in _UNSUPPORTED_CLAUSES:
        if select.args.get(clause):
            raise NotLowered(f"{clause} clause")
    if (distinct := select.args.get("distinct")) and distinct.args.get("on"):
        raise NotLowered("DISTINCT ON")
    return _Builder(low, inline_named_windows(select), ctes, schema, sessions).build()


class _Builder(Grouping):
    """The steps of taking one SELECT apart."""

    def build(self) -> Block:
        self._read_items()
        where = self._clause("where")
        where_ast = self._resolve(where) if where is not None else None
        self._read_keys()
        having = self._later(self._clause("having"))
        qualify = self._later(self._clause("qualify"))
        for item in self.items:
            item.over = self._over(item.resolved)
        having_ast = self._over(having) if having is not None else None
        qualify_ast = self._over(qualify) if qualify is not None else None
        outputs = Outputs(self.items)
        order, hidden = self._read_order(outputs), outputs.hidden
        limit, offset = self._limit("limit"), self._limit("offset") or 0
        distinct = bool(self.select.args.get("distinct"))
        if distinct and hidden:
            raise NotLowered("DISTINCT ordered by something else")
        if not self.inputs:
            self.inputs[exp.Literal.number(1)] = self.names.give("one", exp.Literal.number(1))
        columns = self._columns_below()
        if order and limit is not None:
            self._break_order_ties(order, outputs, columns, distinct)
        items = [*self.items, *hidden]
        later = [item.over for item in items if item.over is not None] + ([qualify_ast] if qualify_ast is not None else [])
        windowed = [node for node in later if holds(node, exp.Window)]
        ranking = have_one_ranking(windowed)
        for node in windowed:
            break_ties(node, columns)
        block = self._assemble(where_ast, having_ast, qualify_ast, items, len(hidden), tuple(order), limit, offset, later)
        return self._with_ranks(block, qualify_ast) if ranking else block

    def _with_ranks(self, block: Block, qualify: exp.Expr | None) -> Block:
        """Say which items are ranks, and what bound QUALIFY sets to one."""
        ranks = tuple(item.name for item in self.items if is_rank(item.over))
        conditions = conjuncts(qualify) if qualify is not None else iter(())
        bounds = (bound_on_rank(condition, self.low.planned_by) for condition in conditions)
        bound = next((sql_of(bound) for bound in bounds if bound is not None), None)
        return replace(block, ranks=ranks, first_ranks=bound)

    def _assemble(
        self,
        where: exp.Expr | None,
        having: exp.Expr | None,
        qualify: exp.Expr | None,
        items: list[Item],
        hidden: int,
        order: tuple[Ordering, ...],
        limit: int | None,
        offset: int,
        later: list[exp.Expr],
    ) -> Block:
        inputs = self._sorted_inputs()
        early = [*self.sources.items, *([where] if where is not None else []), *(node for node, _ in inputs)]
        conditions = list(conjuncts(where)) if where is not None else []
        leaves = prune_leaves(self.low, self.sources, early, conditions, self.subqueries.outer_words)
        joins, bounds = bound_in_time(self.low, self.sources, join_by_where(self.low.session, self.sources, conditions), conditions)
        named = tuple(Named(sql_of(node), name) for node, name in inputs)
        from_sql = self.sources.from_sql()
        calls = self._finished_calls(leaves, from_sql, named)
        later = [*later, *([having] if having is not None else []), *self.calls]
        block = Block(
            leaves=leaves,
            joins=joins,
            from_sql=from_sql,
            where=sql_of(where) if where is not None else None,
            inputs=named,
            keys=None if self.keys is None else tuple(Named(name_sql(name), name) for name in self.keys.values()),
            calls=calls,
            having=sql_of(having) if having is not None else None,
            items=tuple(Named(sql_of(_present(item.over)), item.name) for item in items),
            hidden=hidden,
            partition_by=tuple(partition for node in later if holds(node, exp.Window) for partition in partitions(node)),
            qualify=sql_of(qualify) if qualify is not None else None,
            distinct=bool(self.select.args.get("distinct")),
            order=order,
            limit=limit,
            offset=offset,
            schema=self.schema,
            input_subqueries=self.subqueries.leaves_in(early),
            output_subqueries=self.subqueries.leaves_in(later),
            unnests=self.sources.unnests or any(holds(node, exp.Explode) for node in self.inputs),
            aliases=self.sources.aliases(),
            laterals=self.sources.laterals(),
            entangled=self.sources.entangled() or self._correlation(inputs, where),
            sessions=self.sessions,
            implied_keys=tuple(self.implied_keys),
        )
        return block if self.low.continuous is None else time_block(self.low, block, conditions, bounds, dict(inputs))

    def _correlation(self, inputs: list[tuple[exp.Expr, str]], where: exp.Expr | None) -> str | None:
        """Tell whether a subquery may name a column of any leaf without its alias."""
        nodes = [node for node, _ in inputs] + ([where] if where is not None else [])
        return "correlated subquery" if any(self.subqueries.is_correlated(node) for node in nodes) else None

    def _read_order(self, outputs: Outputs) -> list[Ordering]:
        order = self.select.args.get("order")
        terms: list[Ordering] = []
        if order is None:
            return terms
        aliased = first_by((alias, item.name) for item, alias in zip(self.items, self._aliased_items(), strict=False))
        for term in order.expressions:
            if isinstance(term.this, exp.Var) and term.this.name.upper() == "ALL":
                terms += [_ordering(item.name, term) for item in self.items]
                continue
            terms.append(_ordering(self._order_item(term.this, outputs, aliased), term))
        return terms

    def _order_item(self, node: exp.Expr, outputs: Outputs, aliased: Mapping[str | None, str]) -> str:
        if isinstance(node, exp.Literal) and not node.is_string:
            return self.items[int(node.name) - 1].name
        if isinstance(node, exp.Column) and not node.table and (name := aliased.get(node.name.lower())) is not None:
            return name
        return outputs.name_of(self._over(bare(self._resolve(node, alias_first=self.keys is not None))))

    def _aliased_items(self) -> Iterator[str | None]:
        """Give the explicit alias of every item, in order; None stands for what a star gave."""
        if any(
            isinstance(p, exp.Star) or holds(p, exp.Columns) or (isinstance(p, exp.Column) and p.is_star) for p in self.select.expressions
        ):
            aliases = first_by((node, alias) for alias, node in self.aliases.items())
            yield from (aliases.get(item.resolved) for item in self.items)
            return
        yield from (p.alias.lower() if isinstance(p, exp.Alias) else None for p in self.select.expressions)

    def _break_order_ties(self, order: list[Ordering], outputs: Outputs, columns: list[str], distinct: bool) -> None:
        names = [item.name for item in self.items] if distinct else [outputs.name_of(column(name)) for name in columns]
        used = {term.sql for term in order}
        order += [Ordering(name_sql(name), False, False) for name in dict.fromkeys(names) if name_sql(name) not in used]

    def _limit(self, clause: str) -> int | None:
        limit = self.select.args.get(clause)
        if limit is None:
            return None
        if not isinstance(limit, exp.Limit | exp.Offset) or limit.args.get("limit_options"):
            raise NotLowered("LIMIT in percent")
        value: object = None
        if isinstance(limit.expression, exp.Placeholder):
            value = self.low.planned_by.get(limit.expression.name)
        elif isinstance(limit.expression, exp.Literal) and limit.expression.is_int:
            value = int(limit.expression.name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise NotLowered("LIMIT that is not a number")
        return value


def _present(node: exp.Expr | None) -> exp.Expr:
    assert node is not None
    return node


def _ordering(name: str, term: exp.Ordered) -> Ordering:
    return Ordering(name_sql(name), bool(term.args.get("desc")), bool(term.args.get("nulls_first")))
