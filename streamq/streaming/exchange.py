"""How the rows that one partition made reach the partitions of the next node."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import assert_never

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.owners import owners
from streamq.kernels.routing import routable
from streamq.operators.base import Delta
from streamq.operators.deltas import selected
from streamq.plan.exchanges import Broadcast, Exchange, Gather, Hash, Keep, Spread

SPREAD_ROWS = 4_096
"""Fewer rows than this are not worth being cut into runs."""


def exchanged(delta: Delta, exchange: Exchange, source: int, partitions: int, retracts: bool) -> list[Delta | None]:
    """Cut what partition number `source` made into what each of the `partitions` gets; None is nothing.

    `retracts` tells that rows of the node can be withdrawn: then `Spread` sends equal rows to one partition, which sees the withdrawal
    of what it has.
    """
    parts: list[Delta | None] = [None] * partitions
    if delta.num_rows == 0:
        return parts
    match exchange:
        case Keep():
            parts[source] = delta
        case Gather():
            parts[0] = delta
        case Broadcast():
            parts = [delta] * partitions
        case Hash(columns):
            parts = _by_owner(delta, [delta.rows.column(name) for name in columns], partitions)
        case Spread() if retracts:
            parts = _by_owner(delta, delta.rows.columns, partitions)
        case Spread():
            parts = _runs(delta, partitions)
        case _:
            assert_never(exchange)
    return parts


def owners_of(columns: Sequence[pa.Array], rows: int, partitions: int) -> NDArray[np.int64]:
    """Give the owner of every row with these key columns.

    Columns that cannot be hashed (lists, structs) do not count: equal keys still meet.
    """
    hashed = [column for column in columns if routable(column.type)]
    return owners(hashed, partitions) if hashed and partitions > 1 else np.zeros(rows, np.int64)


def _by_owner(delta: Delta, columns: Sequence[pa.Array], partitions: int) -> list[Delta | None]:
    targets = owners_of(columns, delta.num_rows, partitions)
    first = int(targets[0])
    if (targets == first).all():
        return [delta if partition == first else None for partition in range(partitions)]
    order = np.argsort(targets, kind="stable")
    bounds = np.searchsorted(targets[order], np.arange(partitions + 1)).tolist()
    moved = selected(delta, order)
    return [moved.slice(start, stop) if stop > start else None for start, stop in pairwise(bounds)]


def _runs(delta: Delta, partitions: int) -> list[Delta | None]:
    wanted = min(partitions, max(1, delta.num_rows // SPREAD_ROWS))
    bounds = [delta.num_rows * part // wanted for part in range(wanted + 1)]
    runs: list[Delta | None] = [delta.slice(start, stop) for start, stop in pairwise(bounds)]
    return runs + [None] * (partitions - wanted)
