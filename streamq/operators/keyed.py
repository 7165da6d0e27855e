"""Rows by key, where there may be no key at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.arrangement import Arrangement
from streamq.operators.bag import from_state
from streamq.operators.base import Delta, Weights

Codes = NDArray[np.int64]
_ALL = "#all"


class KeyedRows:
    """An arrangement by `keys`; without keys, all rows have the same one. `owner` is who is at fault if it is misused."""

    def __init__(self, schema: pa.Schema, keys: Sequence[str], owner: str) -> None:
        self.schema = schema
        self._names = tuple(keys)
        self._owner = owner
        self._arrangement = Arrangement(schema, keys) if keys else Arrangement(schema.append(pa.field(_ALL, pa.bool_())), [_ALL])

    @property
    def num_rows(self) -> int:
        return self._arrangement.num_rows

    @property
    def bytes(self) -> int:
        return self._arrangement.bytes

    def keys_of(self, rows: pa.RecordBatch) -> list[pa.Array]:
        """Give the key columns of rows of this schema."""
        return [rows.column(name) for name in self._names] if self._names else [_constant(rows.num_rows)]

    def apply(self, delta: Delta) -> Codes:
        """Add and withdraw rows; give the code of every row's key."""
        rows = delta.rows if self._names else self._with_key(delta.rows)
        with blamed(self._owner):
            return self._arrangement.apply(rows, delta.weights)

    def find(self, keys: Sequence[pa.Array]) -> Codes:
        """Give the codes of keys, -1 for those without rows."""
        return self._arrangement.find(keys)

    def rows(self, codes: Codes) -> tuple[pa.RecordBatch, Weights, NDArray[np.int64]]:
        """Give the rows of these keys, how often each is there, and the position in `codes` that it is for."""
        rows, times, which = self._arrangement.rows(codes)
        return self._without_key(rows), times, which

    def forget(self, codes: Codes) -> None:
        """Forget all rows of these keys (-1: none)."""
        self._arrangement.forget(codes[codes >= 0])

    def keys(self, codes: Codes) -> list[pa.Array]:
        """Give the keys of these codes."""
        return list(self._arrangement.keys(codes).columns)

    def all(self) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """Give all different rows and their numbers."""
        numbers = self._arrangement.numbers()
        return self._without_key(self._arrangement.take(numbers)[0]), numbers

    def evict(self, numbers: NDArray[np.int64]) -> None:
        """Forget rows by number."""
        self._arrangement.evict(numbers)

    def snapshot(self) -> pa.Table:
        state = self._arrangement.snapshot()
        return state if self._names else state.drop_columns([_ALL])

    def restore(self, state: pa.Table) -> tuple[Delta, Codes]:
        """Take over the rows of a snapshot; give them and the codes of their keys."""
        delta = from_state(state, self.schema)
        return delta, self.apply(delta)

    def _with_key(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([*rows.columns, _constant(rows.num_rows)], schema=self._arrangement.schema)

    def _without_key(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        return rows if self._names else pa.RecordBatch.from_arrays(rows.columns[:-1], schema=self.schema)


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


def _constant(length: int) -> pa.Array:
    return pa.repeat(pa.scalar(True), length)
