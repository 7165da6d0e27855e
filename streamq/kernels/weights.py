"""Weights of rows: how often each is added or withdrawn."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex

Weights = NDArray[np.int64]


def consolidate(rows: pa.RecordBatch, weights: Weights | None) -> tuple[pa.RecordBatch, Weights]:
    """Sum up the weights of equal rows (each is where its first one was) and leave out those with 0.

    >>> batch, weights = consolidate(pa.record_batch({"a": [1, 2, 1]}), np.array([1, 1, -1]))
    >>> batch.to_pylist(), weights.tolist()
    ([{'a': 2}], [1])
    """
    index = KeyIndex(rows.schema)
    codes = index.encode(rows.columns)
    sums = np.zeros(index.capacity, np.int64)
    np.add.at(sums, codes, 1 if weights is None else weights)
    first = np.full(index.capacity, -1, np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    kept = sums != 0
    return rows.take(pa.array(first[kept])), sums[kept]
