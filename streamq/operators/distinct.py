"""Gives each different row once, for as long as it is there."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.operators.ages import Ages
from streamq.operators.bag import Bag
from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.closing import Deadlines, horizon, moments
from streamq.operators.deltas import conform, from_state
from streamq.plan.dataflow import Distinct


class DistinctOperator:
    """Counts rows, and gives those whose count leaves or reaches 0."""

    def __init__(self, node: Distinct, context: OperatorContext) -> None:
        self._node = node
        self._bag = Bag(node.schema, node.id, exact=False)
        self._deadlines = Deadlines()
        self._ages = Ages(node.ttl_us)
        self._restored = False

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        delta = Delta(conform(delta.rows.columns, self._node.schema), delta.weights)
        change = self._change(delta if self._node.ttl_us is None else self._bag.without_unknown(delta), epoch.now_us)
        self._bag.release(self._ages.take(epoch.now_us))
        self._bag.release(self._deadlines.take(horizon(epoch)))
        return change

    def _change(self, delta: Delta, now_us: int | None = None) -> Delta:
        codes, before, after = self._bag.apply(delta)
        gone, come = codes[(before > 0) & (after == 0)], codes[(before == 0) & (after > 0)]
        rows = self._bag.keys(np.concatenate([gone, come]))
        self._remember(rows.slice(len(gone)), come)
        forgotten = codes[after == 0]
        self._deadlines.unset(forgotten)
        if now_us is not None:
            # What was restored counts as touched.
            self._ages.touch(self._bag.codes() if self._restored else codes, now_us)
            self._ages.release(forgotten)
            self._restored = False
        self._bag.release(forgotten)
        return Delta(rows, np.repeat(np.array([-1, 1]), [len(gone), len(come)]) if len(gone) else None)

    def _remember(self, rows: pa.RecordBatch, codes: NDArray[np.int64]) -> None:
        if self._node.closing is not None:
            self._deadlines.set(codes, moments(rows.column(self._node.closing.column), self._node.closing))

    @property
    def state_rows(self) -> int:
        return self._bag.num_rows

    @property
    def state_bytes(self) -> int:
        return self._bag.bytes + self._deadlines.bytes + self._ages.bytes

    def snapshot(self) -> State:
        return {"input0": self._bag.snapshot()}

    def restore(self, state: State) -> None:
        self._change(from_state(state["input0"], self._node.schema))
        self._restored = self._node.ttl_us is not None
