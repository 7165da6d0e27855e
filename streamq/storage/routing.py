"""Which shard of a relation a row with a key belongs to, by the routing hash."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.routing import ROUTING_VERSION, routable, routing_hash

__all__ = ["ROUTING_VERSION", "routable", "route", "routing_hash"]


def route(columns: Sequence[pa.Array | pa.ChunkedArray], parts: int) -> NDArray[np.int64]:
    """Give the part (0 ≤ part < `parts`) of every row with these key columns."""
    return (routing_hash(columns) % np.uint64(parts)).astype(np.int64)
