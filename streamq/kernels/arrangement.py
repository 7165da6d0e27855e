"""Arrangements: rows kept by key, each as often as it was added."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.compiled import arrangement as loops
from streamq.kernels.compiled.index import gather
from streamq.kernels.index import KeyIndex
from streamq.kernels.memory import Records, frozen
from streamq.plan.dataflow import WEIGHT

Codes = NDArray[np.int64]
Numbers = NDArray[np.int64]
Weights = NDArray[np.int64]

_NOTHING: Final = frozen(np.zeros(0, np.int64), np.int64)
_NO_KEY: Final = pa.schema([pa.field("all", pa.bool_())])


class Arrangement:
    """A bag of rows, found by the columns `keys` (none: all rows are under code 0).

    Equal rows are one row that is there several times. Rows have numbers, which are given again when a row is gone, as codes of keys are.
    Rows come back exactly as they went in: here -0.0 is not 0.0.
    """

    def __init__(self, schema: pa.Schema, keys: Sequence[str]) -> None:
        self.schema = schema
        self.key_schema = pa.schema([schema.field(name) for name in keys])
        self._names = tuple(keys)
        self._index = KeyIndex(self.key_schema if keys else _NO_KEY)
        self._rows = KeyIndex(schema, exact=True)
        self._lists = Records(loops.ROW_WIDTH)
        self._firsts = Records(loops.KEY_WIDTH)
        self._emptied: list[Codes] = []

    @property
    def num_rows(self) -> int:
        """How many different rows there are."""
        return self._rows.rows

    @property
    def capacity(self) -> int:
        """All codes of keys are below."""
        return self._index.capacity

    @property
    def bytes(self) -> int:
        """How many bytes keys and rows take."""
        lists = self._rows.capacity * loops.ROW_WIDTH + self._index.capacity * loops.KEY_WIDTH
        return self._index.bytes + self._rows.bytes + 8 * lists

    def apply(self, rows: pa.RecordBatch, weights: Weights | None) -> Codes:
        """Add rows (weight > 0) and withdraw rows (< 0); give the code of every row's key.

        What counts is the sum of the weights of equal rows. Codes of keys that have lost their last row stay theirs until the next call.
        """
        self._release_emptied()
        codes = frozen(self._index.encode(self._key_columns(rows)), np.int64)
        numbers = frozen(self._rows.encode(rows.columns), np.int64)
        self._lists.reserve(self._rows.capacity)
        self._firsts.reserve(self._index.capacity)
        times = _NOTHING if weights is None else frozen(weights, np.int64)
        loops.add_rows(codes, numbers, times, self._lists.chunks, self._firsts.chunks)
        if weights is not None and len(weights) and weights.min() < 0:
            self._drop(numbers, every=False)
        return codes

    def find(self, columns: Sequence[pa.Array]) -> Codes:
        """Give the code of every row's key, -1 for keys without rows; columns are those of `keys` (none: one code)."""
        codes = self._index.find(columns if self._names else [pa.array([True])])
        return np.where(self._counts(codes) > 0, codes, -1)

    def rows(self, codes: Codes) -> tuple[pa.RecordBatch, Weights, NDArray[np.int64]]:
        """Give the rows of these keys (-1: none), how often each is there, and the position in `codes` that it is for."""
        numbers, which = self.lookup(codes)
        rows, times = self.take(numbers)
        return rows, times, which

    def lookup(self, codes: Codes) -> tuple[Numbers, NDArray[np.int64]]:
        """Give the numbers of the rows of these keys (-1: none), and the positions in `codes` that they are for."""
        count = int(self._counts(codes).sum())
        numbers, which = np.empty(count, np.int64), np.empty(count, np.int64)
        loops.list_rows(frozen(codes, np.int64), self._lists.chunks, self._firsts.chunks, numbers, which)
        return numbers, which

    def take(self, numbers: Numbers) -> tuple[pa.RecordBatch, Weights]:
        """Give these rows and how often each is there."""
        times = np.empty((1, len(numbers)), np.int64)
        gather(frozen(numbers, np.int64), self._lists.chunks, loops.ROW_WIDTH, 0, times)
        return self._rows.keys(numbers), times[0]

    def times(self, rows: pa.RecordBatch) -> Weights:
        """Give how often each of these rows is there."""
        numbers = self._rows.find(rows.columns)
        known = numbers >= 0
        times = np.zeros(len(numbers), np.int64)
        times[known] = self.take(numbers[known])[1]
        return times

    def keys(self, codes: Codes) -> pa.RecordBatch:
        """Give the keys of these codes."""
        return self._index.keys(codes)

    def numbers(self) -> Numbers:
        """Give the numbers of all rows."""
        numbers = np.empty(self.num_rows, np.int64)
        loops.live_rows(self._rows.capacity, self._lists.chunks, numbers)
        return numbers

    def evict(self, numbers: Numbers) -> None:
        """Forget these rows, each given once."""
        self._drop(frozen(numbers, np.int64), every=True)
        self._release_emptied()

    def forget(self, codes: Codes) -> None:
        """Forget all rows of these keys, each given once (-1: none)."""
        self.evict(self.lookup(codes)[0])

    def snapshot(self) -> pa.Table:
        """Give all rows, with how often each is there in the column "#weight"."""
        rows, times = self.take(self.numbers())
        return pa.Table.from_batches([rows]).append_column(pa.field(WEIGHT, pa.int64()), pa.array(times))

    def restore(self, state: pa.Table) -> None:
        """Take over the rows of a snapshot, or a part of one."""
        for batch in state.to_batches():
            self.apply(batch.drop_columns([WEIGHT]), batch.column(WEIGHT).to_numpy())

    def _key_columns(self, rows: pa.RecordBatch) -> list[pa.Array]:
        if self._names:
            return [rows.column(name) for name in self._names]
        return [pa.array(np.ones(rows.num_rows, np.bool_))]

    def _counts(self, codes: Codes) -> NDArray[np.int64]:
        counts = np.empty(len(codes), np.int64)
        loops.count_rows(frozen(codes, np.int64), self._firsts.chunks, counts)
        return counts

    def _drop(self, numbers: Numbers, *, every: bool) -> None:
        gone, emptied = np.empty(len(numbers), np.int64), np.empty(len(numbers), np.int64)
        dropped, empty = loops.drop_rows(numbers, every, self._lists.chunks, self._firsts.chunks, gone, emptied)
        assert dropped >= 0, "a row was withdrawn that is not there"
        self._rows.release(gone[:dropped])
        if empty:
            self._emptied.append(emptied[:empty])

    def _release_emptied(self) -> None:
        for noted in self._emptied:
            codes = np.empty(len(noted), np.int64)
            count = loops.still_empty(frozen(noted, np.int64), self._firsts.chunks, codes)
            self._index.release(codes[:count])
        self._emptied.clear()
