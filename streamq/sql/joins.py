"""How the leaves of a FROM join: equal keys, whole conditions, bounds between their event times."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from streamq.sql.binder import BinderSession
from streamq.sql.columns import Binding, Scope
from streamq.sql.intervals import FoundBound, find_bound
from streamq.sql.lateness import is_event_time
from streamq.sql.logical import Join, JoinKind
from streamq.sql.text import column, name_sql, sql_of
from streamq.sql.walks import find_all

if TYPE_CHECKING:
    from streamq.sql.lower import Lowering
    from streamq.sql.sources import Sources


@dataclass(frozen=True, slots=True)
class EquiKey:
    """An equality between a leaf and one before it. `left` and `right` are its sides over the user's names, cast to the `common` type."""

    leaf: str
    bare_left: str
    bare_right: str
    common: str
    left: str
    right: str


def joined(kind: JoinKind, right: str, keys: Sequence[EquiKey], residual: bool, conditions: Sequence[exp.Expr]) -> Join:
    """Make a join of its keys and the parts of its condition."""
    return Join(
        kind=kind,
        right=right,
        keys=tuple((key.leaf, key.bare_left, key.bare_right, key.common) for key in keys),
        residual=residual,
        on=sql_of(exp.and_(*conditions)) if conditions else None,
        left_keys=tuple(key.left for key in keys),
        right_keys=tuple(key.right for key in keys),
    )


def keys_of(low: Lowering, sources: Sources, conditions: list[exp.Expr], right: Binding) -> tuple[list[EquiKey], bool]:
    """Give the keys among the parts of a condition, and whether there are other parts."""
    keys = []
    residual = False
    for condition in conditions:
        key = equi_key(low.session, sources.scope, condition, right)
        if key is None:
            residual = True
        else:
            keys.append(key)
    return keys, residual


def equi_key(session: BinderSession, scope: Scope, condition: exp.Expr, right: Binding) -> EquiKey | None:
    """Give the join key that an equality is, if one side reads only `right` and the other only one leaf before it."""
    if not isinstance(condition, exp.EQ) or right.leaf is None:
        return None
    for mine, other in ((condition.right, condition.left), (condition.left, condition.right)):
        tables = {part.table for part in find_all(other, exp.Column)}
        if {part.table for part in find_all(mine, exp.Column)} != {right.alias} or len(tables) != 1 or right.alias in tables:
            continue
        left = scope.binding(next(iter(tables)))
        if left is None or left.leaf is None:
            continue
        bare_left, bare_right = sql_of(unqualified(other)), sql_of(unqualified(mine))
        types = (_type_of(session, other, left.schema), _type_of(session, mine, right.schema))
        common = _common_type(session, types)
        if common is not None:
            return EquiKey(left.leaf, bare_left, bare_right, common, _cast(other, types[0], common), _cast(mine, types[1], common))
    return None


def join_by_where(session: BinderSession, sources: Sources, conditions: list[exp.Expr]) -> tuple[Join, ...]:
    """Give the joins, where a cross join that WHERE restricts by an equality has that as its key.

    Rows without equal keys cannot pass WHERE, which is still evaluated: hence the residual.
    """
    joins = []
    for join in sources.joins:
        right = next(binding for binding in sources.scope.bindings if binding.leaf == join.right)
        found = [equi_key(session, _before(sources, join), condition, right) for condition in conditions] if join.kind == "cross" else []
        keys = [key for key in found if key is not None]
        equal = [condition for condition, key in zip(conditions, found, strict=False) if key is not None]
        by_where = joined("inner", join.right, keys, True, equal)
        joins.append(replace(by_where, as_of_now=join.as_of_now) if keys else join)
    return tuple(joins)


_TIME_BOUND: frozenset[JoinKind] = frozenset({"inner", "cross", "left", "right", "full", "semi", "anti"})


def bound_in_time(
    low: Lowering, sources: Sources, joins: tuple[Join, ...], conditions: list[exp.Expr]
) -> tuple[tuple[Join, ...], list[FoundBound]]:
    """Give joins their time bounds, from ON and, where WHERE has the same effect, from WHERE."""
    leaves = {leaf.name: leaf for leaf in sources.leaves}
    bound: list[Join] = []
    bounds: list[FoundBound] = []
    for join, on in zip(joins, sources.conditions, strict=True):
        scope = _before(sources, join)
        right = next(binding for binding in scope.bindings if binding.leaf == join.right)
        names = {binding.alias: binding.leaf for binding in scope.bindings if binding.leaf is not None}

        def is_time(part: exp.Column, names: dict[str, str] = names) -> bool:
            return part.table in names and is_event_time(low, leaves[names[part.table]], part.name)

        said = [*on, *conditions] if join.kind in ("inner", "cross") else on
        known = join.kind in _TIME_BOUND and not join.as_of_now
        found = find_bound(said, right.alias, is_time) if known else None
        if found is None:
            bound.append(join)
            continue
        bounds.append(found)
        bound.append(replace(join, time_bound=found.bound))
        if low.continuous is not None and (added := [condition for condition in found.conditions if condition not in on]):
            known_on = [join.on] if join.on is not None else []
            whole = " AND ".join([*known_on, *(sql_of(exp.paren(condition)) for condition in added)])
            bound[-1] = replace(bound[-1], kind="inner", residual=True, on=whole)
    return tuple(bound), bounds


def _before(sources: Sources, join: Join) -> Scope:
    leaves = [leaf.name for leaf in sources.leaves]
    earlier = set(leaves[: leaves.index(join.right)])
    return Scope([binding for binding in sources.scope.bindings if binding.leaf in earlier or binding.leaf == join.right])


def unqualified(node: exp.Expr) -> exp.Expr:
    """Write column references without their relation."""
    return node.transform(lambda part: column(part.name) if isinstance(part, exp.Column) else part)


_NUMERIC = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "UTINYINT",
    "USMALLINT",
    "UINTEGER",
    "UBIGINT",
)
_TEMPORAL = ("DATE", "TIMESTAMP")


def _cast(node: exp.Expr, given: str, wanted: str) -> str:
    sql = sql_of(node)
    return sql if given == wanted else f"CAST({sql} AS {wanted})"


def _common_type(session: BinderSession, types: tuple[str, str]) -> str | None:
    """Give the type in which DuckDB compares expressions of two types; None where it is not certain."""
    if types[0] == types[1]:
        return types[0]
    if any(all(type_.startswith(family) for type_ in types) for family in (_NUMERIC, _TEMPORAL)):
        nulls = ", ".join(f"CAST(NULL AS {type_})" for type_ in types)
        return session.describe(f"SELECT coalesce({nulls}) AS common").types[0]
    return None


def _type_of(session: BinderSession, node: exp.Expr, schema: pa.Schema) -> str:
    """Give DuckDB's name of the type that an expression over one relation has."""
    place = schema.get_field_index(node.name) if isinstance(node, exp.Column) else -1
    if place >= 0 and not pa.types.is_null(schema.field(place).type):
        return session.type_names(schema)[place]
    return session.describe(f"SELECT {sql_of(unqualified(node))} AS expression FROM (SELECT {nulls(session, schema)})").types[0]


def nulls(session: BinderSession, schema: pa.Schema) -> str:
    """Write a select list with the names and types of a schema."""
    typed = zip(schema.names, session.type_names(schema), strict=True)
    return ", ".join(f"CAST(NULL AS {type_}) AS {name_sql(name)}" for name, type_ in typed)
