"""Tables that worker processes read: written once into shared memory, for as long as a job needs them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import anyio
import anyio.to_thread
import pyarrow as pa

from streamq.execution.jobs import ArrowFiles, Job

WRITING_THREADS = 2


class _Shared:
    def __init__(self, table: pa.Table) -> None:
        self.table = table
        self.uses = 0
        self.writing = anyio.Lock()
        self.fd: int | None = None


class SharedTables:
    """The tables of the jobs that are open now. Jobs with the same table object share its copy."""

    def __init__(self) -> None:
        self._shared: dict[int, _Shared] = {}
        self._limiter = anyio.CapacityLimiter(WRITING_THREADS)

    @asynccontextmanager
    async def reachable(self, job: Job) -> AsyncIterator[Job]:
        """Give the job with its tables as files that a worker can map."""
        async with AsyncExitStack() as stack:
            inputs = []
            for name, source in job.inputs:
                inputs.append((name, source if isinstance(source, ArrowFiles) else await stack.enter_async_context(self._share(source))))
            yield replace(job, inputs=tuple(inputs)) if inputs else job

    @asynccontextmanager
    async def _share(self, table: pa.Table) -> AsyncIterator[ArrowFiles]:
        shared = self._shared.setdefault(id(table), _Shared(table))
        shared.uses += 1
        try:
            async with shared.writing:
                if shared.fd is None:
                    shared.fd = await anyio.to_thread.run_sync(_write, table, limiter=self._limiter)
            # A worker opens the file through this process, which is why nothing needs to be passed to it.
            yield ArrowFiles((f"/proc/{os.getpid()}/fd/{shared.fd}",), table.schema)
        finally:
            shared.uses -= 1
            if not shared.uses:
                del self._shared[id(table)]
                if shared.fd is not None:
                    os.close(shared.fd)


def _write(table: pa.Table) -> int:
    fd = os.memfd_create("streamq-table")
    try:
        with pa.OSFile(f"/proc/self/fd/{fd}", "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    except BaseException:
        os.close(fd)
        raise
    return fd
