"""Looks rows up in a relation as it is now; its later changes change nothing that was given."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.deltas import concatenated, conform, net, plain, selected
from streamq.operators.keyed import KeyedRows, null_keys, same_key
from streamq.operators.pairs import Pairing
from streamq.plan.dataflow import Lookup


class LookupOperator:
    """Keeps the right side alone, and pairs each left row once."""

    def __init__(self, node: Lookup, context: OperatorContext) -> None:
        self._node = node
        _, right = context.schemas
        self._right = KeyedRows(right, node.right_keys, node.id)
        self._pairing = Pairing(node, context)
        self._nulls = [pa.nulls(0, field.type) for field in right]

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        left, right = inputs
        keyed = net(selected(right, ~null_keys(self._right.keys_of(right.rows), right.num_rows)))
        if keyed.num_rows:
            self._right.apply(keyed)
        if left.num_rows == 0:
            return Delta.empty(self._node.schema)
        return plain(self._looked_up(plain(left, self._node.id), epoch), self._node.id)

    def _looked_up(self, left: Delta, epoch: Epoch) -> Delta:
        keys = [left.rows.column(name) for name in self._node.left_keys] or same_key(left.num_rows)
        # A NULL in the key finds nothing: the rows that are kept have none.
        pairs = self._pairing.find(left, keys, self._right, epoch, changed_is_left=True)
        matched = pairs.matches(left.num_rows) > 0
        schema = self._node.schema
        match self._node.kind:
            case "semi" | "anti":
                chosen = matched if self._node.kind == "semi" else ~matched
                return Delta(conform(selected(left, chosen).rows.columns, schema))
            case "left":
                alone = selected(left, ~matched).rows
                nulls = [pa.nulls(alone.num_rows, column.type) for column in self._nulls]
                return concatenated(schema, [pairs.delta(schema), Delta(conform([*alone.columns, *nulls], schema))])
            case _:
                return pairs.delta(schema)

    @property
    def state_rows(self) -> int:
        return self._right.num_rows

    @property
    def state_bytes(self) -> int:
        return self._right.bytes

    def snapshot(self) -> State:
        return {"input1": self._right.snapshot()}

    def restore(self, state: State) -> None:
        self._right.restore(state["input1"])
