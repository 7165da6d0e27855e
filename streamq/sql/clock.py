"""Where a continuous query reads the clock: only of rows that are never withdrawn, since a row goes as it came."""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import parse_one

from streamq.sql.catalog import CatalogView
from streamq.sql.functions import NOW, asks_clock
from streamq.sql.logical import Block, Derived, Leaf, Query, Scan, Union, Whole


def clock_over_retraction(query: Query, catalog: CatalogView, *, final: bool) -> str | None:
    """Tell what makes rows over which a plan reads the clock go again; None where nothing is known to.

    With `final` groups are given once, so nothing withdraws them.
    """
    match query:
        case Union():
            found = (clock_over_retraction(branch, catalog, final=final) for branch in query.branches)
            return next((reason for reason in found if reason is not None), None)
        case Whole():
            if _reads([query.sql]):
                return f"the query is computed again with every change: {query.reason}"
        case Block():
            early = [f"SELECT 1 FROM {query.from_sql}", query.where, *(given.sql for given in query.inputs)]
            late = [query.having, query.qualify, *(item.sql for item in query.items)]
            if _reads(early) and (reason := _rows_retract(query, catalog, final=final)) is not None:
                return reason
            if query.keys is not None and not final and _reads(late):
                return "the groups change with every row"
    for leaf in query.leaves:
        if isinstance(leaf, Derived) and (reason := clock_over_retraction(leaf.query, catalog, final=final)) is not None:
            return reason
    return None


def _reads(texts: Iterable[str | None]) -> bool:
    return any(asks_clock(parse_one(text, read="duckdb")) for text in texts if text is not None and f"${NOW}" in text)


def _rows_retract(block: Block, catalog: CatalogView, *, final: bool) -> str | None:
    """Tell what withdraws rows of FROM."""
    looked_up = {join.right for join in block.joins if join.as_of_now}
    for leaf in block.leaves:
        if leaf.name not in looked_up and (reason := _retracts(leaf, catalog, final=final)) is not None:
            return reason
    for join in block.joins:
        if join.kind in ("left", "right", "full", "anti", "asof") and not join.as_of_now and not final:
            return f"{join.kind} join"
    if any(_relations(leaf) for leaf in block.input_subqueries):
        return "a subquery whose result changes"
    return None


def _retracts(leaf: Leaf, catalog: CatalogView, *, final: bool) -> str | None:
    match leaf:
        case Scan():
            relation = catalog[leaf.relation]
            return f"{relation.kind} {relation.name}" if relation.kind in ("table", "materialized view") else None
        case Derived():
            return _query_retracts(leaf.query, catalog, final=final)


def _query_retracts(query: Query, catalog: CatalogView, *, final: bool) -> str | None:
    match query:
        case Union():
            found = (_query_retracts(branch, catalog, final=final) for branch in query.branches)
            return next((reason for reason in found if reason is not None), None)
        case Whole():
            return query.reason if query.leaves else None
        case Block():
            if final and query.windows:
                return None
            if query.keys is not None:
                return "aggregation"
            if query.partition_by or query.qualify is not None:
                return "window functions"
            if query.limit is not None and query.order:
                return "ORDER BY … LIMIT"
            return _rows_retract(query, catalog, final=final)


def _relations(leaf: Leaf) -> bool:
    return isinstance(leaf, Scan) or isinstance(leaf.query, Block | Union) or bool(leaf.query.leaves)
