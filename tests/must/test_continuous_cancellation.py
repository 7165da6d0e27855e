"""However a continuous query is let go, nothing of it is left, and the database goes on."""

from __future__ import annotations

import gc
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pyarrow as pa
import pytest
from anyio.lowlevel import checkpoint

import streamq
from tests.must.watch import PATIENCE_S, CancelAtStep, descriptors, files_below, open_jobs, wait_until_idle

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
ROWS = 600
QUERIES = {
    "groups": "SELECT n % 50 AS k, count(*) AS c, max(word) AS w FROM {0} GROUP BY 1 EMIT CHANGES",
    "top": "SELECT n, word FROM {0} ORDER BY word DESC LIMIT 5 EMIT CHANGES",
    "join": "SELECT a.n, b.word FROM {0} a JOIN {0} b ON a.n = b.n * 2 EMIT CHANGES",
}
every_query = pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES.keys())
LetGo = Callable[[streamq.Database, streamq.QueryBatchStream], Awaitable[None]]


@pytest.fixture(scope="module")
async def live(anyio_backend: object, scratch: Path) -> AsyncIterator[streamq.Database]:
    """A database with the source `live`, which goes on, and `done`, which has ended."""
    rows = pa.table({"n": pa.array(range(ROWS), pa.int64()), "word": [f"word {n}" for n in range(ROWS)]})
    async with streamq.connect(executor="thread", workers=2, target_partitions=3, temp_dir=str(scratch)) as db:
        for name in ("live", "done"):
            await db.execute(f"CREATE SOURCE {name} (n BIGINT, word VARCHAR)")
            await db.insert(name, rows)
        await db.finish("done")
        await read_all(db, QUERIES["groups"].format("done"))
        yield db


@pytest.fixture(autouse=True)
async def nothing_is_left(live: streamq.Database, scratch: Path) -> AsyncIterator[None]:
    """Check after each test that the query holds no file or descriptor, and that the next one is answered."""
    before = await descriptors(live)
    yield
    await wait_until_idle(live)
    assert files_below(scratch) == []
    assert await descriptors(live) <= before
    assert (await live.statistics()).running == 0
    await read_all(live, QUERIES["groups"].format("done"))


async def read_all(db: streamq.Database, sql: str) -> None:
    """Read a query that ends from its start to its end."""
    async with db.query(sql, epoch_rows=ROWS // 3, batch_rows=200) as stream:
        async for _ in stream:
            pass


async def read_on(stream: streamq.QueryBatchStream) -> None:
    """Read until somebody ends it."""
    while True:
        await anext(stream)


@every_query
async def test_break_leaves_nothing(live: streamq.Database, sql: str) -> None:
    """Leaving the block after the first batch ends the query before the block is left."""
    async with live.query(sql.format("live"), epoch_rows=100) as stream:
        async for _ in stream:
            break
    assert (await live.queries(), await open_jobs(live)) == ((), 0)


@every_query
async def test_exception_leaves_nothing(live: streamq.Database, sql: str) -> None:
    """The user's exception leaves the block as itself, after the query has ended."""
    with pytest.raises(KeyError, match="mine"):
        async with live.query(sql.format("live"), epoch_rows=100) as stream:
            await anext(stream)
            raise KeyError("mine")
    assert (await live.queries(), await open_jobs(live)) == ((), 0)


@every_query
async def test_timeout_leaves_nothing(live: streamq.Database, sql: str) -> None:
    """A query that waits for rows ends at its deadline with QueryTimeout."""
    stream = live.query(sql.format("live"), timeout=0.2)
    with pytest.raises(streamq.QueryTimeout):
        await read_on(stream)
    assert (await live.queries(), await open_jobs(live)) == ((), 0)


async def cancel_by_id(db: streamq.Database, stream: streamq.QueryBatchStream) -> None:
    assert await db.cancel(stream.query_id)


async def cancel_stream(db: streamq.Database, stream: streamq.QueryBatchStream) -> None:
    await stream.cancel()


async def close_stream(db: streamq.Database, stream: streamq.QueryBatchStream) -> None:
    await stream.aclose()


@every_query
@pytest.mark.parametrize("let_go", [cancel_by_id, cancel_stream, close_stream], ids=["cancel by id", "cancel", "aclose"])
async def test_letting_go_returns_when_nothing_is_left(live: streamq.Database, sql: str, let_go: LetGo) -> None:
    """`cancel()` and `aclose()` of a detached stream return after its work has ended."""
    stream = live.query(sql.format("live"), epoch_rows=100)
    await anext(stream)
    await let_go(live, stream)
    assert (await live.queries(), await open_jobs(live)) == ((), 0)
    with pytest.raises((streamq.QueryCancelled, streamq.StreamClosed)):
        await read_on(stream)


@every_query
async def test_a_reader_that_waits_is_told_of_a_cancel(live: streamq.Database, sql: str) -> None:
    """Who waits for the next change gets QueryCancelled when another cancels the query."""
    stream = live.query(sql.format("live"))
    await stream.start()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(live.cancel, stream.query_id)
            with pytest.raises(streamq.QueryCancelled):
                await read_on(stream)
    assert (await live.queries(), await open_jobs(live)) == ((), 0)


@every_query
async def test_dropped_reference_leaves_nothing(live: streamq.Database, sql: str) -> None:
    """A detached stream that nobody holds any more is aborted."""
    stream = live.query(sql.format("live"), epoch_rows=100)
    await anext(stream)
    del stream
    gc.collect()
    await wait_until_idle(live)


@every_query
async def test_cancel_at_every_step_of_the_reader(live: streamq.Database, sql: str) -> None:
    """Cancelled when it waits for the k-th time, for k = 1, 2, … until it completes, a query leaves nothing."""
    for step in itertools.count(1):
        with anyio.CancelScope() as scope:
            await CancelAtStep(read_all(live, sql.format("done")), scope, step)
        assert (await live.queries(), await open_jobs(live)) == ((), 0), f"after a cancel at step {step}"
        if not scope.cancelled_caught:
            break
    assert step > 2


@every_query
async def test_cancel_after_any_round_of_the_loop(live: streamq.Database, sql: str) -> None:
    """Cancelled after k rounds of the event loop, wherever the query's own tasks then are, it leaves nothing."""
    rounds = 0
    while not await _completed_beside_canceller(live, sql.format("done"), rounds):
        assert (await live.queries(), await open_jobs(live)) == ((), 0), f"after a cancel in round {rounds}"
        rounds += 1 + rounds // 2


async def _completed_beside_canceller(db: streamq.Database, sql: str, rounds: int) -> bool:
    """Read, and be cancelled after so many rounds; tell whether the query completed before."""
    completed = False

    async def cancel_later() -> None:
        for _ in range(rounds):
            await checkpoint()
            if completed:
                return
        reader.cancel()

    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as reader:
            tasks.start_soon(cancel_later)
            await read_all(db, sql)
            completed = True
    return completed
