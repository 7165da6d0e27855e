"""However a query is let go, nothing of it is left, and the database goes on."""

from __future__ import annotations

import gc
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

import streamq
from tests.must.conftest import FEW_ROWS, ROWS
from tests.must.watch import PATIENCE_S, CancelAtStep, descriptors, files_below, open_jobs, wait_until_idle

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
QUERIES = {
    "scan": "SELECT * FROM numbers",
    "aggregate": "SELECT n % 5000 AS k, count(*) AS c, min(word) AS w FROM numbers GROUP BY 1",
    "sort": "SELECT word, n FROM numbers ORDER BY word DESC",
    "join": "SELECT a.n, b.word FROM numbers a JOIN numbers b ON a.n = b.n * 2",
    "window": "SELECT n, row_number() OVER (PARTITION BY n % 7 ORDER BY n DESC) AS r FROM numbers",
}
COUNT = "SELECT count(*) AS c FROM numbers"
every_query = pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES.keys())
LetGo = Callable[[streamq.Database, streamq.QueryBatchStream], Awaitable[None]]


@pytest.fixture(scope="module")
async def held(db: streamq.Database) -> int:
    """The descriptors that the database holds once its workers have answered."""
    assert (await db.fetch(COUNT))["c"].to_pylist() == [ROWS]
    return await descriptors(db)


@pytest.fixture(autouse=True)
async def nothing_is_left(db: streamq.Database, held: int, scratch: Path) -> AsyncIterator[None]:
    """Check after each test that the query holds no job, file or descriptor, and that the next one is answered."""
    yield
    await wait_until_idle(db)
    assert files_below(scratch) == []
    assert await descriptors(db) <= held
    assert (await db.fetch(COUNT))["c"].to_pylist() == [ROWS]


def over_few(sql: str) -> str:
    """Put the small relation into a query: it has few checkpoints, so that each of them can have its turn."""
    return sql.replace("numbers", "few")


async def read_some(db: streamq.Database, sql: str) -> None:
    """Run a query from its start to its end."""
    async with db.query(sql, batch_rows=FEW_ROWS // 3) as stream:
        async for _ in stream:
            pass


@every_query
async def test_break_leaves_nothing(db: streamq.Database, sql: str) -> None:
    """Leaving the block after the first batch ends the query before the block is left."""
    async with db.query(sql, batch_rows=1_000) as stream:
        async for _ in stream:
            break
    assert (await db.queries(), await open_jobs(db)) == ((), 0)


@every_query
async def test_exception_leaves_nothing(db: streamq.Database, sql: str) -> None:
    """The user's exception leaves the block as itself, after the query has ended."""
    with pytest.raises(KeyError, match="mine"):
        async with db.query(sql, batch_rows=1_000) as stream:
            await anext(stream)
            raise KeyError("mine")
    assert (await db.queries(), await open_jobs(db)) == ((), 0)


@every_query
async def test_timeout_leaves_nothing(db: streamq.Database, sql: str) -> None:
    """A query that its reader leaves standing ends at its deadline with QueryTimeout."""
    stream = db.query(sql, batch_rows=1_000, timeout=0.2)
    with pytest.raises(streamq.QueryTimeout):
        await anext(stream)
        await wait_until_idle(db)
        while True:
            await anext(stream)
    assert (await db.queries(), await open_jobs(db)) == ((), 0)


async def cancel_by_id(db: streamq.Database, stream: streamq.QueryBatchStream) -> None:
    assert await db.cancel(stream.query_id)


async def cancel_stream(db: streamq.Database, stream: streamq.QueryBatchStream) -> None:
    await stream.cancel()


async def close_stream(db: streamq.Database, stream: streamq.QueryBatchStream) -> None:
    await stream.aclose()


@every_query
@pytest.mark.parametrize("let_go", [cancel_by_id, cancel_stream, close_stream], ids=["cancel by id", "cancel", "aclose"])
async def test_letting_go_returns_when_nothing_is_left(db: streamq.Database, sql: str, let_go: LetGo) -> None:
    """`cancel()` and `aclose()` of a detached stream return after its last job has ended."""
    stream = db.query(sql, batch_rows=1_000)
    await anext(stream)
    await let_go(db, stream)
    assert (await db.queries(), await open_jobs(db)) == ((), 0)
    with pytest.raises((streamq.QueryCancelled, streamq.StreamClosed)):
        await anext(stream)


@every_query
async def test_dropped_reference_leaves_nothing(db: streamq.Database, sql: str) -> None:
    """A detached stream that nobody holds any more is aborted."""
    stream = db.query(sql, batch_rows=1_000)
    await anext(stream)
    del stream
    gc.collect()
    await wait_until_idle(db)


@every_query
async def test_cancelling_the_reader_leaves_nothing(db: streamq.Database, sql: str) -> None:
    """Cancelling the task that reads ends its query, and the cancellation goes no further."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read_some, db, sql)
        with anyio.fail_after(PATIENCE_S):
            while not await db.queries():
                await checkpoint()
        tasks.cancel_scope.cancel()
    assert (await db.queries(), await open_jobs(db)) == ((), 0)


@every_query
async def test_cancel_at_every_step_of_the_reader(db: streamq.Database, sql: str) -> None:
    """Cancelled when it waits for the k-th time, for k = 1, 2, … until it completes, a query leaves nothing."""
    for step in itertools.count(1):
        with anyio.CancelScope() as scope:
            await CancelAtStep(read_some(db, over_few(sql)), scope, step)
        assert (await db.queries(), await open_jobs(db)) == ((), 0), f"after a cancel at step {step}"
        if not scope.cancelled_caught:
            break
    assert step > 2


@every_query
async def test_cancel_after_any_round_of_the_loop(db: streamq.Database, sql: str) -> None:
    """Cancelled after k rounds of the event loop, wherever the query's own tasks then are, it leaves nothing."""
    rounds = 0
    completed = False
    while not completed:
        completed = await _read_beside_canceller(db, sql, rounds)
        assert (await db.queries(), await open_jobs(db)) == ((), 0), f"after a cancel in round {rounds}"
        rounds += 1 + rounds // 3


async def _read_beside_canceller(db: streamq.Database, sql: str, rounds: int) -> bool:
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
            await read_some(db, over_few(sql))
            completed = True
    return completed
