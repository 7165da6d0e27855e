"""Joins two changing relations by equal keys and a residual condition.

The changes of the pairs are L₀ ⋈ ΔR + ΔL ⋈ R₁, with the left rows of before the epoch and the right ones of after it. Outer, semi and anti
joins count the matches of each row besides (`Matches`): first the right changes meet the left rows of before, then the left changes meet
the right rows of after, so every match is counted once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.operators.ages import KeyAges
from streamq.operators.base import Delta, Epoch, OperatorContext, State
from streamq.operators.closing import NEVER, horizon, moments
from streamq.operators.deltas import concatenated, conform, from_state, net, plain, selected
from streamq.operators.keyed import KeyedRows, null_keys
from streamq.operators.matches import MATCHES, Matches
from streamq.operators.pairs import Pairing, Pairs
from streamq.plan.dataflow import Closing, Join

_FEW = 1_024


class JoinOperator:
    """Keeps both sides' rows by key, and how many matches the rows of outer sides have."""

    def __init__(self, node: Join, context: OperatorContext) -> None:
        assert node.kind != "asof", f"{node.id}: an ASOF join is recomputed"
        self._node = node
        left, right = context.schemas
        interval = node.interval
        # A left row meets right ones up to its time + upper, a right row left ones up to its time - lower.
        left_end = None if interval is None else Closing(interval.left, interval.upper_us, inclusive=True)
        right_end = None if interval is None else Closing(interval.right, -interval.lower_us, inclusive=True)
        left_outer, right_outer = node.kind in ("left", "full", "semi", "anti"), node.kind in ("right", "full")
        self._left = _Side(left, node.left_keys, left_end, left_outer, node.id)
        self._right = _Side(right, node.right_keys, right_end, right_outer, node.id)
        self._pairing = Pairing(node, context)
        self._ages = KeyAges(pa.schema([left.field(name) for name in node.left_keys]), node.ttl_us)
        self._restored = False

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        left, right = net(inputs[0]), net(inputs[1])
        if self._node.ttl_us:
            left, right = self._left.without_unknown(left), self._right.without_unknown(right)
        changes = [self._loose(self._left, left), self._loose(self._right, right)]
        left, right = self._left.keyed(left), self._right.keyed(right)
        if right.num_rows:
            pairs = self._pairing.find(right, self._right.keys_of(right), self._left.rows, epoch, changed_is_left=False)
            changes += self._changes(pairs, right, self._right, self._left)
            self._right.rows.apply(right)
        if left.num_rows:
            pairs = self._pairing.find(left, self._left.keys_of(left), self._right.rows, epoch, changed_is_left=True)
            changes += self._changes(pairs, left, self._left, self._right)
            self._left.rows.apply(left)
        changes += [self._due(side, epoch) for side in (self._left, self._right)]
        if self._node.ttl_us:
            self._forget_old([self._left.keys_of(left), self._right.keys_of(right)], epoch.now_us)
        change = concatenated(self._node.schema, changes)
        return net(change) if self._node.retracts else plain(change, self._node.id)

    def _changes(self, pairs: Pairs, delta: Delta, changed: _Side, kept: _Side) -> list[Delta]:
        """Give what changes of one side do to the result, by their pairs with what the other side keeps."""
        changes = [pairs.delta(self._node.schema)] if self._node.kind not in ("semi", "anti") else []
        if changed.matches is not None:
            changes += self._alone(changed, changed.matches.come(delta, pairs.matches(delta.num_rows), changed.moments(delta)))
        if kept.matches is not None:
            changes += self._alone(kept, kept.matches.met(pairs.kept, pairs.changed_weights))
        return changes

    def _alone(self, side: _Side, change: tuple[Delta, Delta]) -> list[Delta]:
        """Give what it means for the result that rows of an outer side have matches, and others have none."""
        matched, unmatched = change
        if self._node.kind == "semi":
            return [self._extended(side, matched)]
        return [] if self._node.final else [self._extended(side, unmatched)]

    def _loose(self, side: _Side, delta: Delta) -> Delta:
        """Give the rows with a NULL in their key as far as the result has them: nothing ever matches them."""
        if side.matches is None or self._node.kind == "semi":
            return Delta.empty(self._node.schema)
        return self._extended(side, selected(delta, null_keys(side.keys_of(delta), delta.num_rows)))

    def _due(self, side: _Side, epoch: Epoch) -> Delta:
        """Forget the rows that the horizon has passed; give those that now are without a match forever."""
        now = horizon(epoch)
        lonely = side.forget(now)
        if lonely is None or not self._node.final or self._node.kind == "semi":
            return Delta.empty(self._node.schema)
        return self._extended(side, lonely)

    def _forget_old(self, touched: Sequence[Sequence[pa.Array]], now_us: int) -> None:
        """Forget the keys that nothing has touched for too long. What was restored counts as touched."""
        sides = (self._left, self._right)
        if self._restored:
            touched = [*touched, *(side.rows.keys_of(side.rows.all()[0]) for side in sides)]
            self._restored = False
        for keys in touched:
            self._ages.touch(keys, now_us)
        if keys := self._ages.take(now_us):
            for side, ttl_us in zip(sides, self._node.ttl_us, strict=True):
                if ttl_us is not None:
                    side.forget_keys(keys)

    def _extended(self, side: _Side, delta: Delta) -> Delta:
        """Give rows of a side as rows of the result, with NULL in the other side's columns."""
        other = self._right if side is self._left else self._left
        nulls = [pa.nulls(delta.num_rows, field.type) for field in other.rows.schema]
        if self._node.kind in ("semi", "anti"):
            columns = delta.rows.columns
        else:
            columns = [*delta.rows.columns, *nulls] if side is self._left else [*nulls, *delta.rows.columns]
        return Delta(conform(columns, self._node.schema), delta.weights)

    @property
    def state_rows(self) -> int:
        return self._left.rows.num_rows + self._right.rows.num_rows

    @property
    def state_bytes(self) -> int:
        return self._left.bytes + self._right.bytes + self._ages.bytes

    def snapshot(self) -> State:
        sides = {"input0": self._left, "input1": self._right}
        rows = {name: side.rows.snapshot() for name, side in sides.items()}
        return rows | {f"{name}.matches": side.matches.snapshot() for name, side in sides.items() if side.matches is not None}

    def restore(self, state: State) -> None:
        for name, side in (("input0", self._left), ("input1", self._right)):
            side.restore(state[name], state.get(f"{name}.matches"))
        self._restored = bool(self._node.ttl_us)


class _Side:
    """One side's rows by key, and how many matches they have if they are in the result without one too.

    `end` says when no match can come any more.
    """

    def __init__(self, schema: pa.Schema, keys: Sequence[str], end: Closing | None, outer: bool, owner: str) -> None:
        self.rows = KeyedRows(schema, keys, owner)
        self.matches = Matches(schema, owner) if outer else None
        self._names = tuple(keys)
        self._end = end
        self._kept = 0
        """How many rows were left when those that are over were last looked for."""

    @property
    def bytes(self) -> int:
        return self.rows.bytes + (self.matches.bytes if self.matches is not None else 0)

    def keys_of(self, delta: Delta) -> list[pa.Array]:
        return self.rows.keys_of(delta.rows)

    def without_unknown(self, delta: Delta) -> Delta:
        """Leave out withdrawals of rows that are not there; rows with a NULL in their key never are."""
        known = self.rows.without_unknown(self.keyed(delta))
        null = null_keys(self.keys_of(delta), delta.num_rows)
        return concatenated(self.rows.schema, [known, selected(delta, null)]) if null.any() else known

    def forget_keys(self, keys: Sequence[pa.Array]) -> None:
        """Forget all rows of these keys."""
        codes = self.rows.find(keys)
        if self.matches is not None:
            self.matches.forget(self.rows.rows(codes)[0])
        self.rows.forget(codes)

    def keyed(self, delta: Delta) -> Delta:
        """Give the rows without a NULL in their key."""
        null = null_keys(self.keys_of(delta), delta.num_rows)
        return selected(delta, ~null) if null.any() else delta

    def moments(self, delta: Delta) -> NDArray[np.int64] | None:
        """Give when no match can come any more for each row: for those without a time, at once."""
        if self._end is None:
            return None
        column = delta.rows.column(self._end.column)
        return np.where(np.asarray(column.is_null()), -NEVER, moments(column, self._end))

    def forget(self, horizon: int | None) -> Delta | None:
        """Forget what the horizon has passed; give those of an outer side's rows that had no match.

        Rows by key are looked through only once they have doubled, so that it costs no more than their coming did, and at the end.
        """
        if self._end is None or horizon is None:
            return None
        if self.rows.num_rows > 2 * self._kept + _FEW or horizon == NEVER:
            rows, numbers = self.rows.all()
            when = self.moments(Delta(rows))
            assert when is not None
            self.rows.evict(numbers[when <= horizon])
            self._kept = self.rows.num_rows
        return None if self.matches is None else self.matches.due(horizon)

    def restore(self, rows: pa.Table, matches: pa.Table | None) -> None:
        self.rows.restore(rows)
        if self.matches is not None and matches is not None:
            counts = np.asarray(matches.column(MATCHES).combine_chunks())
            delta = from_state(matches.drop_columns([MATCHES]), self.rows.schema)
            self.matches.come(delta, counts, self.moments(delta))
