"""Which partition owns a key."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.owners import BUCKETS, owners
from streamq.kernels.routing import routable, routing_hash
from tests.kernels.values import batches


@given(batches(), st.integers(1, 8))
def test_a_bucket_has_one_owner(case: tuple[pa.Schema, list[list[pa.Array]]], partitions: int) -> None:
    """Rows of a bucket, and so of a key, belong to one partition, and partitions own ranges of buckets."""
    schema, columns = case
    if not all(routable(kind) for kind in schema.types):
        return
    for batch in columns:
        buckets = (routing_hash(batch) % np.uint64(BUCKETS)).astype(np.int64)
        assert owners(batch, partitions).tolist() == (buckets * partitions // BUCKETS).tolist()


@pytest.mark.parametrize("partitions", [1, 2, 3, 8])
def test_partitions_own_about_equal_shares(partitions: int) -> None:
    """No partition has much more than its share of keys."""
    counts = np.bincount(owners([pa.array(np.arange(50_000))], partitions), minlength=partitions)
    assert counts.max() < 1.2 * 50_000 / partitions
