"""Continuous queries in worker processes: however they end, nothing of them is left, and no answer is wrong."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import anyio
import pyarrow as pa
import pytest
from anyio.lowlevel import checkpoint

import streamq
from tests.must.watch import PATIENCE_S, CancelAtStep, descriptors, files_below, open_jobs, wait_until, wait_until_idle, worker_pids

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
ROWS = 60_000
EPOCH_ROWS = 20_000
GROUPS = "SELECT n % 7 AS k, count(*) AS c, sum(n) AS s FROM numbers GROUP BY 1 EMIT CHANGES"
QUERIES = {
    "filter": "SELECT n FROM numbers WHERE n % 2 = 0 EMIT CHANGES",
    "group": GROUPS,
    "join": "SELECT n, word FROM numbers JOIN words ON n % 3 = k EMIT CHANGES",
}
every_query = pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES.keys())
ENDLESS = """SELECT n FROM numbers
WHERE n = (SELECT count(*) FROM range(10000000) a(i), range(10000000) b(j) WHERE (i * j) % 7 = 3) EMIT CHANGES"""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the database of this module keeps temporary files."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
async def db(anyio_backend: object, scratch: Path) -> AsyncIterator[streamq.Database]:
    """A database with two worker processes; what its sources get has ended, but that of `endless` has not."""
    async with streamq.connect(executor="process", workers=2, target_partitions=3, temp_dir=str(scratch)) as db:
        for name in ("numbers", "few", "endless"):
            await db.execute(f"CREATE SOURCE {name} (n BIGINT)")
        await db.execute("CREATE SOURCE words (k BIGINT, word VARCHAR)")
        await db.insert("numbers", pa.table({"n": pa.array(range(ROWS), pa.int64())}))
        await db.insert("few", pa.table({"n": pa.array(range(9), pa.int64())}))
        await db.insert("words", [{"k": k, "word": f"word {k}"} for k in range(3)])
        for name in ("numbers", "few", "words"):
            await db.finish(name)
        await read(db, GROUPS)
        yield db


@pytest.fixture(autouse=True)
async def nothing_is_left(db: streamq.Database, scratch: Path) -> AsyncIterator[None]:
    """Check after each test that a query holds no operator, file or descriptor, and that the next one is answered."""
    before = await descriptors(db)
    yield
    await wait_until_idle(db)
    assert left_in(scratch) == []
    assert await descriptors(db) <= before
    await read(db, GROUPS)


async def read(db: streamq.Database, sql: str, epoch_rows: int = EPOCH_ROWS, seen: Callable[[int], None] = lambda epochs: None) -> int:
    """Read a query to its end, and compare the groups of `GROUPS` after every batch with what the rows so far make.

    `seen` is told the number of every batch; gives the number of all.
    """
    epochs = 0
    async with db.query(sql, epoch_rows=epoch_rows) as stream:
        table = pa.schema(list(stream.schema)[:3]).empty_table()
        async for batch in stream:
            epochs += 1
            if sql == GROUPS:
                table = streamq.apply_changes(table, batch, key=stream.key)
                assert groups_in(table) == groups_of(stream.progress.positions["numbers"])
            seen(epochs)
    return epochs


def left_in(scratch: Path) -> list[str]:
    """List the files that are left, and the directories of queries."""
    return [*files_below(scratch), *map(str, scratch.rglob("partitions-*"))]


def groups_in(table: pa.Table) -> dict[int, tuple[int, int]]:
    return {row["k"]: (row["c"], row["s"]) for row in table.to_pylist()}


def groups_of(rows: int) -> dict[int, tuple[int, int]]:
    return {k: (len(range(k, rows, 7)), sum(range(k, rows, 7))) for k in range(7)}


async def restarts(db: streamq.Database) -> int:
    return sum(worker.restarts for pool in (await db.statistics()).pools for worker in pool.workers)


# Letting go


@every_query
async def test_cancel_at_every_step_of_the_reader(db: streamq.Database, sql: str) -> None:
    """Cancelled when it waits for the k-th time, for k = 1, 2, … until it completes, a query leaves nothing."""
    for step in itertools.count(1):
        with anyio.CancelScope() as scope:
            await CancelAtStep(read(db, sql.replace("numbers", "few"), epoch_rows=3), scope, step)
        assert (await db.queries(), await open_jobs(db)) == ((), 0), f"after a cancel at step {step}"
        if not scope.cancelled_caught:
            break
    assert step > 2


@every_query
async def test_cancel_after_any_round_of_the_loop(db: streamq.Database, sql: str) -> None:
    """Cancelled after k rounds of the event loop, wherever the query's own tasks then are, it leaves nothing."""
    rounds, completed = 0, False
    while not completed:
        completed = await _read_beside_canceller(db, sql.replace("numbers", "few"), rounds)
        assert (await db.queries(), await open_jobs(db)) == ((), 0), f"after a cancel in round {rounds}"
        rounds += 1 + rounds // 2


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
            await read(db, sql)
            completed = True
    return completed


@every_query
async def test_break_leaves_nothing(db: streamq.Database, sql: str) -> None:
    """Leaving the block after the first batch ends the query before the block is left."""
    async with db.query(sql, epoch_rows=EPOCH_ROWS) as stream:
        async for _ in stream:
            break
    assert (await db.queries(), await open_jobs(db)) == ((), 0)


async def test_a_long_step_is_interrupted(db: streamq.Database) -> None:
    """SQL that would run for hours in a worker is stopped there, and the worker goes on."""
    before = await restarts(db)
    stream = db.query(ENDLESS)
    await stream.start()
    await wait_until(lambda: open_jobs(db))
    for _ in range(100):
        await checkpoint()
    with anyio.fail_after(PATIENCE_S):
        await stream.cancel()
    assert (await db.queries(), await open_jobs(db), await restarts(db)) == ((), 0, before)


async def test_a_failed_expression_leaves_nothing(db: streamq.Database) -> None:
    """An operator's DataError comes with the rows of its epoch, and the workers go on."""
    before = await restarts(db)
    with pytest.raises(streamq.DataError, match="numbers row"):
        await read(db, "SELECT 1 // (n - 30000) AS q FROM numbers EMIT CHANGES")
    assert (await db.queries(), await open_jobs(db), await restarts(db)) == ((), 0, before)


@pytest.mark.usefixtures("no_residue")
@pytest.mark.parametrize("rows", [0, 1_000])
async def test_closing_the_database_leaves_nothing(anyio_backend: object, rows: int) -> None:
    """A database that is closed under a query takes its workers, files and threads with it."""
    async with streamq.connect(executor="process", workers=2) as db:
        await db.execute("CREATE SOURCE numbers (n BIGINT)")
        stream = db.query(GROUPS)
        await stream.start()
        if rows:
            await db.insert("numbers", pa.table({"n": pa.array(range(rows), pa.int64())}))
            await anext(stream)
    with pytest.raises(streamq.QueryCancelled):
        while True:
            await anext(stream)


# Workers that die


@pytest.mark.parametrize("seed", range(4))
async def test_a_worker_killed_at_any_time_never_makes_a_wrong_answer(db: streamq.Database, seed: int) -> None:
    """The query ends with WorkerCrashed; what it gave before was right, and the next one is answered."""
    chance = random.Random(seed)
    pid, last = chance.choice(await worker_pids(db)), chance.randrange(1, ROWS // 2_000 - 4)
    before = await restarts(db)

    def kill(epochs: int) -> None:
        if epochs == last:
            os.kill(pid, signal.SIGKILL)

    with anyio.fail_after(PATIENCE_S), pytest.raises(streamq.WorkerCrashed, match="SIGKILL") as caught:
        await read(db, GROUPS, epoch_rows=2_000, seen=kill)
    assert caught.value.retryable
    await _wait_for_restart(db, before)


async def test_what_was_computed_when_a_worker_died_is_read(db: streamq.Database) -> None:
    """A reader that comes later gets every batch of the complete epochs: those that waited, were handed over, and were computed."""
    before = await restarts(db)
    rows: list[int] = []
    async with db.query("SELECT n FROM numbers EMIT CHANGES", epoch_rows=10_000, batch_rows=4_000) as stream:

        async def computed() -> bool:
            continuous = (await stream.statistics()).continuous
            return continuous is not None and continuous.epochs == 2

        await wait_until(computed)
        os.kill((await worker_pids(db))[0], signal.SIGKILL)
        await wait_until_idle(db)
        with pytest.raises(streamq.WorkerCrashed):
            async for batch in stream:
                rows += batch["n"].to_pylist()
                assert stream.progress.epoch_complete == (len(rows) % 10_000 == 0)
    assert rows == list(range(20_000))
    await _wait_for_restart(db, before)


async def test_a_worker_that_dies_takes_its_queries_and_no_other(db: streamq.Database) -> None:
    """Idle queries that had a partition on it end with WorkerCrashed; one in threads goes on."""
    before = await restarts(db)
    hosted = [db.query(GROUPS.replace("numbers", "endless")) for _ in range(3)]
    for stream in hosted:
        await stream.start()
    async with db.query("SELECT n FROM endless EMIT CHANGES WITH (executor = 'thread')") as other:
        await wait_until(lambda: _hosted(db, 2 * len(hosted)))
        os.kill((await worker_pids(db))[0], signal.SIGKILL)
        with anyio.fail_after(PATIENCE_S):
            for stream in hosted:
                with pytest.raises(streamq.WorkerCrashed, match="SIGKILL"):
                    await anext(stream)
        await db.insert("endless", [{"n": 1}])
        assert (await anext(other)).to_pylist() == [{"n": 1}]
    await _wait_for_restart(db, before)


async def _hosted(db: streamq.Database, count: int) -> bool:
    return await open_jobs(db) == count


async def _wait_for_restart(db: streamq.Database, before: int) -> None:
    async def whole() -> bool:
        return await restarts(db) == before + 1 and len(await worker_pids(db)) == 2

    await wait_until(whole)


# Beside other queries


async def test_snapshot_and_continuous_queries_share_the_workers(db: streamq.Database) -> None:
    """Many queries of both kinds at once are all answered, by the same two workers."""
    done: Counter[str] = Counter()

    async def follow(sql: str) -> None:
        await read(db, sql, epoch_rows=10_000)
        done["continuous"] += 1

    async def fetch() -> None:
        for _ in range(2):
            answer = await db.fetch("SELECT n % 7 AS k, count(*) AS c, sum(n) AS s FROM numbers GROUP BY 1")
            assert groups_in(answer) == groups_of(ROWS)
        done["snapshot"] += 1

    before = await worker_pids(db)
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for sql in (*QUERIES.values(), *QUERIES.values()):
                tasks.start_soon(follow, sql)
                tasks.start_soon(fetch)
    assert done == {"continuous": 6, "snapshot": 6}
    assert await worker_pids(db) == before


async def test_explain_says_where_partitions_are(db: streamq.Database) -> None:
    """EXPLAIN names what runs a query, and why; so do its statistics."""
    assert "executor: process, because it was asked for" in await db.explain(GROUPS)
    assert "executor: thread, because epochs are read in this process" in await db.explain(f"{GROUPS} WITH (executor = 'auto')")
    async with db.query(GROUPS) as stream:
        assert (await stream.statistics()).executor == "process"
