"""One SELECT as a `Block`: values that its later parts need become inputs, aggregates become calls, the rest is over those."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp, parse_one

from streamq.sql.aggregates import ORDER_SENSITIVE, decompose, is_aggregate, say_function
from streamq.sql.binder import BindFailed
from streamq.sql.closing import window_ends
from streamq.sql.columns import NotLowered, expand_star
from streamq.sql.event_time import keys_told, time_block
from streamq.sql.functions import function_name, is_clock
from streamq.sql.items import Item, Names, has_query, outside_queries, rewrite_topmost
from streamq.sql.leaves import prune_leaves
from streamq.sql.logical import Block, Call, Leaf, Named, Ordering, SessionRows
from streamq.sql.over import break_ties, inline_named_windows, partitions
from streamq.sql.ranks import bound_on_rank, have_one_ranking, is_rank
from streamq.sql.render import render_inputs
from streamq.sql.sources import Sources, add_session_columns, bound_in_time, conjuncts, join_by_where, read_from
from streamq.sql.subqueries import Subqueries
from streamq.sql.text import column, identifier, name_sql, sql_of, unique_names
from streamq.sql.window_bounds import bound_mark

if TYPE_CHECKING:
    from streamq.sql.lower import CteScope, Lowering

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


class _Builder:
    """The state of taking one SELECT apart."""

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

    # The steps

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
        order, hidden = self._read_order()
        limit, offset = self._limit("limit"), self._limit("offset") or 0
        distinct = bool(self.select.args.get("distinct"))
        if distinct and hidden:
            raise NotLowered("DISTINCT ordered by something else")
        if not self.inputs:
            self.inputs[exp.Literal.number(1)] = self.names.give("one", exp.Literal.number(1))
        columns = self._columns_below()
        if order and limit is not None:
            self._break_order_ties(order, hidden, columns, distinct)
        items = [*self.items, *hidden]
        later = [item.over for item in items if item.over is not None] + ([qualify_ast] if qualify_ast is not None else [])
        ranking = have_one_ranking(later)
        for node in later:
            break_ties(node, columns)
        block = self._assemble(where_ast, having_ast, qualify_ast, items, len(hidden), tuple(order), limit, offset, later)
        return self._with_ranks(block, qualify_ast) if ranking else block

    def _with_ranks(self, block: Block, qualify: exp.Expr | None) -> Block:
        """Say which items are ranks, and what bound QUALIFY sets to one."""
        ranks = tuple(item.name for item in self.items if is_rank(item.over))
        conditions = conjuncts(qualify) if qualify is not None else iter(())
        bounds = (bound_on_rank(condition, self.low.session.parameters) for condition in conditions)
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
            partition_by=tuple(partition for node in later for partition in partitions(node)),
            qualify=sql_of(qualify) if qualify is not None else None,
            distinct=bool(self.select.args.get("distinct")),
            order=order,
            limit=limit,
            offset=offset,
            schema=self.schema,
            input_subqueries=self.subqueries.leaves_in(early),
            output_subqueries=self.subqueries.leaves_in(later),
            unnests=self.sources.unnests or any(node.find(exp.Explode) for node in self.inputs),
            aliases=self.sources.aliases(),
            sessions=self.sessions,
            implied_keys=tuple(self.implied_keys),
            equivalents=self._equivalents(items),
        )
        return block if self.low.continuous is None else time_block(self.low, block, conditions, bounds, dict(inputs))

    # Clauses over the relations

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
        if not is_aggregate(node, self.low.session.aggregates):
            return False
        parent: exp.Expr | None = node.parent
        child: exp.Expr | None = node
        while isinstance(parent, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls) and parent.this is child:
            parent, child = parent.parent, parent
        return not (isinstance(parent, exp.Window) and parent.this is child)

    def _has_aggregate(self, node: exp.Expr) -> bool:
        return any(self._is_aggregate(part) for part in outside_queries(node))

    # Aggregation

    def _read_keys(self) -> None:
        group = self.select.args.get("group")
        later = [self._clause("having"), self._clause("qualify"), self.select.args.get("order")]
        aggregated = any(self._has_aggregate(item.resolved) for item in self.items) or any(
            node is not None and self._has_aggregate(node) for node in later
        )
        if group is None and self.select.args.get("having") is None and not aggregated:
            return
        nodes = self._group_nodes(group) if group is not None else []
        self.keys = {}
        for node, stem in nodes:
            if node not in self.keys:
                self.keys[node] = self._input(node, stem)
        for node in [end for node in self.keys if (end := self._end_of_window(node)) is not None and end not in self.keys]:
            self.keys[node] = self._input(node, "window_end")
            self.implied_keys.append(self.keys[node])

    def _end_of_window(self, key: exp.Expr) -> exp.Expr | None:
        """Give the end of a key that is a window as a struct: only a column can tell when a group closes."""
        if self.low.continuous is None:
            return None
        if isinstance(key, exp.Struct):
            fields = {part.name: part.expression for part in key.expressions if isinstance(part, exp.PropertyEQ)}
            return fields["end"].copy() if "end" in fields and bound_mark(fields["end"]) is not None else None
        leaf = next((leaf for leaf, alias in self._leaves() if isinstance(key, exp.Column) and key.table == alias), None)
        if leaf is None or key.name not in window_ends(leaf):
            return None
        return exp.Dot(this=exp.paren(key), expression=identifier("end"))

    def _equivalents(self, items: list[Item]) -> tuple[tuple[str, str], ...]:
        keys = set(self.keys.values()) if self.keys is not None and self.low.continuous is not None else set()
        return tuple((item.name, key) for item in items if item.over is not None for key in keys_told(item.over) if key in keys)

    def _leaves(self) -> Iterator[tuple[Leaf, str]]:
        return zip(self.sources.leaves, self.sources.aliases(), strict=True)

    def _group_nodes(self, group: exp.Group) -> list[tuple[exp.Expr, str]]:
        if any(group.args.get(part) for part in ("rollup", "cube", "grouping_sets", "totals")):
            raise NotLowered("grouping sets")
        if group.args.get("all"):
            items = [item for item in self.items if not self._has_aggregate(item.resolved)]
            if any(item.resolved.find(exp.Window) or not item.resolved.find(exp.Column) for item in items):
                raise NotLowered("GROUP BY ALL over windows or constants")
            return [(_bare(item.resolved), item.name) for item in items]
        nodes = []
        for node in group.expressions:
            if isinstance(node, exp.Rollup | exp.Cube | exp.GroupingSets | exp.Tuple):
                raise NotLowered("grouping sets")
            if isinstance(node, exp.Literal) and not node.is_string:
                item = self.items[int(node.name) - 1]
                nodes.append((_bare(item.resolved), item.name))
                continue
            key = _bare(self._resolve(node))
            stem = next((item.name for item in self.items if _bare(item.resolved) == key), "key")
            nodes.append((key, stem))
        if any(self._has_aggregate(node) or node.find(exp.Window) for node, _ in nodes):
            raise NotLowered("aggregate as a key")
        return nodes

    def _input(self, node: exp.Expr, stem: str = "value") -> str:
        if node not in self.inputs:
            if node.find(exp.Explode) is not None:
                self._check_unnest(node)
            stem = node.name if isinstance(node, exp.Column) else stem
            self.inputs[node] = self.names.give(stem, node)
        return self.inputs[node]

    def _check_unnest(self, node: exp.Expr) -> None:
        if any(explode.expressions for explode in node.find_all(exp.Explode)):
            raise NotLowered("UNNEST with options")
        if any(item.resolved.find(exp.Window) for item in self.items) or self.select.args.get("qualify"):
            raise NotLowered("UNNEST beside window functions")

    def _over(self, node: exp.Expr) -> exp.Expr:
        """Rewrite an expression over the relations as one over what is below the items."""
        if self.keys is None:
            return self._over_inputs(node)
        return self._over_groups(node)

    def _over_inputs(self, node: exp.Expr) -> exp.Expr:
        if self.subqueries.is_correlated(node):
            if node.find(exp.Window) is not None:
                raise NotLowered("correlated subquery beside a window function")
            return column(self._input(node, self.names.owned_by(node) or "subquery"))

        def replace(part: exp.Expr) -> exp.Expr | None:
            if isinstance(part, exp.Column):
                return column(self._input(part))
            if isinstance(part, exp.Explode):
                return column(self._input(part, self.names.owned_by(part) or "unnested"))
            if self.low.continuous is not None and bound_mark(part) is not None:
                return column(self._input(part, self.names.owned_by(part) or "window_bound"))
            return self._clock(part)

        return rewrite_topmost(node, replace)

    def _clock(self, part: exp.Expr) -> exp.Expr | None:
        """Read the clock where rows come in: what is computed of them later, perhaps again, must find the same."""
        return column(self._input(part, self.names.owned_by(part) or "now")) if is_clock(part) else None

    def _over_groups(self, node: exp.Expr) -> exp.Expr:
        assert self.keys is not None
        keys = self.keys
        aggregates = {id(part) for part in outside_queries(node) if self._is_aggregate(part)}

        def replace(part: exp.Expr) -> exp.Expr | None:
            if part in keys:
                return column(keys[part])
            if id(part) in aggregates:
                return column(self._call(part))
            if isinstance(part, exp.Column | exp.Explode):
                raise NotLowered("a column that is neither grouped nor aggregated")
            return None

        if self.subqueries.is_correlated(node):
            raise NotLowered("correlated subquery after aggregation")
        return rewrite_topmost(node, replace)

    def _call(self, node: exp.Expr) -> str:
        call = self._ordered_call(node)
        over = self._call_over_inputs(call)
        if over in self.calls:
            return self.calls[over]
        name = self.names.give(self.names.owned_by(node) or function_name(_core(node)) or "aggregate", node)
        self.calls[over] = name
        return name

    def _call_over_inputs(self, node: exp.Expr) -> exp.Expr:
        def replace(part: exp.Expr) -> exp.Expr | None:
            if isinstance(part, exp.Column):
                return column(self._input(part))
            if part is not node and any(isinstance(child, exp.Query) for child in part.iter_expressions()):
                return column(self._input(part, "subquery"))
            return self._clock(part)

        return rewrite_topmost(node, replace)

    def _ordered_call(self, node: exp.Expr) -> exp.Expr:
        """Give an order-sensitive aggregate without ORDER BY one: by value with DISTINCT, else as the source was written."""
        core = _core(node)
        name = function_name(core)
        if name not in ORDER_SENSITIVE - {"any_value", "arbitrary"} or core.find(exp.Order) is not None:
            return node
        distinct = core.find(exp.Distinct)
        scan = self.sources.direct_scan()
        if distinct is not None:
            terms = [sql_of(distinct.expressions[0])]
        elif scan is not None and self.low.catalog[scan.relation].system_columns:
            alias = self.scope.bindings[0].alias
            terms = [sql_of(column(part, alias)) for part in ("_partition", "_offset")]
        else:
            self.low.refuse_unordered(name)
            return node
        ordered = parse_one(f"{sql_of(core).removesuffix(')')} ORDER BY {', '.join(terms)})", read="duckdb")
        ordered = self.scope.resolve(ordered)
        if core is node:
            return ordered
        copy = node.copy()
        _core(copy).replace(ordered)
        return copy

    def _finished_calls(self, leaves: tuple[Leaf, ...], from_sql: str, inputs: tuple[Named, ...]) -> tuple[Call, ...]:
        if not self.calls:
            return ()
        inputs_sql = self._typed_inputs(leaves, from_sql, inputs)
        plain = {name: node for node, name in self.calls.items() if not has_query(node)}
        done = {call.name: call for call in decompose(plain, self.low.session, inputs_sql, is_global=not self.keys)}
        calls = ((node, done.get(name) or Call(name, sql_of(node), (), "")) for node, name in self.calls.items())
        return tuple(say_function(call, node) for node, call in calls)

    def _typed_inputs(self, leaves: tuple[Leaf, ...], from_sql: str, inputs: tuple[Named, ...]) -> str:
        """Write a SELECT that has the inputs' names and types."""
        sql = render_inputs(leaves, self.subqueries.all_leaves(), from_sql, inputs, self.low.system_table)
        try:
            types = self.low.session.describe(sql).types
        except BindFailed as error:
            raise NotLowered("inputs did not bind") from error
        nulls = ", ".join(f"CAST(NULL AS {type_}) AS {name_sql(part.name)}" for part, type_ in zip(inputs, types, strict=True))
        return f"SELECT {nulls}"

    # Order

    def _read_order(self) -> tuple[list[Ordering], list[Item]]:
        order = self.select.args.get("order")
        terms: list[Ordering] = []
        hidden: list[Item] = []
        if order is None:
            return terms, hidden
        for term in order.expressions:
            if isinstance(term.this, exp.Var) and term.this.name.upper() == "ALL":
                terms += [_ordering(item.name, term) for item in self.items]
                continue
            terms.append(_ordering(self._order_item(term.this, hidden), term))
        return terms, hidden

    def _order_item(self, node: exp.Expr, hidden: list[Item]) -> str:
        if isinstance(node, exp.Literal) and not node.is_string:
            return self.items[int(node.name) - 1].name
        if isinstance(node, exp.Column) and not node.table:
            for item, projection in zip(self.items, self._aliased_items(), strict=False):
                if projection == node.name.lower():
                    return item.name
        over = self._over(_bare(self._resolve(node, alias_first=self.keys is not None)))
        return self._item_for(over, hidden)

    def _aliased_items(self) -> Iterator[str | None]:
        """Give the explicit alias of every item, in order; None stands for what a star gave."""
        if any(
            isinstance(p, exp.Star) or p.find(exp.Columns) or (isinstance(p, exp.Column) and p.is_star) for p in self.select.expressions
        ):
            yield from (next((a for a, node in self.aliases.items() if node == item.resolved), None) for item in self.items)
            return
        yield from (p.alias.lower() if isinstance(p, exp.Alias) else None for p in self.select.expressions)

    def _item_for(self, over: exp.Expr, hidden: list[Item]) -> str:
        for item in (*self.items, *hidden):
            if item.over == over:
                return item.name
        taken = {item.name.lower() for item in (*self.items, *hidden)}
        name = next(f"order_{n}" for n in count(1) if f"order_{n}" not in taken)
        hidden.append(Item(name, over, over))
        return name

    def _break_order_ties(self, order: list[Ordering], hidden: list[Item], columns: list[str], distinct: bool) -> None:
        names = [item.name for item in self.items] if distinct else [self._item_for(column(name), hidden) for name in columns]
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
            value = self.low.session.parameters.get(limit.expression.name)
        elif isinstance(limit.expression, exp.Literal) and limit.expression.is_int:
            value = int(limit.expression.name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise NotLowered("LIMIT that is not a number")
        return value

    # Columns

    def _columns_below(self) -> list[str]:
        """Give the names that items are over, in schema order: they decide ties."""
        if self.keys is not None:
            return list(dict.fromkeys(self.keys.values()))
        return [name for node, name in self._sorted_inputs() if isinstance(node, exp.Column)]

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


def _bare(node: exp.Expr) -> exp.Expr:
    return node.unnest()


def _present(node: exp.Expr | None) -> exp.Expr:
    assert node is not None
    return node


def _core(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Filter | exp.WithinGroup) or (isinstance(node, exp.IgnoreNulls) and not isinstance(node.this, exp.AnyValue)):
        node = node.this
    return node


def _ordering(name: str, term: exp.Ordered) -> Ordering:
    return Ordering(name_sql(name), bool(term.args.get("desc")), bool(term.args.get("nulls_first")))
