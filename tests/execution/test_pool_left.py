"""Pools that were left, and whose process was killed: nothing of them remains."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import psutil
import pyarrow as pa
import pytest

from streamq.errors import QueryError
from tests.execution.pools import ENDLESS, make_job, make_pool, names_in, read

pytestmark = pytest.mark.by_turns


def test_nothing_is_left_of_a_pool(executor: str, anyio_backend: tuple[str, dict[str, Any]], tmp_path: Path, no_residue: None) -> None:
    """No thread, process, descriptor, shared memory or file outlives the pool, whatever happened in it."""

    async def use() -> None:
        async with make_pool(executor, tmp_path) as pool:
            table = pa.table({"a": range(1000)})
            await read(pool, make_job("SELECT a FROM t", inputs=(("t", table),)))
            with pytest.raises(QueryError):
                await read(pool, make_job("SELECT 1 // 0"))
            async with pool.run(make_job(ENDLESS)), pool.run(make_job("SELECT i FROM range(1000000) t(i)")):
                pass

    anyio.run(use, backend=anyio_backend[0])
    assert not names_in(tmp_path)


PARENT = """
import os, sys, anyio
from tests.execution.pools import ENDLESS, make_job, make_pool, read

async def main():
    async with make_pool("process", sys.argv[1]) as pool:
        await read(pool, make_job("SELECT 1"), worker=0)
        await read(pool, make_job("SELECT 1"), worker=1)
        async with pool.run(make_job(ENDLESS), worker=0):
            print(*[worker.pid for worker in pool.statistics().workers], flush=True)
            await anyio.sleep_forever()

anyio.run(main)
"""


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    """A parent that is killed leaves no worker, busy or idle, and no directory."""
    root = Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    with parent, parent.stdout as output:
        workers = [psutil.Process(int(pid)) for pid in output.readline().split()]
        parent.kill()
    assert len(workers) == 2
    _gone, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive
    assert not names_in(tmp_path)
