"""What continuous queries keep: how much it is said to be, what bounds it, when it is gone."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator

import anyio
import numpy as np
import psutil
import pyarrow as pa
import pytest

import streamq
from streamq.execution.statistics import ContinuousStatistics

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns, pytest.mark.usefixtures("no_residue")]
T0 = np.datetime64("2024-01-01", "us")
KEYS = 300_000


@pytest.fixture
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor="thread", workers=1, target_partitions=2) as db:
        await db.execute("CREATE SOURCE orders (id BIGINT, shop VARCHAR)")
        await db.execute("CREATE SOURCE payments (id BIGINT, paid BIGINT)")
        await db.execute("CREATE SOURCE clicks (ts TIMESTAMP, page BIGINT, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)")
        yield db


def orders(count: int) -> pa.Table:
    return pa.table({"id": pa.array(np.arange(count)), "shop": [f"the shop with number {n}" for n in range(count)]})


async def statistics(stream: streamq.QueryBatchStream) -> ContinuousStatistics:
    continuous = (await stream.statistics()).continuous
    assert continuous is not None
    return continuous


async def read_rows(stream: streamq.QueryBatchStream, rows: int) -> None:
    with anyio.fail_after(60):
        while rows > 0:
            rows -= (await anext(stream)).num_rows


# Too much


@pytest.mark.parametrize(
    ("sql", "operator"),
    [
        ("SELECT o.id, paid FROM orders o JOIN payments p ON o.id = p.id", "query/join2/join"),
        ("SELECT o.id, paid FROM orders o LEFT JOIN payments p ON o.id = p.id", "query/join2/join"),
        ("SELECT shop, count(*) AS n FROM orders GROUP BY shop", "query/aggregate"),
        ("SELECT DISTINCT shop FROM orders", "query/distinct"),
        ("SELECT shop, max(upper(shop)) AS m FROM orders GROUP BY shop", "query/aggregate"),
    ],
)
async def test_the_operator_that_keeps_too_much_is_named(db: streamq.Database, sql: str, operator: str) -> None:
    """With `max_state_bytes` the query ends, and says which operator keeps how much for how many rows."""
    await db.insert("orders", orders(5_000))
    with pytest.raises(
        streamq.ResourceLimit, match=rf"max_state_bytes allows \(200,000\): {operator} has [0-9,]+ of them for (5|10),000 rows"
    ):
        async with db.query(f"{sql} EMIT CHANGES WITH (max_state_bytes = 200000)", progress=True) as stream:
            await read_rows(stream, 1 << 30)


async def test_enough_is_not_too_much(db: streamq.Database) -> None:
    """A query that stays below its bound goes on."""
    await db.insert("orders", orders(100))
    async with db.query("SELECT shop, count(*) AS n FROM orders GROUP BY shop EMIT CHANGES WITH (max_state_bytes = 10000000)") as stream:
        await read_rows(stream, 100)


# How much


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT id, count(*) AS n, max(id) AS m FROM orders GROUP BY id",
        "SELECT shop, count(*) AS n FROM orders GROUP BY shop",
        "SELECT DISTINCT id, shop FROM orders",
        "SELECT o.id, shop, paid FROM orders o JOIN payments p ON o.id = p.id",
    ],
)
async def test_what_is_said_to_be_kept_is_what_memory_grows_by(db: streamq.Database, sql: str) -> None:
    """The process takes at most twice the bytes that the state is said to have, and these are at least those of its keys.

    Memory that is used again does not show, so the process may seem to take less.
    """
    await db.insert("orders", orders(2 * KEYS))
    process = psutil.Process()
    async with db.query(f"{sql} EMIT CHANGES", progress=True, epoch_rows=20_000) as stream:
        sizes: list[tuple[int, int]] = []
        for epochs in (2, KEYS // 20_000):
            for _ in range(epochs):
                with anyio.fail_after(60):
                    while not (await anext(stream), stream.progress.epoch_complete)[1]:
                        pass
            gc.collect()
            pa.default_memory_pool().release_unused()
            kept = sum(operator.state_bytes for operator in (await statistics(stream)).operators)
            sizes.append((kept, process.memory_info().rss))
    (kept_before, used_before), (kept, used) = sizes
    assert used - used_before < 2 * (kept - kept_before)
    assert kept > 8 * KEYS


# When it is gone


def clicks(minute: int) -> pa.Table:
    times = T0 + np.timedelta64(minute, "m") + (np.arange(600) % 60).astype("m8[s]")
    return pa.table({"ts": pa.array(times), "page": pa.array(np.arange(600) + 1_000 * minute)})


CLOSING = (
    "SELECT window_start, page, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY ALL",
    "SELECT window_start, page, count(*) AS n FROM HOP(clicks, ts, INTERVAL '1' MINUTE, INTERVAL '2' MINUTE) GROUP BY ALL",
    "SELECT window_start, page, string_agg(page, ',' ORDER BY page) AS p FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY ALL",
    "SELECT DISTINCT window_start, page FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE)",
    "SELECT page, count(*) AS n FROM clicks GROUP BY page, SESSION(ts, INTERVAL '5' SECOND)",
)
JOINED = "SELECT a.page FROM clicks a JOIN clicks b ON a.page = b.page AND b.ts BETWEEN a.ts - INTERVAL '5' SECOND AND a.ts"


# Rows of an interval join are looked through once there are a thousand more of them.
@pytest.mark.parametrize(("sql", "minutes", "open_minutes"), [*((sql, 24, 3) for sql in CLOSING), (JOINED, 45, 8)])
@pytest.mark.parametrize("emit", ["CHANGES", "FINAL"])
async def test_closed_windows_are_gone(db: streamq.Database, sql: str, minutes: int, open_minutes: int, emit: str) -> None:
    """However long the stream, what is kept is that of the windows that are open; at its end nothing is."""
    rows: list[int] = []
    sizes: list[int] = []
    async with db.query(f"{sql} EMIT {emit}", progress=True) as stream:
        for minute in range(minutes):
            await db.insert("clicks", clicks(minute))
            with anyio.fail_after(60):
                while stream.progress.positions.get("clicks", 0) < 600 * (minute + 1) or not stream.progress.epoch_complete:
                    await anext(stream)
            operators = (await statistics(stream)).operators
            rows.append(sum(operator.state_rows for operator in operators))
            sizes.append(sum(operator.state_bytes for operator in operators))
        await db.finish("clicks")
        with anyio.fail_after(60):
            await stream.read_all()
        assert sum(operator.state_rows for operator in (await statistics(stream)).operators) == 0
    assert max(rows) <= 600 * open_minutes
    grown = 2 * minutes // 3
    assert max(sizes[grown:]) <= 1.1 * max(sizes[:grown])


# Forgotten


async def test_explain_says_what_is_forgotten(db: streamq.Database) -> None:
    """State by key from sources goes; where there is no key it stays, and EXPLAIN says so."""
    await db.execute("CREATE TABLE shops (shop VARCHAR PRIMARY KEY, city VARCHAR)")
    ttl = "EMIT CHANGES WITH (state_ttl = 1h)"
    text = await db.explain(f"SELECT city, count(*) AS n FROM orders o JOIN shops s ON o.shop = s.shop GROUP BY city {ttl}")
    assert "freed: after nothing has touched it for 3600 s (state_ttl); rows of tables and views stay" in " ".join(text.split())
    text = await db.explain(f"SELECT id FROM orders WHERE id > (SELECT avg(id) FROM orders) {ttl}")
    assert "freed: never: it grows with the input, which state_ttl does not bound" in " ".join(text.split())


async def test_a_query_with_a_ttl_answers_as_long_as_it_forgets_nothing(db: streamq.Database) -> None:
    """What is touched often enough is as it would be without."""
    await db.insert("orders", orders(10))
    sql = "SELECT o.id % 2 AS k, count(p.paid) AS n FROM orders o LEFT JOIN payments p ON o.id = p.id GROUP BY 1"
    async with db.query(f"{sql} EMIT CHANGES WITH (state_ttl = 1h)") as stream:
        await read_rows(stream, 2)
        await db.insert("payments", [{"id": n, "paid": 1} for n in range(5)])
        with anyio.fail_after(20):
            batch = await anext(stream)
        assert sorted(batch.to_pylist(), key=str) == [{"k": 0, "n": 3, "_op": "update"}, {"k": 1, "n": 2, "_op": "update"}]
