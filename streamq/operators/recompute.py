"""Runs SQL over all rows of the keys that an epoch touches, and gives the difference to what it gave before.

What was given is kept by key wherever the SQL tells the key (`GROUP`), rather than computed again from the rows of before: that is
half the work, and rows are withdrawn to the last bit as they were given, whatever the order in which DuckDB adds floating point
numbers this time.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex
from streamq.operators.ages import KeyAges
from streamq.operators.bag import Bag
from streamq.operators.base import Delta, Epoch, Operator, OperatorContext, State
from streamq.operators.closing import Deadlines, horizon, moments
from streamq.operators.deltas import concatenated, conform, negated, net, plain, repeated, selected, values, weights_of
from streamq.operators.keyed import KeyedRows, null_keys
from streamq.operators.stateless import Stateless
from streamq.plan.dataflow import GROUP, Recompute
from streamq.plan.exchanges import Gather


def recompute_operator(node: Recompute, context: OperatorContext) -> Operator:
    """Choose by what must be kept: nothing, everything in one piece, or rows by key."""
    if node.once:
        return RecomputeOnce(node, context)
    return RecomputeKeys(node, context) if node.keys[0] else RecomputeAll(node, context)


class _Sql:
    """The node's SQL over complete rows. Gives the columns of `schema`: those of the node, and the key's behind them if it is grouped."""

    def __init__(self, node: Recompute, context: OperatorContext) -> None:
        self._names = node.names
        self._parameters = context.parameters
        self._run = context.evaluator.prepare(node.sql, dict(zip(node.names, context.schemas, strict=True)), node.label)
        keys = [context.schemas[0].field(name) for name in node.keys[0]] if node.grouped else []
        self.groups = [f"{GROUP}{place}" for place in range(1, len(keys) + 1)]
        self.schema = pa.schema([*node.schema, *(key.with_name(name) for key, name in zip(keys, self.groups, strict=True))])

    def __call__(self, rows: Sequence[pa.RecordBatch], epoch: Epoch) -> Delta:
        return Delta(conform(self._run(dict(zip(self._names, rows, strict=True)), values(self._parameters, epoch)).columns, self.schema))

    def without_rows(self) -> Delta:
        return Delta.empty(self.schema)


class RecomputeOnce(Stateless):
    """All rows of a key come in one epoch: the SQL over them is all there is to give."""

    def __init__(self, node: Recompute, context: OperatorContext) -> None:
        self._node = node
        self._sql = _Sql(node, context)

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        if not any(delta.num_rows for delta in inputs):
            return Delta.empty(self._node.schema)
        found = self._sql([plain(net(delta), self._node.id).rows for delta in inputs], epoch)
        return without_groups(found, self._node.schema)


class RecomputeAll:
    """There is no key: every change recomputes everything. The SQL may give rows where there are none (a global aggregate)."""

    def __init__(self, node: Recompute, context: OperatorContext) -> None:
        self._schema = node.schema
        self._sql = _Sql(node, context)
        self._rows = [Bag(schema, node.id) for schema in context.schemas]
        self._given = Bag(node.schema, node.id)
        self._starts = not context.is_idle(node)
        self._alone = all(isinstance(edge.exchange, Gather) for edge in node.inputs)

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        if not self._starts and not any(delta.num_rows for delta in inputs):
            return Delta.empty(self._schema)
        self._starts = False
        for bag, delta in zip(self._rows, inputs, strict=True):
            bag.change(delta)
        found = self._sql([bag.rows() for bag in self._rows], epoch)
        change = net(concatenated(self._schema, [negated(self._given.all()), found]))
        self._given.change(change)
        return change

    @property
    def state_rows(self) -> int:
        return sum(bag.num_rows for bag in (*self._rows, self._given))

    @property
    def state_bytes(self) -> int:
        return sum(bag.bytes for bag in (*self._rows, self._given))

    def snapshot(self) -> State:
        return {**{f"input{place}": bag.snapshot() for place, bag in enumerate(self._rows)}, "output": self._given.snapshot()}

    def restore(self, state: State) -> None:
        for place, bag in enumerate(self._rows):
            bag.restore(state[f"input{place}"])
        self._given.restore(state["output"])
        # What was given for other rows than those that are here now is put right in the next epoch.
        self._starts = not self._alone


class RecomputeKeys:
    """Keeps rows by key, and by key what was given for them."""

    def __init__(self, node: Recompute, context: OperatorContext) -> None:
        self._node = node
        self._sql = _Sql(node, context)
        self._rows = [KeyedRows(schema, keys, node.id) for schema, keys in zip(context.schemas, node.keys, strict=True)]
        self._key_schema = pa.schema([context.schemas[0].field(name) for name in node.keys[0]])
        self._given = KeyedRows(self._sql.schema, self._sql.groups, node.id)
        self._deadlines = Deadlines()
        self._ages = KeyAges(self._key_schema, node.ttl_us)
        self._restored = False

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        if self._node.ttl_us:
            inputs = [rows.without_unknown(delta) for rows, delta in zip(self._rows, inputs, strict=True)]
        loose = [null_keys(rows.keys_of(delta.rows), delta.num_rows) for rows, delta in zip(self._rows, inputs, strict=True)]
        if self._node.null_matches or not any(mask.any() for mask in loose):
            changes = [self._difference(inputs, epoch)]
        else:
            keyed = [selected(delta, ~mask) for delta, mask in zip(inputs, loose, strict=True)]
            alone = [selected(delta, mask) for delta, mask in zip(inputs, loose, strict=True)]
            changes = [self._difference(keyed, epoch), *self._seen_alone(alone, epoch)]
        self._forget(epoch)
        return net(concatenated(self._node.schema, [without_groups(change, self._node.schema) for change in changes]))

    def _difference(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        """Apply the changes and give what they change in the result."""
        if not any(delta.num_rows for delta in inputs):
            return self._sql.without_rows()
        keys = self._touched(inputs)
        self._ages.touch(keys, epoch.now_us)
        before = [] if self._node.grouped else self._complete(keys)
        self._apply(inputs)
        after = self._run(self._complete(keys), epoch)
        if not self._node.grouped:
            return concatenated(self._sql.schema, [negated(self._run(before, epoch)), after])
        rows, times, _ = self._given.rows(self._given.find(keys))
        change = net(concatenated(self._sql.schema, [Delta(rows, -times), after]))
        self._given.apply(change)
        return change

    def _seen_alone(self, inputs: Sequence[Delta], epoch: Epoch) -> list[Delta]:
        """Give the result's changes for rows that meet no others: they depend on nothing that is kept."""
        net_inputs = [net(delta) for delta in inputs]
        withdrawn = [selected(delta, weights_of(delta) < 0) for delta in net_inputs]
        added = [selected(delta, weights_of(delta) > 0) for delta in net_inputs]
        before = self._run([repeated(delta.rows, -weights_of(delta)) for delta in withdrawn], epoch)
        return [negated(before), self._run([repeated(delta.rows, weights_of(delta)) for delta in added], epoch)]

    def _touched(self, inputs: Sequence[Delta]) -> list[pa.Array]:
        """Give the different keys among the changes."""
        index = KeyIndex(self._key_schema)
        for rows, delta in zip(self._rows, inputs, strict=True):
            index.encode(rows.keys_of(delta.rows))
        return list(index.keys(np.arange(index.rows)).columns)

    def _complete(self, keys: list[pa.Array]) -> list[pa.RecordBatch]:
        """Give all rows of these keys, of every input, each as often as it is there."""
        found = (rows.rows(rows.find(keys)) for rows in self._rows)
        return [repeated(rows, times) for rows, times, _ in found]

    def _run(self, rows: list[pa.RecordBatch], epoch: Epoch) -> Delta:
        """Run the SQL, which gives nothing where there are no rows."""
        return self._sql(rows, epoch) if any(batch.num_rows for batch in rows) else self._sql.without_rows()

    def _apply(self, inputs: Sequence[Delta]) -> None:
        codes, *_ = [rows.apply(delta) for rows, delta in zip(self._rows, inputs, strict=True)]
        self._remember(inputs[0], codes)

    def _remember(self, delta: Delta, codes: NDArray[np.int64]) -> None:
        """Note when the windows of rows of input 0 close."""
        if self._node.closing is not None:
            self._deadlines.set(codes, moments(delta.rows.column(self._node.closing.column), self._node.closing))
            self._deadlines.unset(codes[self._rows[0].find(self._rows[0].keys_of(delta.rows)) < 0])

    def _forget(self, epoch: Epoch) -> None:
        """Forget the keys whose window has closed, and what was given for them: it stays given."""
        due = self._deadlines.take(horizon(epoch))
        self._forget_old(epoch.now_us)
        rows, _, _ = self._rows[0].rows(due)
        if rows.num_rows:
            keys = self._rows[0].keys_of(rows)
            for kept in (*self._rows[1:], *([self._given] if self._node.grouped else []), self._rows[0]):
                kept.forget(np.unique(kept.find(keys)))

    def _forget_old(self, now_us: int) -> None:
        """Forget the keys that nothing has touched for too long. What was restored counts as touched."""
        if self._restored:
            for kept in self._rows:
                self._ages.touch(kept.keys_of(kept.all()[0]), now_us)
            self._restored = False
        if keys := self._ages.take(now_us):
            forgotten = [kept for kept, ttl_us in zip(self._rows, self._node.ttl_us, strict=True) if ttl_us is not None]
            for kept in (*forgotten, *([self._given] if self._node.grouped else [])):
                kept.forget(np.unique(kept.find(keys)))

    @property
    def state_rows(self) -> int:
        return self._given.num_rows + sum(rows.num_rows for rows in self._rows)

    @property
    def state_bytes(self) -> int:
        return self._given.bytes + self._deadlines.bytes + self._ages.bytes + sum(rows.bytes for rows in self._rows)

    def snapshot(self) -> State:
        """Give the rows of every input, and what was given, with the key under its names in input 0 and other columns by number."""
        given = self._given.snapshot()
        width = len(self._node.schema)
        names = [*(f"#{place}" for place in range(width)), *self._key_schema.names, *given.column_names[len(self._sql.schema) :]]
        inputs = {f"input{place}": rows.snapshot() for place, rows in enumerate(self._rows)}
        return {**inputs, "output": given.rename_columns(names)} if self._node.grouped else inputs

    def restore(self, state: State) -> None:
        for place, rows in enumerate(self._rows):
            delta, codes = rows.restore(state[f"input{place}"])
            if place == 0:
                self._remember(delta, codes)
        self._restored = bool(self._node.ttl_us)
        if self._node.grouped:
            given = state["output"]
            self._given.restore(given.rename_columns([*self._sql.schema.names, *given.column_names[len(self._sql.schema) :]]))


def without_groups(delta: Delta, schema: pa.Schema) -> Delta:
    """Give the columns of the result alone."""
    return Delta(conform(delta.rows.columns[: len(schema)], schema), delta.weights)
