"""Arrangements: rows kept by key, each as often as it was added."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex

Codes = NDArray[np.int64]
Weights = NDArray[np.int64]
WEIGHT = "#weight"


class Arrangement:
    """A bag of rows, found by the columns `keys`. Different rows have numbers, which are given again when a row is gone."""

    def __init__(self, schema: pa.Schema, keys: Sequence[str]) -> None:
        self.schema = schema
        self.key_schema = pa.schema([schema.field(name) for name in keys])
        self._names = tuple(keys)
        self._index = KeyIndex(self.key_schema)
        self._rows = KeyIndex(schema)
        self._times: dict[int, int] = {}
        self._members: dict[int, dict[int, None]] = {}
        self._key_of: dict[int, int] = {}
        self._emptied: set[int] = set()

    @property
    def num_rows(self) -> int:
        """How many different rows there are."""
        return self._rows.rows

    @property
    def num_keys(self) -> int:
        """How many keys have rows."""
        return sum(1 for members in self._members.values() if members)

    @property
    def bytes(self) -> int:
        """How many bytes keys and rows take."""
        return self._index.bytes + self._rows.bytes + 100 * len(self._times)

    def apply(self, rows: pa.RecordBatch, weights: Weights | None) -> Codes:
        """Add rows (weight > 0) and withdraw rows (< 0); give the code of every row's key.

        What counts is the sum of the weights of equal rows. Codes of keys that have lost their last row stay theirs until the next call.
        """
        self._release_emptied()
        codes = self._index.encode([rows.column(name) for name in self._names])
        numbers = self._rows.encode(rows.columns)
        times = [1] * len(codes) if weights is None else weights.tolist()
        for code, number, weight in zip(codes.tolist(), numbers.tolist(), times, strict=True):
            self._times[number] = self._times.get(number, 0) + weight
            self._key_of[number] = code
            self._members.setdefault(code, {})[number] = None
        for number in dict.fromkeys(numbers.tolist()):
            assert self._times[number] >= 0, "a row was withdrawn that is not there"
            if not self._times[number]:
                self._remove(number)
        return codes

    def find(self, columns: Sequence[pa.Array]) -> Codes:
        """Give the code of every row's key, -1 for keys without rows; columns are those of `keys`."""
        codes = self._index.find(columns)
        return np.array([code if self._members.get(code) else -1 for code in codes.tolist()], dtype=np.int64)

    def rows(self, codes: Codes) -> tuple[pa.RecordBatch, Weights, NDArray[np.int64]]:
        """Give the rows of these keys (-1: none), how often each is there, and the position in `codes` that it is for."""
        pairs = [(number, which) for which, code in enumerate(codes.tolist()) for number in self._members.get(code, ())]
        numbers = np.array([number for number, _ in pairs], dtype=np.int64)
        times = np.array([self._times[number] for number, _ in pairs], dtype=np.int64)
        return self._rows.keys(numbers), times, np.array([which for _, which in pairs], dtype=np.int64)

    def keys(self, codes: Codes) -> pa.RecordBatch:
        """Give the keys of these codes."""
        return self._index.keys(codes)

    def numbers(self) -> NDArray[np.int64]:
        """Give the numbers of all rows."""
        return np.array(sorted(self._times), dtype=np.int64)

    def take(self, numbers: NDArray[np.int64]) -> tuple[pa.RecordBatch, Weights]:
        """Give these rows and how often each is there."""
        return self._rows.keys(numbers), np.array([self._times[number] for number in numbers.tolist()], dtype=np.int64)

    def evict(self, numbers: NDArray[np.int64]) -> None:
        """Forget these rows, each given once."""
        for number in numbers.tolist():
            self._remove(number)
        self._release_emptied()

    def forget(self, codes: Codes) -> None:
        """Forget all rows of these keys."""
        for code in codes.tolist():
            for number in list(self._members.get(code, ())):
                self._remove(number)
        self._release_emptied()

    def snapshot(self) -> pa.Table:
        """Give all rows, with how often each is there in the column "#weight"."""
        rows, times = self.take(self.numbers())
        return pa.Table.from_batches([rows]).append_column(WEIGHT, pa.array(times))

    def restore(self, state: pa.Table) -> None:
        """Take over the rows of a snapshot, or a part of one."""
        table = state.combine_chunks()
        weights = table.column(WEIGHT).to_numpy()
        for batch in table.drop_columns([WEIGHT]).to_batches():
            self.apply(batch, weights)

    def _remove(self, number: int) -> None:
        code = self._key_of.pop(number)
        del self._times[number], self._members[code][number]
        self._rows.release(np.array([number]))
        if not self._members[code]:
            self._emptied.add(code)

    def _release_emptied(self) -> None:
        gone = [code for code in self._emptied if not self._members.get(code)]
        for code in gone:
            self._members.pop(code, None)
        self._index.release(np.array(gone, dtype=np.int64))
        self._emptied.clear()
