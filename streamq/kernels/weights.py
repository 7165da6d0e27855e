"""Weights of rows: how often each is added or withdrawn."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.compiled.weights import sum_weights
from streamq.kernels.index import KeyIndex
from streamq.kernels.memory import frozen

Weights = NDArray[np.int64]


def consolidate(rows: pa.RecordBatch, weights: Weights | None) -> tuple[pa.RecordBatch, Weights]:
    """Sum up the weights of equal rows (each is where its first one was) and leave out those with 0. Here -0.0 is not 0.0.

    >>> batch, weights = consolidate(pa.record_batch({"a": [1, 2, 1]}), np.array([1, 1, -1]))
    >>> batch.to_pylist(), weights.tolist()
    ([{'a': 2}], [1])
    """
    if not rows.num_columns:
        raise ValueError("rows have at least one column")
    index = KeyIndex(rows.schema, exact=True)
    codes = frozen(index.encode(rows.columns), np.int64)
    # Codes of a new index are given in the order in which keys come.
    sums, first = np.zeros(index.capacity, np.int64), np.empty(index.capacity, np.int64)
    sum_weights(codes, frozen(np.ones(rows.num_rows) if weights is None else weights, np.int64), sums, first)
    kept = sums != 0
    if len(first) == rows.num_rows and kept.all():
        return rows, sums
    if any(pa.types.is_string_view(kind) or pa.types.is_binary_view(kind) for kind in rows.schema.types):
        # Arrow cannot take views.
        return index.keys(np.flatnonzero(kept)), sums[kept]
    return rows.take(pa.array(first[kept])), sums[kept]
