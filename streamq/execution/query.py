"""One started query: its task, its channel, its end.

A query runs in the scope of the database that started it. Its reader sees rows, completion and failure through the
channel and nowhere else; whoever lets it go (the reader, a deadline, `cancel`, the end of the database) cancels the query's
scope, and `wait_ended` returns when nothing of it is left.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
import pyarrow as pa

from streamq.errors import QueryCancelled, QueryError, QueryTimeout, StreamqError
from streamq.execution.budget import Admission
from streamq.execution.jobs import WorkerPool
from streamq.execution.output import ReaderOutput
from streamq.execution.stages import PlanContext, PlanRun
from streamq.execution.statistics import Outcome, QueryStatistics
from streamq.flow.channel import ByteBudget, Channel
from streamq.plan.explain import StageRun

CHANNEL_ROWS = 131_072
"""Four batches of the default size: enough that a reader which keeps up never waits, small beside what workers hold."""
CHANNEL_BYTES = 16 << 20
"""Four slots of a worker's ring. All queries together have a budget besides."""


@dataclass(frozen=True, slots=True)
class QueryRequest:
    """Everything that running a planned query needs."""

    sql: str
    context: PlanContext
    pool: WorkerPool
    deadline: float
    timeout_s: float | None


class Query:
    """A query that was started and has not been forgotten."""

    def __init__(
        self,
        request: QueryRequest,
        admission: Admission,
        waiting: ByteBudget,
        limiter: anyio.CapacityLimiter,
        on_end: Callable[[Query], None],
    ) -> None:
        plan = request.context.plan
        self.id = request.context.query_id
        self.sql = request.sql
        self.schema: pa.Schema = plan.schema
        self.positions = {name: snapshot.rows for name, snapshot in request.context.snapshots.items()}
        self.channel = Channel(CHANNEL_ROWS, CHANNEL_BYTES, waiting)
        self.outcome: Outcome = "running"
        self.error: StreamqError | None = None
        self._request = request
        self._on_end = on_end
        self._output = ReaderOutput(self.channel, plan.schema, plan.limit, plan.offset)
        self._plan_run = PlanRun(request.context, request.pool, admission, self._output, limiter)
        self._scope = anyio.CancelScope(deadline=request.deadline)
        self._cancelled: StreamqError | None = None
        self._ended = anyio.Event()
        self._started_at = time.time()
        self._started = time.monotonic()
        self._finished: float | None = None
        self.first_batch_s: float | None = None
        self.rows_out = 0
        self.batches_out = 0

    async def run(self) -> None:
        """Run to the end. Never raises a failure of the query: that is the reader's."""
        error: StreamqError | None = QueryCancelled(f"query {self.id} was cancelled: its database was closed")
        try:
            with self._scope:
                await self._plan_run.run()
                self.channel.close()
                await self.channel.wait_drained()
                error = None
            if self._scope.cancelled_caught:
                error = self._cancelled or self._timed_out()
        except StreamqError as failure:
            error = failure
        except Exception as failure:
            error = QueryError(f"internal error in query {self.id}: {type(failure).__name__}: {failure}")
            error.__cause__ = failure
        finally:
            self._end(error)

    async def receive(self) -> pa.RecordBatch | None:
        """Take the next batch of the result; None is the end.

        Raises:
            QueryError, SourceError: the query did not complete.
        """
        batch = await self.channel.receive()
        if batch is None:
            # Whoever has read a query to its end finds nothing of it left.
            await self.wait_ended()
        else:
            if self.first_batch_s is None:
                self.first_batch_s = time.monotonic() - self._started
            self.rows_out += batch.num_rows
            self.batches_out += 1
        return batch

    def cancel(self, reason: StreamqError | None = None) -> None:
        """Abort the query. Its reader gets `reason` (QueryCancelled if None); a query that has ended stays as it ended."""
        if self._cancelled is None:
            self._cancelled = reason or QueryCancelled(f"query {self.id} was cancelled")
        self._scope.cancel()

    async def wait_ended(self) -> None:
        """Wait until nothing of the query runs or is open."""
        await self._ended.wait()

    def stages(self) -> tuple[StageRun, ...]:
        """Tell what each stage of the plan has done so far."""
        return self._plan_run.report()

    def statistics(self) -> QueryStatistics:
        plan, channel = self._request.context.plan, self.channel.statistics()
        return QueryStatistics(
            query_id=self.id,
            sql=self.sql,
            outcome=self.outcome,
            started_at=self._started_at,
            elapsed_s=(self._finished or time.monotonic()) - self._started,
            first_batch_s=self.first_batch_s,
            rows_out=self.rows_out,
            bytes_out=self.channel.bytes_taken,
            batches_out=self.batches_out,
            strategy=type(plan.strategy).__name__,
            executor=self._request.pool.kind,
            fallback=next((choice.fallback for choice in plan.choices if choice.fallback), None),
            scans=self._plan_run.scans(),
            tasks=sum(stage.tasks for stage in self.stages()),
            channel_batches=channel.batches,
            channel_bytes=channel.bytes,
            blocked_s=channel.blocked_s,
            stages=self.stages(),
            error=None if self.error is None else str(self.error),
        )

    def _timed_out(self) -> StreamqError:
        return QueryTimeout(f"query {self.id} did not complete within its timeout of {self._request.timeout_s} s")

    def _end(self, error: StreamqError | None) -> None:
        self._finished = time.monotonic()
        self.error = error
        match error:
            case None:
                self.outcome = "completed"
            case QueryCancelled():
                self.outcome = "cancelled"
            case QueryTimeout():
                self.outcome = "timed_out"
            case _:
                self.outcome = "failed"
        if error is not None:
            self.channel.abort(error)
        self._ended.set()
        self._on_end(self)
