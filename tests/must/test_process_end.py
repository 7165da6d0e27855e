"""Whatever ends the program, its workers, descriptors and files end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

import streamq

pytestmark = pytest.mark.by_turns
PROGRAM = """
import sys, anyio, pyarrow as pa, streamq
from streamq.execution.without_pandas import without_pandas

# Arrow looks for it with its first array, which would take as long as all else here.
with without_pandas():
    pa.array([0])

async def main():
    async with streamq.connect(executor=sys.argv[2], workers=2, temp_dir=sys.argv[3]) as db:
        await db.register("numbers", sys.argv[1])
        stream = db.query("SELECT a.n, b.word FROM numbers a JOIN numbers b ON a.n % 1000 = b.n % 1000 ORDER BY a.word, b.word")
        await db.fetch("SELECT word FROM numbers ORDER BY word LIMIT 1 OFFSET 1000")
        pids = [worker.pid for pool in (await db.statistics()).pools for worker in pool.workers if worker.pid]
        print(*pids, flush=True)
        async with stream:
            async for batch in stream:
                pass

anyio.run(main, backend=sys.argv[4])
"""


@pytest.fixture
def program(executor: str, anyio_backend: tuple[str, dict[str, Any]], numbers: Path, tmp_path: Path) -> Any:
    """A program in the midst of a long query, and the ids of its workers."""
    arguments = [sys.executable, "-c", PROGRAM, str(numbers), executor, str(tmp_path), anyio_backend[0]]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line
        workers = [psutil.Process(int(pid)) for pid in line.split()]
        yield process, workers
        process.kill()


def test_ctrl_c_ends_the_program_as_keyboard_interrupt(program: Any, tmp_path: Path) -> None:
    """SIGINT passes through unchanged, and workers and temporary files are gone when the program is."""
    process, workers = program
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert "ExceptionGroup" not in errors
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_of_a_killed_program_is_left(program: Any, tmp_path: Path, anyio_backend: tuple[str, Any]) -> None:
    """Workers do not outlive a parent that is killed with SIGKILL, and the next database in its temporary directory removes its files."""
    process, workers = program
    os.kill(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    assert psutil.wait_procs(workers, timeout=60)[1] == []

    async def open_and_close() -> None:
        async with streamq.connect(temp_dir=str(tmp_path)) as db:
            await db.fetch("SELECT 1 AS one")

    anyio.run(open_and_close, backend=anyio_backend[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("no_residue")
def test_database_leaves_nothing(executor: str, numbers: Path, anyio_backend: tuple[str, Any]) -> None:
    """After `connect()`'s block no thread, process, descriptor, shared memory or temporary file of it exists."""
    sql = "SELECT word, count(*) AS c FROM numbers GROUP BY word ORDER BY word"

    async def use() -> None:
        async with streamq.connect(executor=executor, workers=2) as db:
            await db.register("numbers", numbers)
            await db.fetch(sql)
            async with db.query(sql) as stream:
                await anext(stream)
            detached = db.query(sql)
            await detached.start()

    anyio.run(partial(use), backend=anyio_backend[0])
