"""What the tests of the pools share: jobs, and pools of both kinds with small settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from streamq.config import Config
from streamq.execution.jobs import Job, RunningJob, ToReader, WorkerPool
from streamq.execution.processes import ProcessPool
from streamq.execution.threads import ThreadPool

KINDS: dict[str, type[ThreadPool | ProcessPool]] = {"thread": ThreadPool, "process": ProcessPool}
PoolMaker = Callable[..., ThreadPool | ProcessPool]

ENDLESS = "SELECT count(*) AS n FROM range(10000000) a(i), range(10000000) b(j) WHERE (i * j) % 7 = 3"
"""A query that gives its only row after hours."""


def make_job(sql: str, **fields: Any) -> Job:
    """Give a job for a reader, with `fields` set."""
    values: dict[str, Any] = {
        "query_id": "q1",
        "shard": "the test",
        "views": (),
        "inputs": (),
        "parameters": (),
        "output": ToReader(),
    }
    return Job(sql=sql, **(values | fields))


def make_pool(kind: str, temp_dir: object, **settings: Any) -> ThreadPool | ProcessPool:
    """Give a pool of two workers whose files are in `temp_dir`."""
    return KINDS[kind](Config.load({}, **({"workers": 2, "temp_dir": str(temp_dir), "slot_bytes": 1 << 20} | settings)))


async def read(pool: WorkerPool, job: Job, **options: Any) -> pa.Table:
    """Run a job to its end and give its rows."""
    async with pool.run(job, **options) as running:
        batches = [batch async for batch in running]
        return pa.Table.from_batches(batches, running.result.schema)


async def drain(running: RunningJob) -> int:
    """Read a running job to its end; give the number of rows."""
    return sum([batch.num_rows async for batch in running])


def names_in(directory: Path) -> list[str]:
    """List the files of a directory."""
    return sorted(path.name for path in directory.iterdir())


def restarts(pool: WorkerPool) -> list[int]:
    """Tell how often each worker was started again."""
    return [worker.restarts for worker in pool.statistics().workers]
