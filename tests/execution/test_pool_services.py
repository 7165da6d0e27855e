"""Services: what workers keep for a query and are asked again and again."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from streamq.errors import DataError, QueryCancelled, QueryError, StreamqError, WorkerCrashed
from streamq.execution.jobs import HostedService, WorkerPool
from streamq.flow.inbox import Inbox
from tests.execution.pools import ENDLESS, PoolMaker, make_job, read, restarts
from tests.execution.services import Recorded, notes
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
of_processes = pytest.mark.parametrize("executor", ["process"], indirect=True)


class Asked:
    """A hosted service, and what it has told."""

    def __init__(self, service: HostedService, told: Inbox[bytes | StreamqError]) -> None:
        self.service = service
        self._told = told
        self._waiting: list[bytes | StreamqError] = []

    async def ask(self, request: object) -> Any:
        self.service.call(request)
        return await self.answer()

    async def answer(self) -> Any:
        if not self._waiting:
            with anyio.fail_after(30):
                self._waiting = await self._told.take()
        told = self._waiting.pop(0)
        if isinstance(told, StreamqError):
            raise told
        return pickle.loads(told)


@asynccontextmanager
async def hosted(pool: WorkerPool, log: Path, worker: int = 0) -> AsyncIterator[Asked]:
    """Have a worker host a `Recorder`."""
    told: Inbox[bytes | StreamqError] = Inbox()
    try:
        async with pool.host(Recorded(str(log)), worker, told.post) as service:
            yield Asked(service, told)
    finally:
        told.close()


async def wait_for(log: Path, event: str) -> None:
    with anyio.fail_after(30):
        while event not in await anyio.to_thread.run_sync(notes, log):
            await pause()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


async def test_answers_come_in_the_order_of_the_calls(pool: WorkerPool, log: Path) -> None:
    """Every call is answered, and leaving the context closes the service."""
    async with hosted(pool, log) as asked:
        for number in range(50):
            asked.service.call(number)
        assert [await asked.answer() for _ in range(50)] == list(range(50))
        assert [worker.jobs for worker in pool.statistics().workers] == [1, 0]
    assert [worker.jobs for worker in pool.statistics().workers] == [0, 0]
    assert notes(log) == ["opened", "closed"]


async def test_jobs_and_services_share_a_worker(pool: WorkerPool, log: Path) -> None:
    """A job is run beside a service, and between its calls."""
    async with hosted(pool, log) as asked:
        assert await asked.ask(1) == 1
        job = make_job("SELECT sum(i) AS s FROM range(100000) r(i)")
        assert (await read(pool, job, worker=0)).to_pylist() == [{"s": 4999950000}]
        assert await asked.ask(2) == 2


@pytest.mark.parametrize(("request_", "error", "message"), [("fail", DataError, "as asked"), ("break", QueryError, "internal error: this")])
async def test_a_failed_call_ends_the_service(pool: WorkerPool, log: Path, request_: str, error: type[QueryError], message: str) -> None:
    """What a call fails with is told, typed; then the service is closed, and its worker goes on."""
    before = restarts(pool)
    async with hosted(pool, log) as asked:
        with pytest.raises(error, match=message):
            await asked.ask(request_)
        assert isinstance(await asked.service.wait_ended(), error)
    assert notes(log) == ["opened", "closed"]
    assert restarts(pool) == before


@pytest.mark.parametrize("request_", ["wait", ("sql", ENDLESS)], ids=["python", "sql"])
async def test_leaving_interrupts_a_call(pool: WorkerPool, log: Path, request_: object) -> None:
    """A call that would go on for hours is stopped, and the worker is not replaced."""
    before = restarts(pool)
    async with hosted(pool, log) as asked:
        asked.service.call(request_)
        await wait_for(log, "waits")
    assert notes(log) == ["opened", "waits", "closed"]
    assert restarts(pool) == before


async def test_a_service_that_is_never_called_is_never_opened(pool: WorkerPool, log: Path) -> None:
    """It costs nothing but its setup."""
    async with hosted(pool, log):
        pass
    assert notes(log) == ()


async def test_closing_the_pool_ends_services(new_pool: PoolMaker, log: Path) -> None:
    """Whoever still has one is told that the pool was closed."""
    async with anyio.create_task_group() as tasks:
        reasons: list[StreamqError] = []

        async def use(pool: WorkerPool) -> None:
            async with hosted(pool, log) as asked:
                await asked.ask(1)
                closing.set()
                reasons.append(await asked.service.wait_ended())

        closing = anyio.Event()
        async with new_pool() as pool:
            tasks.start_soon(use, pool)
            await closing.wait()
    assert [type(reason) for reason in reasons] == [QueryCancelled]


async def test_the_quietest_workers_come_first(new_pool: PoolMaker, log: Path) -> None:
    """Services go where there is least to do."""
    async with new_pool(workers=3) as pool, hosted(pool, log, worker=1):
        assert [pool.quietest(count) for count in (1, 2, 3, 9)] == [[0], [0, 2], [0, 1, 2], [0, 1, 2]]


@of_processes
async def test_workers_import_what_their_work_needs(pool: WorkerPool, log: Path) -> None:
    """A worker that runs jobs has neither operators nor compiled kernels, and never the parser or the event loop."""
    await read(pool, make_job("SELECT 1 AS a"), worker=0)
    async with hosted(pool, log) as asked:
        assert await asked.ask(("modules", "numba", "sqlglot", "anyio", "streamq.operators", "streamq.streaming")) == []


@of_processes
async def test_a_killed_worker_ends_its_services(pool: WorkerPool, log: Path) -> None:
    """All services of a worker that dies are told so; those of another go on."""
    host = partial(hosted, pool, log)
    async with host() as first, host() as second, host(worker=1) as other:
        assert [await asked.ask(0) for asked in (first, second, other)] == [0, 0, 0]
        pid = pool.statistics().workers[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        for asked in (first, second):
            with pytest.raises(WorkerCrashed, match="SIGKILL"):
                await asked.answer()
        assert await other.ask(1) == 1
