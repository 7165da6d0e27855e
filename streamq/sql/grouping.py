"""Grouping: keys, aggregate calls, and the later parts of a SELECT written over them."""

from __future__ import annotations

from sqlglot import exp, parse_one

from streamq.sql.aggregates import ORDER_SENSITIVE, decompose
from streamq.sql.binder import BindFailed
from streamq.sql.closing import window_ends
from streamq.sql.columns import NotLowered
from streamq.sql.functions import function_name, is_clock
from streamq.sql.items import first_by, has_query, outside_queries, rewrite_topmost
from streamq.sql.logical import Call, Leaf, Named
from streamq.sql.render import render_inputs
from streamq.sql.resolution import Resolution
from streamq.sql.text import column, identifier, name_sql, sql_of
from streamq.sql.walks import holds
from streamq.sql.window_bounds import bound_mark


class Grouping(Resolution):
    """One SELECT with its keys and calls. Without any, later parts are over the inputs."""

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

    def _group_nodes(self, group: exp.Group) -> list[tuple[exp.Expr, str]]:
        if any(group.args.get(part) for part in ("rollup", "cube", "grouping_sets", "totals")):
            raise NotLowered("grouping sets")
        if group.args.get("all"):
            items = [item for item in self.items if not self._has_aggregate(item.resolved)]
            if any(holds(item.resolved, exp.Window) or not holds(item.resolved, exp.Column) for item in items):
                raise NotLowered("GROUP BY ALL over windows or constants")
            return [(bare(item.resolved), item.name) for item in items]
        nodes = []
        stems = first_by((bare(item.resolved), item.name) for item in self.items)
        for node in group.expressions:
            if isinstance(node, exp.Rollup | exp.Cube | exp.GroupingSets | exp.Tuple):
                raise NotLowered("grouping sets")
            if isinstance(node, exp.Literal) and not node.is_string:
                item = self.items[int(node.name) - 1]
                nodes.append((bare(item.resolved), item.name))
                continue
            key = bare(self._resolve(node))
            nodes.append((key, stems.get(key, "key")))
        if any(self._has_aggregate(node) or holds(node, exp.Window) for node, _ in nodes):
            raise NotLowered("aggregate as a key")
        return nodes

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
        return tuple(done.get(name) or Call(name, sql_of(node), (), "") for node, name in self.calls.items())

    def _typed_inputs(self, leaves: tuple[Leaf, ...], from_sql: str, inputs: tuple[Named, ...]) -> str:
        """Write a SELECT that has the inputs' names and types."""
        sql = render_inputs(leaves, self.subqueries.all_leaves(), from_sql, inputs, self.low.system_table)
        try:
            types = self.low.session.describe(sql).types
        except BindFailed as error:
            raise NotLowered("inputs did not bind") from error
        nulls = ", ".join(f"CAST(NULL AS {type_}) AS {name_sql(part.name)}" for part, type_ in zip(inputs, types, strict=True))
        return f"SELECT {nulls}"

    def _columns_below(self) -> list[str]:
        """Give the names that items are over, in schema order: they decide ties."""
        if self.keys is not None:
            return list(dict.fromkeys(self.keys.values()))
        return [name for node, name in self._sorted_inputs() if isinstance(node, exp.Column)]


def bare(node: exp.Expr) -> exp.Expr:
    """Take the parentheses away."""
    return node.unnest()


def _core(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Filter | exp.WithinGroup) or (isinstance(node, exp.IgnoreNulls) and not isinstance(node.this, exp.AnyValue)):
        node = node.this
    return node
