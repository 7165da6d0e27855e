"""Letting go: of a job, of a pool, at any moment; afterwards nothing of it is left."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import psutil
import pyarrow as pa
import pytest

from streamq.errors import QueryCancelled, QueryError
from streamq.execution.jobs import ToFiles, WorkerPool
from tests.execution.pools import ENDLESS, PoolMaker, drain, make_job, make_pool, names_in, read

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """Have one worker, which nobody kills."""
    return {"workers": 1, "grace_s": 60}


async def test_a_running_query_is_interrupted(pool: WorkerPool) -> None:
    """Leaving the context ends a query that would run for hours, and the worker is free."""
    with anyio.fail_after(30):
        async with pool.run(make_job(ENDLESS)):
            await anyio.lowlevel.checkpoint()
        assert (await read(pool, make_job("SELECT 42 AS a"))).to_pydict() == {"a": [42]}
    assert pool.statistics().workers[0].restarts == 0


async def test_a_cancelled_job_does_not_disturb_others(pool: WorkerPool) -> None:
    """The interrupt is for one job of the worker."""
    async with pool.run(make_job("SELECT i FROM range(1000000) t(i)")) as other:
        async with pool.run(make_job("SELECT i FROM range(1000000) t(i)")) as left:
            async for _ in left:
                break
        assert await drain(other) == 1_000_000


async def test_a_worker_that_does_not_let_go_is_killed(tmp_path: Path) -> None:
    """After the grace period the process is replaced, and the next job has a worker."""
    async with make_pool("process", tmp_path, workers=1, grace_s=0.0) as pool:
        await read(pool, make_job("SELECT 1"))
        before = pool.statistics().workers[0].pid
        assert before is not None
        process = psutil.Process(before)
        # Its own two and DuckDB's: what it imports starts none, however many processors there are.
        assert process.num_threads() == 3
        # A stopped process stands for SQL that does not heed an interrupt.
        process.suspend()
        async with pool.run(make_job("SELECT 1")):
            pass
        assert (await read(pool, make_job("SELECT 42 AS a"))).to_pydict() == {"a": [42]}
        assert pool.statistics().workers[0].restarts == 1


async def test_a_job_is_cancelled_from_outside(pool: WorkerPool) -> None:
    """A cancel scope around the reader ends the job."""
    with anyio.CancelScope() as scope:
        async with pool.run(make_job("SELECT i FROM range(100000000) t(i)")) as running:
            async for _ in running:
                scope.cancel()
    assert scope.cancelled_caught
    assert pool.statistics().workers[0].jobs == 0


async def test_the_pool_is_cancelled_with_its_jobs(new_pool: PoolMaker) -> None:
    """A cancel scope around everything ends everything."""
    with anyio.fail_after(30), anyio.CancelScope() as scope:
        async with new_pool() as pool, anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(read, pool, make_job(ENDLESS))
            await anyio.lowlevel.checkpoint()
            scope.cancel()
    assert scope.cancelled_caught


async def test_a_pool_that_is_left_ends_its_jobs(new_pool: PoolMaker) -> None:
    """A job that outlives the pool's context ends with an error."""
    errors: list[QueryError] = []
    async with anyio.create_task_group() as tasks, new_pool() as pool:

        async def ask(*, task_status: anyio.abc.TaskStatus[None]) -> None:
            try:
                async with pool.run(make_job(ENDLESS)) as running:
                    task_status.started()
                    await drain(running)
            except QueryError as error:
                errors.append(error)

        await tasks.start(ask)
    assert isinstance(errors[0], QueryCancelled)


@pytest.mark.parametrize("files", [False, True])
async def test_cancel_at_every_checkpoint(pool: WorkerPool, tmp_path: Path, files: bool) -> None:
    """At whichever checkpoint a job is let go, its worker has nothing of it left and gives the next job its rows."""
    directory = tmp_path / "kept"
    directory.mkdir()
    table = pa.table({"a": range(5000)})
    completed, checkpoints = False, 0
    while not completed:
        checkpoints += 1
        fields: dict[str, Any] = {"output": ToFiles(str(directory), f"kept{checkpoints}", 1)} if files else {}
        job = make_job("SELECT a FROM t", inputs=(("t", table),), batch_rows=500, **fields)
        completed = await _completes(partial(_read_all, pool, job), cancel_at=checkpoints)
        assert pool.statistics().workers[0].jobs == 0
        assert len(names_in(directory)) == int(files and completed)
        assert (await read(pool, make_job("SELECT 42 AS a"))).to_pydict() == {"a": [42]}
    assert checkpoints >= 2
    assert pool.statistics().workers[0].restarts == 0


async def _read_all(pool: WorkerPool, job: Any) -> None:
    async with pool.run(job) as running:
        await drain(running)


async def _completes(function: Callable[[], Any], cancel_at: int) -> bool:
    """Run a coroutine function, cancelling it at its k-th suspension; tell whether it completed first."""
    with anyio.CancelScope() as scope:
        coroutine = function()

        class Counted:
            def __await__(self) -> Any:
                steps, value = 0, None
                error: BaseException | None = None
                while True:
                    try:
                        request = coroutine.send(value) if error is None else coroutine.throw(error)
                    except StopIteration:
                        return
                    steps += 1
                    if steps == cancel_at:
                        scope.cancel()
                    error = None
                    try:
                        value = yield request
                    except BaseException as raised:
                        error = raised

        await Counted()
    return not scope.cancelled_caught


async def test_a_task_group_in_the_body_may_be_cancelled(pool: WorkerPool) -> None:
    """The pool goes on after jobs around it were cancelled."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, pool, make_job(ENDLESS))
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    assert (await read(pool, make_job("SELECT 42 AS a"))).to_pydict() == {"a": [42]}
