"""Runs a physical plan: its stages in order of dependency, each as tasks over a worker pool.

A task takes a piece of its stage's work (a lease of splits, a partition, or the whole), runs it as a job, and takes the
next. Rows that stages keep for each other go through files in the query's directory, written and mapped by the workers
themselves; only rows for the reader come through here. A job whose worker died is run once more if none of
its rows were passed on.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, assert_never

import anyio
import anyio.to_thread
import pyarrow as pa

from streamq.errors import DataError, QueryError, ResourceLimit, ShardError, SourceError, StreamqError, WorkerCrashed
from streamq.execution.budget import CREDITS, Admission
from streamq.execution.events import emit_piece_started
from streamq.execution.jobs import ArrowFiles, Job, JobResult, ToFiles, ToReader, WorkerPool
from streamq.execution.output import ReaderOutput
from streamq.execution.pieces import Kept, Piece, StageState, by_split, pieces, width
from streamq.execution.statistics import ScanStatistics
from streamq.flow.merge import merge_runs
from streamq.flow.scopes import raising_one
from streamq.flow.stopwatch import Stopwatch
from streamq.kernels.session import translate
from streamq.plan.explain import StageRun
from streamq.plan.fragments import (
    Emit,
    Keep,
    PhysicalPlan,
    ScanInput,
    SortedRuns,
    Stage,
    StageInput,
)
from streamq.plan.pruning import PlannedScan
from streamq.plan.relations import RelationSnapshot, ScanArrow, ScanSql

T = TypeVar("T")
Args = TypeVarTuple("Args")


@dataclass(frozen=True, slots=True)
class PlanContext:
    """What the stages of one query share. `scans` are the scans that drive stages, by stage id. With `lend` the query's reader
    lets go of each batch soon.
    """

    query_id: str
    plan: PhysicalPlan
    snapshots: Mapping[str, RelationSnapshot]
    scans: Mapping[int, PlannedScan]
    parameters: tuple[tuple[str, object], ...]
    batch_rows: int
    target_partitions: int
    lend: bool


class PlanRun:
    """One run of a physical plan."""

    def __init__(
        self, context: PlanContext, pool: WorkerPool, admission: Admission, output: ReaderOutput, limiter: anyio.CapacityLimiter
    ) -> None:
        self.context = context
        self._pool = pool
        self._admission = admission
        self._output = output
        self._limiter = limiter
        self._directory = os.path.join(pool.directory, context.query_id)
        self._has_directory = False
        self._spooling = anyio.Lock()
        self._for_workers = Stopwatch()
        self._stages = {stage.id: StageState(stage, context.scans.get(stage.id)) for stage in context.plan.stages}

    def report(self) -> tuple[StageRun, ...]:
        """Tell what each stage has done so far."""
        return tuple(run.report() for run in self._stages.values())

    def scans(self) -> tuple[ScanStatistics, ...]:
        """Tell how far each scan that drives a stage is."""
        return tuple(run.scan.statistics() for run in self._stages.values() if run.scan is not None)

    @property
    def worker_s(self) -> float:
        """How long tasks have waited for workers, all of them together."""
        return self._for_workers.seconds

    async def run(self) -> None:
        """Run every stage; return when all rows are with the output, or it wants no more.

        Raises:
            StreamqError: the first failure, after everything else of the plan was cancelled.
        """
        try:
            with raising_one(), anyio.CancelScope() as scope:
                self._output.when_satisfied(scope.cancel)
                await _side_by_side(
                    [(run.stage.label, partial(self._run_stage, run)) for run in self._stages.values()], self.context.query_id
                )
        finally:
            if self._has_directory:
                with anyio.CancelScope(shield=True):
                    await self._in_thread(_remove_directory, self._directory)

    async def _run_stage(self, run: StageState) -> None:
        for source in run.stage.fragment.inputs:
            if isinstance(source, StageInput):
                await self._stages[source.stage].done.wait()
        take = pieces(run, self.context.snapshots, self.context.target_partitions)
        runners = range(width(run, self.context.target_partitions))
        name = f"{self.context.query_id} {run.stage.label}"
        await _side_by_side([(str(runner), partial(self._run_pieces, run, take, runner)) for runner in runners], name)
        if isinstance(run.stage.output, SortedRuns):
            await self._merge(run.kept())
        run.done.set()

    async def _run_pieces(self, run: StageState, take: Callable[[int], Piece | None], runner: int) -> None:
        while (piece := take(runner)) is not None:
            run.tasks += 1
            emit_piece_started(self.context.query_id, run.stage.label, runner, width(run, self.context.target_partitions), piece.shard)
            if not isinstance(run.stage.output, Emit):
                await self._run_to_files(run, piece)
            elif self._admission.admit_direct():
                try:
                    self._finished(run, piece, await self._run_piece(run.stage, piece, ToReader(self.context.lend)))
                finally:
                    self._admission.end_direct()
            else:
                await self._spool(run, piece)

    def _finished(self, run: StageState, piece: Piece, result: JobResult) -> None:
        run.results.append((piece.number, result))
        if run.scan is not None:
            run.scan.rows_done += sum(lease.rows for lease in piece.leases.values())
            run.scan.splits_done += sum(len(lease.splits) for lease in piece.leases.values())

    async def _run_to_files(self, run: StageState, piece: Piece, name: str = "") -> JobResult:
        self._has_directory = True
        partitions = run.stage.output.partitions if isinstance(run.stage.output, Keep) else 1
        output = ToFiles(self._directory, f"stage{run.stage.id}-{piece.number}{name}", partitions)
        with self._for_workers:
            await self._admission.filing.acquire()
        try:
            result = await self._run_piece(run.stage, piece, output)
        finally:
            self._admission.filing.release()
        self._finished(run, piece, result)
        return result

    async def _spool(self, run: StageState, piece: Piece) -> None:
        """Send the rows of a piece by way of files: a split at a time, so that those of a stalled reader stay small."""
        async with self._spooling:
            for number, part in enumerate(by_split(piece)):
                result = await self._run_to_files(run, part, f"-{number}")
                for _, path, _ in result.files:
                    for batch in await self._in_thread(_map_batches, path):
                        await self._output.send(batch)
                    os.unlink(path)

    async def _run_piece(self, stage: Stage, piece: Piece, output: ToReader | ToFiles) -> JobResult:
        try:
            try:
                result = await self._run_job(stage, piece, output)
            except _Undelivered:
                again = replace(output, name=f"{output.name}-again") if isinstance(output, ToFiles) else output
                result = await self._run_job(stage, piece, again)
            if not self._at_hand(stage):
                await self._in_thread(self._verify, stage, piece)
        except _Undelivered as undelivered:
            raise _name_shard(undelivered.crash, piece.shard) from undelivered.crash
        except StreamqError as error:
            raise _name_shard(await self._explained(error, stage, piece), piece.shard) from error
        except (OSError, MemoryError, pa.ArrowException) as error:  # a table that shared memory has no room for
            raise _name_shard(translate(error), piece.shard) from error
        return result

    async def _run_job(self, stage: Stage, piece: Piece, output: ToReader | ToFiles) -> JobResult:
        if isinstance(output, ToReader) and self._at_hand(stage):
            made = self._job(stage, piece, output)
        else:
            # In a thread, because some snapshots read files here, and most look at them.
            made = await self._in_thread(self._job, stage, piece, output)
        async with self._pool.run(made, credits=CREDITS, waiting=self._for_workers) as job:
            try:
                async for batch in job:
                    await self._output.send(batch)
            except WorkerCrashed as crash:
                if job.delivered:
                    raise
                raise _Undelivered(crash) from crash
            return job.result

    def _job(self, stage: Stage, piece: Piece, output: ToReader | ToFiles) -> Job:
        context = self.context
        if isinstance(output, ToFiles):
            os.makedirs(output.directory, exist_ok=True)
        views: list[tuple[str, str]] = []
        inputs: list[tuple[str, pa.Table | ArrowFiles]] = []
        for source in stage.fragment.inputs:
            match source:
                case ScanInput():
                    match self._read(source, piece):
                        case ScanSql(sql):
                            views.append((source.name, sql))
                        case ScanArrow(table):
                            inputs.append((source.name, table))
                case StageInput():
                    kept = self._stages[source.stage].kept()
                    inputs.append((source.name, kept.read(piece.partition if source.partitioned else None)))
                case _:
                    assert_never(source)
        return Job(
            query_id=context.query_id,
            shard=piece.shard,
            sql=stage.fragment.sql,
            views=(*views, *stage.fragment.views),
            inputs=tuple(inputs),
            parameters=context.parameters,
            output=output,
            batch_rows=context.batch_rows,
        )

    def _at_hand(self, stage: Stage) -> bool:
        """Tell whether all that a stage reads of relations is there."""
        scans = [source for source in stage.fragment.inputs if isinstance(source, ScanInput)]
        snapshots = self.context.snapshots
        return all(
            snapshots[scan.relation].at_hand and set(scan.columns or ()) <= set(snapshots[scan.relation].schema.names) for scan in scans
        )

    async def _explained(self, error: StreamqError, stage: Stage, piece: Piece) -> StreamqError:
        """Give the reason for an error where a file that changed is one: whatever is then found in it means nothing."""
        try:
            await self._in_thread(self._verify, stage, piece)
        except SourceError as changed:
            return changed
        return error

    def _verify(self, stage: Stage, piece: Piece) -> None:
        """Check that the files which a piece read are still the same: they could have changed while it was reading."""
        for source in stage.fragment.inputs:
            if isinstance(source, ScanInput):
                self.context.snapshots[source.relation].verify(piece.leases.get(source.name))

    async def _in_thread(self, function: Callable[[*Args], T], *args: *Args) -> T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._limiter)

    def _read(self, scan: ScanInput, piece: Piece) -> ScanSql | ScanArrow:
        snapshot = self.context.snapshots[scan.relation]
        columns = snapshot.schema.names if scan.columns is None else scan.columns
        return snapshot.read(piece.leases.get(scan.name), columns, scan.filter)

    # The ordered merge

    async def _merge(self, kept: Kept) -> None:
        runs = [iter(await self._in_thread(_map_batches, path)) for _, _, path in sorted(kept.files)]
        # Closed before the query ends, because its frame holds the maps of the files. A cancelled wait for the thread still
        # waits until it has returned, so nobody is inside the merge then.
        with closing(merge_runs(runs, self.context.batch_rows)) as merged:
            while (batch := await self._in_thread(next, merged, None)) is not None:
                await self._output.send(batch)


async def _side_by_side(works: Sequence[tuple[str, Callable[[], Coroutine[Any, Any, None]]]], prefix: str) -> None:
    """Do several things at once, each as a task of its name behind the prefix; a single one needs none."""
    if len(works) == 1:
        await works[0][1]()
        return
    async with anyio.create_task_group() as tasks:
        for name, work in works:
            tasks.start_soon(work, name=f"{prefix} {name}")


class _Undelivered(QueryError):
    """A worker died before any row of its job was passed on."""

    def __init__(self, crash: WorkerCrashed) -> None:
        super().__init__(str(crash))
        self.crash = crash


def _map_batches(path: str) -> list[pa.RecordBatch]:
    """Give the batches of an Arrow file, in a map of it. They outlive its descriptor and its name."""
    with pa.memory_map(path) as file:
        reader = pa.ipc.open_file(file)
        return [reader.get_batch(number) for number in range(reader.num_record_batches)]


def _remove_directory(path: str) -> None:
    # It is made with the first file. What cannot be removed, such as without descriptors, goes with the pool's directory: a query whose
    # rows are complete, or which has failed of something else, does not fail of that.
    shutil.rmtree(path, ignore_errors=True)


def _name_shard(error: StreamqError, shard: str) -> StreamqError:
    """Give the same kind of error with the shard in its message; an error of no particular kind becomes a ShardError."""
    message = f"{error} [shard: {shard}]"
    if type(error) in (DataError, ResourceLimit, SourceError, WorkerCrashed):
        return type(error)(message)
    return ShardError(message, shard=shard)
