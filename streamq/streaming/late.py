"""Late rows: found by the conditions that the plan has for them, counted, and handed on, as soon as there is room for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from streamq.kernels.evaluate import Evaluator, Prepared
from streamq.operators.base import Delta, Epoch
from streamq.operators.deltas import values
from streamq.plan.dataflow import INPUT, Dataflow, LateRows, Read
from streamq.storage.feeds import WATERMARK
from streamq.storage.insertion import Insertion, Writer


class LateRowCounter:
    """Looks through what the reads of a query get. With `into`, which converts them for a relation, late rows are also written there."""

    __slots__ = ("_into", "_late", "_parameters", "_queries", "_writer", "rows")

    def __init__(self, dataflow: Dataflow, evaluator: Evaluator, into: Callable[[pa.RecordBatch], Insertion] | None) -> None:
        reads = {node.id: node for node in dataflow.nodes if isinstance(node, Read)}
        self._late = dataflow.late
        self._queries = [_prepared(evaluator, reads[late.node], late) for late in dataflow.late]
        self._parameters = dict(dataflow.parameters)
        self._into = into
        self._writer = None if into is None else Writer()
        self.rows = 0

    def find(self, inputs: Mapping[str, Delta], epoch: Epoch) -> list[pa.RecordBatch]:
        """Give the late rows among an epoch's."""
        found = []
        for late, query in zip(self._late, self._queries, strict=True):
            delta = inputs.get(late.node)
            behind = None if delta is None else _behind(delta.rows, late.time)
            if behind is not None and behind.num_rows:
                rows = query({INPUT: behind}, values(self._parameters, epoch))
                if rows.num_rows:
                    found.append(rows)
        return found

    def hand_on(self, found: list[pa.RecordBatch]) -> None:
        """Count late rows, and write them where the query wants them.

        Raises:
            SourceError, ResourceLimit: they cannot be written.
            Interrupted: there was no room for them before `interrupt`.
        """
        for rows in found:
            self.rows += rows.num_rows
            if self._into is not None and self._writer is not None:
                self._writer.write(self._into(rows))

    def interrupt(self) -> None:
        """Have late rows wait for room no longer, from now on. From any thread."""
        if self._writer is not None:
            self._writer.interrupt()


def _prepared(evaluator: Evaluator, read: Read, late: LateRows) -> Prepared:
    return evaluator.prepare(f'SELECT * FROM "{INPUT}" WHERE {late.sql}', {INPUT: read.schema}, f"late rows of {read.scan.relation}")


def _behind(rows: pa.RecordBatch, time: str) -> pa.RecordBatch:
    """Leave out rows that are not behind their watermark, which is cheaper to see than what a row is late for."""
    times, watermarks = rows.column(time), rows.column(WATERMARK)
    if not (pa.types.is_timestamp(times.type) and times.type.unit == watermarks.type.unit):
        return rows
    return rows.filter(pc.less(times.view(pa.int64()), watermarks.view(pa.int64())))
