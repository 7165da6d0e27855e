"""Holds rows back until their window has closed, or until the sources have ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.operators.bag import from_state
from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.closing import NEVER, horizon, moments
from streamq.operators.deltas import concatenated, conform, net, plain, selected, weights_of
from streamq.plan.dataflow import WEIGHT, Hold

_FEW = 1_024


@dataclass(slots=True)
class _Held:
    """The changes that are due at one moment, and how many rows they had when they were last made net."""

    changes: list[Delta] = field(default_factory=list)
    rows: int = 0
    net_rows: int = 0


class HoldOperator:
    """Keeps changes by the moment at which they are due; those that undo each other go when a moment's have doubled."""

    def __init__(self, node: Hold, context: OperatorContext) -> None:
        self._node = node
        self._held: dict[int, _Held] = {}

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        self._hold(Delta(conform(delta.rows.columns, self._node.schema), delta.weights))
        now = horizon(epoch)
        due = sorted(moment for moment in self._held if now is not None and moment <= now)
        changes = [self._net(self._held.pop(moment)) for moment in due]
        return plain(concatenated(self._node.schema, changes), self._node.id)

    def _hold(self, delta: Delta) -> None:
        for moment, places in self._by_moment(delta):
            held = self._held.setdefault(moment, _Held())
            held.changes.append(selected(delta, places))
            held.rows += len(places)
            if held.rows > 2 * held.net_rows + _FEW:
                held.changes = [self._net(held)]
                held.rows = held.net_rows = held.changes[0].num_rows

    def _by_moment(self, delta: Delta) -> list[tuple[int, NDArray[np.int64]]]:
        """Give, for every moment, the places of the rows that are due then."""
        closing = self._node.closing
        when = np.full(delta.num_rows, NEVER) if closing is None else moments(delta.rows.column(closing.column), closing)
        order = np.argsort(when, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(when[order])) + 1) if len(order) else []
        return [(int(when[places[0]]), places) for places in groups]

    def _net(self, held: _Held) -> Delta:
        changes = concatenated(self._node.schema, held.changes)
        return changes if changes.weights is None else net(changes)

    @property
    def state_rows(self) -> int:
        return sum(held.rows for held in self._held.values())

    @property
    def state_bytes(self) -> int:
        return sum(int(change.rows.nbytes) for held in self._held.values() for change in held.changes)

    def snapshot(self) -> State:
        changes = concatenated(self._node.schema, [self._net(held) for held in self._held.values()])
        return {"input0": pa.Table.from_batches([changes.rows]).append_column(WEIGHT, pa.array(weights_of(changes)))}

    def restore(self, state: State) -> None:
        self._hold(from_state(state["input0"], self._node.schema))
