"""From what the last node gave in an epoch to the batches that the reader gets: the net change, in the form of the query's changelog.

- `append`: the rows, as often as they were added;
- `retract`: `delete` rows, then `insert` rows, one for every copy;
- `upsert`: `delete` rows (as they were), then `insert` and `update` rows (as they are), one a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex
from streamq.kernels.weights import consolidate
from streamq.operators.base import Delta
from streamq.operators.deltas import joined
from streamq.plan.dataflow import OP, Changelog, Dataflow

OP_FIELD = pa.field(OP, pa.string(), nullable=False)
GROWTH = 2
"""Changes that wait are made net again whenever they have grown by this factor: each row is looked at a few times at most."""


class ChangeWriter:
    """Makes batches of a query's changes. `schema` is theirs."""

    __slots__ = ("_batch_rows", "_columns", "_net_rows", "_ready", "_rows", "_waiting", "changelog", "key", "schema")

    def __init__(self, dataflow: Dataflow, batch_rows: int) -> None:
        self.changelog: Changelog = dataflow.changelog
        self.key = dataflow.key
        self._columns = dataflow.schema
        self.schema = dataflow.schema if self.changelog == "append" else dataflow.schema.append(OP_FIELD)
        self._ready = dataflow.ready
        self._batch_rows = batch_rows
        self._waiting: list[Delta] = []
        self._rows = 0
        self._net_rows = 0

    @property
    def waiting_rows(self) -> int:
        """How many rows have been added and not been written."""
        return self._rows

    def add(self, outputs: Sequence[Delta]) -> None:
        """Take the output of an epoch. Epochs that are written together are made net together."""
        added = [delta for delta in outputs if delta.num_rows]
        rows = self._rows + sum(delta.num_rows for delta in added)
        if self.changelog == "append" or self._ready or rows <= max(self._batch_rows, GROWTH * self._net_rows):
            self._waiting += added
            self._rows = rows
            return
        # Where that fails, what waits is still that of complete epochs.
        waiting = [*self._waiting, *added]
        self._waiting = [_net(waiting)] if self._net_rows else waiting
        self._rows = self._net_rows = sum(delta.num_rows for delta in self._waiting)

    def write(self) -> list[pa.RecordBatch]:
        """Give what was added, in batches of at most `batch_rows` rows; none if the net change is nothing."""
        waiting, self._waiting, self._rows, self._net_rows = self._waiting, [], 0, 0
        if not waiting:
            return []
        match self.changelog:
            case _ if self._ready:
                changes = [_deletes_first(joined(waiting).rows, self.schema)]
            case "append":
                changes = [_added(delta) for delta in _runs(waiting, self._batch_rows // 2)]
            case "retract":
                changes = [_retraction(_net(waiting))]
            case "upsert":
                assert self.key is not None
                changes = [_upsert(_net(waiting), [self._columns.get_field_index(name) for name in self.key])]
        return [batch for rows in changes for batch in _cut(_conform(rows, self.schema), self._batch_rows)]

    def save(self) -> Delta | None:
        """Give what was added and has not been written."""
        return joined(self._waiting) if self._waiting else None

    def resume(self, waiting: Delta | None) -> None:
        """Take over what another one gave as `save`."""
        self.add([] if waiting is None else [waiting])

    def empty(self) -> pa.RecordBatch:
        """Give a batch without rows."""
        return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in self.schema], schema=self.schema)


def _runs(deltas: Sequence[Delta], rows: int) -> Iterator[Delta]:
    """Put deltas behind each other until they have so many rows: to join larger ones would copy them for nothing."""
    run: list[Delta] = []
    for delta in deltas:
        run.append(delta)
        if sum(part.num_rows for part in run) >= rows:
            yield joined(run)
            run = []
    if run:
        yield joined(run)


def _net(deltas: Sequence[Delta]) -> Delta:
    delta = joined(deltas)
    return Delta(*consolidate(delta.rows, delta.weights))


def _added(delta: Delta) -> pa.RecordBatch:
    if delta.weights is None:
        return delta.rows
    assert (delta.weights > 0).all(), "an append-only result withdrew a row"
    return _copies(delta.rows, delta.weights)


def _retraction(delta: Delta) -> pa.RecordBatch:
    assert delta.weights is not None
    gone, new = _split(delta.weights < 0)
    deleted = _copies(delta.rows.take(pa.array(gone)), -delta.weights[gone])
    inserted = _copies(delta.rows.take(pa.array(new)), delta.weights[new])
    ops = ["delete"] * deleted.num_rows + ["insert"] * inserted.num_rows
    return _with_ops(pa.concat_batches([deleted, inserted]), pa.array(ops, pa.string()))


def _upsert(delta: Delta, key: Sequence[int]) -> pa.RecordBatch:
    assert delta.weights is not None
    assert (abs(delta.weights) == 1).all(), "a key has several rows"
    gone, new = _split(delta.weights < 0)
    codes = _codes([delta.rows.column(place) for place in key], delta.num_rows)
    updated = np.isin(codes[new], codes[gone])
    deleted = gone[~np.isin(codes[gone], codes[new])]
    rows = delta.rows.take(pa.array(np.concatenate([deleted, new])))
    ops = np.concatenate([np.full(len(deleted), 0), np.where(updated, 2, 1)])
    return _with_ops(rows, pa.array(["delete", "insert", "update"]).take(pa.array(ops)))


def _codes(columns: Sequence[pa.Array], rows: int) -> NDArray[np.int64]:
    """Number the keys: NULL, NaN and both zeros are one key each."""
    if not columns:
        return np.zeros(rows, np.int64)
    index = KeyIndex(pa.schema([(str(place), column.type) for place, column in enumerate(columns)]))
    return index.encode(columns)


def _deletes_first(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    deletes = pc.equal(rows.column(len(schema) - 1), "delete").to_numpy(zero_copy_only=False)
    if not deletes.any():
        return rows
    return rows.take(pa.array(np.concatenate(_split(deletes))))


def _split(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return np.flatnonzero(chosen), np.flatnonzero(~chosen)


def _copies(rows: pa.RecordBatch, times: NDArray[np.int64]) -> pa.RecordBatch:
    if (times == 1).all():
        return rows
    return rows.take(pa.array(np.repeat(np.arange(len(times)), times)))


def _with_ops(rows: pa.RecordBatch, ops: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([*rows.columns, ops], schema=pa.schema([*rows.schema, OP_FIELD]))


def _conform(rows: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Give rows the result's names, and its types where those of the nodes differ."""
    if rows.schema.equals(schema):
        return rows
    columns = [column.cast(field.type) for column, field in zip(rows.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cut(rows: pa.RecordBatch, batch_rows: int) -> Iterator[pa.RecordBatch]:
    for first in range(0, rows.num_rows, batch_rows):
        yield rows.slice(first, batch_rows)
