"""FROM: its leaves, how they join, and the scope that it gives to the rest of a SELECT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from streamq.sql.binder import BinderSession, BindFailed
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.sql.columns import Binding, NotLowered, Scope
from streamq.sql.ctes import CteScope, named_cte
from streamq.sql.dialect import holds_relations
from streamq.sql.joins import joined, keys_of, nulls
from streamq.sql.logical import Derived, Join, JoinKind, Leaf, Scan, SessionRows
from streamq.sql.tables import table_name
from streamq.sql.temporal import is_as_of_now
from streamq.sql.text import column, identifier, name_sql, sql_of
from streamq.sql.window_bounds import HOPS

if TYPE_CHECKING:
    from streamq.sql.lower import Lowering

_KINDS: dict[tuple[str, str], JoinKind] = {
    ("", ""): "inner",
    ("INNER", ""): "inner",
    ("CROSS", ""): "cross",
    ("SEMI", ""): "semi",
    ("ANTI", ""): "anti",
    ("", "LEFT"): "left",
    ("OUTER", "LEFT"): "left",
    ("", "RIGHT"): "right",
    ("OUTER", "RIGHT"): "right",
    ("", "FULL"): "full",
    ("OUTER", "FULL"): "full",
}


@dataclass(slots=True)
class Sources:
    """FROM as understood so far. `items` are its parts as they will be written, `joins` say how leaves meet."""

    scope: Scope = field(default_factory=Scope)
    visible: Scope = field(default_factory=Scope)
    leaves: list[Leaf] = field(default_factory=list)
    joins: list[Join] = field(default_factory=list)
    items: list[exp.Expr] = field(default_factory=list)
    unnests: bool = False
    unnests_lists: bool = False
    """It repeats rows other than for their time windows."""
    conditions: list[list[exp.Expr]] = field(default_factory=list)
    """The parts of each join's ON."""

    def from_sql(self) -> str:
        """Write the text behind FROM."""
        return " ".join(sql_of(item).strip() if number else sql_of(item) for number, item in enumerate(self.items))

    def aliases(self) -> tuple[str, ...]:
        """Give the names that the leaves have in FROM, by position."""
        names = {binding.leaf: binding.alias for binding in self.scope.bindings}
        return tuple(names[leaf.name] for leaf in self.leaves)

    def laterals(self) -> str:
        """Write what is not a leaf: UNNESTs and table functions."""
        laterals = (item for item, binding in zip(self.items, self.scope.bindings, strict=True) if binding.leaf is None)
        return " ".join(sql_of(item).strip() for item in laterals)

    def entangled(self) -> str | None:
        """Tell why leaves cannot be joined one by one; None where they can."""
        lateral = [binding.leaf is None for binding in self.scope.bindings]
        if lateral != sorted(lateral):
            return "UNNEST before a join"
        if len(self.leaves) > 1 and any("." in alias for alias in self.aliases()):
            return "an alias with a dot"
        return None

    def direct_scan(self) -> Scan | None:
        """Give the only relation, where FROM is nothing but one."""
        if len(self.leaves) == 1 and not self.unnests_lists and isinstance(self.leaves[0], Scan):
            return self.leaves[0]
        return None


def read_from(low: Lowering, select: exp.Select, ctes: CteScope) -> Sources:
    """Take FROM apart.

    Raises:
        NotLowered: a form that is not recognised.
    """
    clause = select.args.get("from_")
    if clause is None:
        raise NotLowered("no relation")
    if select.args.get("laterals"):
        raise NotLowered("LATERAL VIEW")
    sources = Sources()
    first, joins = _opened(clause.this)
    _add_first(low, sources, first, ctes)
    commas = False
    for join in [*joins, *(select.args.get("joins") or ())]:
        commas = commas or _is_comma(join)
        if commas and join.side in ("RIGHT", "FULL"):
            raise NotLowered("outer join beside a comma join")
        _add_join(low, sources, join, ctes)
    aliases = [binding.alias.lower() for binding in sources.scope.bindings]
    if len(set(aliases)) < len(aliases):
        raise NotLowered("an alias that is used twice")
    if not sources.leaves:
        raise NotLowered("no relation")
    return sources


def _opened(node: exp.Expr) -> tuple[exp.Expr, list[exp.Join]]:
    """Take FROM's first item out of its parentheses: the joins in them come first anyway."""
    joins: list[exp.Join] = []
    while isinstance(node, exp.Subquery) and holds_relations(node) and set(_given(node)) <= {"this", "joins"}:
        node, joins = node.this, [*(node.args.get("joins") or ()), *joins]
    if inner := node.args.get("joins"):
        node = node.copy()
        node.set("joins", None)
    return node, [*(inner or ()), *joins]


def _given(node: exp.Expr) -> list[str]:
    return [name for name, value in node.args.items() if value]


def add_session_columns(sources: Sources, sessions: SessionRows, schema: pa.Schema) -> None:
    """Put the bounds of sessions, which `schema` has as its last columns, into scope as columns of the one leaf."""
    names = (sessions.start, sessions.end)
    bounds = [pa.field(name, schema.field(len(schema) - 2 + place).type) for place, name in enumerate(names)]
    for scope in (sources.scope, sources.visible):
        (leaf,) = scope.bindings
        columns = leaf.columns | {name.lower(): name for name in names}
        scope.bindings[0] = replace(leaf, columns=columns, schema=pa.schema([*leaf.schema, *bounds]), hidden=leaf.hidden | set(names))


def _is_comma(join: exp.Join) -> bool:
    return not (join.kind or join.side or join.method or join.args.get("on") or join.args.get("using"))


def _add_first(low: Lowering, sources: Sources, node: exp.Expr, ctes: CteScope) -> None:
    item, binding, leaf = _read_item(low, sources, node, ctes)
    if leaf is None:
        raise NotLowered("UNNEST without a relation before it")
    if is_as_of_now(node):
        low.refuse_as_of_now("FOR SYSTEM_TIME AS OF PROCTIME() stands at the right side of a join, where rows of the left look it up")
    sources.items.append(item)
    sources.leaves.append(leaf)
    sources.scope.bindings.append(binding)
    sources.visible.bindings.append(binding)


def _add_join(low: Lowering, sources: Sources, join: exp.Join, ctes: CteScope) -> None:
    if join.method not in ("", "ASOF", "NATURAL") or join.args.get("hint") or join.args.get("global_"):
        raise NotLowered(f"{join.method} join")
    kind = _KINDS.get((join.kind.upper(), join.side.upper()))
    if kind is None:
        raise NotLowered(f"{join.kind} {join.side} join")
    if is_as_of_now(join.this) and (kind in ("right", "full") or join.method == "ASOF"):
        name = (join.method or join.side).upper()
        low.refuse_as_of_now(f"{name} JOIN does not go with FOR SYSTEM_TIME AS OF PROCTIME(): only rows of the left side make changes")
    item, binding, leaf = _read_item(low, sources, join.this, ctes)
    before = list(sources.visible.bindings)
    # ASOF chooses among all rows of its right side: what WHERE says of the chosen one must not narrow the choice.
    binding = replace(binding, movable=kind not in ("left", "full") and join.method != "ASOF")
    if kind in ("right", "full"):
        sources.visible.bindings = [replace(other, movable=False) for other in sources.visible.bindings]
        sources.scope.bindings = [replace(other, movable=False) for other in sources.scope.bindings]
    written = exp.Join(**{name: value for name, value in join.args.items() if name not in ("this", "on", "using", "method")})
    written.set("this", item)
    written.set("method", join.args.get("method") if join.method == "ASOF" else None)
    using = _using(join, before, binding)
    sources.scope.bindings.append(binding)
    sources.visible.bindings.append(binding)
    conditions: list[exp.Expr] = []
    if using:
        written.set("using", [identifier(name) for name in using])
        conditions = [_merge(sources, before, binding, name, kind) for name in using]
        if join.method == "ASOF":
            # The last column of an ASOF USING is the inequality.
            conditions[-1] = exp.GTE(this=conditions[-1].this, expression=conditions[-1].expression)
    elif join.args.get("on") is not None:
        on = resolve_condition(low, sources.visible, join.args["on"], ctes)
        written.set("on", on)
        conditions = list(conjuncts(on))
    elif leaf is not None and kind in ("inner", "cross"):
        kind = "cross"
        written.set("kind", "CROSS")
        written.set("side", None)
    sources.items.append(written)
    if leaf is None:
        sources.unnests = True
        sources.unnests_lists = sources.unnests_lists or binding.alias != HOPS
    else:
        keys, residual = keys_of(low, sources, conditions, binding)
        sources.leaves.append(leaf)
        sources.conditions.append(conditions)
        found = joined("asof" if join.method == "ASOF" else kind, leaf.name, keys, residual, conditions)
        sources.joins.append(replace(found, as_of_now=is_as_of_now(join.this)))
    if kind in ("semi", "anti"):
        sources.visible.bindings.remove(binding)


def resolve_condition(low: Lowering, scope: Scope, node: exp.Expr, ctes: CteScope) -> exp.Expr:
    """Qualify an ON condition. Subqueries in it make the SELECT run whole."""
    if node.find(exp.Query) is not None:
        raise NotLowered("subquery in a join condition")
    return scope.resolve(node)


def conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    """Split a condition at its ANDs."""
    match node:
        case exp.And():
            yield from conjuncts(node.left)
            yield from conjuncts(node.right)
        case exp.Paren():
            yield from conjuncts(node.this)
        case _:
            yield node


# USING and NATURAL


def _using(join: exp.Join, before: list[Binding], right: Binding) -> list[str]:
    if join.method == "NATURAL":
        left = {name for binding in before for name, own in binding.columns.items() if own not in binding.hidden}
        return [name for name, own in right.columns.items() if own not in right.hidden and name in left]
    return [part.name for part in join.args.get("using") or ()]


def _merge(sources: Sources, before: list[Binding], right: Binding, name: str, kind: JoinKind) -> exp.Expr:
    """Make a USING column one column; give its equality."""
    name = name.lower()
    owners = [binding for binding in before if name in binding.columns]
    merged = sources.visible.merged.get(name)
    if not owners or name not in right.columns or (len(owners) > 1 and merged is None):
        raise NotLowered("USING column that is not in both sides once")
    if merged is not None and kind not in ("inner", "left", "semi", "anti"):
        raise NotLowered("USING over several outer joins")
    if any(binding.columns[name].lower() != name for binding in (*owners, right)):
        raise NotLowered("USING over renamed columns")
    left = merged[1] if merged is not None else column(owners[0].columns[name], owners[0].alias)
    other = column(right.columns[name], right.alias)
    value: exp.Expr = left
    if kind == "right":
        value = other
    elif kind == "full":
        value = exp.Coalesce(this=left.copy(), expressions=[other.copy()])
    if kind not in ("semi", "anti"):
        members = [*(merged[0] if merged is not None else [owners[0].alias]), right.alias]
        sources.visible.merged[name] = (members, value)
        sources.scope.merged[name] = (members, value)
    return exp.EQ(this=left.copy(), expression=other)


# Items


def _read_item(low: Lowering, sources: Sources, node: exp.Expr, ctes: CteScope) -> tuple[exp.Expr, Binding, Leaf | None]:
    if node.args.get("joins") or (isinstance(node, exp.Subquery) and holds_relations(node)):
        raise NotLowered("parenthesised join")
    if node.args.get("pivots"):
        raise NotLowered("PIVOT")
    if node.args.get("sample"):
        raise NotLowered("sample")
    match node:
        case exp.Table() if isinstance(node.this, exp.Identifier):
            return _read_table(low, node, ctes)
        case exp.Subquery():
            return derive(low, node.this, node, ctes)
        case exp.Values() | exp.Unnest() | exp.Table() if low.session.binds(f"FROM {sql_of(node)}"):
            return _read_constant(low, node)
        case exp.Unnest() | exp.Table():
            return _read_unnest(low, sources, node)
        case _:
            raise NotLowered(f"{node.key} in FROM")


def _read_table(low: Lowering, node: exp.Table, ctes: CteScope) -> tuple[exp.Expr, Binding, Leaf]:
    if (found := named_cte(node, ctes)) is not None:
        query, inner, names = found
        return derive(low, query, node, inner, names)
    name = table_name(node)
    if name is None or name not in low.catalog:
        raise NotLowered("a name that is no relation")
    relation = low.catalog[name]
    if names := _column_aliases(node):
        raise NotLowered("column aliases of a relation")
    leaf = Scan(low.leaf_name(relation.name), name, None)
    own = list(relation.schema.names)
    system = SYSTEM_SCHEMA.names if relation.system_columns else []
    schema = pa.schema([*relation.schema, *SYSTEM_SCHEMA]) if system else relation.schema
    # Where the text does not say _timestamp, _partition or _offset, nothing resolves to them: they may always be in scope.
    columns = {column_name.lower(): column_name for column_name in (*own, *system)}
    alias = node.alias or node.name
    item = exp.Table(this=identifier(leaf.name), alias=exp.TableAlias(this=identifier(alias)))
    return item, Binding(alias, columns, schema, leaf.name, frozenset(system)), leaf


def _column_aliases(node: exp.Expr) -> list[str]:
    alias = node.args.get("alias")
    return [part.name for part in alias.args.get("columns") or ()] if isinstance(alias, exp.TableAlias) else []


def derive(
    low: Lowering, query: exp.Expr, node: exp.Expr, ctes: CteScope, names: list[str] | None = None
) -> tuple[exp.Expr, Binding, Leaf]:
    """Make a leaf of a query in FROM. `names` are the column names that its CTE gives it."""
    try:
        described = low.describe(query, ctes)
    except BindFailed as error:
        raise NotLowered("a query in FROM that depends on the relations before it") from error
    schema = described.schema
    alias = node.alias or (node.name if isinstance(node, exp.Table) else "")
    leaf = Derived(low.leaf_name(alias or "query"), low.query(query, ctes, schema))
    visible = list(schema.names)
    for renaming in (names or [], _column_aliases(node)):
        visible[: len(renaming)] = renaming
    alias = alias or leaf.name
    item = exp.Table(this=identifier(leaf.name), alias=exp.TableAlias(this=identifier(alias)))
    return item, Binding(alias, dict(zip((name.lower() for name in visible), schema.names, strict=True)), schema, leaf.name), leaf


def _read_constant(low: Lowering, node: exp.Expr) -> tuple[exp.Expr, Binding, Leaf]:
    """Make a leaf of rows that depend on no relation: VALUES, range(…)."""
    constant = exp.select(exp.Star()).from_(node.copy(), copy=False)
    schema = low.describe(constant, {}).schema
    leaf = Derived(low.leaf_name(node.alias or "rows"), low.whole(constant, {}, schema, "constant rows"))
    alias = node.alias or leaf.name
    item = exp.Table(this=identifier(leaf.name), alias=exp.TableAlias(this=identifier(alias)))
    return item, Binding(alias, {name.lower(): name for name in schema.names}, schema, leaf.name), leaf


def _read_unnest(low: Lowering, sources: Sources, node: exp.Expr) -> tuple[exp.Expr, Binding, None]:
    """Keep a lateral UNNEST (or table function) as text over the relations before it."""
    if node.find(exp.Query) is not None:
        raise NotLowered("subquery in UNNEST")
    alias = node.alias
    if not alias:
        raise NotLowered("UNNEST without an alias")
    item = sources.visible.resolve(node)
    schema = _unnested_schema(low.session, sources, item, alias)
    return item, Binding(alias, {name.lower(): name for name in schema.names}, schema), None


def _unnested_schema(session: BinderSession, sources: Sources, item: exp.Expr, alias: str) -> pa.Schema:
    empties = [f"(SELECT {nulls(session, b.schema)}) AS {name_sql(b.alias)}" for b in sources.visible.bindings]
    try:
        return session.describe(f"SELECT {name_sql(alias)}.* FROM {', '.join(empties)}, {sql_of(item)}").schema
    except BindFailed as error:
        raise NotLowered("a table function that is not recognised") from error
