"""Runs SQL row by row, given complete side relations: the results of subqueries.

What was given is kept. So when a side changes, only the new result is computed, and what is withdrawn is what was given, to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from streamq.operators.bag import Bag
from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.deltas import concatenated, from_sql, negated, net, plain, to_sql, values, with_weight
from streamq.plan.dataflow import INPUT, Sided


class SidedOperator:
    """Evaluates the changed rows, or, when a side has changed, all of them."""

    def __init__(self, node: Sided, context: OperatorContext) -> None:
        schema, *sides = context.schemas
        self._node = node
        self._weighted = context.retracts[0]
        self._parameters = context.parameters
        tables = {INPUT: with_weight(schema) if self._weighted else schema}
        tables |= {side.name: side_schema for side, side_schema in zip(node.sides, sides, strict=True)}
        self._sql = context.evaluator.prepare(node.sql, tables, node.label)
        self._rows = Bag(schema, node.id)
        self._sides = [Bag(side, node.id) for side in sides]
        self._given = Bag(node.schema, node.id)
        self._moved = False

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        delta, *sides = inputs
        sides = [net(side) for side in sides]
        self._rows.change(delta)
        for bag, side in zip(self._sides, sides, strict=True):
            bag.change(side)
        if self._moved or any(side.num_rows for side in sides):
            change = self._difference(epoch)
            self._moved = False
        elif delta.num_rows:
            change = net(self._evaluated(delta, epoch))
            if not self._given.has(change):  # a floating point sum inside the SQL came out differently by its last bit
                change = self._difference(epoch)
        else:
            return Delta.empty(self._node.schema)
        self._given.change(change)
        return change

    def _difference(self, epoch: Epoch) -> Delta:
        """Give what changes if all rows are evaluated."""
        return net(concatenated(self._node.schema, [negated(self._given.all()), self._evaluated(self._rows.all(), epoch)]))

    def _evaluated(self, delta: Delta, epoch: Epoch) -> Delta:
        if delta.num_rows == 0:
            return Delta.empty(self._node.schema)
        rows = to_sql(delta) if self._weighted else plain(delta, self._node.id).rows
        tables = {side.name: bag.rows() for side, bag in zip(self._node.sides, self._sides, strict=True)}
        return from_sql(self._sql({INPUT: rows, **tables}, values(self._parameters, epoch)), self._node.schema)

    @property
    def state_rows(self) -> int:
        return sum(bag.num_rows for bag in (self._rows, *self._sides, self._given))

    @property
    def state_bytes(self) -> int:
        return sum(bag.bytes for bag in (self._rows, *self._sides, self._given))

    def snapshot(self) -> State:
        bags = [self._rows, *self._sides]
        return {**{f"input{place}": bag.snapshot() for place, bag in enumerate(bags)}, "output": self._given.snapshot()}

    def restore(self, state: State) -> None:
        for place, bag in enumerate([self._rows, *self._sides]):
            bag.restore(state[f"input{place}"])
        self._given.restore(state["output"])
        # What is given does not say which row it is for: it may be that of rows that are elsewhere now.
        self._moved = True
