"""Lets the first rows pass, in order of arrival."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.deltas import conform, plain
from streamq.plan.dataflow import First


class FirstOperator:
    """Counts rows. Whoever reads the query ends it with the last row of the limit."""

    def __init__(self, node: First, context: OperatorContext) -> None:
        self._node = node
        self._seen = 0

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        rows = plain(delta, self._node.id).rows
        first = max(self._node.offset - self._seen, 0)
        last = max(self._node.offset + self._node.limit - self._seen, 0)
        self._seen = min(self._seen + rows.num_rows, self._node.offset + self._node.limit)
        return Delta(conform(rows.slice(first, max(last - first, 0)).columns, self._node.schema))

    @property
    def state_rows(self) -> int:
        return 0

    @property
    def state_bytes(self) -> int:
        return 0

    def snapshot(self) -> State:
        return {"seen": pa.table({"seen": pa.array([self._seen], pa.int64())})}

    def restore(self, state: State) -> None:
        self._seen = sum(state["seen"].column("seen").to_pylist())
