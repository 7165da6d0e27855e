"""How many matches each row of a join's outer side has."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex
from streamq.operators.bag import grown
from streamq.operators.base import Delta, Weights
from streamq.operators.closing import Deadlines
from streamq.operators.deltas import weights_of
from streamq.plan.dataflow import WEIGHT

MATCHES = "#matches"


class Matches:
    """Counts, by different row of a side, the rows of the other side that match it. Changes of it are changes of two bags: of the rows
    with a match, and of those without one. Both are given with weights, as pairs `(matched, unmatched)`.
    """

    def __init__(self, schema: pa.Schema, owner: str) -> None:
        self._owner = owner
        self._index = KeyIndex(schema, exact=True)
        self._times = np.zeros(0, np.int64)
        self._count = np.zeros(0, np.int64)
        self._deadlines = Deadlines()

    @property
    def num_rows(self) -> int:
        return self._index.rows

    @property
    def bytes(self) -> int:
        return self._index.bytes + self._times.nbytes + self._count.nbytes + self._deadlines.bytes

    def come(self, delta: Delta, counts: Weights, moments: NDArray[np.int64] | None) -> tuple[Delta, Delta]:
        """Add and withdraw rows of this side, each with how many matches it has, and when none can come any more."""
        codes = self._index.encode(delta.rows.columns)
        self._times, self._count = (grown(values, self._index.capacity) for values in (self._times, self._count))
        np.add.at(self._times, codes, weights_of(delta))
        self._count[codes] = counts
        touched = np.unique(codes)
        assert bool((self._times[touched] >= 0).all()), f"{self._owner}: a row was withdrawn that is not there"
        if moments is not None:
            self._deadlines.set(codes, moments)
        self._release(touched[self._times[touched] == 0])
        return _parts(delta.rows, weights_of(delta), counts > 0)

    def met(self, rows: pa.RecordBatch, weights: Weights) -> tuple[Delta, Delta]:
        """Take over that the other side has so many more matches for rows of this one, which may occur several times."""
        codes = self._index.find(rows.columns)
        codes, weights = codes[codes >= 0], weights[codes >= 0]
        touched = np.unique(codes)
        before = self._count[touched] > 0
        np.add.at(self._count, codes, weights)
        after = self._count[touched] > 0
        assert bool((self._count[touched] >= 0).all()), f"{self._owner}: a match was withdrawn that is not there"
        changed = touched[before != after]
        return _parts(self._index.keys(changed), self._times[changed], self._count[changed] > 0, both=True)

    def due(self, horizon: int | None) -> Delta:
        """Forget the rows for which no match can come any more; give those that have none."""
        codes = self._deadlines.take(horizon)
        lonely = codes[self._count[codes] == 0]
        result = Delta(self._index.keys(lonely), self._times[lonely])
        self._release(codes)
        return result

    def forget(self, rows: pa.RecordBatch) -> None:
        """Forget rows, each given once, whether they are here or not."""
        codes = self._index.find(rows.columns)
        self._release(codes[codes >= 0])

    def snapshot(self) -> pa.Table:
        codes = np.flatnonzero(self._times)
        columns = {WEIGHT: pa.array(self._times[codes]), MATCHES: pa.array(self._count[codes])}
        table = pa.Table.from_batches([self._index.keys(codes)])
        for name, column in columns.items():
            table = table.append_column(name, column)
        return table

    def _release(self, codes: NDArray[np.int64]) -> None:
        self._deadlines.unset(codes)
        self._times[codes] = self._count[codes] = 0
        self._index.release(codes)


def _parts(rows: pa.RecordBatch, weights: Weights, matched: NDArray[np.bool_], *, both: bool = False) -> tuple[Delta, Delta]:
    """Give the rows that have matches, and those that have none; with `both`, each leaves the one bag for the other."""
    if both:
        signs = np.where(matched, 1, -1)
        return Delta(rows, weights * signs), Delta(rows, -weights * signs)
    return (
        Delta(rows.filter(pa.array(matched)), weights[matched]),
        Delta(rows.filter(pa.array(~matched)), weights[~matched]),
    )
