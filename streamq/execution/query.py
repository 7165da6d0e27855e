"""One started query: its task, its channel, its end.

A query runs in the scope of the database that started it. Its reader sees rows, completion and failure through the
channel and nowhere else; whoever lets it go (the reader, a deadline, `cancel`, the end of the database) cancels the query's
scope, and `wait_ended` returns when nothing of it is left. Let go, its reader has the reason at once; of one that failed the
reader gets what was sent before, however late, and then the error.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import anyio
import anyio.abc
import pyarrow as pa

from streamq.errors import QueryCancelled, QueryError, QueryTimeout, StreamqError
from streamq.execution.budget import Admission
from streamq.execution.events import emit_query_started
from streamq.execution.jobs import WorkerPool
from streamq.execution.output import ReaderOutput
from streamq.execution.stages import PlanContext, PlanRun
from streamq.execution.statistics import ContinuousStatistics, Outcome, QueryStatistics, ScanStatistics, TakenLate, Waits
from streamq.flow.channel import ByteBudget, Channel
from streamq.flow.latch import Latch
from streamq.plan.dataflow import Changelog
from streamq.plan.explain import StageRun
from streamq.storage.view import MaterializedView

CHANNEL_ROWS = 131_072
"""Four batches of the default size: enough that a reader which keeps up never waits, small beside what workers hold."""
CHANNEL_BYTES = 16 << 20
"""Four slots of a worker's ring. All queries together have a budget besides."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the batch last handed over stands.

    `positions` are the rows (of a table: rows and changes) read of each relation. A snapshot query is one epoch, number 0, read at one cut.
    `epoch_complete` tells that the batch is the last one of its epoch: what was read so far is then exact. `watermarks` are those of the
    relations with event time, None as long as there is none.
    """

    epoch: int
    epoch_complete: bool
    watermarks: Mapping[str, object] = field(default_factory=dict)
    positions: Mapping[str, int] = field(default_factory=dict)


class RunningQuery(ABC):
    """A query that was started and has not been forgotten. `schema` is that of its batches.

    One that waits for something that may never come sleeps: it has no task then, and is given one again by what wakes it.
    """

    __slots__ = (
        "_asleep", "_cancelled", "_deadline", "_ended", "_finished", "_on_end", "_on_late", "_scope", "_started", "_tasks", "_timeout_s",
        "batches_out", "changelog", "channel", "error", "first_batch_s", "id", "keeps", "key", "outcome", "rows_out", "schema", "sql",
        "started_at",
    )  # fmt: skip

    def __init__(
        self, id: str, sql: str, schema: pa.Schema, channel: Channel, deadline: float, timeout_s: float | None, on_end: OnEnd
    ) -> None:
        self.id = id
        self.sql = sql
        self.schema = schema
        self.changelog: Changelog = "append"
        self.key: tuple[str, ...] | None = None
        self.keeps: MaterializedView | None = None
        """The view that the query belongs to."""
        self.channel = channel
        self.outcome: Outcome = "running"
        self.error: StreamqError | None = None
        self.first_batch_s: float | None = None
        self.rows_out = 0
        self.batches_out = 0
        self.started_at = time.time()
        self._timeout_s = timeout_s
        self._on_end = on_end
        self._deadline = deadline
        self._tasks: anyio.abc.TaskGroup
        self._on_late: OnLate
        self._scope: anyio.CancelScope | None = None
        self._asleep = False
        self._cancelled: StreamqError | None = None
        self._ended = Latch()
        self._started = time.monotonic()
        self._finished: float | None = None

    @abstractmethod
    async def _work(self) -> None:
        """Send the whole result into the channel, or fall asleep before its end. Cancelled when the query is let go."""

    @abstractmethod
    async def _close(self) -> None:
        """Give back what the query has open, whatever became of it. Shielded from cancellation."""

    @abstractmethod
    def started(self) -> None:
        """Log that the query starts."""

    @abstractmethod
    def statistics(self) -> QueryStatistics:
        """Tell what the query has done so far."""

    async def current_statistics(self) -> QueryStatistics:
        """Do what `statistics()` does, where that has to be waited for."""
        return self.statistics()

    @abstractmethod
    def progress(self, complete: bool) -> Progress:
        """Tell where the batch last handed over stands; `complete` if the reader has had the end."""

    def _rest(self) -> Iterable[pa.RecordBatch]:
        """Give what a query that failed would still have sent, had its reader been faster."""
        return ()

    def launch(self, tasks: anyio.abc.TaskGroup, on_late: OnLate) -> None:
        """Start the query's task in the scope that owns it. `on_late` is told of every batch that the reader takes after the end."""
        self._tasks = tasks
        self._on_late = on_late
        self._run_on()

    async def run(self) -> None:
        """Run to the end, or until the query sleeps. Never raises a failure of the query: that is the reader's."""
        error: StreamqError | None = QueryCancelled(f"query {self.id} was cancelled: its database was closed")
        try:
            with anyio.CancelScope(deadline=self._deadline) as scope:
                self._scope = scope
                if self._cancelled is not None:
                    scope.cancel()
                await self._work()
                if not self._asleep:
                    self.channel.close()
                    await self.channel.wait_drained()
                error = None
            if scope.cancelled_caught:
                error = self._let_go()
        except StreamqError as failure:
            error = failure
        except Exception as failure:
            error = QueryError(f"internal error in query {self.id}: {type(failure).__name__}: {failure}")
            error.__cause__ = failure
        finally:
            self._scope = None
            if not self._asleep:
                await self._finish(error)

    async def receive(self) -> pa.RecordBatch | None:
        """Take the next batch of the result; None is the end.

        Raises:
            QueryError, SourceError: the query did not complete.
        """
        bytes_before = self.channel.bytes_taken
        batch = await self.channel.receive()
        if batch is None:
            # Whoever has read a query to its end finds nothing of it left.
            await self.wait_ended()
        else:
            self._count(batch.num_rows, self.channel.bytes_taken - bytes_before)
        return batch

    def _count(self, rows: int, bytes: int) -> None:
        """Count a batch that the reader has taken."""
        is_first = self.first_batch_s is None
        if self.first_batch_s is None:
            self.first_batch_s = time.monotonic() - self._started
        self.rows_out += rows
        self.batches_out += 1
        if self._ended.is_set:
            self._on_late(TakenLate(self.statistics().kind, rows, bytes, self.first_batch_s if is_first else None))

    def answer(self, call: Callable[[], None] | None) -> bool:
        """Wait for what the reader gets next without a task, where that may take long: see `Channel.answer`."""
        return False

    def cancel(self, reason: StreamqError | None = None) -> None:
        """Abort the query. Its reader gets `reason` (QueryCancelled if None); a query that has ended stays as it ended.

        What its reader has not taken is dropped.
        """
        if self._cancelled is None:
            self._cancelled = reason or QueryCancelled(f"query {self.id} was cancelled")
        if self._ended.is_set:
            self.channel.abort(self._cancelled)
        if self._scope is not None:
            self._scope.cancel()
        self._wake()

    async def wait_ended(self) -> None:
        """Wait until nothing of the query runs or is open."""
        await self._ended.wait()

    @property
    def elapsed_s(self) -> float:
        """The time since the start, until the end."""
        return (self._finished or time.monotonic()) - self._started

    def _statistics(
        self,
        *,
        strategy: str,
        executor: str,
        tasks: int,
        worker_s: float = 0.0,
        source_s: float = 0.0,
        fallback: str | None = None,
        scans: tuple[ScanStatistics, ...] = (),
        stages: tuple[StageRun, ...] = (),
        continuous: ContinuousStatistics | None = None,
        view: str | None = None,
    ) -> QueryStatistics:
        """Add to what is given what every query counts."""
        channel = self.channel.statistics()
        return QueryStatistics(
            query_id=self.id,
            sql=self.sql,
            outcome=self.outcome,
            started_at=self.started_at,
            elapsed_s=self.elapsed_s,
            first_batch_s=self.first_batch_s,
            rows_out=self.rows_out,
            bytes_out=self.channel.bytes_taken,
            batches_out=self.batches_out,
            strategy=strategy,
            executor=executor,
            fallback=fallback,
            scans=scans,
            tasks=tasks,
            channel_batches=channel.batches,
            channel_bytes=channel.bytes,
            waited=Waits(client_s=channel.unread_s, channel_s=channel.blocked_s, worker_s=worker_s, source_s=source_s),
            stages=stages,
            error=None if self.error is None else str(self.error),
            continuous=continuous,
            view=view,
        )

    def _wake(self) -> None:
        """Go on, if the query sleeps. To be called in the event loop."""
        if self._asleep:
            self._asleep = False
            self._run_on()

    def _run_on(self) -> None:
        self._tasks.start_soon(self.run, name=f"streamq: query {self.id}")

    async def _finish(self, error: StreamqError | None) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await self._close()
        finally:
            self._end(error)

    def _let_go(self) -> StreamqError:
        return self._cancelled or QueryTimeout(f"query {self.id} did not complete within its timeout of {self._timeout_s} s")

    def _end(self, error: StreamqError | None) -> None:
        self._finished = time.monotonic()
        self.error = error
        match error:
            case None:
                self.outcome = "completed"
            case QueryCancelled():
                self.outcome = "cancelled"
                self.channel.abort(error)
            case QueryTimeout():
                self.outcome = "timed_out"
                self.channel.abort(error)
            case _:
                self.outcome = "failed"
                self.channel.fail(error, self._rest())
        self._ended.set()
        self._on_end(self)


OnEnd = Callable[[RunningQuery], None]
"""Told once when a query has ended."""
OnLate = Callable[[TakenLate], None]


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """Everything that running a planned query needs."""

    sql: str
    context: PlanContext
    pool: WorkerPool
    deadline: float
    timeout_s: float | None


class Query(RunningQuery):
    """A snapshot query."""

    def __init__(
        self, request: QueryRequest, admission: Admission, waiting: ByteBudget, limiter: anyio.CapacityLimiter, on_end: OnEnd
    ) -> None:
        context, plan = request.context, request.context.plan
        channel = Channel(CHANNEL_ROWS, CHANNEL_BYTES, waiting)
        super().__init__(context.query_id, request.sql, plan.schema, channel, request.deadline, request.timeout_s, on_end)
        self._request = request
        self._positions = {name: snapshot.rows for name, snapshot in context.snapshots.items()}
        self._output = ReaderOutput(channel, plan.schema, plan.limit, plan.offset)
        self._plan_run = PlanRun(context, request.pool, admission, self._output, limiter)

    async def _work(self) -> None:
        await self._plan_run.run()

    async def _close(self) -> None:
        """Do nothing: what a run opens, it closes."""

    def started(self) -> None:
        """Log the strategy, and how what is read is split."""
        context = self._request.context
        emit_query_started(
            self.id,
            self.sql,
            context.plan,
            executor=self._request.pool.kind,
            partitions=context.target_partitions,
            scans=self._plan_run.scans(),
        )

    def progress(self, complete: bool) -> Progress:
        """Give the cut that was read."""
        return Progress(epoch=0, epoch_complete=complete, positions=self._positions)

    def stages(self) -> tuple[StageRun, ...]:
        """Tell what each stage of the plan has done so far."""
        return self._plan_run.report()

    def statistics(self) -> QueryStatistics:
        """Tell what the query has done so far."""
        plan = self._request.context.plan
        return self._statistics(
            strategy=type(plan.strategy).__name__,
            executor=self._request.pool.kind,
            worker_s=self._plan_run.worker_s,
            fallback=next((choice.fallback for choice in plan.choices if choice.fallback), None),
            scans=self._plan_run.scans(),
            tasks=sum(stage.tasks for stage in self.stages()),
            stages=self.stages(),
        )
