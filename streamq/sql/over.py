"""Window functions: named windows written out, ties in their order broken, what they partition by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sqlglot import exp

from streamq.sql.columns import NotLowered
from streamq.sql.functions import function_name
from streamq.sql.text import column, sql_of
from streamq.sql.walks import find_all

_PEERS_SHARE = frozenset({"rank", "dense_rank", "percent_rank", "cume_dist"})
"""Functions whose value is the same for rows that tie: more order terms would change it."""
_ROW_BY_ROW = frozenset({"row_number", "ntile", "lag", "lead", "first_value"})
"""Functions that tell tied rows apart whatever the frame (`first_value` over a frame that starts with the partition)."""


def inline_named_windows(select: exp.Select) -> exp.Select:
    """Give a SELECT in which every window is written out where it is used: a copy, if it names any."""
    if not select.args.get("windows"):
        return select
    copy = select.copy()
    named = {window.name.lower(): window for window in copy.args["windows"]}
    for window in list(copy.find_all(exp.Window)):
        alias = window.args.get("alias")
        if alias is None:
            continue
        base = named.get(alias.name.lower())
        if base is None or base.args.get("alias") is not None:
            raise NotLowered("a named window over another")
        for part in ("partition_by", "order", "spec"):
            value = base.args.get(part)
            if value and not window.args.get(part):
                window.set(part, [item.copy() for item in value] if isinstance(value, list) else value.copy())
        window.set("alias", None)
    copy.set("windows", None)
    return copy


def break_ties(node: exp.Expr, columns: Sequence[str]) -> None:
    """Add `columns` to the order of every window function in `node` whose value depends on how ties fall."""
    for window in find_all(node, exp.Window):
        if _tells_ties_apart(window):
            _add_terms(window, columns)


def partitions(node: exp.Expr) -> Iterator[tuple[str, ...]]:
    """Give the PARTITION BY of every window function in an expression."""
    for window in find_all(node, exp.Window):
        yield tuple(sql_of(_bare(part)) for part in window.args.get("partition_by") or ())


def _bare(node: exp.Expr) -> exp.Expr:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _tells_ties_apart(window: exp.Window) -> bool:
    function = window.this
    while isinstance(function, exp.Filter | exp.IgnoreNulls | exp.RespectNulls) and not isinstance(function.this, exp.AnyValue):
        function = function.this
    name = function_name(function)
    spec = window.args.get("spec")
    kind = (spec.args.get("kind") or "").upper() if spec is not None else ""
    if name in _PEERS_SHARE or kind in ("RANGE", "GROUPS"):
        return False
    return kind == "ROWS" or name in _ROW_BY_ROW


def _add_terms(window: exp.Window, columns: Sequence[str]) -> None:
    order = window.args.get("order") or exp.Order(expressions=[])
    used = [term.this for term in order.expressions] + list(window.args.get("partition_by") or ())
    terms = [exp.Ordered(this=column(name), nulls_first=False) for name in columns if column(name) not in used]
    if terms:
        order.set("expressions", [*order.expressions, *terms])
        window.set("order", order)
