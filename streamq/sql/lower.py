"""From a bound SELECT's syntax tree to the logical plan.

Every query node is first tried as something that can be distributed (`Block`, `Union`). What is not recognised, or does
not keep its schema, becomes `Whole` with the reason: always right, only not parallel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import count

import pyarrow as pa
from sqlglot import exp

from streamq.sql.aggregates import ORDER_SENSITIVE
from streamq.sql.binder import SYSTEM_TABLES, WATERMARKED_TABLES, BinderSession, BindFailed, Described
from streamq.sql.block import lower_select
from streamq.sql.catalog import WATERMARK, CatalogView
from streamq.sql.closing import window_columns
from streamq.sql.collation import carries_collation
from streamq.sql.columns import NotLowered
from streamq.sql.continuous import text_error
from streamq.sql.ctes import CteScope, enter, named_cte, read_ctes, standalone
from streamq.sql.diagnostics import find_word
from streamq.sql.dialect import holds_relations
from streamq.sql.functions import calls, is_volatile
from streamq.sql.logical import Block, Continuous, Derived, Leaf, Named, Query, Scan, Union, Whole
from streamq.sql.parameters import PlannedBy
from streamq.sql.render import render_whole
from streamq.sql.sessions import session_rows
from streamq.sql.sources import derive
from streamq.sql.statements import Select
from streamq.sql.tables import leaf_table, map_tables, table_name
from streamq.sql.temporal import is_as_of_now
from streamq.sql.text import column, identifier, name_sql, sql_of, unique_names
from streamq.sql.trees import unwrap
from streamq.sql.window_bounds import timed_of
from streamq.sql.window_grammar import WINDOW_SHAPES

_SPELLINGS = {"array_agg": ("list",), "listagg": ("string_agg", "group_concat")}


@dataclass(slots=True)
class Lowering:
    """The lowering of one query: makes leaves with names that are unique in it."""

    session: BinderSession
    catalog: CatalogView
    planned_by: PlannedBy
    """The values of parameters, for what the plan decides by them."""
    continuous: Continuous | None
    select: Select | None
    """The statement, for the places of errors in it."""
    volatile: bool
    """Some part of the query may be volatile."""
    late_relations: set[str]
    """The relations whose late rows some block drops."""
    _numbers: count[int]

    def __init__(
        self,
        session: BinderSession,
        catalog: CatalogView,
        planned_by: PlannedBy,
        continuous: Continuous | None = None,
        select: Select | None = None,
        *,
        volatile: bool = True,
    ) -> None:
        self.session = session
        self.catalog = catalog
        self.planned_by = planned_by
        self.continuous = continuous
        self.select = select
        self.volatile = volatile
        self.late_relations = set()
        self._numbers = count(1)

    def refuse_unordered(self, function: str) -> None:
        """Refuse an aggregate that depends on the order of rows which have none, in a query whose rows come bit by bit.

        Raises:
            BindError: the query is continuous.
        """
        if self.continuous is not None and self.select is not None:
            spellings = (function, *_SPELLINGS.get(function, ()))
            function = next((name for name in spellings if find_word(self.select.sql, name) is not None), function)
            raise text_error(
                self.select,
                f"{function}() depends on the order of its rows, and only rows that are read directly from a source have one",
                function,
                f"write ORDER BY inside it: {function}(x ORDER BY ts)",
            )

    def refuse_as_of_now(self, message: str) -> None:
        """Refuse a temporal join that cannot be kept up to date.

        Raises:
            BindError: the query is continuous.
        """
        if self.continuous is not None and self.select is not None:
            raise text_error(self.select, message, "SYSTEM_TIME", "write JOIN or LEFT JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON …")

    def leaf_name(self, stem: str) -> str:
        return f"{stem}#{next(self._numbers)}"

    # Queries

    def query(self, node: exp.Expr, ctes: CteScope, schema: pa.Schema) -> Query:
        """Lower a query whose result is `schema` (its names may repeat only at the top)."""
        try:
            plan = self._lower(unwrap(node), ctes, schema)
            self._verify(plan, schema)
        except NotLowered as reason:
            return self.whole(node, ctes, schema, str(reason))
        return plan

    def _lower(self, node: exp.Expr, ctes: CteScope, schema: pa.Schema) -> Query:
        if self.volatile and is_volatile(node):
            raise NotLowered("volatile function")
        if carries_collation(node):
            raise NotLowered("COLLATE")
        inner = enter(node, ctes)
        if isinstance(node, exp.Select):
            found = session_rows(node) if self.continuous is not None else None
            return lower_select(self, node, inner, schema) if found is None else lower_select(self, found[0], inner, schema, found[1])
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, inner, schema)
        if isinstance(node, exp.Subquery):
            raise NotLowered("parenthesised query with clauses of its own")
        raise NotLowered(f"{node.key} is not taken apart")

    def _verify(self, plan: Query, schema: pa.Schema) -> None:
        try:
            described = self.session.describe(render_whole(plan, self.system_table))
        except BindFailed as error:
            raise NotLowered("lowering did not bind") from error
        if described.schema != schema or plan.schema != schema:
            raise NotLowered("lowering changed the schema")

    def system_table(self, scan: Scan) -> str:
        """Name the binder's table for a scan, with system columns where the relation has them."""
        relation = self.catalog[scan.relation]
        if scan.columns is not None and WATERMARK in scan.columns and WATERMARK not in relation.schema.names:
            return f"{WATERMARKED_TABLES}.{name_sql(relation.name)}"
        return (
            f"{SYSTEM_TABLES}.{name_sql(relation.name)}"
            if relation.system_columns and scan.columns is not None
            else name_sql(relation.name)
        )

    def scan_schema(self, scan: Scan) -> pa.Schema:
        """Give the schema of what a scan reads, as DuckDB has it."""
        columns = "*" if scan.columns is None else ", ".join(map(name_sql, scan.columns))
        return self.session.describe(f"SELECT {columns} FROM {self.system_table(scan)}").schema

    def describe(self, node: exp.Expr, ctes: CteScope) -> Described:
        """Bind a query on its own and tell the result that a query around it sees (names are unique).

        Raises:
            BindFailed: it does not bind, or refers to something around it.
        """
        return self.session.describe(f"SELECT * FROM ({sql_of(standalone(node, ctes))})")

    # Set operations

    def _set_operation(self, node: exp.SetOperation, ctes: CteScope, schema: pa.Schema) -> Query:
        if any(node.args.get(part) for part in ("by_name", "side", "kind", "on")):
            raise NotLowered("set operation by name")
        if any(node.args.get(part) for part in ("order", "limit", "offset")) or (isinstance(node, exp.Union) and node.args.get("distinct")):
            return self._around(node, ctes, schema)
        if isinstance(node, exp.Union):
            return Union(tuple(self._branches(node, ctes, schema)), schema)
        return self._bag_difference(node, ctes, schema)

    def _around(self, node: exp.SetOperation, ctes: CteScope, schema: pa.Schema) -> Query:
        """Lower ORDER BY, LIMIT and DISTINCT of a set operation as a SELECT around it."""
        inner = node.copy()
        clauses = {part: inner.args.pop(part) for part in ("order", "limit", "offset") if inner.args.get(part)}
        inner.set("with_", None)
        outer = exp.select(exp.Star()).from_(exp.Subquery(this=inner, alias=exp.TableAlias(this=identifier("united"))), copy=False)
        if isinstance(inner, exp.Union) and inner.args.get("distinct"):
            inner.set("distinct", False)
            outer.set("distinct", exp.Distinct())
        for part, clause in clauses.items():
            outer.set(part, clause)
        return lower_select(self, outer, ctes, schema)

    def _branches(self, node: exp.SetOperation, ctes: CteScope, schema: pa.Schema) -> list[Query]:
        branches: list[Query] = []
        for side in map(unwrap, (node.args["this"], node.args["expression"])):
            plain = (
                isinstance(side, exp.Union)
                and not side.args.get("distinct")
                and not any(side.args.get(part) for part in ("by_name", "order", "limit", "offset", "with_"))
            )
            nested = self._branches(side, ctes, schema) if plain and isinstance(side, exp.Union) else [self._branch(side, ctes, schema)]
            branches += nested
        return branches

    def _branch(self, node: exp.Expr, ctes: CteScope, schema: pa.Schema) -> Query:
        described = self.describe(node, ctes)
        query = self.query(node, ctes, described.schema)
        return query if described.schema == schema else self._conform(query, described, schema)

    def _conform(self, query: Query, described: Described, schema: pa.Schema) -> Query:
        """Give a query's columns the names and types of `schema`, by position."""
        target = self.session.type_names(schema)
        leaf = Derived(self.leaf_name("branch"), query)
        inputs = tuple(Named(sql_of(column(name, leaf.name)), name) for name in described.schema.names)
        unique = unique_names(schema.names)
        items = tuple(
            Named(name_sql(part.name) if given == wanted else f"CAST({name_sql(part.name)} AS {wanted})", name)
            for part, name, given, wanted in zip(inputs, unique, described.types, target, strict=True)
        )
        return replace(plain_block(leaf, inputs, items, schema), windows=tuple(window_columns(leaf).values()))

    def _bag_difference(self, node: exp.SetOperation, ctes: CteScope, schema: pa.Schema) -> Whole:
        """Run INTERSECT or EXCEPT in one piece over its two sides, which are queries of their own."""
        leaves: list[Leaf] = []
        copy = node.copy()
        copy.set("with_", None)
        for part in ("this", "expression"):
            side = unwrap(node.args[part])
            leaf = Derived(self.leaf_name("side"), self.query(side, ctes, self.describe(side, ctes).schema))
            leaves.append(leaf)
            copy.set(part, exp.select(exp.Star()).from_(exp.Table(this=identifier(leaf.name)), copy=False))
        return Whole(sql_of(copy), tuple(leaves), "set operation over complete inputs", schema, ordered=False, by_row=True)

    # Whole

    def whole(self, node: exp.Expr, ctes: CteScope, schema: pa.Schema, reason: str) -> Whole:
        """Run a query in one piece over complete relations."""
        leaves: dict[str, Leaf] = {}
        if self.continuous is not None:
            node = self._with_derived(node, ctes, leaves)
        tree = standalone(node, ctes)
        if self.continuous is not None:
            self._check_whole(tree, reason)
        replaced = map_tables(tree, lambda table, _local: self._whole_leaf(table, leaves))
        ordered = bool(unwrap(tree).args.get("order"))
        plan = Whole(sql_of(replaced), tuple(leaves.values()), reason, schema, ordered)
        pruned = self._prune_whole(plan, replaced)
        return pruned if pruned is not None else plan

    def _with_derived(self, node: exp.Expr, ctes: CteScope, leaves: dict[str, Leaf]) -> exp.Expr:
        """Make queries of their own of the queries in FROM: what is said of their rows, such as which are late, is kept."""
        copy = unwrap(node).copy()
        try:
            inner = enter(copy, ctes)
        except NotLowered:
            return copy
        from_ = copy.args.get("from_")
        items = [from_.this if from_ else None, *(join.this for join in copy.args.get("joins") or ())]
        for item in items:
            if isinstance(item, exp.Subquery | exp.Table) and (derived := self._derived(item, inner)) is not None:
                leaves[derived[1].name] = derived[1]
                item.replace(derived[0])
        with_ = copy.args.pop("with_", None)
        if with_ is not None:
            needed = read_ctes(copy, inner)
            with_.set("expressions", [cte for cte in with_.expressions if cte.alias.lower() in needed])
            copy.set("with_", with_ if with_.expressions else None)
        return copy

    def _derived(self, item: exp.Subquery | exp.Table, ctes: CteScope) -> tuple[exp.Expr, Leaf] | None:
        if isinstance(item, exp.Subquery) and holds_relations(item):
            return None
        found = (item.this, ctes, []) if isinstance(item, exp.Subquery) else named_cte(item, ctes)
        alias = item.args.get("alias")
        plain = not any(item.args.get(part) for part in ("joins", "laterals", "pivots", "sample"))
        if found is None or found[2] or not plain or (alias is not None and alias.args.get("columns")):
            return None
        if carries_collation(found[0]):
            return None
        try:
            described, _, leaf = derive(self, found[0], item, found[1])
        except NotLowered:
            return None
        return described, leaf

    def _check_whole(self, tree: exp.Expr, reason: str) -> None:
        """Refuse what SQL that runs whole cannot keep exact in a continuous query.

        Raises:
            BindError: time windows over a watermark, or an aggregate that depends on an order that the rows have not.
        """
        assert self.select is not None
        for call, name in calls(tree):
            if name in ORDER_SENSITIVE - {"any_value", "arbitrary"} and call.find(exp.Order) is None:
                self.refuse_unordered(name)
        if any(is_as_of_now(table) for table in tree.find_all(exp.Table)):
            self.refuse_as_of_now(f"a join with a table as it is now cannot stand in a SELECT that is not taken apart ({reason})")
        relations = {table_name(table) or "" for table in tree.find_all(exp.Table)}
        watermarked = any(self.catalog[name].watermark for name in relations if name in self.catalog)
        if watermarked and any(timed_of(condition) is not None for condition in tree.find_all(exp.Not)):
            raise text_error(
                self.select,
                f"a time window cannot stand in a SELECT that is not taken apart ({reason}): its late rows would not be known",
                next((word for word in WINDOW_SHAPES if find_word(self.select.sql, word) is not None), "WINDOW"),
                "put the window into FROM: SELECT … FROM TUMBLE(t, ts, INTERVAL '5' MINUTE)",
            )

    def _whole_leaf(self, table: exp.Table, leaves: dict[str, Leaf]) -> exp.Expr | None:
        name = table_name(table)
        if name is None or name not in self.catalog:
            return None
        with_system = table.db == SYSTEM_TABLES
        key = f"{name} {with_system}"
        if key not in leaves:
            relation = self.catalog[name]
            columns = (*relation.schema.names, "_timestamp", "_partition", "_offset") if with_system else None
            leaves[key] = Scan(self.leaf_name(relation.name), name, columns)
        return leaf_table(table, leaves[key].name)

    def _prune_whole(self, plan: Whole, tree: exp.Expr) -> Whole | None:
        """Read only the columns that the text can mean, where it names every one that it reads."""
        stars = [star for star in tree.find_all(exp.Star) if not isinstance(star.parent, exp.Count)]
        natural = any(join.method == "NATURAL" for join in tree.find_all(exp.Join))
        if stars or natural or tree.find(exp.Columns, exp.Pivot) is not None:
            return None
        words = {part.name.lower() for part in tree.find_all(exp.Identifier)}
        leaves = tuple(self._prune_scan(leaf, words) if isinstance(leaf, Scan) else leaf for leaf in plan.leaves)
        pruned = replace(plan, leaves=leaves)
        try:
            self._verify(pruned, plan.schema)
        except NotLowered:
            return None
        return pruned

    def _prune_scan(self, scan: Scan, words: set[str]) -> Scan:
        names = scan.columns if scan.columns is not None else self.catalog[scan.relation].schema.names
        kept = tuple(name for name in names if name.lower() in words)
        return replace(scan, columns=kept or tuple(names[:1]))


def plain_block(leaf: Leaf, inputs: tuple[Named, ...], items: tuple[Named, ...], schema: pa.Schema) -> Block:
    """Make a block that only projects one leaf."""
    return Block(
        leaves=(leaf,), joins=(), from_sql=name_sql(leaf.name), where=None, inputs=inputs, keys=None, calls=(), having=None, items=items,
        hidden=0, partition_by=(), qualify=None, distinct=False, order=(), limit=None, offset=0, schema=schema,
        aliases=(leaf.name,),
    )  # fmt: skip
