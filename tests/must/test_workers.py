"""A worker that cannot start or dies costs at most the queries that needed it, and never an answer's rows."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

import streamq
from streamq.execution import processes
from tests.must.conftest import ROWS
from tests.must.watch import PATIENCE_S, open_jobs, wait_until, worker_pids

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
TOTAL = ROWS * (ROWS - 1) // 2


@pytest.fixture(scope="module")
async def mortal(anyio_backend: object, numbers: Path) -> AsyncIterator[streamq.Database]:
    """A database whose pool is one worker process that has answered, and is there to be killed."""
    async with streamq.connect(executor="process", workers=1, target_partitions=1) as db:
        await db.register("numbers", numbers)
        assert await total(db) == TOTAL
        yield db


@pytest.fixture
async def lone(anyio_backend: object, numbers: Path) -> AsyncIterator[streamq.Database]:
    """A database whose pool is one worker process; it is started by the first query."""
    async with streamq.connect(executor="process", workers=1, target_partitions=1) as db:
        await db.register("numbers", numbers)
        yield db


async def total(db: streamq.Database) -> object:
    return (await db.fetch("SELECT sum(n) AS s FROM numbers"))["s"][0].as_py()


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("body", [None, "exit 3"], ids=["no such file", "ends at once"])
async def test_worker_that_cannot_start_fails_the_query(
    lone: streamq.Database, body: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A broken interpreter is WorkerCrashed for the query that needed it; once it is whole again, queries are answered."""
    with monkeypatch.context() as broken:
        broken.setattr(sys, "executable", str(tmp_path / "nowhere") if body is None else script(tmp_path / "python", body))
        with anyio.fail_after(PATIENCE_S), pytest.raises(streamq.WorkerCrashed, match="numbers"):
            await total(lone)
    assert await total(lone) == TOTAL


async def test_worker_that_never_reports_fails_the_query(lone: streamq.Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An interpreter that hangs at its start is ended, and the query fails."""
    monkeypatch.setattr(processes, "START_S", 0.1)
    monkeypatch.setattr(sys, "executable", script(tmp_path / "python", "exec sleep 1000"))
    with anyio.fail_after(PATIENCE_S), pytest.raises(streamq.WorkerCrashed, match="said nothing"):
        await total(lone)


async def test_lease_of_a_worker_killed_before_it_delivered_is_given_again(mortal: streamq.Database) -> None:
    """A worker that dies before anything of its lease was passed on is replaced, and nobody notices."""
    [pid] = await worker_pids(mortal)
    os.kill(pid, signal.SIGSTOP)
    answers: list[object] = []

    async def ask() -> None:
        answers.append(await total(mortal))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_until(lambda: open_jobs(mortal))
        os.kill(pid, signal.SIGKILL)
    assert answers == [TOTAL]


async def test_worker_killed_after_it_delivered_fails_the_query(mortal: streamq.Database) -> None:
    """Rows that were passed on cannot be taken back: the query ends with WorkerCrashed, which names the shard."""
    with pytest.raises(streamq.WorkerCrashed, match="numbers, unit 0 from row") as caught:
        async with mortal.query("SELECT n, word FROM numbers", batch_rows=500) as stream:
            await anext(stream)
            for pid in await worker_pids(mortal):
                os.kill(pid, signal.SIGKILL)
            async for _ in stream:
                pass
    assert caught.value.retryable
    assert await total(mortal) == TOTAL


async def test_no_descriptors_left_is_a_resource_limit(anyio_backend: object, numbers: Path) -> None:
    """A pool that the system has no descriptors for fails its query with ResourceLimit, not the database."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with streamq.connect(executor="process", workers=1) as db:
        await db.register("numbers", numbers)
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2, hard))
        try:
            with anyio.fail_after(PATIENCE_S), pytest.raises((streamq.ResourceLimit, streamq.WorkerCrashed)):
                await total(db)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await total(db) == TOTAL
