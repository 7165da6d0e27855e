"""What each scanned relation must give: the columns that are used, conditions that every useful row meets, bounds for pruning."""

from __future__ import annotations

import datetime
from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import TYPE_CHECKING, assert_never

import pyarrow as pa
from sqlglot import exp

from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.sql.columns import Binding
from streamq.sql.joins import unqualified
from streamq.sql.logical import Block, Bound, Derived, Leaf, Scan
from streamq.sql.ranks import bound_on_rank
from streamq.sql.sources import Sources
from streamq.sql.text import sql_of
from streamq.sql.walks import find_all

if TYPE_CHECKING:
    from streamq.sql.lower import Lowering

_COMPARISONS: dict[type[exp.Expr], str] = {exp.EQ: "=", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_FLIPPED = {"=": "=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_CONSTANT_PARTS = (
    exp.Literal, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Neg, exp.Add, exp.Sub, exp.Interval, exp.Var, exp.Boolean, exp.Paren,
)  # fmt: skip


def prune_leaves(
    low: Lowering, sources: Sources, used: Iterable[exp.Expr], conditions: list[exp.Expr], words: set[str]
) -> tuple[Leaf, ...]:
    """Give the leaves of FROM with the columns, filters and bounds that `used` and WHERE's `conditions` imply.

    `words` are names said by correlated subqueries: any column among them is kept.
    """
    needed = _needed_columns(sources, used, words)
    bindings = {binding.leaf: binding for binding in sources.scope.bindings}
    pruned: list[Leaf] = []
    for leaf in sources.leaves:
        binding = bindings[leaf.name]
        match leaf:
            case Scan():
                pruned.append(_prune_scan(low, leaf, binding, needed[binding.alias], conditions))
            case Derived(query=Block() as block) if binding.movable:
                pruned.append(replace(leaf, query=_bound_ranks(low, block, binding, conditions)))
            case Derived():
                pruned.append(leaf)
            case _:
                assert_never(leaf)
    return tuple(pruned)


def _bound_ranks(low: Lowering, block: Block, binding: Binding, conditions: list[exp.Expr]) -> Block:
    """Tell a query that ranks rows how far its ranks are read."""
    if not block.ranks or block.limit is not None or block.offset or block.first_ranks is not None:
        return block
    names = dict(zip(block.schema.names, block.items, strict=False))
    ranks = [name for name, item in names.items() if item.name in block.ranks]
    for condition in conditions:
        bound = bound_on_rank(condition, low.planned_by, ranks)
        if bound is not None and bound.this.table == binding.alias:
            return replace(
                block, first_ranks=f"{names[bound.this.name].sql} {'<' if isinstance(bound, exp.LT) else '<='} {sql_of(bound.expression)}"
            )
    return block


def _needed_columns(sources: Sources, used: Iterable[exp.Expr], words: set[str]) -> dict[str, set[str]]:
    needed: dict[str, set[str]] = {binding.alias: set() for binding in sources.scope.bindings}
    for node in used:
        for reference in find_all(node, exp.Column):
            if reference.table in needed:
                needed[reference.table].add(reference.name)
        for join in find_all(node, exp.Join):
            words = words | {part.name.lower() for part in join.args.get("using") or ()}
    for binding in sources.scope.bindings:
        needed[binding.alias] |= {own for visible, own in binding.columns.items() if visible in words}
    return needed


def _prune_scan(low: Lowering, scan: Scan, binding: Binding, needed: set[str], conditions: list[exp.Expr]) -> Scan:
    schema = low.catalog[scan.relation].schema
    columns = tuple(name for name in (*schema.names, *SYSTEM_SCHEMA.names) if name in needed) or (_narrowest(schema),)
    if not binding.movable:
        return replace(scan, columns=columns)
    filters: list[str] = []
    bounds: list[Bound] = []
    for condition in conditions:
        if {part.table for part in find_all(condition, exp.Column)} != {binding.alias} or not is_safe(condition, binding):
            continue
        if condition.find(exp.Placeholder) is None:
            filters.append(sql_of(unqualified(condition)))
        bounds += bounds_of(condition, low.session.parameters)
    return replace(scan, columns=columns, filter=" AND ".join(filters) or None, bounds=tuple(bounds))


def _narrowest(schema: pa.Schema) -> str:
    """Choose the column that is cheapest to read, for a query that needs rows and no column."""
    return str(min(schema, key=lambda field: field.type.bit_width if pa.types.is_primitive(field.type) else 1 << 20).name)


def is_safe(condition: exp.Expr, binding: Binding) -> bool:
    """Tell whether a condition compares columns with constants of their kind, so that it cannot fail on any row."""
    match condition:
        case exp.EQ() | exp.NEQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
            sides = (condition.left, condition.right)
            return any(_comparable(a, b, binding) for a, b in (sides, sides[::-1]))
        case exp.Between():
            return all(_comparable(condition.this, condition.args[part], binding) for part in ("low", "high"))
        case exp.In() if condition.expressions and not condition.args.get("query"):
            return all(_comparable(condition.this, part, binding) for part in condition.expressions)
        case exp.Is():
            return isinstance(condition.this, exp.Column) and isinstance(condition.expression, exp.Null)
        case exp.Like() | exp.ILike():
            return _comparable(condition.this, condition.expression, binding)
        case exp.Not():
            return is_safe(condition.this, binding)
        case exp.Or():
            return is_safe(condition.left, binding) and is_safe(condition.right, binding)
        case exp.And():
            return is_safe(condition.left, binding) and is_safe(condition.right, binding)
        case exp.Paren():
            return is_safe(condition.this, binding)
        case _:
            return False


def _comparable(column: exp.Expr, constant: exp.Expr, binding: Binding) -> bool:
    if not isinstance(column, exp.Column) or column.table != binding.alias:
        return False
    if isinstance(constant, exp.Placeholder):
        return True
    type_ = binding.type_of(column.name)
    if not all(isinstance(part, _CONSTANT_PARTS) for part in constant.walk()):
        return False
    bare = constant.unnest()
    if isinstance(bare, exp.Neg):
        bare = bare.this
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return isinstance(bare, exp.Literal) and bare.is_string
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return isinstance(bare, exp.Literal) and not bare.is_string
    if pa.types.is_temporal(type_):
        return isinstance(bare, exp.Cast | exp.Add | exp.Sub) or (isinstance(bare, exp.Literal) and bare.is_string)
    return pa.types.is_boolean(type_) and isinstance(bare, exp.Boolean)


def bounds_of(condition: exp.Expr, parameters: dict[str, object]) -> list[Bound]:
    """Give what a safe condition says of a column's range."""
    match condition:
        case exp.EQ() | exp.LT() | exp.LTE() | exp.GT() | exp.GTE():
            op = _COMPARISONS[type(condition)]
            if isinstance(condition.left, exp.Column):
                return _bound(condition.left, op, condition.right, parameters)
            return _bound(condition.right, _FLIPPED[op], condition.left, parameters)
        case exp.Between():
            low = _bound(condition.this, ">=", condition.args["low"], parameters)
            return low + _bound(condition.this, "<=", condition.args["high"], parameters)
        case exp.In():
            literals = [_literal(part, parameters) for part in condition.expressions]
            known = [literal for literal in literals if literal is not None]
            return [Bound(condition.this.name, "in", f"({', '.join(known)})")] if len(known) == len(literals) else []
        case exp.Paren():
            return bounds_of(condition.this, parameters)
        case _:
            return []


def _bound(column: exp.Expr, op: str, constant: exp.Expr, parameters: dict[str, object]) -> list[Bound]:
    literal = _literal(constant, parameters)
    return [Bound(column.name, op, literal)] if literal is not None else []  # type: ignore[arg-type]


def _literal(node: exp.Expr, parameters: dict[str, object]) -> str | None:
    """Give the SQL of a constant; None for a parameter of a type that proves nothing."""
    if not isinstance(node, exp.Placeholder):
        return sql_of(node)
    match parameters.get(node.name):
        case bool() | int() | str():
            return sql_of(node)
        case Decimal() as number if number.is_finite():
            return sql_of(node)
        case datetime.datetime() | datetime.date() as moment if getattr(moment, "tzinfo", None) is None:
            return sql_of(node)
        case _:
            return None
