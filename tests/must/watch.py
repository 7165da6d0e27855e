"""What the tests of this area look at: what a query still holds in workers, files and descriptors; and how to stop it at any step."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

import anyio

import streamq
from tests.waiting import pause

T = TypeVar("T")
PATIENCE_S = 60
"""Ends a test that hangs; no test depends on how long anything takes."""


class CancelAtStep:
    """Await a coroutine; when it waits for the `step`-th time, cancel `scope`. `taken` counts the steps."""

    def __init__(self, coroutine: Coroutine[Any, Any, T], scope: anyio.CancelScope, step: int) -> None:
        self._coroutine = coroutine
        self._scope = scope
        self._step = step
        self.taken = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        resume = self._coroutine.send
        value: Any = None
        while True:
            try:
                waits_for = resume(value)
            except StopIteration as stop:
                return stop.value
            self.taken += 1
            if self.taken == self._step:
                self._scope.cancel()
            try:
                value = yield waits_for
                resume = self._coroutine.send
            except BaseException as error:
                value, resume = error, self._coroutine.throw


async def wait_until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait until a condition is true."""
    with anyio.fail_after(PATIENCE_S):
        while not await condition():
            await pause()


async def wait_until_idle(db: streamq.Database) -> None:
    """Wait until no query runs and no worker has an open job."""
    with anyio.fail_after(PATIENCE_S):
        while await db.queries() or await open_jobs(db):
            await pause()


async def open_jobs(db: streamq.Database) -> int:
    """Count the jobs that workers have open."""
    return sum(worker.jobs for pool in (await db.statistics()).pools for worker in pool.workers)


async def worker_pids(db: streamq.Database) -> list[int]:
    """Give the process ids of the workers that are processes."""
    return [worker.pid for pool in (await db.statistics()).pools for worker in pool.workers if worker.pid is not None]


def files_below(directory: Path) -> list[str]:
    """List the files that queries keep below a database's temporary directory."""
    return [str(path) for path in directory.rglob("*") if path.is_file()]


async def descriptors(db: streamq.Database) -> int:
    """Count what this process and the workers have open."""
    return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), *await worker_pids(db)))


async def resident_bytes(db: streamq.Database) -> int:
    """Add up the memory that this process and the workers have filled, what they share once."""
    return sum(_filled_bytes(pid) for pid in (os.getpid(), *await worker_pids(db)))


def _filled_bytes(pid: int) -> int:
    """Read a process's part of memory that is its own or the workers', not of files: programs that map the same libraries come and go."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    kilobytes = {name: int(size) for name, size in (line.removesuffix(" kB").split(":") for line in lines)}
    return (kilobytes["Pss_Anon"] + kilobytes["Pss_Shmem"]) << 10
