"""Puts rows that follow each other within a gap into one session.

A row exactly one gap behind the last one still belongs to its session, whose end is its last row plus the gap. A row between two
sessions can make one of them, and its withdrawal two of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.closing import Deadlines, horizon, ticks
from streamq.operators.deltas import concatenated, conform, net, plain, selected
from streamq.operators.keyed import KeyedRows
from streamq.plan.dataflow import Sessions

_US = 1_000_000


@dataclass(frozen=True, slots=True)
class _Found:
    """Rows in the order of their keys and times, with the bounds of their sessions in microseconds."""

    rows: pa.RecordBatch
    times: NDArray[np.int64]
    key: NDArray[np.int64]
    start_us: NDArray[np.int64]
    end_us: NDArray[np.int64]

    def where(self, mask: NDArray[np.bool_]) -> _Found:
        rows = self.rows.filter(pa.array(mask))
        return _Found(rows, self.times[mask], self.key[mask], self.start_us[mask], self.end_us[mask])


class SessionsOperator:
    """Keeps the rows of open sessions by key, and finds the sessions of the keys that an epoch touches anew."""

    def __init__(self, node: Sessions, context: OperatorContext) -> None:
        (schema,) = context.schemas
        self._node = node
        self._rows = KeyedRows(schema, node.keys, node.id)
        self._deadlines = Deadlines()

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        delta = self._with_time(inputs[0])
        changes = [self._touch(delta)] if delta.num_rows else []
        closed = self._close(horizon(epoch))
        if self._node.final:
            return plain(concatenated(self._node.schema, closed), self._node.id)
        return net(concatenated(self._node.schema, changes))

    def _with_time(self, delta: Delta) -> Delta:
        """Leave out rows without a time: they are in no session."""
        time = delta.rows.column(self._node.time)
        return selected(delta, ~np.asarray(time.is_null())) if time.null_count else delta

    def _touch(self, delta: Delta) -> Delta:
        """Apply the changes, and give the difference that they make to the sessions of their keys."""
        old = self._rows.find(self._rows.keys_of(delta.rows))
        before = [] if self._node.final else [self._bounded(self._sessions(np.unique(old[old >= 0])), -1)]
        codes = np.unique(self._rows.apply(delta))
        after = self._sessions(codes)
        self._deadlines.unset(np.setdiff1d(codes, after.key))
        self._note_first_ends(after)
        return Delta.empty(self._node.schema) if self._node.final else concatenated(self._node.schema, [*before, self._bounded(after, 1)])

    def _close(self, now: int | None) -> list[Delta]:
        """Forget the sessions that have closed; give their rows."""
        due = self._deadlines.take(now)
        if now is None or not len(due):
            return []
        found = self._sessions(due)
        over = found.where(found.end_us < now)
        self._note_first_ends(found.where(found.end_us >= now))
        self._rows.apply(Delta(over.rows, -over.times))
        return [self._bounded(over, 1)]

    def _sessions(self, codes: NDArray[np.int64]) -> _Found:
        """Find the sessions of all rows of these keys."""
        rows, times, which = self._rows.rows(codes)
        moment, per_second = ticks(rows.column(self._node.time))
        microseconds = moment * (_US // per_second) if per_second <= _US else moment // (per_second // _US)
        order = np.lexsort((microseconds, which))
        rows, times, which, microseconds = rows.take(pa.array(order)), times[order], which[order], microseconds[order]
        first = np.ones(len(order), np.bool_)
        first[1:] = (np.diff(which) != 0) | (np.diff(microseconds) > self._node.gap_us)
        starts = np.flatnonzero(first)
        session = np.cumsum(first) - 1
        last = np.append(starts[1:], len(order)) - 1
        end = microseconds[last] + self._node.gap_us if len(order) else microseconds
        return _Found(rows, times, codes[which], microseconds[starts][session], end[session])

    def _note_first_ends(self, found: _Found) -> None:
        """Note for each key when the first of its sessions is over: once the horizon is past its end."""
        keys, places = np.unique(found.key, return_index=True)
        self._deadlines.set(keys, found.end_us[places] + 1)

    def _bounded(self, found: _Found, sign: int) -> Delta:
        """Give the rows with the bounds of their sessions."""
        bounds = [
            _timestamps(found.start_us, self._node.schema.field(self._node.start).type),
            _timestamps(found.end_us, self._node.schema.field(self._node.end).type),
        ]
        return Delta(conform([*found.rows.columns, *bounds], self._node.schema), sign * found.times)

    @property
    def state_rows(self) -> int:
        return self._rows.num_rows

    @property
    def state_bytes(self) -> int:
        return self._rows.bytes + self._deadlines.bytes

    def snapshot(self) -> State:
        return {"input0": self._rows.snapshot()}

    def restore(self, state: State) -> None:
        _, codes = self._rows.restore(state["input0"])
        self._note_first_ends(self._sessions(np.unique(codes)))


def _timestamps(microseconds: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    return pa.array(microseconds, pa.int64()).view(pa.timestamp("us", getattr(kind, "tz", None))).cast(kind)
