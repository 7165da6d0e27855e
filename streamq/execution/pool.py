"""The event loop's side of a pool: which worker gets a job, who waits for what a worker says, and how a job is let go.

What a worker is (a thread, a process) is behind `WorkerLink`. Workers leave their reports in one inbox; one task takes
them out and hands each to its job. That task is shielded: whoever is being cancelled waits for it.
"""

from __future__ import annotations

import itertools
import pickle
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Protocol, Self, assert_never

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from streamq.config import Config
from streamq.errors import QueryCancelled, QueryError, ResourceLimit, StreamqError, WorkerCrashed
from streamq.execution.commands import Answer, BatchesReady, Call, Cancel, Cancelled, Command, Done, Event, Failed, Grant, Host, Open
from streamq.execution.directories import make_pool_directory, remove_pool_directory
from streamq.execution.hosting import PooledService
from streamq.execution.jobs import Job, JobResult, PoolStatistics, RunningJob, WorkerStatistics
from streamq.execution.pooled_job import PooledJob
from streamq.execution.services import ServiceSetup
from streamq.flow.inbox import Inbox
from streamq.flow.scopes import one_error
from streamq.flow.stopwatch import Stopwatch

INTERRUPT_INTERVAL_S = 0.02
"""An interrupt that comes between two turns of a job is lost, so a cancel is repeated this often until the job has ended."""


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """A worker has started and takes jobs."""


@dataclass(frozen=True, slots=True)
class WorkerEnded:
    """A worker is gone, for a reason that completes the sentence "worker 1 …". Its last report."""

    reason: str


Report = Event | WorkerReady | WorkerEnded


class WorkerLink(Protocol):
    """One worker from its start to its end, as the event loop sees it. No method blocks."""

    @property
    def pid(self) -> int | None: ...

    def send(self, command: Command) -> None:
        """Pass a command on. A `Cancel` also interrupts. Commands to a worker that is gone are dropped."""

    def kill(self) -> None:
        """End the worker at once if it can be (a process can), and whatever it runs."""

    def stop(self) -> None:
        """End the worker, interrupting what it runs. To be repeated until `WorkerEnded` comes."""

    def join(self) -> None:
        """Wait for what little is left after `WorkerEnded`, and release what the link holds."""


PostReport = Callable[[WorkerLink, Sequence[Report]], None]
"""Leaves reports, at least one, from any thread."""


class _Seat:
    """The place of worker number `number`: the worker that has it now, what is open on it, and counts over all that had it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.link: WorkerLink | None = None
        self.ready = False
        self.jobs: dict[int, PooledJob] = {}
        self.services: dict[int, PooledService] = {}
        self.done = 0
        self.busy_s = 0.0
        self.restarts = 0

    @property
    def load(self) -> int:
        return len(self.jobs) + len(self.services)

    def end_job(self, job_id: int, outcome: JobResult | StreamqError, busy_s: float) -> None:
        self.done += 1
        self.busy_s += busy_s
        (self.jobs.pop(job_id, None) or self.services.pop(job_id)).end(outcome)

    def statistics(self) -> WorkerStatistics:
        pid = None if self.link is None else self.link.pid
        return WorkerStatistics(self.number, pid, self.load, self.done, self.busy_s, self.restarts)


class Pool(ABC):
    """Workers of one kind, behind the interface of `WorkerPool`. Each is started for its first job, and again when it has died."""

    kind: Literal["process", "thread"]

    def __init__(self, config: Config) -> None:
        self.config = config
        self.size = config.workers
        self.directory = ""
        self._seats = [_Seat(number) for number in range(self.size)]
        self._by_link: dict[WorkerLink, _Seat] = {}
        self._job_ids = itertools.count(1)
        self._closing = False

    async def __aenter__(self) -> Self:
        self._check_platform()
        self._inbox: Inbox[tuple[WorkerLink, Report]] = Inbox()
        try:
            self.directory = await anyio.to_thread.run_sync(make_pool_directory, self.config.temp_dir)
        except BaseException:
            self._inbox.close()
            raise
        self._worker_gone = anyio.Event()
        self._taking = anyio.CancelScope(shield=True)
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._take_reports, name=f"streamq: {self.kind} pool")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing = True
        try:
            with anyio.CancelScope(shield=True):
                await self._end_workers()
            self._taking.cancel()
            # The body's error is not the task group's: it goes on as itself.
            await self._tasks.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            failure = one_error(group)
            raise failure from failure.__cause__
        finally:
            self._inbox.close()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(remove_pool_directory, self.directory)

    def run(
        self, job: Job, *, worker: int | None = None, credits: int = 2, waiting: Stopwatch | None = None
    ) -> AbstractAsyncContextManager[RunningJob]:
        """Open a job on worker number `worker` (None: the one with least to do). See `WorkerPool.run`.

        Raises:
            ValueError: there is no such worker, or `credits` is below 1.
        """
        if worker is not None and not 0 <= worker < self.size:
            raise ValueError(f"worker must be in 0..{self.size - 1}, not {worker}")
        if credits < 1:
            raise ValueError(f"credits must be at least 1, not {credits}")
        return self._run(job, worker, credits, waiting or Stopwatch())

    def host(
        self, setup: ServiceSetup, worker: int, tell: Callable[[bytes | StreamqError], None]
    ) -> AbstractAsyncContextManager[PooledService]:
        """Keep a service on worker number `worker`. See `WorkerPool.host`."""
        return self._host(pickle.dumps(setup, pickle.HIGHEST_PROTOCOL), worker, tell)

    def quietest(self, count: int) -> list[int]:
        """Give the numbers of the `count` workers with the least to do; fewer, if there are fewer."""
        return sorted(seat.number for seat in sorted(self._seats, key=lambda seat: seat.load)[:count])

    def statistics(self) -> PoolStatistics:
        """Tell how the workers are."""
        return PoolStatistics(self.kind, tuple(seat.statistics() for seat in self._seats))

    # What kinds of pools differ in

    @abstractmethod
    def _check_platform(self) -> None:
        """Raise StreamqError if this platform cannot have such workers."""

    @abstractmethod
    def _start_worker(self, number: int, post: PostReport) -> WorkerLink:
        """Begin to start a worker; it takes commands at once."""

    @abstractmethod
    def _reachable(self, job: Job) -> AbstractAsyncContextManager[Job]:
        """Give the job with inputs that a worker can reach, for as long as the context is open."""

    # A job

    @asynccontextmanager
    async def _run(self, job: Job, worker: int | None, credits: int, waiting: Stopwatch) -> AsyncIterator[RunningJob]:
        async with self._reachable(job) as reachable:
            seat, link = self._seated(worker)
            job_id = next(self._job_ids)
            running = seat.jobs[job_id] = PooledJob(lambda: link.send(Grant(job_id, 1)), waiting)
            link.send(Open(job_id, reachable, credits))
            try:
                yield running
            finally:
                await self._let_go(job_id, running, link)
                if not running.finished:
                    running.discard()

    @asynccontextmanager
    async def _host(self, setup: bytes, worker: int, tell: Callable[[bytes | StreamqError], None]) -> AsyncIterator[PooledService]:
        seat, link = self._seated(worker)
        job_id = next(self._job_ids)
        service = seat.services[job_id] = PooledService(worker, lambda request: link.send(Call(job_id, request)), tell)
        link.send(Host(job_id, setup))
        try:
            yield service
        finally:
            await self._let_go(job_id, service, link)

    def _seated(self, worker: int | None) -> tuple[_Seat, WorkerLink]:
        if self._closing:
            raise QueryCancelled(f"the {self.kind} pool was closed")
        seat = self._seats[worker] if worker is not None else min(self._seats, key=lambda seat: seat.load)
        return seat, seat.link or self._start(seat)

    async def _let_go(self, job_id: int, running: PooledJob | PooledService, link: WorkerLink) -> None:
        if not running.ended.is_set():
            with anyio.CancelScope(shield=True):
                await self._cancel(job_id, running, link)

    async def _cancel(self, job_id: int, running: PooledJob | PooledService, link: WorkerLink) -> None:
        """Cancel a job and wait until it has ended: by killing its worker, when it takes longer than the grace period."""
        kill_at = anyio.current_time() + self.config.grace_s
        while not running.ended.is_set():
            link.send(Cancel(job_id))
            with anyio.move_on_after(INTERRUPT_INTERVAL_S):
                await running.ended.wait()
            if anyio.current_time() >= kill_at:
                link.kill()

    # Workers

    def _start(self, seat: _Seat) -> WorkerLink:
        try:
            link = seat.link = self._start_worker(seat.number, self._post)
        except (OSError, RuntimeError) as error:  # no descriptors or no threads are left
            raise ResourceLimit(f"worker {seat.number} ({self.kind}) could not be started: {error}") from error
        self._by_link[link] = seat
        return link

    async def _end_workers(self) -> None:
        while links := list(self._by_link):
            for link in links:
                link.stop()
            with anyio.move_on_after(INTERRUPT_INTERVAL_S):
                await self._worker_gone.wait()

    def _post(self, link: WorkerLink, reports: Sequence[Report]) -> None:
        # Answers go to whoever waits for them by the shortest way; the event loop need not be woken for them.
        others = [report for report in reports if not (isinstance(report, Answer) and self._answer(link, report))]
        if others:
            self._inbox.post_all((link, report) for report in others)

    def _answer(self, link: WorkerLink, answer: Answer) -> bool:
        seat = self._by_link.get(link)
        service = seat.services.get(answer.job_id) if seat is not None else None
        if service is None:
            return False
        service.answer(answer.payload)
        return True

    async def _take_reports(self) -> None:
        # Shielded: whoever is cancelled still waits for the end of his job, and this task brings it.
        with self._taking:
            while True:
                for link, report in await self._inbox.take():
                    try:
                        self._receive(link, self._by_link[link], report)
                    except Exception as error:  # this task must go on: all that end wait for it
                        self._distrust(link, error)

    def _receive(self, link: WorkerLink, seat: _Seat, report: Report) -> None:
        match report:
            case BatchesReady(job_id, batches):
                seat.jobs[job_id].give(batches)
            case Answer(job_id, payload):
                seat.services[job_id].answer(payload)
            case Done(job_id, result):
                seat.end_job(job_id, result, result.busy_s)
            case Failed(job_id, error, busy_s):
                seat.end_job(job_id, error, busy_s)
            case Cancelled(job_id, busy_s):
                seat.end_job(job_id, QueryCancelled("the job was cancelled"), busy_s)
            case WorkerReady():
                seat.ready = True
            case WorkerEnded(reason):
                self._worker_ended(link, seat, reason)
            case _:
                assert_never(report)

    def _distrust(self, link: WorkerLink, error: Exception) -> None:
        """Fail the jobs of a worker that reported what cannot be, and end it."""
        if (seat := self._by_link.get(link)) is not None:
            for job_id in [*seat.jobs, *seat.services]:
                failure = QueryError(f"internal error: worker {seat.number} ({self.kind}) was not understood: {error!r}")
                failure.__cause__ = error
                seat.end_job(job_id, failure, 0.0)
            link.stop()

    def _worker_ended(self, link: WorkerLink, seat: _Seat, reason: str) -> None:
        del self._by_link[link]
        was_ready, seat.ready, seat.link = seat.ready, False, None
        for job_id in [*seat.jobs, *seat.services]:
            seat.end_job(job_id, self._lost(seat, reason), 0.0)
        link.join()
        self._worker_gone.set()
        self._worker_gone = anyio.Event()
        if self._closing:
            return
        seat.restarts += 1
        # One that could not even start is tried again with the next job, which then has the reason if it fails too.
        if was_ready:
            with suppress(ResourceLimit):
                self._start(seat)

    def _lost(self, seat: _Seat, reason: str) -> StreamqError:
        if self._closing:
            return QueryCancelled(f"the {self.kind} pool was closed")
        return WorkerCrashed(f"worker {seat.number} ({self.kind}) {reason}")
