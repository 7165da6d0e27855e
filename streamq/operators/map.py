"""Runs SQL over an epoch's changes: filter, projection, unnesting, assignment of windows. Keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence

from streamq.operators.base import Delta, Epoch, OperatorContext
from streamq.operators.deltas import from_sql, plain, to_sql, values, with_weight
from streamq.operators.stateless import Stateless
from streamq.plan.dataflow import INPUT, Map


class MapOperator(Stateless):
    """Gives what the SQL makes of each changed row, with that row's weight."""

    __slots__ = ("_id", "_parameters", "_schema", "_sql", "_weighted")

    def __init__(self, node: Map, context: OperatorContext) -> None:
        (schema,), (self._weighted,) = context.schemas, context.retracts
        self._id, self._schema = node.id, node.schema
        self._parameters = context.parameters
        self._sql = context.evaluator.prepare(node.sql, {INPUT: with_weight(schema) if self._weighted else schema}, node.label)

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        if delta.num_rows == 0:
            return Delta.empty(self._schema)
        rows = to_sql(delta) if self._weighted else plain(delta, self._id).rows
        return from_sql(self._sql({INPUT: rows}, values(self._parameters, epoch)), self._schema)
