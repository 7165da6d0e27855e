"""Which leaves of a join are divided over tasks."""

from __future__ import annotations

from streamq.plan.joins import Divided, Exchanged, ExchangeKey, Gathered, plan_joins
from streamq.sql.logical import Join, JoinKind

SMALL, LARGE = 10, 1000


def key(left: str, right: str, kind: str = "BIGINT") -> tuple[str, str, str, str]:
    """Equate the column k of two leaves."""
    return (left, "k", "k", kind)


def two(kind: JoinKind, left: int, right: int, *, equal: bool = True) -> object:
    """Plan a join of leaves a and b of these sizes."""
    join = Join(kind, "b", (key("a", "b"),) if equal else (), False)
    return plan_joins(["a", "b"], [join], {"a": left, "b": right}, 100)


def test_the_larger_side_is_divided() -> None:
    """An inner join gives every task the smaller side whole."""
    assert two("inner", LARGE, SMALL) == Divided("a")
    assert two("inner", SMALL, LARGE) == Divided("b")


def test_the_null_supplying_side_is_never_divided_alone() -> None:
    """LEFT divides the left side even if it is the smaller one, RIGHT the right."""
    assert two("left", SMALL, SMALL + 1) == Divided("a")
    assert two("right", SMALL + 1, SMALL) == Divided("b")
    assert two("anti", SMALL, SMALL + 1) == Divided("a")


def test_two_large_sides_are_exchanged() -> None:
    """Both sides are hashed by what they are joined on, cast to the common type."""
    both = ExchangeKey(("k",), ("BIGINT",))
    assert two("left", LARGE, LARGE) == Exchanged({"a": both, "b": both})
    assert both.casts == ("CAST(k AS BIGINT)",)


def test_a_large_null_supplying_side_is_exchanged() -> None:
    """A small left side of LEFT cannot be whole while the right is divided, so both are exchanged."""
    assert isinstance(two("left", SMALL, LARGE), Exchanged)


def test_full_joins_are_never_broadcast() -> None:
    """FULL exchanges even small sides."""
    assert isinstance(two("full", SMALL, SMALL), Exchanged)


def test_no_equality_and_two_large_sides() -> None:
    """Without an equality one task joins, and the label says why."""
    assert isinstance(plan := two("inner", LARGE, LARGE, equal=False), Gathered)
    assert plan.fallback == "no_equi_key"


def test_a_chain_over_one_key_is_exchanged_once() -> None:
    """Three large leaves joined over equal keys meet in one exchange; a small one is whole."""
    joins = [
        Join("inner", "b", (key("a", "b"),), False),
        Join("left", "s", (("b", "x", "x", "VARCHAR"),), False),
        Join("left", "c", (key("b", "c"),), False),
    ]
    plan = plan_joins(["a", "b", "s", "c"], joins, {"a": LARGE, "b": LARGE, "s": SMALL, "c": LARGE}, 100)
    assert isinstance(plan, Exchanged)
    assert set(plan.keys) == {"a", "b", "c"}


def test_keys_of_different_types_are_no_class() -> None:
    """Equalities that compare in different types would hash one value in two ways."""
    joins = [Join("inner", "b", (key("a", "b", "BIGINT"),), False), Join("inner", "c", (key("b", "c", "DOUBLE"),), False)]
    plan = plan_joins(["a", "b", "c"], joins, {"a": LARGE, "b": LARGE, "c": LARGE}, 100)
    assert isinstance(plan, Gathered)
    assert plan.fallback == "join_keys_differ"


def test_several_keys_are_hashed_together() -> None:
    """Two equalities of one join give a key of two expressions."""
    join = Join("inner", "b", (("a", "x", "u", "BIGINT"), ("a", "y", "v", "VARCHAR")), False)
    plan = plan_joins(["a", "b"], [join], {"a": LARGE, "b": LARGE}, 100)
    assert plan == Exchanged({"a": ExchangeKey(("x", "y"), ("BIGINT", "VARCHAR")), "b": ExchangeKey(("u", "v"), ("BIGINT", "VARCHAR"))})
