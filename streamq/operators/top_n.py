"""Keeps the first rows in an order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from streamq.kernels.index import KeyIndex
from streamq.operators.bag import Bag
from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.deltas import concatenated, conform, from_state, negated, net, plain, repeated, to_state, weights_of
from streamq.plan.dataflow import INPUT, TopN
from streamq.plan.exchanges import Gather


class TopNOperator:
    """Sorts the rows kept and the new ones. Only where one of the first rows is withdrawn, the next ones are looked for among all rows,
    which are kept if the input retracts.
    """

    def __init__(self, node: TopN, context: OperatorContext) -> None:
        (schema,), (retracts,) = context.schemas, context.retracts
        self._node = node
        self._most = node.offset + node.limit
        terms = (
            f"{term.sql} {'DESC' if term.descending else 'ASC'} NULLS {'FIRST' if term.nulls_first else 'LAST'}" for term in node.order
        )
        sql = f'SELECT * FROM "{INPUT}" ORDER BY {", ".join(terms)} LIMIT {self._most}'
        self._sort = context.evaluator.prepare(sql, {INPUT: schema}, "top-n")
        self._schema = schema
        self._all = Bag(schema, node.id) if retracts else None
        self._top = self._given = Delta.empty(schema).rows
        self._alone = isinstance(node.input.exchange, Gather)
        self._moved = False

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        (delta,) = inputs
        if delta.num_rows == 0 and not self._moved:
            return Delta.empty(self._node.schema)
        self._moved = False
        self._top = self._sorted(self._candidates(delta))
        given = self._top.slice(self._node.offset, self._node.limit)
        change = net(concatenated(self._schema, [negated(Delta(self._given)), Delta(given)]))
        self._given = given
        return Delta(conform(change.rows.columns, self._node.schema), change.weights)

    def _candidates(self, delta: Delta) -> Delta:
        """Take the changes over, and give rows among which the first ones are."""
        if self._all is None:
            return concatenated(self._schema, [Delta(self._top), plain(delta, self._node.id)])
        delta = net(delta)
        self._all.change(delta)
        withdrawn = weights_of(delta) < 0
        if withdrawn.any() and self._concerns_top(delta.rows.filter(pa.array(withdrawn))):
            return self._all.all()
        added = ~withdrawn
        return concatenated(self._schema, [Delta(self._top), Delta(delta.rows.filter(pa.array(added)), weights_of(delta)[added])])

    def _concerns_top(self, rows: pa.RecordBatch) -> bool:
        index = KeyIndex(self._schema, exact=True)
        index.encode(self._top.columns)
        return bool((index.find(rows.columns) >= 0).any())

    def _sorted(self, rows: Delta) -> pa.RecordBatch:
        few = repeated(rows.rows, np.minimum(weights_of(rows), self._most))
        return conform(self._sort({INPUT: few}, {}).columns, self._schema)

    @property
    def state_rows(self) -> int:
        return int(self._top.num_rows) + (self._all.num_rows if self._all else 0)

    @property
    def state_bytes(self) -> int:
        return int(self._top.nbytes) + (self._all.bytes if self._all else 0)

    def snapshot(self) -> State:
        kept = self._all.snapshot() if self._all else to_state(Delta(self._top))
        return {"input0": kept, "output": to_state(Delta(self._given))}

    def restore(self, state: State) -> None:
        rows = from_state(state["input0"], self._schema)
        if self._all is not None:
            self._all.change(rows)
        self._top = self._sorted(rows)
        self._given = from_state(state["output"], self._schema).rows
        # What was given for other rows than those that are here now is put right in the next epoch.
        self._moved = not self._alone
