"""Ranks with an upper bound: whoever is among the first of all is among the first of any part, so parts need to pass on no others.

This holds for `row_number`, `rank` and `dense_rank`: rows that come before a row are dropped only with it, and of rows beyond the
bound enough of those before them stay for their rank to be beyond it still.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from sqlglot import exp

from streamq.sql.functions import function_name
from streamq.sql.text import sql_of
from streamq.sql.walks import find_all

_RANKS = frozenset({"row_number", "rank", "dense_rank"})


def have_one_ranking(nodes: Iterable[exp.Expr]) -> bool:
    """Tell whether all window functions in expressions are ranks in one order within one partitioning.

    The value of any other would change with the rows that are dropped.
    """
    windows = [window for node in nodes for window in find_all(node, exp.Window)]
    return len({_ranking(window) for window in windows}) == 1 and all(_is_rank(window) for window in windows)


def is_rank(node: exp.Expr | None) -> bool:
    """Tell whether an expression is nothing but a rank."""
    bare = node.unnest() if node is not None else None
    return isinstance(bare, exp.Window) and _is_rank(bare)


def bound_on_rank(condition: exp.Expr, parameters: Mapping[str, object], names: Collection[str] = ()) -> exp.Expr | None:
    """Give the upper bound that a condition sets to a rank, as a comparison with a number; None if it sets none.

    Ranks are window functions, and columns that are called one of `names`.
    """
    match condition:
        case exp.EQ() | exp.LTE() | exp.LT() if _is_ranked(condition.left, names):
            rank, bound = condition.left, condition.right
        case exp.EQ() | exp.GTE() | exp.GT() if _is_ranked(condition.right, names):
            rank, bound = condition.right, condition.left
        case exp.Between() if _is_ranked(condition.this, names):
            rank, bound = condition.this, condition.args["high"]
        case _:
            return None
    number = _number(bound.unnest(), parameters)
    if number is None:
        return None
    comparison = exp.LT if isinstance(condition, exp.LT | exp.GT) else exp.LTE
    return comparison(this=rank.unnest().copy(), expression=exp.Literal.number(number))


def _is_ranked(node: exp.Expr, names: Collection[str]) -> bool:
    bare = node.unnest()
    return is_rank(bare) or (isinstance(bare, exp.Column) and bare.name in names)


def _ranking(window: exp.Window) -> tuple[str, ...]:
    order = window.args.get("order")
    return (*(sql_of(part) for part in window.args.get("partition_by") or ()), "ORDER BY", sql_of(order) if order is not None else "")


def _is_rank(window: exp.Window) -> bool:
    function = window.this
    bare = function_name(function) in _RANKS and not any(function.iter_expressions())
    return bare and window.args.get("spec") is None and window.find(exp.Query) is None


def _number(node: exp.Expr, parameters: Mapping[str, object]) -> int | None:
    if isinstance(node, exp.Placeholder):
        value = parameters.get(node.name)
        return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
    return int(node.name) if isinstance(node, exp.Literal) and node.is_int else None
