"""Jobs: what a worker is asked to do, and what a pool of workers promises.

A job is one task of one stage: DuckDB SQL over named inputs. A worker, whether a thread or a process, keeps several jobs
open at once and advances them a few batches at a time, each only as far as its reader has granted: a reader that stalls holds
its granted batches and never the worker.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from streamq.errors import StreamqError
    from streamq.execution.services import ServiceSetup
    from streamq.flow.stopwatch import Stopwatch

PARTITION_COLUMN = "__partition"
"""The column that says which of several files a row goes to. The planner's name for it, here so that workers need no planner."""


@dataclass(frozen=True, slots=True)
class ArrowFiles:
    """Arrow IPC files with one schema, read through a memory map. No paths: no rows, of `schema`."""

    paths: tuple[str, ...]
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class ToReader:
    """The job's batches go to whoever iterates the `RunningJob`.

    With `lend` they may be in memory that the worker needs again: for a reader who lets go of each of them soon.
    """

    lend: bool = False


@dataclass(frozen=True, slots=True)
class ToFiles:
    """The job's rows are written to Arrow IPC files in `directory` (which exists), one for each of `partitions` that has rows.

    With more than one partition the int column `__partition` says where a row goes; it is left out of the files. File
    names are ``{name}-{partition}.arrow``. They are complete once the job is done, and none is left of a job that fails.
    """

    directory: str
    name: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Job:
    """`shard` says for people what the job reads (``flights rows 0–122879``). `parameters` are bound by name.

    `views` are run as named queries before `sql` (each may read the inputs and the views before it).
    """

    query_id: str
    shard: str
    sql: str
    views: tuple[tuple[str, str], ...]
    inputs: tuple[tuple[str, pa.Table | ArrowFiles], ...]
    parameters: tuple[tuple[str, object], ...]
    output: ToReader | ToFiles
    batch_rows: int = 32_768


@dataclass(frozen=True, slots=True)
class JobResult:
    """What a finished job did. `files` are `(partition, path, rows)` of a job with `ToFiles`; `schema` is what it gave."""

    worker: int
    rows: int
    bytes: int
    busy_s: float
    schema: pa.Schema
    files: tuple[tuple[int, str, int], ...] = ()


class RunningJob(Protocol):
    """A job that a pool runs. Iterating gives its batches (none for `ToFiles`) in the job's order.

    Raises (from iteration, never later):
        DataError, ResourceLimit, SourceError: as the SQL failed.
        WorkerCrashed: the worker died.
    """

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]: ...

    @property
    def delivered(self) -> bool:
        """A batch has been taken from the iterator: the job cannot be run again in its place."""

    @property
    def result(self) -> JobResult:
        """Set once iteration has ended."""


@dataclass(frozen=True, slots=True)
class WorkerStatistics:
    """One worker. `pid` is None for a thread. `jobs` are open now; `busy_s`, `done`, `restarts` count since the start."""

    worker: int
    pid: int | None
    jobs: int
    done: int
    busy_s: float
    restarts: int


@dataclass(frozen=True, slots=True)
class PoolStatistics:
    kind: Literal["process", "thread"]
    workers: tuple[WorkerStatistics, ...]


class HostedService(Protocol):
    """A service that a worker of a pool keeps."""

    worker: int

    def call(self, request: object) -> None:
        """Ask something. From any thread; answers come in the order of the calls."""

    async def wait_ended(self) -> StreamqError:
        """Wait until the worker is done with it, and tell why."""


class WorkerPool(Protocol):
    """Workers that run jobs. Leaving the pool's `async with` ends every worker and everything they had opened."""

    kind: Literal["process", "thread"]
    size: int
    directory: str
    """A directory for files of queries; it goes with the pool, however the pool ends."""

    def run(
        self, job: Job, *, worker: int | None = None, credits: int = 2, waiting: Stopwatch | None = None
    ) -> AbstractAsyncContextManager[RunningJob]:
        """Open a job on worker number `worker` (None: the one with least to do).

        The batches of at most `credits` turns are on their way, those of a turn no larger than a slot; taking the last of a turn
        grants another. Leaving the context before the end cancels the job: its SQL is interrupted, its files are removed, and
        when the context is left nothing of it runs. `waiting` runs while the reader waits for the worker.
        """

    def host(
        self, setup: ServiceSetup, worker: int, tell: Callable[[bytes | StreamqError], None]
    ) -> AbstractAsyncContextManager[HostedService]:
        """Keep a service on worker number `worker`, which starts with its first call.

        `tell` gets every answer, pickled, from the event loop's thread, and once why the service ended, be it a failed call or the worker's
        death. Leaving the context ends it: what it computes is interrupted, and when the context is left nothing of it is there.
        """

    def quietest(self, count: int) -> list[int]:
        """Give the numbers of the `count` workers with the least to do; fewer, if there are fewer."""

    def statistics(self) -> PoolStatistics: ...
