"""Which partition owns a key: the routing hash of `streamq.kernels.routing`, compiled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.compiled import routing as loops
from streamq.kernels.flat import BytesCodec
from streamq.kernels.layout import Layout
from streamq.kernels.memory import frozen
from streamq.kernels.routing import NULL_HASH, TAGS, Hashes, plain_column, values_of

BUCKETS: Final = 256
"""Into how many parts state is cut by key; a partition owns a range of them."""


def owners(columns: Sequence[pa.Array | pa.ChunkedArray], partitions: int) -> NDArray[np.int64]:
    """Give the partition (0 ≤ partition < `partitions` ≤ `BUCKETS`) that owns the bucket of every row with these key columns.

    Raises:
        TypeError: a column's type is not `routable`.
    """
    if not len(columns):
        raise TypeError("rows are routed by at least one column")
    result = np.empty(len(columns[0]), np.uint64)
    for number, column in enumerate(columns):
        loops.combine(frozen(_hashes(column), np.uint64), number == 0, result)
    owner = np.empty(len(result), np.int64)
    loops.owners_of(frozen(result, np.uint64), BUCKETS, partitions, owner)
    return owner


def _hashes(column: pa.Array | pa.ChunkedArray) -> Hashes:
    array, family = plain_column(column)
    if family == "null":
        return np.full(len(array), NULL_HASH, dtype=np.uint64)
    hashes: Hashes = np.empty(len(array), np.uint64)
    tag = int(TAGS[family].view(np.int64))
    if family in ("text", "binary"):
        layout = Layout(len(array))
        BytesCodec(array.type).encode(array, None, layout)
        part = layout.parts[0]
        loops.hash_pieces(part.address, frozen(part.starts, np.int64), frozen(part.lengths, np.int64), tag, hashes)
    else:
        loops.hash_values(frozen(values_of(array, family), np.uint64), tag, hashes)
    if array.null_count:
        hashes[array.is_null().to_numpy(zero_copy_only=False)] = NULL_HASH
    return hashes
