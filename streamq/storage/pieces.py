"""Cuts what is inserted into a source into pieces, one or more for a shard, before anybody has to wait for that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.storage.routing import route
from streamq.storage.shard import own_copy

PIECE_ROWS = 8_192
"""The least rows of a batch that go to one shard together when rows have no key: less would only cost."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows for one shard, a copy that is the source's own, and their places in what is inserted.

    Of rows without a key `shard` counts from the shard whose turn it is.
    """

    shard: int
    rows: pa.RecordBatch
    places: NDArray[np.int64]


def routed(table: pa.Table, keys: Sequence[str], shards: int) -> list[Piece]:
    """Give each row to the shard that its key columns route it to."""
    pieces = []
    for first, batch in _batches(table):
        parts = route([batch.column(key) for key in keys], shards)
        order = np.argsort(parts, kind="stable")
        bounds = np.searchsorted(parts[order], np.arange(shards + 1))
        for shard in range(shards):
            places = order[bounds[shard] : bounds[shard + 1]]
            if len(places):
                pieces.append(Piece(shard, batch.take(pa.array(places)), places + first))
    return pieces


def dealt(table: pa.Table, shards: int) -> list[Piece]:
    """Deal rows that have no key out to shards in turn, in runs of equal length."""
    length = max(PIECE_ROWS, -(-table.num_rows // shards))
    pieces: list[Piece] = []
    for first, batch in _batches(table):
        for start in range(0, batch.num_rows, length):
            rows = own_copy(batch.slice(start, length))
            pieces.append(Piece(len(pieces), rows, np.arange(first + start, first + start + rows.num_rows)))
    return pieces


def _batches(table: pa.Table) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Give the rows in as few batches as Arrow can (one, below 2 GiB of text in a column), each with its first row."""
    first = 0
    for batch in table.combine_chunks().to_batches():
        yield first, batch
        first += batch.num_rows
