"""Estimates how large a query and its parts are. Only how it runs depends on it, never an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from streamq.plan.relations import RelationSnapshot
from streamq.sql.logical import Block, Derived, Leaf, Query, Scan, Union, Whole

ROW_BYTES = 256
"""A generous width for the rows of a result whose number is known; rows of a relation that are wider count for several."""
MANY_ROWS = 1 << 62
"""Rows whose number is not known."""


def leaf_bytes(leaf: Leaf, snapshots: Mapping[str, RelationSnapshot]) -> int:
    """Estimate the bytes of a leaf from above: those of everything it reads, less where a LIMIT or a global aggregate bounds it."""
    match leaf:
        case Scan():
            return snapshots[leaf.relation].bytes
        case Derived():
            return _query_bytes(leaf.query, snapshots)
        case _:
            assert_never(leaf)


def _query_bytes(query: Query, snapshots: Mapping[str, RelationSnapshot]) -> int:
    match query:
        case Block():
            read = sum(leaf_bytes(leaf, snapshots) for leaf in query.leaves)
            if query.keys == ():
                return ROW_BYTES
            return read if query.limit is None else min(read, query.limit * ROW_BYTES)
        case Union():
            return sum(_query_bytes(branch, snapshots) for branch in query.branches)
        case Whole():
            return sum(leaf_bytes(leaf, snapshots) for leaf in query.leaves)
        case _:
            assert_never(query)


def rows_to_go_through(query: Query, snapshots: Mapping[str, RelationSnapshot]) -> int:
    """Estimate the work of a query: the rows that it reads and those that its joins without an equality make of them."""
    return _flow(query, snapshots)[0]


def _flow(query: Query, snapshots: Mapping[str, RelationSnapshot]) -> tuple[int, int]:
    """Estimate the rows that a query goes through and those that it gives."""
    match query:
        case Block():
            return _block_flow(query, snapshots)
        case Union():
            flows = [_flow(branch, snapshots) for branch in query.branches]
        case Whole():
            flows = [_leaf_flow(leaf, snapshots) for leaf in query.leaves] or [(MANY_ROWS, MANY_ROWS)]
        case _:
            assert_never(query)
    return sum(through for through, _ in flows), sum(rows for _, rows in flows)


def _block_flow(block: Block, snapshots: Mapping[str, RelationSnapshot]) -> tuple[int, int]:
    flows = {leaf.name: _leaf_flow(leaf, snapshots) for leaf in (*block.leaves, *block.input_subqueries, *block.output_subqueries)}
    through = sum(each for each, _ in flows.values())
    rows = flows[block.leaves[0].name][1] if block.leaves else 1
    for join in block.joins:
        right = flows[join.right][1]
        if join.keys:
            rows += right
        else:
            rows *= right
            through += rows
    if block.keys == ():
        rows = 1
    return through, rows if block.limit is None else min(rows, block.limit)


def _leaf_flow(leaf: Leaf, snapshots: Mapping[str, RelationSnapshot]) -> tuple[int, int]:
    match leaf:
        case Scan():
            snapshot = snapshots[leaf.relation]
            rows = max(snapshot.rows, snapshot.bytes // ROW_BYTES)
            return rows, rows
        case Derived():
            return _flow(leaf.query, snapshots)
        case _:
            assert_never(leaf)


def human_bytes(count: int) -> str:
    """Write a size for people.

    >>> human_bytes(0), human_bytes(10 << 20), human_bytes(1536)
    ('0 B', '10 MB', '1.5 kB')
    """
    size, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f}".removesuffix(".0") + f" {unit}"
