"""A continuous query, started: what its reader and its database see of it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import anyio.to_thread
import pyarrow as pa

from streamq.execution.budget import PoolKind
from streamq.execution.events import emit_continuous_started
from streamq.execution.jobs import WorkerPool
from streamq.execution.query import CHANNEL_BYTES, OnEnd, Progress, RunningQuery
from streamq.execution.statistics import QueryStatistics
from streamq.flow.channel import ByteBudget, Channel
from streamq.streaming.coordinator import Coordinator
from streamq.streaming.epochs import Emission
from streamq.streaming.opened import OpenedQuery
from streamq.streaming.processes import ProcessPartitions
from streamq.streaming.records import EpochRecord
from streamq.streaming.reports import continuous_statistics, relation_watermarks
from streamq.streaming.snapshots import write_snapshot

OWN_THREADS = 2
"""A query that does not share the threads of the others has one for an epoch, and one for what is done with the epoch before."""


@dataclass(frozen=True, slots=True)
class ContinuousRequest:
    """Everything that running a planned continuous query needs. The query closes `opened`; `pool` gives the workers that it wants."""

    query_id: str
    sql: str
    opened: OpenedQuery
    deadline: float
    timeout_s: float | None
    progress: bool
    pool: Callable[[PoolKind], Awaitable[WorkerPool]]


class ContinuousQuery(RunningQuery):
    """Sends the net changes of every epoch to its reader, with where they stand.

    The channel holds one batch: so the reader has one while the next is ready and one epoch is computed, and no more is read ahead.
    """

    __slots__ = ("_coordinator", "_limiter", "_opened", "_pool", "_progress", "_send_empty", "_sent", "_unsent")

    def __init__(self, request: ContinuousRequest, waiting: ByteBudget, limiter: anyio.CapacityLimiter, on_end: OnEnd) -> None:
        opened = request.opened
        dataflow = opened.planned.dataflow
        channel = Channel(max_rows=1, max_bytes=CHANNEL_BYTES, budget=waiting, max_batches=1)
        super().__init__(request.query_id, request.sql, opened.writer.schema, channel, request.deadline, request.timeout_s, on_end)
        self.changelog = dataflow.changelog
        self.key = dataflow.key
        self.keeps = opened.keeps
        self._opened = opened
        self._pool = request.pool
        # Late rows may have to wait for room that another query makes: that one must not wait for the thread in which they do.
        self._limiter = limiter if dataflow.continuous.late_rows_into is None else anyio.CapacityLimiter(OWN_THREADS)
        self._send_empty = request.progress
        self._sent: list[Progress] = []
        self._unsent: list[tuple[pa.RecordBatch, Progress]] = []
        """What is being handed over, the last one first."""
        self._progress = Progress(epoch=0, epoch_complete=False)
        self._coordinator = Coordinator(
            opened.epochs,
            [*opened.feeds, opened.pace],
            self._emit,
            every_s=dataflow.continuous.every_s,
            interrupt=opened.interrupt,
            limiter=self._limiter,
        )

    async def receive(self) -> pa.RecordBatch | None:
        """Take the next batch of changes; None is the end.

        Raises:
            QueryError, SourceError: the query failed.
        """
        batch = await super().receive()
        if batch is not None:
            self._progress = self._sent.pop(0)
        return batch

    def answer(self, call: Callable[[], None] | None) -> bool:
        """Wait for the next batch or the end without a task. See `Channel.answer`."""
        return self.channel.answer(call)

    def progress(self, complete: bool) -> Progress:
        """Tell where the batch last handed over stands."""
        return self._progress

    def started(self) -> None:
        """Log the form of the changes."""
        planned = self._opened.planned
        emit_continuous_started(
            self.id,
            self.sql,
            form=self.changelog,
            key=self.key,
            executor=planned.executor.kind,
            partitions=planned.partitions,
            operators=len(planned.dataflow.nodes),
        )

    def statistics(self) -> QueryStatistics:
        """Tell how far the query is."""
        continuous = continuous_statistics(self._opened.epochs.report, self._opened.planned.dataflow, time.time())
        return self._statistics(
            strategy="Continuous",
            executor=self._opened.planned.executor.kind,
            worker_s=self._coordinator.for_epochs.seconds,
            source_s=self._coordinator.for_rows.seconds,
            tasks=continuous.epochs,
            continuous=continuous,
            view=None if self.keeps is None else self.keeps.name,
        )

    async def snapshot(self, directory: str | os.PathLike[str]) -> None:
        """Write all that the query is after an epoch, for another run to go on from there; it goes on itself. The changes of that epoch
        and of those before it have been handed to the reader, but for what `EVERY` holds back, which is in the snapshot.

        Raises:
            StorageError: the snapshot cannot be written.
            StreamClosed: the query has ended.
        """
        await self._coordinator.between_epochs(lambda: write_snapshot(self._opened.epochs.save(), directory))

    async def _work(self) -> None:
        try:
            await self._run()
        except Exception:
            # What failed was the work on other epochs than those whose changes are there.
            if (emission := await anyio.to_thread.run_sync(self._coordinator.rest, limiter=self._limiter)) is not None:
                self._unsent = [*self._batches(emission), *self._unsent]
            raise

    def _rest(self) -> Iterator[pa.RecordBatch]:
        """Give what the complete epochs changed and the reader had no room for."""
        while self._unsent:
            batch, progress = self._unsent.pop()
            self._sent.append(progress)
            yield batch

    async def _run(self) -> None:
        partitions = self._opened.partitions
        if isinstance(partitions, ProcessPartitions):
            async with partitions.running(await self._pool("process")):
                await self._coordinator.run()
        elif self._deadline < math.inf:
            await self._coordinator.run()
        else:
            await self._run_or_sleep()

    async def _run_or_sleep(self) -> None:
        while not await self._coordinator.advance():
            # Whoever lets the query go from here on finds it asleep: until its task has ended, nothing else runs.
            await anyio.lowlevel.checkpoint_if_cancelled()
            self._asleep = self._coordinator.sleep(self._wake)
            if self._asleep:
                return
        # The reader may be long in taking what is left.
        self._coordinator.end()

    async def _close(self) -> None:
        self._coordinator.end()  # which may not have begun to run
        await anyio.to_thread.run_sync(self._opened.close, limiter=self._limiter)

    async def _emit(self, emission: Emission) -> None:
        self._unsent = self._batches(emission)
        while self._unsent:
            await self.channel.send(self._unsent[-1][0])
            # Nobody can have read it yet.
            _, progress = self._unsent.pop()
            self._sent.append(progress)

    def _batches(self, emission: Emission) -> list[tuple[pa.RecordBatch, Progress]]:
        """Give what the reader gets of an emission, the last batch first, and where it then stands."""
        batches = emission.batches
        if not batches and self._send_empty:
            batches = (self._opened.writer.empty(),)
        last = len(batches)
        return [(batches[number - 1], _progress(emission.record, complete=number == last)) for number in range(last, 0, -1)]


def _progress(record: EpochRecord, complete: bool) -> Progress:
    return Progress(record.number, complete, relation_watermarks(record), record.rows)
