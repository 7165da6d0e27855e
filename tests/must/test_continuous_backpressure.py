"""A reader of a continuous query that stalls stops what is read for it and nothing else; who waits for it goes on when it does."""

from __future__ import annotations

import gc
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
import pyarrow as pa
import pytest

import streamq
from streamq.execution.host import EPOCH_THREADS, PLANNING_THREADS
from streamq.kernels.session import Session
from tests.must.conftest import BIG_ROWS
from tests.must.watch import PATIENCE_S, resident_bytes
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
SLACK_BYTES = 32 << 20
OTHER = "SELECT count(*) AS c, sum(a) AS s, max(label) AS m FROM big"
FOLLOWERS = 60


@pytest.fixture(scope="module")
async def wide(anyio_backend: object, big: Path) -> AsyncIterator[streamq.Database]:
    """A database over the big file."""
    async with streamq.connect(executor="thread", workers=2) as db:
        await db.register("big", big)
        yield db


@pytest.fixture
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    """A database whose sources may hold two megabytes."""
    async with streamq.connect(executor="thread", workers=2, max_source_bytes=2 << 20) as db:
        yield db


def numbers(first: int, rows: int) -> pa.Table:
    return pa.table({"n": pa.array(range(first, first + rows), pa.int64())})


async def rows_in(stream: streamq.QueryBatchStream, relation: str) -> int:
    """How many rows of a relation the query has read."""
    continuous = (await stream.statistics()).continuous
    assert continuous is not None
    return continuous.rows_in.get(relation, 0)


def open_sessions() -> int:
    """How many instances of DuckDB queries compute in."""
    return sum(isinstance(thing, Session) for thing in gc.get_objects())


async def epochs_of(stream: streamq.QueryBatchStream) -> int:
    continuous = (await stream.statistics()).continuous
    assert continuous is not None
    return continuous.epochs


async def test_memory_is_flat_under_a_stalled_reader(wide: streamq.Database) -> None:
    """While a reader stalls, memory stays within 32 MB of where it was after its first batches, and reading stands still."""
    async with wide.query("SELECT * FROM big EMIT CHANGES", batch_rows=8_192) as stalled:
        for _ in range(16):
            await anext(stalled)
        await wide.fetch(OTHER)
        before = await resident_bytes(wide)
        # Whole scans beside it give the stalled query more than enough turns to run ahead, if it could.
        for _ in range(4):
            await wide.fetch(OTHER)
        assert await resident_bytes(wide) - before <= SLACK_BYTES
        read = await rows_in(stalled, "big")
        await wide.fetch(OTHER)
        assert await rows_in(stalled, "big") == read < BIG_ROWS // 2


async def test_a_reader_that_wakes_gets_the_exact_answer(wide: streamq.Database) -> None:
    """After it stalled, a query over groups goes on to the answer that a snapshot query gives."""
    sql = "SELECT b % 100 AS k, count(*) AS c, sum(a) AS s FROM big GROUP BY 1"
    async with wide.query(f"{sql} EMIT CHANGES") as stream:
        table = pa.schema(list(stream.schema)[:3]).empty_table()
        batches = 0
        async for batch in stream:
            batches += 1
            table = streamq.apply_changes(table, batch, key=stream.key)
            if batches == 3:
                await wide.fetch(OTHER)
    expected = await wide.fetch(sql)
    assert sorted(table.to_pylist(), key=lambda row: row["k"]) == sorted(expected.to_pylist(), key=lambda row: row["k"])


async def test_inserts_wait_for_nobody_without_retention(db: streamq.Database) -> None:
    """Beside a reader that stalls, inserts return until the source is full; then the error says what to do."""
    await db.execute("CREATE SOURCE s (n BIGINT)")
    async with db.query("SELECT n FROM s EMIT CHANGES", epoch_rows=1) as stalled:
        await stalled.start()
        rows = 0
        with anyio.fail_after(PATIENCE_S), pytest.raises(streamq.ResourceLimit) as raised:
            while True:
                await db.insert("s", numbers(rows, 20_000))
                rows += 20_000
        assert all(words in str(raised.value) for words in ("max_source_bytes", "retention_rows"))
        assert (await db.fetch("SELECT count(*) AS c FROM s"))["c"].to_pylist() == [rows] != [0]


@pytest.mark.parametrize("reads_on", [True, False], ids=["reads on", "is closed"])
async def test_an_insert_waits_for_what_a_query_still_needs(db: streamq.Database, reads_on: bool) -> None:
    """With a retention, an insert that would drop what a reader has not read waits until that reads on, or is closed."""
    await db.execute("CREATE SOURCE s (n BIGINT) WITH (retention_rows = 100)")
    inserted: list[int] = []

    async def insert() -> None:
        for first in range(0, 1_000, 50):
            await db.insert("s", numbers(first, 50))
            inserted.append(first)

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            stream = db.query("SELECT n FROM s EMIT CHANGES", epoch_rows=10)
            await stream.start()
            tasks.start_soon(insert)
            while not inserted:
                await pause()
            for _ in range(20):
                await db.fetch("SELECT count(*) FROM s")
            assert len(inserted) < 20
            seen: list[int] = []
            if reads_on:
                while len(seen) < 1_000:
                    seen += (await anext(stream)).column("n").to_pylist()
            await stream.aclose()
    assert len(inserted) == 20
    assert sorted(seen) == (list(range(1_000)) if reads_on else [])


async def test_many_queries_all_progress(db: streamq.Database) -> None:
    """Ten continuous queries over a source that is written to, and snapshot queries between, all get everything."""
    await db.execute("CREATE SOURCE s (n BIGINT)")
    totals: dict[int, int] = {}

    async def follow(number: int) -> None:
        async with db.query(f"SELECT n % {number + 2} AS k, sum(n)::BIGINT AS s FROM s GROUP BY 1 EMIT CHANGES") as stream:
            await stream.start()
            table = pa.schema(list(stream.schema)[:2]).empty_table()
            async for batch in stream:
                table = streamq.apply_changes(table, batch, key=stream.key)
        totals[number] = sum(table["s"].to_pylist())

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(follow, number)
            for first in range(0, 10_000, 2_000):
                await db.insert("s", numbers(first, 2_000))
                assert (await db.fetch("SELECT count(*) AS c FROM s"))["c"].to_pylist() == [first + 2_000]
            await db.finish("s")
    assert totals == dict.fromkeys(range(10), sum(range(10_000)))


async def test_idle_followers_share_what_computes(db: streamq.Database) -> None:
    """Followers have no DuckDB of their own: one is there for all. Nor have they threads: those that compute epochs are few."""
    await db.execute("CREATE SOURCE s (k BIGINT, t BIGINT)")
    await db.insert("s", pa.table({"k": [1], "t": [2]}))
    sessions, threads = open_sessions(), threading.active_count()
    async with AsyncExitStack() as stack:
        for sql in ["SELECT k, t FROM s", "SELECT k, count(*) AS c FROM s GROUP BY k HAVING max(t) % 3 > 1"] * 30:
            await anext(await stack.enter_async_context(db.query(f"{sql} EMIT CHANGES")))
        assert open_sessions() <= sessions + 1
        assert threading.active_count() <= threads + EPOCH_THREADS + PLANNING_THREADS


async def test_idle_followers_have_no_task(db: streamq.Database) -> None:
    """A query for which nothing comes is woken by what comes, by its reader's end and by who cancels it, and needs no task till then."""
    await db.execute("CREATE SOURCE s (n BIGINT)")
    tasks = len(anyio.get_running_tasks())
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(db.query("SELECT n FROM s EMIT CHANGES")) for _ in range(10)]
        for row in range(2):
            await db.insert("s", numbers(row, 1))
            assert [(await anext(stream))["n"].to_pylist() for stream in streams] == [[row]] * len(streams)
            with anyio.fail_after(PATIENCE_S):
                while len(anyio.get_running_tasks()) > tasks:
                    await pause()
        assert await db.cancel(streams[0].query_id)
        with pytest.raises(streamq.QueryCancelled):
            await anext(streams[0])
        await streams[1].aclose()
        assert len(await db.queries()) == len(streams) - 2
        assert all([(await stream.statistics()).waited.source_s > 0 for stream in streams])
    assert not await db.queries()


async def test_idle_followers_do_nothing(db: streamq.Database) -> None:
    """Sixty queries whose source gets nothing compute no epoch while others work; then each gets the row that comes."""
    await db.execute("CREATE SOURCE quiet (n BIGINT)")
    await db.execute("CREATE SOURCE busy (n BIGINT)")
    streams = [db.query("SELECT n FROM quiet EMIT CHANGES") for _ in range(FOLLOWERS)]
    try:
        for stream in streams:
            await stream.start()
        for first in range(3):
            await db.insert("busy", numbers(first, 1))
        for stream in streams:
            with anyio.fail_after(PATIENCE_S):
                while not await epochs_of(stream):
                    await pause()
        for first in range(20):
            await db.insert("busy", numbers(first, 1))
        assert [await epochs_of(stream) for stream in streams] == [1] * FOLLOWERS
        await db.insert("quiet", numbers(7, 1))
        with anyio.fail_after(PATIENCE_S):
            assert [(await anext(stream))["n"].to_pylist() for stream in streams] == [[7]] * FOLLOWERS
    finally:
        for stream in streams:
            await stream.aclose()
