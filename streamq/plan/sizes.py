"""Estimates how large a join's inputs are. Only what is broadcast depends on it, never an answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

from streamq.plan.relations import RelationSnapshot
from streamq.sql.logical import Block, Derived, Leaf, Query, Scan, Union, Whole

ROW_BYTES = 256
"""A generous width for the rows of a result whose number is known."""


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
