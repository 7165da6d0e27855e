"""One partition's operator of a node, with what was sent to it and what it has done."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from streamq.operators.base import Delta, Epoch, Operator
from streamq.operators.deltas import concatenated


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """What the instances of a node have done and keep, together."""

    node: str
    rows_in: int = 0
    rows_out: int = 0
    state_rows: int = 0
    state_bytes: int = 0
    busy_s: float = 0.0

    @classmethod
    def total(cls, node: str, parts: Iterable[NodeStatistics]) -> NodeStatistics:
        """Add up what parts of a node's instances tell.

        >>> NodeStatistics.total("map", [NodeStatistics("map", 1, 2), NodeStatistics("map", 3, 4)])
        NodeStatistics(node='map', rows_in=4, rows_out=6, state_rows=0, state_bytes=0, busy_s=0.0)
        """
        told = list(parts)
        return cls(
            node,
            sum(part.rows_in for part in told),
            sum(part.rows_out for part in told),
            sum(part.state_rows for part in told),
            sum(part.state_bytes for part in told),
            sum((part.busy_s for part in told), 0.0),
        )


class Instance:
    """An operator and its mail: by edge, what each partition has sent it in this epoch."""

    __slots__ = ("_busy_s", "_inputs", "_mail", "_node", "_partitions", "_rows_in", "_rows_out", "operator")

    def __init__(self, node: str, operator: Operator, inputs: Sequence[pa.Schema], partitions: int) -> None:
        self.operator = operator
        self._node = node
        self._inputs = inputs
        self._partitions = partitions
        self._mail: list[list[Delta | None]] = self._empty_mail()
        self._rows_in = 0
        self._rows_out = 0
        self._busy_s = 0.0

    def receive(self, place: int, source: int, delta: Delta) -> None:
        """Take in what partition `source` has for the edge at `place`. Different sources may send at the same time."""
        self._mail[place][source] = delta

    def process(self, epoch: Epoch) -> Delta:
        """Have the operator take what was sent, in the order of the senders."""
        started = time.perf_counter()
        mail, self._mail = self._mail, self._empty_mail()
        inputs = [
            concatenated(schema, [delta for delta in sent if delta is not None]) for schema, sent in zip(self._inputs, mail, strict=True)
        ]
        output = self.operator.process(inputs, epoch)
        self._rows_in += sum(delta.num_rows for delta in inputs)
        self._rows_out += output.num_rows
        self._busy_s += time.perf_counter() - started
        return output

    def statistics(self) -> NodeStatistics:
        """Tell what the operator has done and keeps."""
        operator = self.operator
        return NodeStatistics(self._node, self._rows_in, self._rows_out, operator.state_rows, operator.state_bytes, self._busy_s)

    def _empty_mail(self) -> list[list[Delta | None]]:
        return [[None] * self._partitions for _ in self._inputs]
