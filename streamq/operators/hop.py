"""Groups rows in hopping windows by panes: rows of the same keys and the same windows are kept together, and added up window by window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamq.kernels.accumulators import Accumulators, subtracts
from streamq.kernels.index import KeyIndex
from streamq.operators.base import EVERYWHERE, Delta, Epoch, OperatorContext, State
from streamq.operators.closing import NEVER, horizon, moments, ticks
from streamq.operators.deltas import conform, plain
from streamq.operators.keyed import same_key
from streamq.plan.dataflow import WINDOWS, Hop

Codes = NDArray[np.int64]
_CLOSED = "#closed"


@dataclass(slots=True)
class _Bucket:
    """Panes that are in the same windows: those that close at `first`, every slide later, and at `last`.

    `bounds` are those of the first window, in the units of their columns. `added` tells that the panes are part of the windows' sums.
    """

    first: int
    last: int
    bounds: tuple[int, ...]
    panes: list[Codes] = field(default_factory=list)
    owners: list[Codes] = field(default_factory=list)
    added: bool = False

    def closes_after(self, closed: int | None, slide: int) -> int:
        """Give when the first of its windows closes that is still open after `closed`."""
        if closed is None or closed < self.first:
            return self.first
        return self.first + ((closed - self.first) // slide + 1) * slide


class HopOperator:
    """Keeps aggregates by pane, and gives each window's groups when it closes: the sums of the panes that are in it.

    Owners are groups without their window. Where everything can be subtracted, the sums of one window become those of the next by what
    comes and what goes; else each window is added up on its own.
    """

    def __init__(self, node: Hop, context: OperatorContext) -> None:
        (schema,) = context.schemas
        self._node = node
        self._pane_keys = (*node.keys, WINDOWS)
        self._owner_keys = [name for name in node.keys if name not in node.bounds]
        self._panes = KeyIndex(pa.schema([schema.field(name) for name in self._pane_keys]))
        self._owners = KeyIndex(pa.schema([schema.field(name) for name in self._owner_keys] or [pa.field("all", pa.bool_())]))
        self._kept = Accumulators(node.calls, schema, retracts=False)
        self._sums = Accumulators(node.calls, schema, retracts=False)
        self._rolls = subtracts(node.calls, schema)
        self._panes_of = Accumulators((), schema, retracts=True)
        self._buckets: dict[tuple[int, int], _Bucket] = {}
        self._closed: int | None = None
        for part in (self._panes, self._owners, self._kept):
            part.load()

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        rows = self._in_open_windows(plain(delta, self._node.id).rows)
        if rows.num_rows:
            codes = self._panes.encode([rows.column(name) for name in self._pane_keys])
            touched = self._panes.distinct(codes)
            new = touched[self._kept.counts(touched) == 0]
            self._kept.update(codes, rows, None)
            self._note(new)
        return self._close(horizon(epoch))

    # Panes

    def _in_open_windows(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Let rows begin with the first of their windows that is open: others have closed without them where a partition was idle."""
        closing = self._node.closing
        place = rows.schema.get_field_index(closing.column)
        if self._closed is None or rows.num_rows == 0:
            return rows
        least = pa.array([pc.min(rows.column(place))], rows.schema.field(place).type)
        if moments(least, closing)[0] > self._closed:
            return rows
        first = moments(rows.column(place), closing)
        passed = np.where(first > self._closed, 0, (self._closed - first) // self._node.slide_us + 1)
        left = np.asarray(rows.column(WINDOWS)) - passed
        columns = dict(zip(rows.schema.names, rows.columns, strict=True))
        for name in self._node.bounds:
            units, per_second = ticks(columns[name])
            columns[name] = pa.array(units + passed * self._slide(per_second)).view(columns[name].type)
        columns[WINDOWS] = pa.array(left)
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=rows.schema).filter(pa.array(left > 0))

    def _note(self, codes: Codes) -> None:
        """Put new panes into their buckets."""
        if not len(codes):
            return
        keys = self._panes.keys(codes)
        owners = self._owners.encode([keys.column(name) for name in self._owner_keys] or same_key(len(codes)))
        self._panes_of.update(owners, keys, None)
        first = moments(keys.column(self._node.closing.column), self._node.closing)
        windows = np.asarray(keys.column(WINDOWS))
        # Rows come almost in the order of their windows, which this order makes use of.
        order = np.lexsort((windows, first))
        first, windows = first[order], windows[order]
        starts = np.flatnonzero(np.concatenate(([True], (first[1:] != first[:-1]) | (windows[1:] != windows[:-1]))))
        for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(codes)], strict=True):
            chosen = order[start:stop]
            bucket = self._bucket(int(first[start]), int(windows[start]), keys, int(chosen[0]))
            bucket.panes.append(codes[chosen])
            bucket.owners.append(owners[chosen])

    def _bucket(self, first: int, windows: int, keys: pa.RecordBatch, row: int) -> _Bucket:
        bucket = self._buckets.get((first, windows))
        if bucket is None:
            bounds = tuple(int(ticks(keys.column(name).slice(row, 1))[0][0]) for name in self._node.bounds)
            last = first + (windows - 1) * self._node.slide_us
            bucket = self._buckets[first, windows] = _Bucket(first, last, bounds)
        return bucket

    # Windows

    def _close(self, until: int | None) -> Delta:
        """Give the groups of the windows that close now."""
        if until is None:
            return Delta.empty(self._node.schema)
        batches = []
        while self._buckets:
            moment = min(bucket.closes_after(self._closed, self._node.slide_us) for bucket in self._buckets.values())
            if moment > until and until != NEVER:
                break
            batches.append(self._window(moment))
            self._closed = moment
        self._closed = until if self._closed is None else max(self._closed, until)
        return Delta(pa.concat_batches(batches)) if batches else Delta.empty(self._node.schema)

    def _window(self, moment: int) -> pa.RecordBatch:
        """Give the groups of the window that closes at `moment`, and forget the panes of which it is the last one."""
        inside = [bucket for bucket in self._buckets.values() if bucket.first <= moment]
        for bucket in inside:
            if not bucket.added:
                self._add(bucket, 1)
        if self._rolls:
            codes = np.arange(self._owners.capacity)
            codes = codes[self._sums.counts(codes) > 0]
        else:
            codes = self._owners.distinct(np.concatenate([part for bucket in inside for part in bucket.owners]))
        rows = self._rows(codes, inside[0], moment)
        if not self._rolls:
            self._sums.reset(codes)
        for bucket in inside:
            if bucket.last <= moment:
                self._forget(bucket)
        return rows

    def _add(self, bucket: _Bucket, sign: int) -> None:
        for panes, owners in zip(bucket.panes, bucket.owners, strict=True):
            self._sums.merge(owners, self._kept, panes, sign=sign)
        bucket.added = self._rolls

    def _rows(self, codes: Codes, bucket: _Bucket, moment: int) -> pa.RecordBatch:
        """Give the groups of owners in a window that has the panes of a bucket."""
        columns = dict(zip(self._owner_keys, self._owners.keys(codes).columns, strict=False))
        hops = (moment - bucket.first) // self._node.slide_us
        for name, bound in zip(self._node.bounds, bucket.bounds, strict=True):
            kind = self._node.schema.field(name).type
            _, per_second = ticks(pa.array([], kind))
            columns[name] = pa.array(np.full(len(codes), bound + hops * self._slide(per_second))).view(kind)
        return conform([*(columns[name] for name in self._node.keys), *self._sums.values(codes)], self._node.schema)

    def _slide(self, per_second: int) -> int:
        """Give how far windows are from each other in units of a column."""
        return self._node.slide_us * per_second // 1_000_000

    def _forget(self, bucket: _Bucket) -> None:
        """Forget panes whose last window has closed, and owners that have no others."""
        if bucket.added:
            self._add(bucket, -1)
        for panes, owners in zip(bucket.panes, bucket.owners, strict=True):
            self._kept.reset(panes)
            self._panes.release(panes)
            self._panes_of.update(owners, pa.RecordBatch.from_pylist([]), np.full(len(owners), -1))
            gone = self._owners.distinct(owners)
            gone = gone[self._panes_of.counts(gone) == 0]
            self._sums.reset(gone)
            self._owners.release(gone)
        windows = (bucket.last - bucket.first) // self._node.slide_us + 1
        del self._buckets[bucket.first, windows]

    # State

    @property
    def state_rows(self) -> int:
        return self._panes.rows

    @property
    def state_bytes(self) -> int:
        lists = sum(part.nbytes for bucket in self._buckets.values() for part in (*bucket.panes, *bucket.owners))
        parts = (self._panes, self._owners, self._kept, self._sums, self._panes_of)
        return sum(part.bytes for part in parts) + lists

    def snapshot(self) -> State:
        """Give the keys of the panes, what is accumulated in columns whose names begin with "#", and which windows have closed."""
        codes = np.concatenate([np.zeros(0, np.int64), *(part for bucket in self._buckets.values() for part in bucket.panes)])
        accumulated = self._kept.snapshot(codes)
        names = [*self._pane_keys, *(f"#{name}" for name in accumulated.column_names)]
        columns = [*(pa.chunked_array([column]) for column in self._panes.keys(codes).columns), *accumulated.columns]
        closed = pa.table({_CLOSED: pa.array([self._closed], pa.int64())})
        return {"panes": pa.Table.from_arrays(columns, names=names), EVERYWHERE: closed}

    def restore(self, state: State) -> None:
        table = state["panes"].combine_chunks()
        self._closed = state[EVERYWHERE].column(_CLOSED)[0].as_py()
        if table.num_rows == 0:
            return
        codes = self._panes.encode([table.column(name) for name in self._pane_keys])
        accumulated = table.select(list(range(len(self._pane_keys), table.num_columns)))
        self._kept.restore(codes, accumulated.rename_columns([name[1:] for name in accumulated.column_names]))
        self._note(codes)
