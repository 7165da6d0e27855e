"""Candidate pairs of a join: rows of one side's changes with the rows that the other side keeps under the same key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.operators.base import Delta, Epoch, OperatorContext, Weights
from streamq.operators.deltas import values, weights_of
from streamq.operators.keyed import KeyedRows
from streamq.plan.dataflow import INPUT, Join, Lookup

PAIR = "#pair"


@dataclass(frozen=True, slots=True)
class Pairs:
    """Rows that match: `changed` says which row of the changes each is of; weights are those of the change and of the kept row."""

    rows: pa.RecordBatch
    """The left columns, then the right ones."""
    kept: pa.RecordBatch
    changed: NDArray[np.int64]
    changed_weights: Weights
    kept_weights: Weights

    def delta(self, schema: pa.Schema) -> Delta:
        """Give the pairs as changes of the join's result."""
        return Delta(pa.RecordBatch.from_arrays(self.rows.columns, schema=schema), self.changed_weights * self.kept_weights)

    def matches(self, length: int) -> Weights:
        """Give, for each of the `length` rows of the changes, how many kept rows it matches."""
        result = np.zeros(length, np.int64)
        np.add.at(result, self.changed, self.kept_weights)
        return result


class Pairing:
    """Finds the pairs of a join's two sides, and keeps those that the residual condition lets pass."""

    def __init__(self, node: Join | Lookup, context: OperatorContext) -> None:
        left, right = context.schemas
        both = [*left, *right]
        if len(node.schema) == len(both):
            both = [field.with_name(name) for field, name in zip(both, node.schema.names, strict=True)]
        self._schema = pa.schema(both)
        self._parameters = context.parameters
        self._residual = None
        if node.residual is not None:
            tables = {INPUT: self._schema.append(pa.field(PAIR, pa.int64()))}
            self._residual = context.evaluator.prepare(node.residual, tables, "join condition")

    def find(self, delta: Delta, keys: Sequence[pa.Array], kept: KeyedRows, epoch: Epoch, *, changed_is_left: bool) -> Pairs:
        """Pair changes (whose key columns are `keys`) with kept rows."""
        rows, times, which = kept.rows(kept.find(keys))
        changed = delta.rows.take(pa.array(which))
        sides = (changed, rows) if changed_is_left else (rows, changed)
        pairs = pa.RecordBatch.from_arrays([*sides[0].columns, *sides[1].columns], schema=self._schema)
        found = Pairs(pairs, rows, which, weights_of(delta)[which], times)
        return found if self._residual is None or not pairs.num_rows else self._passing(found, epoch)

    def _passing(self, pairs: Pairs, epoch: Epoch) -> Pairs:
        assert self._residual is not None
        numbers = pa.array(np.arange(pairs.rows.num_rows))
        table = pa.RecordBatch.from_arrays([*pairs.rows.columns, numbers], schema=self._schema.append(pa.field(PAIR, pa.int64())))
        passing = np.unique(np.asarray(self._residual({INPUT: table}, values(self._parameters, epoch)).column(PAIR)))
        taken = pa.array(passing)
        return Pairs(
            pairs.rows.take(taken),
            pairs.kept.take(taken),
            pairs.changed[passing],
            pairs.changed_weights[passing],
            pairs.kept_weights[passing],
        )
