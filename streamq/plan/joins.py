"""How the leaves of FROM are spread over tasks so that joining inside each task joins them all.

Every leaf is either *divided* (each task has a part of it) or *whole* (each task has all of it). Going through the joins in
order, what has been joined so far is divided or whole too, and the kind of join says what may come next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from streamq.sql.logical import Join

WHOLE_RIGHT = frozenset({"inner", "cross", "left", "semi", "anti", "asof"})
"""Joins whose rows come from single rows of the left side, so that its parts can be joined one by one with all of the right."""
WHOLE_LEFT = frozenset({"inner", "cross", "right"})


@dataclass(frozen=True, slots=True)
class ExchangeKey:
    """What rows of a leaf are hashed by: `expressions` over its columns, each cast to its common type in `types`."""

    expressions: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def casts(self) -> tuple[str, ...]:
        return tuple(f"CAST({expression} AS {kind})" for expression, kind in zip(self.expressions, self.types, strict=True))


@dataclass(frozen=True, slots=True)
class Divided:
    """One leaf is divided as its relation is; every other is whole."""

    leaf: str


@dataclass(frozen=True, slots=True)
class Exchanged:
    """The leaves in `keys` are divided by their keys, so that rows that join meet; every other is whole."""

    keys: Mapping[str, ExchangeKey]


@dataclass(frozen=True, slots=True)
class Gathered:
    """Nothing can be divided: every leaf is whole, in one task. `fallback` labels why, `reason` says it."""

    fallback: str
    reason: str


JoinPlan = Divided | Exchanged | Gathered


def plan_joins(leaves: Sequence[str], joins: Sequence[Join], sizes: Mapping[str, int], broadcast_bytes: int) -> JoinPlan:
    """Choose which leaves are divided. `sizes` are in bytes; leaves over `broadcast_bytes` are whole only where nothing is divided."""
    large = frozenset(name for name in leaves if sizes[name] > broadcast_bytes)
    by_size = sorted(leaves, key=lambda name: -sizes[name])
    for name in by_size:
        if large <= {name} and fits(leaves, joins, frozenset({name})):
            return Divided(name)
    for chosen in (large, frozenset(leaves)):
        if len(chosen) > 1 and fits(leaves, joins, chosen) and (keys := exchange_keys(leaves, joins, chosen)):
            return Exchanged(keys)
    for join in joins:
        if not join.keys:
            why = f"the {join.kind} join with {join.right} has no equality to exchange rows by"
            return Gathered("no_equi_key", f"{why}, and no side is small enough, or may by the kind of join, be whole in every task")
    return Gathered("join_keys_differ", "the joins have no key in common by which all large inputs could be exchanged")


def fits(leaves: Sequence[str], joins: Sequence[Join], divided: frozenset[str]) -> bool:
    """Tell whether joining inside each task is right if `divided` are divided and the rest are whole.

    Two divided sides that meet are assumed to be divided by the key they are joined on.

    >>> fits(["a", "b"], [Join("left", "b", (), False)], frozenset({"a"}))
    True
    >>> fits(["a", "b"], [Join("left", "b", (), False)], frozenset({"b"}))
    False
    """
    left_divided = leaves[0] in divided
    for join in joins:
        right_divided = join.right in divided
        if left_divided and not right_divided and join.kind not in WHOLE_RIGHT:
            return False
        if right_divided and not left_divided and join.kind not in WHOLE_LEFT:
            return False
        left_divided = left_divided or right_divided
    return True


_Node = tuple[str, str]


def exchange_keys(leaves: Sequence[str], joins: Sequence[Join], divided: frozenset[str]) -> dict[str, ExchangeKey]:
    """Find what to hash every divided leaf by so that rows that join meet; empty if there is nothing.

    Equalities of the joins put expressions into classes. A class serves if every divided leaf has an expression in it and each
    join of divided sides demands its equality; all that serve are hashed together.
    """
    found = [key for component in _classes(joins, divided) if (key := _serving(component, leaves, joins, divided)) is not None]
    if not found:
        return {}
    types = tuple(kind for _, kind in found)
    return {leaf: ExchangeKey(tuple(chosen[leaf] for chosen, _ in found), types) for leaf in leaves if leaf in divided}


def _edges(joins: Iterable[Join], divided: frozenset[str]) -> list[tuple[_Node, _Node, str]]:
    return [
        ((left, left_sql), (join.right, right_sql), kind)
        for join in joins
        for left, left_sql, right_sql, kind in join.keys
        if left in divided and join.right in divided
    ]


def _classes(joins: Sequence[Join], divided: frozenset[str]) -> list[tuple[frozenset[_Node], str]]:
    """Connect expressions by equalities of one common type."""
    classes: list[tuple[frozenset[_Node], str]] = []
    for left, right, kind in _edges(joins, divided):
        touched = [part for part in classes if part[1] == kind and not part[0].isdisjoint({left, right})]
        merged = frozenset({left, right}).union(*(nodes for nodes, _ in touched))
        classes = [part for part in classes if part not in touched] + [(merged, kind)]
    return classes


def _serving(
    component: tuple[frozenset[_Node], str], leaves: Sequence[str], joins: Sequence[Join], divided: frozenset[str]
) -> tuple[dict[str, str], str] | None:
    nodes, kind = component
    chosen = {leaf: sql for leaf, sql in sorted(nodes, reverse=True)}
    if set(chosen) != divided:
        return None
    seen = {leaves[0]} & divided
    for join in joins:
        if join.right not in divided:
            continue
        demanded = any(
            left in seen and chosen[left] == left_sql and chosen[join.right] == right_sql and key_type == kind
            for left, left_sql, right_sql, key_type in join.keys
        )
        if seen and not demanded:
            return None
        seen = seen | {join.right}
    return chosen, kind
