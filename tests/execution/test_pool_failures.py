"""How jobs fail: as typed errors, for themselves only."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamq.errors import DataError, QueryError, ResourceLimit, SourceError, StreamqError, WorkerCrashed
from streamq.execution.jobs import ArrowFiles, WorkerPool
from tests.execution.pools import ENDLESS, PoolMaker, drain, make_job, make_pool, names_in, read, restarts
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
of_processes = pytest.mark.parametrize("executor", ["process"], indirect=True)

FAILURES = [
    pytest.param("SELECT 1 // (199999 - i) AS a FROM range(200000) t(i)", DataError, "Division by zero", id="last row"),
    pytest.param("SELECT CAST('x' || i AS INTEGER) FROM range(10) t(i)", DataError, "Could not convert string 'x0'", id="cast"),
    pytest.param("SELECT 9223372036854775807 + i FROM range(10) t(i)", DataError, "Overflow", id="overflow"),
    pytest.param("SELECT * FROM read_parquet('/nowhere/a.parquet')", SourceError, "/nowhere/a.parquet", id="missing file"),
    pytest.param("SELECT list(i) FROM range(100000000) t(i)", ResourceLimit, "memory limit", id="memory"),
    pytest.param("SELECT nothing FROM range(10)", QueryError, "nothing", id="unknown column"),
    pytest.param("SELEC 1", QueryError, "syntax error", id="syntax"),
    pytest.param("CREATE TABLE t (a INTEGER)", QueryError, "runs a SELECT", id="no query"),
]


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """Let little memory be too little."""
    return {"memory_bytes": 400 << 20}


@pytest.mark.parametrize(("sql", "kind", "message"), FAILURES)
async def test_a_failure_has_its_type_and_is_the_jobs_own(pool: WorkerPool, sql: str, kind: type[StreamqError], message: str) -> None:
    """The error says what happened, and the worker takes the next job."""
    before = restarts(pool)
    with pytest.raises(kind, match=message) as raised:
        await read(pool, make_job(sql), worker=0)
    assert raised.type is kind
    assert "LINE" not in str(raised.value)
    assert (await read(pool, make_job("SELECT 42 AS a"), worker=0)).to_pydict() == {"a": [42]}
    assert restarts(pool) == before


async def test_rows_before_the_failure_are_delivered(pool: WorkerPool) -> None:
    """The error comes after the batches that were complete."""
    job = make_job("SELECT 1 // (199999 - i) AS a FROM range(200000) t(i)", batch_rows=1000)
    async with pool.run(job) as running:
        assert (await anext(aiter(running))).num_rows == 1000
        with pytest.raises(DataError):
            await drain(running)
        assert running.delivered


async def test_a_corrupt_parquet_page(pool: WorkerPool, tmp_path: Path) -> None:
    """Bytes that are no rows are the source's error."""
    path = tmp_path / "bad.parquet"
    pq.write_table(pa.table({"a": [f"value {i}" for i in range(10_000)]}), path, use_dictionary=False, compression="snappy")
    data = bytearray(path.read_bytes())
    data[100:4000] = b"\xff" * 3900
    path.write_bytes(data)
    with pytest.raises(SourceError):
        await read(pool, make_job(f"SELECT * FROM read_parquet('{path}')"))


async def test_a_missing_arrow_file(pool: WorkerPool) -> None:
    """The rows that an earlier job kept are gone."""
    source = ArrowFiles(("/nowhere/kept-0.arrow",), pa.schema([("a", pa.int64())]))
    with pytest.raises(SourceError, match="kept-0"):
        await read(pool, make_job("SELECT a FROM t", inputs=(("t", source),)))


@of_processes
async def test_workers_ignore_ctrl_c(pool: WorkerPool) -> None:
    """SIGINT is the parent's to handle."""
    async with pool.run(make_job("SELECT i FROM range(1000000) t(i)"), worker=0) as running:
        os.kill(await pid_of(pool, 0), signal.SIGINT)
        assert await drain(running) == 1_000_000


@of_processes
async def test_a_killed_worker_fails_its_jobs(pool: WorkerPool) -> None:
    """They get WorkerCrashed with pid and signal; the other worker's jobs, and later ones, do not notice."""
    before = restarts(pool)
    async with (
        pool.run(make_job(ENDLESS), worker=0) as doomed,
        pool.run(make_job("SELECT i FROM range(1000000) t(i)"), worker=1) as other,
    ):
        pid = await pid_of(pool, 0)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashed, match=f"worker 0 .* pid {pid} was killed by SIGKILL"):
            await drain(doomed)
        assert not doomed.delivered
        assert await drain(other) == 1_000_000
    assert (await read(pool, make_job("SELECT 42 AS a"), worker=0)).to_pydict() == {"a": [42]}
    assert restarts(pool) == [before[0] + 1, before[1]]


@of_processes
async def test_a_worker_killed_between_batches(pool: WorkerPool) -> None:
    """What was delivered was right, and the end is an error."""
    async with pool.run(make_job("SELECT i FROM range(100000000) t(i)"), worker=0) as running:
        assert (await anext(aiter(running))).num_rows
        os.kill(await pid_of(pool, 0), signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await drain(running)
        assert running.delivered


@of_processes
async def test_a_terminated_worker_leaves_the_pools_directory(pool: WorkerPool) -> None:
    """A worker that is ended by someone else removes nothing: its parent lives."""
    async with pool.run(make_job(ENDLESS), worker=0) as running:
        os.kill(await pid_of(pool, 0), signal.SIGTERM)
        with pytest.raises(WorkerCrashed):
            await drain(running)
    directory = Path(pool.directory)
    assert names_in(directory.parent) == [directory.name]


async def test_a_platform_without_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entering says what is missing and what to use instead."""
    monkeypatch.delattr(os, "memfd_create")
    with pytest.raises(StreamqError, match="executor='thread'"):
        async with make_pool("process", tmp_path):
            pass
    assert not names_in(tmp_path)


async def test_an_error_of_the_body_leaves_the_pool_as_itself(new_pool: PoolMaker) -> None:
    """No group is wrapped around it."""
    with pytest.raises(KeyError):
        async with new_pool() as pool, pool.run(make_job(ENDLESS)):
            raise KeyError


async def pid_of(pool: WorkerPool, worker: int) -> int:
    """Wait until a worker's process is there, and give its number."""
    with anyio.fail_after(20):
        while (pid := pool.statistics().workers[worker].pid) is None:
            await pause()
    return int(pid)
