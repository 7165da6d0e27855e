"""Groups rows and keeps aggregates per group in columns, addressed by the group's code."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamq.kernels.accumulators import Accumulators
from streamq.kernels.index import KeyIndex
from streamq.operators.ages import Ages
from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.closing import Deadlines, horizon, moments
from streamq.operators.deltas import conform
from streamq.plan.dataflow import OP, Aggregate

Codes = NDArray[np.int64]
_OPS = pa.array(["delete", "update", "insert"], pa.string())


class AggregateOperator:
    """Updates the groups that an epoch touches and gives what `emit` says of them."""

    def __init__(self, node: Aggregate, context: OperatorContext) -> None:
        (schema,), (retracts,) = context.schemas, context.retracts
        self._node, self._retracts = node, retracts
        self._key_schema = pa.schema([schema.field(name) for name in node.keys])
        self._groups = _Groups(self._key_schema) if node.keys else _OneGroup(exists=context.is_idle(node))
        self._accumulators = Accumulators(node.calls, schema, retracts=retracts)
        self._deadlines = Deadlines()
        self._ages = Ages(node.ttl_us)
        self._restored = np.zeros(0, np.int64)
        self._schema = pa.schema([field for field in node.schema if field.name != OP])
        # A group that only grows has another count after every epoch that touches it.
        self._always_changes = not retracts and any(call.function == "count_star" for call in node.calls)

        self._groups.load()
        self._accumulators.load()

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        old = self._groups.all_below
        codes = self._groups.encode(delta.rows, self._node.keys)
        touched = self._groups.touched(codes)
        existed = touched < old if old is not None else self._groups.exist(self._accumulators.counts(touched))
        before = self._rows(touched[existed]) if self._needs_before else None
        self._accumulators.update(codes, delta.rows, delta.weights)
        self._groups.start()
        exist = self._exist(touched)
        self._note_closing(touched[exist & ~existed])
        change = self._change(touched, existed, exist, before)
        self._forget(touched[~exist])
        self._forget_old(touched[exist], epoch.now_us)
        due = self._deadlines.take(horizon(epoch))
        if self._node.emit == "close":
            change = Delta(self._rows(due))
        self._forget(due)
        return change

    def _exist(self, touched: Codes) -> NDArray[np.bool_]:
        """Tell which groups exist after an epoch that touched them: all of them, where no row is ever withdrawn."""
        if not self._retracts:
            return np.ones(len(touched), np.bool_)
        counts = self._accumulators.counts(touched)
        if self._node.ttl_us is None:
            assert bool((counts >= 0).all()), f"{self._node.id}: a row was withdrawn that is not there"
        return self._groups.exist(counts)

    @property
    def _needs_before(self) -> bool:
        match self._node.emit:
            case "delta":
                return True
            case "changelog":
                return not self._always_changes
            case "close":
                return False

    def _rows(self, codes: Codes) -> pa.RecordBatch:
        """Give the rows of groups as they are now."""
        return conform([*self._groups.keys(codes), *self._accumulators.values(codes)], self._schema)

    def _change(self, touched: Codes, existed: NDArray[np.bool_], exist: NDArray[np.bool_], before: pa.RecordBatch | None) -> Delta:
        """Give the changes of groups that existed before or exist now; `before` are the rows of those that existed."""
        if self._node.emit == "close":
            return Delta.empty(self._schema)
        after = self._rows(touched[exist])
        if before is None:
            return _changelog(after.slice(0, 0), after, existed[exist])
        kept = exist & existed
        old, new = (np.cumsum(mask) - 1 for mask in (existed, exist))
        same = _equal(before.take(pa.array(old[kept])), after.take(pa.array(new[kept])), len(self._node.keys))
        changed = np.ones(len(touched), np.bool_)
        changed[np.flatnonzero(kept)[same]] = False
        if self._node.emit == "changelog":
            gone = before.take(pa.array(old[existed & ~exist]))
            return _changelog(gone, after.take(pa.array(new[exist & changed])), existed[exist & changed])
        withdrawn, added = before.take(pa.array(old[existed & changed])), after.take(pa.array(new[exist & changed]))
        rows = pa.concat_batches([withdrawn, added])
        return Delta(rows, np.repeat(np.array([-1, 1]), [withdrawn.num_rows, added.num_rows]))

    def _note_closing(self, codes: Codes) -> None:
        """Note when the windows of new groups close."""
        closing = self._node.closing
        if closing is not None:
            column = self._groups.keys(codes)[self._node.keys.index(closing.column)]
            self._deadlines.set(codes, moments(column, closing))

    def _forget_old(self, touched: Codes, now_us: int) -> None:
        """Forget groups that nothing has touched for too long. What was restored counts as touched."""
        self._ages.touch(self._restored, now_us)
        self._ages.touch(touched, now_us)
        self._restored = self._restored[:0]
        self._forget(self._ages.take(now_us))

    def _forget(self, codes: Codes) -> None:
        self._deadlines.unset(codes)
        self._ages.release(codes)
        self._accumulators.reset(codes)
        self._groups.release(codes)

    @property
    def state_rows(self) -> int:
        return self._groups.rows

    @property
    def state_bytes(self) -> int:
        return self._groups.bytes + self._accumulators.bytes + self._deadlines.bytes + self._ages.bytes

    def snapshot(self) -> State:
        """Give the keys of the groups, and what is accumulated, in columns whose names begin with "#"."""
        codes = self._groups.live(self._accumulators)
        accumulated = self._accumulators.snapshot(codes)
        names = [*self._key_schema.names, *(f"#{name}" for name in accumulated.column_names)]
        keys = [pa.chunked_array([column]) for column in self._groups.keys(codes)]
        return {"groups": pa.Table.from_arrays([*keys, *accumulated.columns], names=names)}

    def restore(self, state: State) -> None:
        table = state["groups"].combine_chunks()
        width = len(self._key_schema)
        keys = table.select(list(range(width))).to_batches()
        codes = self._groups.restored(keys, table.num_rows)
        accumulated = table.select(list(range(width, table.num_columns)))
        self._accumulators.restore(codes, accumulated.rename_columns([name[1:] for name in accumulated.column_names]))
        self._note_closing(codes)
        self._restored = codes


class _Groups:
    """Groups by key."""

    def __init__(self, schema: pa.Schema) -> None:
        self._index = KeyIndex(schema)

    @property
    def rows(self) -> int:
        return self._index.rows

    @property
    def bytes(self) -> int:
        return self._index.bytes

    def load(self) -> None:
        self._index.load()

    @property
    def all_below(self) -> int | None:
        """The code below which all codes are those of groups, and which no group has yet; None if there is no such code."""
        return self._index.capacity if self._index.rows == self._index.capacity else None

    def encode(self, rows: pa.RecordBatch, keys: Sequence[str]) -> Codes:
        return self._index.encode([rows.column(name) for name in keys])

    def touched(self, codes: Codes) -> Codes:
        return self._index.distinct(codes)

    def exist(self, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell which groups exist, by how many rows they have."""
        return counts > 0

    def start(self) -> None:
        """Do nothing: groups come with their rows."""

    def keys(self, codes: Codes) -> list[pa.Array]:
        return list(self._index.keys(codes).columns)

    def release(self, codes: Codes) -> None:
        self._index.release(codes)

    def live(self, accumulators: Accumulators) -> Codes:
        codes = np.arange(self._index.capacity)
        return codes[accumulators.counts(codes) > 0]

    def restored(self, keys: Sequence[pa.RecordBatch], count: int) -> Codes:
        return np.concatenate([np.zeros(0, np.int64), *(self._index.encode(batch.columns) for batch in keys)])


class _OneGroup:
    """The group of no keys, code 0, which exists from the first epoch on, with or without rows.

    Of a state that several partitions left there are several rows. The others stay as they are: they have been given, as partial rows.
    """

    def __init__(self, *, exists: bool) -> None:
        self._idle = exists
        self.rows = 0
        self.bytes = 0
        self.all_below: int | None = None

    def load(self) -> None:
        """Do nothing: there is no index."""

    def encode(self, rows: pa.RecordBatch, keys: Sequence[str]) -> Codes:
        return np.zeros(rows.num_rows, np.int64)

    def touched(self, codes: Codes) -> Codes:
        starts = self.rows == 0 and not self._idle
        return np.zeros(1 if len(codes) or starts else 0, np.int64)

    def exist(self, counts: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.full(len(counts), self.rows > 0)

    def start(self) -> None:
        if not self._idle:
            self.rows = max(self.rows, 1)

    def keys(self, codes: Codes) -> list[pa.Array]:
        return []

    def release(self, codes: Codes) -> None:
        """Keep the group: it never goes."""

    def live(self, accumulators: Accumulators) -> Codes:
        return np.arange(self.rows)

    def restored(self, keys: Sequence[pa.RecordBatch], count: int) -> Codes:
        self.rows = count
        return np.arange(count)


def _changelog(gone: pa.RecordBatch, there: pa.RecordBatch, existed: NDArray[np.bool_]) -> Delta:
    """Give one row a group, with what happened to it; `existed` tells which of those that are there are not new."""
    if gone.num_rows == 0 and existed.all():
        rows, ops = there, pa.repeat(_OPS[1], there.num_rows)
    else:
        rows = pa.concat_batches([gone, there]) if gone.num_rows else there
        ops = _OPS.take(pa.array(np.concatenate([np.zeros(gone.num_rows, np.int64), np.where(existed, 1, 2)])))
    return Delta(pa.RecordBatch.from_arrays([*rows.columns, ops], schema=rows.schema.append(pa.field(OP, pa.string()))))


def _equal(left: pa.RecordBatch, right: pa.RecordBatch, first: int) -> NDArray[np.bool_]:
    """Tell which rows have the same values in the columns from `first` on, to the last bit: NULL is NULL, NaN is NaN, -0.0 is not 0.0.

    What was given is withdrawn as it was given.
    """
    same = np.ones(left.num_rows, np.bool_)
    for one, other in zip(left.columns[first:], right.columns[first:], strict=True):
        null, other_null = np.asarray(one.is_null()), np.asarray(other.is_null())
        if pa.types.is_floating(one.type):
            same &= (null == other_null) & _equal_floats(one.to_numpy(zero_copy_only=False), other.to_numpy(zero_copy_only=False))
        else:
            same &= np.asarray(pc.equal(one, other).fill_null(False)) | (null & other_null)
    return same


def _equal_floats(left: NDArray[np.floating], right: NDArray[np.floating]) -> NDArray[np.bool_]:
    equal: NDArray[np.bool_] = ((left == right) & (np.signbit(left) == np.signbit(right))) | (np.isnan(left) & np.isnan(right))
    return equal
