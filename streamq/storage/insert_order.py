"""Rows of several shards, put back into the order in which they were inserted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.storage.memory import ROW_COLUMN
from streamq.storage.shard import Slice, places

_SHORT_RUN = 64
"""Below this many rows a run, sorting rows is cheaper than gluing runs together."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Rows `start` ≤ row < `stop` of a slice, which were inserted one after the other, the first at `place`."""

    place: int
    slice: Slice
    start: int
    stop: int

    def column(self, index: int) -> pa.Array:
        return self.slice.rows.column(index).slice(self.start, self.stop - self.start)


def in_insert_order(slices: Sequence[Slice], schema: pa.Schema) -> pa.RecordBatch:
    """Give the first of the slices' rows in insert order: all of them, or the first run alone if it has at least half of
    them, since then nothing has to be copied.

    `schema` names stored and system columns. The places of the rows, taken together, have no gap.
    """
    runs = sorted((run for part in slices for run in _runs(part)), key=lambda run: run.place)
    total = sum(part.rows.num_rows for part in slices)
    if 2 * (runs[0].stop - runs[0].start) >= total:
        runs = runs[:1]
    elif len(runs) * _SHORT_RUN > total:
        return _sorted(slices, schema)
    return _glued(runs, schema)


def _runs(part: Slice) -> Iterator[_Run]:
    at = places(part.rows)
    if at[-1] - at[0] == len(at) - 1:
        yield _Run(int(at[0]), part, 0, len(at))
        return
    bounds = [0, *(np.flatnonzero(np.diff(at) != 1) + 1).tolist(), len(at)]
    for start, stop in pairwise(bounds):
        yield _Run(int(at[start]), part, start, stop)


def _sorted(slices: Sequence[Slice], schema: pa.Schema) -> pa.RecordBatch:
    order = pa.array(np.argsort(np.concatenate([places(part.rows) for part in slices]), kind="stable"))
    whole = [_Run(0, part, 0, part.rows.num_rows) for part in slices]
    return _glued(whole, schema).take(order)


def _glued(runs: Sequence[_Run], schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([_column(runs, name) for name in schema.names], schema=schema)


def _column(runs: Sequence[_Run], name: str) -> pa.Array:
    stored = runs[0].slice.rows.schema
    if (index := stored.get_field_index(name)) >= 0:
        parts = [run.column(index) for run in runs]
        return parts[0] if len(parts) == 1 else pa.concat_arrays(parts)
    lengths = [run.stop - run.start for run in runs]
    match name:
        case "_partition":
            values: NDArray[np.int64] = np.repeat([run.slice.shard for run in runs], lengths)
        case "_offset":
            firsts = [run.slice.offset + run.start for run in runs]
            values = np.concatenate([np.arange(first, first + length) for first, length in zip(firsts, lengths, strict=True)])
        case _:
            assert name == ROW_COLUMN
            return pa.nulls(sum(lengths))
    return pa.array(values).cast(SYSTEM_SCHEMA.field(name).type)
