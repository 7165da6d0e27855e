"""Holds rows back until their window has closed, or until the sources have ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.closing import NEVER, horizon, moments
from streamq.operators.deltas import concatenated, conform, from_state, net, plain, selected, to_state
from streamq.plan.dataflow import Hold


@dataclass(frozen=True, slots=True)
class _Run:
    """Changes in the order of the moments at which they are due."""

    moments: NDArray[np.int64]
    changes: Delta

    def split(self, horizon: int) -> tuple[_Run, _Run]:
        """Give what is due, and the rest."""
        place = int(np.searchsorted(self.moments, horizon, side="right"))
        return self.slice(0, place), self.slice(place, len(self.moments))

    def slice(self, first: int, last: int) -> _Run:
        return _Run(self.moments[first:last], self.changes.slice(first, last))


class HoldOperator:
    """Keeps changes in runs, of which a later one is at most half as long as the one before it.

    So what is due is the beginning of a few runs. Changes that undo each other go when runs are merged.
    """

    def __init__(self, node: Hold, context: OperatorContext) -> None:
        self._node = node
        self._runs: list[_Run] = []

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        if delta.num_rows:
            self._hold(Delta(conform(delta.rows.columns, self._node.schema), delta.weights))
        now = horizon(epoch)
        if now is None or not any(run.moments[0] <= now for run in self._runs):
            return Delta.empty(self._node.schema)
        parts = [run.split(now) for run in self._runs]
        self._runs = [later for _, later in parts if len(later.moments)]
        due = self._run([run.changes for run, _ in parts])
        return plain(due.changes, self._node.id)

    def _hold(self, delta: Delta) -> None:
        run = self._run([delta])
        while self._runs and len(self._runs[-1].moments) <= 2 * len(run.moments):
            run = self._run([self._runs.pop().changes, run.changes])
        if len(run.moments):
            self._runs.append(run)

    def _run(self, deltas: Sequence[Delta]) -> _Run:
        """Make a run of the net changes."""
        changes = concatenated(self._node.schema, deltas)
        changes = changes if changes.weights is None else net(changes)
        closing = self._node.closing
        if closing is None:
            return _Run(np.full(changes.num_rows, NEVER), changes)
        moment = moments(changes.rows.column(closing.column), closing)
        order = np.argsort(moment, kind="stable")
        return _Run(moment[order], selected(changes, order))

    @property
    def state_rows(self) -> int:
        return sum(len(run.moments) for run in self._runs)

    @property
    def state_bytes(self) -> int:
        return sum(int(run.changes.rows.nbytes) + run.moments.nbytes for run in self._runs)

    def snapshot(self) -> State:
        changes = self._run([run.changes for run in self._runs]).changes
        return {"input0": to_state(changes)}

    def restore(self, state: State) -> None:
        self._hold(from_state(state["input0"], self._node.schema))
