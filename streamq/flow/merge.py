"""The k-way merge of sorted runs, on batches.

Every run is sorted by its last column, a key whose order is the query's. The merge never compares rows one by one:
it takes all rows up to the smallest of the runs' buffered last keys (nothing that is still unread can come before them),
sorts these together, and goes on. Rows with equal keys keep the order of their runs.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class _Run:
    """One sorted run: its batches, and the rows of the current one that are not merged yet."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self.rows: pa.RecordBatch | None = None
        self.advance()

    def advance(self) -> None:
        self.rows = next((batch for batch in self._batches if batch.num_rows), None)

    @property
    def keys(self) -> pa.Array:
        assert self.rows is not None
        return self.rows.column(self.rows.num_columns - 1)

    def last_key(self) -> Any:
        keys = self.keys
        return keys[len(keys) - 1].as_py()

    def take_below(self, bound: Any, *, inclusive: bool) -> pa.RecordBatch:
        """Remove and return the buffered rows whose key is below `bound`, or equal to it if `inclusive`."""
        assert self.rows is not None
        keys = self.keys
        cut = bisect_right if inclusive else bisect_left
        count = cut(range(len(keys)), bound, key=lambda row: keys[row].as_py())
        taken = self.rows.slice(0, count)
        if count == self.rows.num_rows:
            self.advance()
        else:
            self.rows = self.rows.slice(count)
        return taken


def merge_runs(runs: list[Iterator[pa.RecordBatch]], batch_rows: int) -> Generator[pa.RecordBatch]:
    """Merge sorted runs into batches of at most `batch_rows` rows, leaving out the key column.

    >>> run = lambda *keys: iter([pa.record_batch({"v": keys, "key": keys})])
    >>> [batch.column("v").to_pylist() for batch in merge_runs([run(1, 3), run(2, 3)], 10)]
    [[1, 2, 3, 3]]
    """
    pending: list[pa.RecordBatch] = []
    waiting = 0
    for batch in _merged(runs):
        values = batch.select(range(batch.num_columns - 1))
        pending.append(values)
        waiting += values.num_rows
        while waiting >= batch_rows:
            full, rest = _cut(pending, batch_rows)
            yield full
            pending, waiting = ([rest] if rest.num_rows else []), rest.num_rows
    if waiting:
        yield pa.concat_batches(pending)


def _cut(batches: list[pa.RecordBatch], rows: int) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    joined = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
    return joined.slice(0, rows), joined.slice(rows)


def _merged(iterators: list[Iterator[pa.RecordBatch]]) -> Iterator[pa.RecordBatch]:
    runs = [run for run in map(_Run, iterators) if run.rows is not None]
    while len(runs) > 1:
        lasts = [run.last_key() for run in runs]
        bound = min(lasts)
        # The first run that ends in the bound may have more rows with this key; those of later runs come after them.
        first = lasts.index(bound)
        parts = [run.take_below(bound, inclusive=place <= first) for place, run in enumerate(runs)]
        taken = [rows for rows in parts if rows.num_rows]
        runs = [run for run in runs if run.rows is not None]
        yield taken[0] if len(taken) == 1 else _sorted(pa.concat_batches(taken))
    for run in runs:
        while run.rows is not None:
            yield run.rows
            run.advance()


def _sorted(batch: pa.RecordBatch) -> pa.RecordBatch:
    keys = batch.column(batch.num_columns - 1)
    # Fixed-width keys go through numpy, whose stable sort is several times faster on rows that are nearly in order.
    if pa.types.is_integer(keys.type):
        order = pa.array(np.argsort(keys.to_numpy(zero_copy_only=False), kind="stable"))
    else:
        order = pc.sort_indices(keys)
    return batch.take(order)
