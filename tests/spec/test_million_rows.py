"""A million rows, exactly: groups that lie in one partition each, and global aggregates."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import streamq

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
ROWS = 1_000_000
CUSTOMERS = 1_000


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One event loop is enough for what is about amounts."""
    return "asyncio", {}


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor="thread", workers=2, target_partitions=8) as db:
        await db.execute("CREATE SOURCE orders (customer VARCHAR, amount BIGINT) PARTITION BY (customer) WITH (shards = 8)")
        names = pa.array([f"customer {n}" for n in range(CUSTOMERS)]).take(pa.array(np.arange(ROWS) % CUSTOMERS))
        await db.insert("orders", pa.table({"customer": names, "amount": np.arange(ROWS) // CUSTOMERS}))
        await db.execute("CREATE SOURCE trades (price DOUBLE)")
        # Eighths are exact in any order of addition.
        prices = 10.5 + np.arange(ROWS) % 7_000 / 8
        prices[123_456] = 999.75
        await db.insert("trades", pa.table({"price": prices}))
        yield db


async def test_every_customer_is_in_one_partition_and_counted_whole(db: streamq.Database) -> None:
    """Each of 1,000 customers has its 1,000 rows and their sum, all of them in one partition, whichever way they are grouped."""
    placed = await db.fetch("SELECT customer, _partition AS p, count(*) AS c, sum(amount)::BIGINT AS s FROM orders GROUP BY ALL")
    assert Counter(placed["customer"].to_pylist()) == {f"customer {n}": 1 for n in range(CUSTOMERS)}
    assert set(placed["c"].to_pylist()) == {1_000}
    assert set(placed["s"].to_pylist()) == {sum(range(1_000))}
    assert set(placed["p"].to_pylist()) == set(range(8))
    for partitions in (1, 8):
        grouped = await db.fetch("SELECT customer, count(*) AS c, avg(amount) AS a FROM orders GROUP BY customer", partitions=partitions)
        assert (grouped.num_rows, set(grouped["c"].to_pylist()), set(grouped["a"].to_pylist())) == (CUSTOMERS, {1_000}, {499.5})


async def test_global_aggregates_are_exact(db: streamq.Database) -> None:
    """Count, extremes, mean and deviation of a million prices are one row, in one partition and in eight."""
    prices = (await db.fetch("SELECT price FROM trades"))["price"].to_numpy()
    for partitions in (1, 8):
        sql = "SELECT count(*) AS c, min(price) AS low, max(price) AS high, avg(price) AS mean, stddev_pop(price) AS deviation FROM trades"
        (row,) = (await db.fetch(sql, partitions=partitions)).to_pylist()
        assert (row["c"], row["low"], row["high"]) == (ROWS, 10.5, 999.75)
        assert row["mean"] == float(prices.sum()) / ROWS
        assert row["deviation"] == pytest.approx(float(prices.std()), rel=1e-9)
