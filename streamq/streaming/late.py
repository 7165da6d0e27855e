"""Late rows: found by the conditions that the plan has for them, counted, and handed on."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from streamq.kernels.evaluate import Evaluator
from streamq.operators.base import Delta, Epoch
from streamq.operators.deltas import values
from streamq.plan.dataflow import INPUT, Dataflow, Read


class LateRowCounter:
    """Looks through what the reads of a query get. With `into`, late rows are also given to that, by relation."""

    def __init__(self, dataflow: Dataflow, evaluator: Evaluator, into: Callable[[pa.RecordBatch], None] | None) -> None:
        reads = {node.id: node for node in dataflow.nodes if isinstance(node, Read)}
        self._queries = {
            late.node: evaluator.prepare(
                f'SELECT * FROM "{INPUT}" WHERE {late.sql}',
                {INPUT: reads[late.node].schema},
                f"late rows of {reads[late.node].scan.relation}",
            )
            for late in dataflow.late
        }
        self._parameters = dict(dataflow.parameters)
        self._into = into
        self.rows = 0

    def find(self, inputs: Mapping[str, Delta], epoch: Epoch) -> list[pa.RecordBatch]:
        """Give the late rows among an epoch's."""
        found = []
        for read, query in self._queries.items():
            if (delta := inputs.get(read)) is not None:
                rows = query({INPUT: delta.rows}, values(self._parameters, epoch))
                if rows.num_rows:
                    found.append(rows)
        return found

    def hand_on(self, found: list[pa.RecordBatch]) -> None:
        """Count late rows, and write them where the query wants them.

        Raises:
            SourceError, ResourceLimit: they cannot be written.
        """
        for rows in found:
            self.rows += rows.num_rows
            if self._into is not None:
                self._into(rows)
