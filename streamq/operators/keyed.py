"""Rows by key, where there may be no key at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.arrangement import Arrangement
from streamq.operators.base import Delta, Weights
from streamq.operators.deltas import from_state, net, weights_of

Codes = NDArray[np.int64]


class KeyedRows:
    """An arrangement by `keys`; without keys, all rows have the same one. `owner` is who is at fault if it is misused."""

    def __init__(self, schema: pa.Schema, keys: Sequence[str], owner: str) -> None:
        self.schema = schema
        self._names = tuple(keys)
        self._owner = owner
        self._arrangement = Arrangement(schema, keys)

    @property
    def num_rows(self) -> int:
        return self._arrangement.num_rows

    @property
    def bytes(self) -> int:
        return self._arrangement.bytes

    def keys_of(self, rows: pa.RecordBatch) -> list[pa.Array]:
        """Give the key columns of rows of this schema: without keys, one that is the same for all."""
        return [rows.column(name) for name in self._names] if self._names else same_key(rows.num_rows)

    def apply(self, delta: Delta) -> Codes:
        """Add and withdraw rows; give the code of every row's key."""
        with blamed(self._owner):
            return self._arrangement.apply(delta.rows, delta.weights)

    def without_unknown(self, delta: Delta) -> Delta:
        """Leave out withdrawals of rows that are not there."""
        if delta.weights is None or not (delta.weights < 0).any():
            return delta
        delta = net(delta)
        weights = np.maximum(weights_of(delta), -self._arrangement.times(delta.rows))
        return Delta(delta.rows.filter(pa.array(weights != 0)), weights[weights != 0])

    def find(self, keys: Sequence[pa.Array]) -> Codes:
        """Give the codes of keys, -1 for those without rows."""
        return self._arrangement.find(keys) if self._names else np.repeat(self._arrangement.find([]), len(keys[0]))

    def rows(self, codes: Codes) -> tuple[pa.RecordBatch, Weights, NDArray[np.int64]]:
        """Give the rows of these keys, how often each is there, and the position in `codes` that it is for."""
        return self._arrangement.rows(codes)

    def forget(self, codes: Codes) -> None:
        """Forget all rows of these keys, each given once (-1: none)."""
        self._arrangement.forget(codes)

    def all(self) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """Give all different rows and their numbers."""
        numbers = self._arrangement.numbers()
        return self._arrangement.take(numbers)[0], numbers

    def evict(self, numbers: NDArray[np.int64]) -> None:
        """Forget rows by number."""
        self._arrangement.evict(numbers)

    def snapshot(self) -> pa.Table:
        return self._arrangement.snapshot()

    def restore(self, state: pa.Table) -> tuple[Delta, Codes]:
        """Take over the rows of a snapshot; give them and the codes of their keys."""
        delta = from_state(state, self.schema)
        return delta, self.apply(delta)


@contextmanager
def blamed(owner: str) -> Iterator[None]:
    """Name the operator in which something did not hold."""
    try:
        yield
    except AssertionError as error:
        raise AssertionError(f"{owner}: {error}") from error


def null_keys(keys: Sequence[pa.Array], length: int) -> NDArray[np.bool_]:
    """Tell which rows have a NULL among their key columns."""
    mask = np.zeros(length, np.bool_)
    for column in keys:
        if column.null_count:
            mask |= np.asarray(column.is_null())
    return mask


def same_key(length: int) -> list[pa.Array]:
    """Give the key columns of rows that have no key."""
    return [pa.repeat(pa.scalar(True), length)]
