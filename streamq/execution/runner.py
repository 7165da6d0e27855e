"""The inside of a worker: jobs that are open on one session, advanced a few batches at a time in turn.

Synchronous and without I/O of its own: a thread or a process around it takes commands in and hands events out. A job
takes a turn when its reader has granted one, or when it writes files; otherwise it costs nothing but its memory.
Every job ends in exactly one of `Done`, `Failed` and `Cancelled`.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import assert_never

import duckdb
import pyarrow as pa

from streamq.errors import QueryError, StreamqError
from streamq.execution.jobs import ArrowFiles, Job, JobResult, ToFiles
from streamq.execution.parts import PartFiles
from streamq.kernels.session import Interrupted, Session, is_fatal, translate

_WITH = re.compile(r"\s*WITH\b(?P<recursive>\s+RECURSIVE\b)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BatchesReady:
    """The next batches of a job: those of one turn."""

    job_id: int
    batches: Sequence[pa.RecordBatch]


@dataclass(frozen=True, slots=True)
class Done:
    """A job has given all its rows."""

    job_id: int
    result: JobResult


@dataclass(frozen=True, slots=True)
class Failed:
    """A job ended with an error."""

    job_id: int
    error: StreamqError
    busy_s: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job ended because it was cancelled; nothing of it is left."""

    job_id: int
    busy_s: float


Event = BatchesReady | Done | Failed | Cancelled


@dataclass(frozen=True, slots=True)
class Open:
    """Run a job; it may take `credits` turns until more are granted."""

    job_id: int
    job: Job
    credits: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Let a job take more turns."""

    job_id: int
    credits: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a job."""

    job_id: int


Command = Open | Grant | Cancel


TURN_S = 0.005
"""No batch is begun later in a turn. A turn's batches are handed over together: to wake their reader costs as much as a quick batch."""
HEADER_BYTES = 1_024
"""What a batch takes besides its columns when it is handed over."""


def work(runner: JobRunner, commands: SimpleQueue[Command | None], deliver: Callable[[Sequence[Event]], None]) -> None:
    """Obey commands and give jobs their turns, until the command None. New commands come before the next turn."""
    while True:
        while not runner.runnable or not commands.empty():
            command = commands.get()
            if command is None:
                return
            runner.obey(command)
        if events := runner.step():
            deliver(events)


class JobRunner:
    """Runs the jobs of worker number `worker`.

    All methods belong to the worker's thread, except the interrupts, which are for every other. The batches of a turn
    have at most `turn_bytes` together (one row may be larger).
    """

    def __init__(self, session: Session, worker: int, turn_bytes: int) -> None:
        self._session = session
        self._worker = worker
        self._turn_bytes = turn_bytes
        self._jobs: dict[int, _OpenJob] = {}
        self._turns: deque[_OpenJob] = deque()
        self._ended: deque[Event] = deque()

    @property
    def runnable(self) -> bool:
        """`step` has something to do."""
        return bool(self._turns or self._ended)

    def obey(self, command: Command) -> None:
        """Do what a command says."""
        match command:
            case Open(job_id, job, credits):
                self.open(job_id, job, credits)
            case Grant(job_id, credits):
                self.grant(job_id, credits)
            case Cancel(job_id):
                self.cancel(job_id)
            case _:
                assert_never(command)

    def open(self, job_id: int, job: Job, credits: int) -> None:
        """Take a job in. Its SQL starts at its first turn."""
        opened = self._jobs[job_id] = _OpenJob(job_id, job, credits, self._turn_bytes)
        self._queue(opened)

    def grant(self, job_id: int, credits: int) -> None:
        """Let a job take more turns. A job that has ended needs none."""
        if (opened := self._jobs.get(job_id)) is not None:
            opened.credits += credits
            self._queue(opened)

    def cancel(self, job_id: int) -> None:
        """End a job now. A job that has ended stays as it ended."""
        if (opened := self._jobs.get(job_id)) is not None:
            self._end(opened)
            self._ended.append(Cancelled(job_id, opened.busy_s))

    def interrupt(self, job_id: int) -> None:
        """Stop the SQL that a job is executing at this moment, from another thread.

        Nothing happens if it is another job's turn, so whoever cancels repeats this until the job has ended.
        """
        if (opened := self._jobs.get(job_id)) is not None:
            opened.interrupt()

    def interrupt_all(self) -> None:
        """Stop whatever is executing at this moment, from another thread."""
        for opened in list(self._jobs.values()):
            opened.interrupt()

    def step(self) -> Sequence[Event]:
        """Give one job its turn. Without events: a turn that had none, or nothing to do."""
        if self._ended:
            return [self._ended.popleft()]
        if not self._turns:
            return []
        opened = self._turns.popleft()
        opened.queued = False
        events: list[Event] = []
        try:
            opened.take_turn(self._session, self._worker, events.append)
        except Exception as error:  # whatever a job fails with is the end of that job only
            events.append(self._failure(opened, error))
        if not events or isinstance(events[-1], BatchesReady):
            self._queue(opened)
        else:
            self._end(opened)
        return events

    def close(self) -> None:
        """End every job and the session."""
        for opened in list(self._jobs.values()):
            self._end(opened)
        self._session.close()

    def _failure(self, opened: _OpenJob, error: Exception) -> Event:
        if is_fatal(error):
            self._session.close()
            self._session = self._session.reopened()
        failure = translate(error)
        if isinstance(failure, Interrupted):
            return Cancelled(opened.job_id, opened.busy_s)
        return Failed(opened.job_id, failure, opened.busy_s)

    def _queue(self, opened: _OpenJob) -> None:
        if not opened.queued and opened.may_advance:
            opened.queued = True
            self._turns.append(opened)

    def _end(self, opened: _OpenJob) -> None:
        del self._jobs[opened.job_id]
        if opened.queued:
            self._turns.remove(opened)
        opened.close()


class _OpenJob:
    """One job: its cursor, its reader, and how many turns it may still take."""

    def __init__(self, job_id: int, job: Job, credits: int, turn_bytes: int) -> None:
        self.job_id = job_id
        self.job = job
        self.credits = credits
        self.queued = False
        self._busy_s = 0.0
        self._turn_began: float | None = None
        self._turn_bytes = turn_bytes
        self._rows = 0
        self._bytes = 0
        self._cursor: duckdb.DuckDBPyConnection | None = None
        self._cursor_lock = threading.Lock()
        self._reader: pa.RecordBatchReader | None = None
        self._schema = pa.schema([])
        self._batches: Iterator[_Sized] = iter(())
        self._pending: _Sized | None = None
        self._exhausted = False
        self._parts: PartFiles | None = None

    @property
    def may_advance(self) -> bool:
        return self.credits > 0 or isinstance(self.job.output, ToFiles)

    @property
    def busy_s(self) -> float:
        """The time in turns, with the one that goes on."""
        return self._busy_s if self._turn_began is None else self._busy_s + time.perf_counter() - self._turn_began

    def take_turn(self, session: Session, worker: int, tell: Callable[[Event], None]) -> None:
        """Tell the next batches, the end, or both. A turn that raises is the last."""
        self._turn_began = time.perf_counter()
        self._advance(session, tell, self._turn_began + TURN_S)
        if self._exhausted:
            tell(Done(self.job_id, self._result(worker)))
        self._busy_s, self._turn_began = self.busy_s, None

    def _advance(self, session: Session, tell: Callable[[Event], None], until: float) -> None:
        if self._reader is None:
            self._start(session)
        batches: list[pa.RecordBatch] = []
        try:
            self._gather(batches, until)
        finally:  # what was complete before a failure counts
            self._hand_over(batches, tell)

    def _hand_over(self, batches: list[pa.RecordBatch], tell: Callable[[Event], None]) -> None:
        self._rows += sum(batch.num_rows for batch in batches)
        if self._parts is not None:
            for batch in batches:
                self._parts.write(batch)
        elif batches:
            self.credits -= 1
            tell(BatchesReady(self.job_id, batches))

    def interrupt(self) -> None:
        with self._cursor_lock:
            if self._cursor is not None:
                self._cursor.interrupt()

    def close(self) -> None:
        """Let go of the SQL, the inputs and, unless they were completed, the files."""
        if self._parts is not None:
            self._parts.discard()
            self._parts = None
        self._batches, self._pending = iter(()), None
        with self._cursor_lock:
            cursor, self._cursor = self._cursor, None
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if cursor is not None:
            cursor.close()

    def _start(self, session: Session) -> None:
        job = self.job
        cursor = session.cursor()
        with self._cursor_lock:
            self._cursor = cursor
        for name, source in job.inputs:
            cursor.register(name, read_files(source) if isinstance(source, ArrowFiles) else source)
        sql = with_views(job.sql, job.views)
        # DuckDB refuses values for parameters that the SQL does not have, and a fragment has only some of the query's.
        [statement] = cursor.extract_statements(sql)
        if statement.type != duckdb.StatementType.SELECT:
            raise QueryError(f"a job runs a SELECT, not {statement.type.name}")
        values = {name: value for name, value in job.parameters if name in statement.named_parameters}
        relation = cursor.sql(sql, params=values) if values else cursor.sql(sql)
        self._reader = relation.to_arrow_reader(job.batch_rows)
        self._schema = self._reader.schema
        self._batches = self._read(self._reader)
        if isinstance(job.output, ToFiles):
            self._parts = PartFiles(job.output, self._schema)
            self._schema = self._parts.schema

    def _read(self, reader: pa.RecordBatchReader) -> Iterator[_Sized]:
        for whole in reader:
            self._bytes += whole.get_total_buffer_size()
            yield from cut(whole, self.job.batch_rows, self._turn_bytes)

    def _gather(self, gathered: list[pa.RecordBatch], until: float) -> None:
        """Take at least one batch if there is any, and more while there is time and room. What has no more room is the next turn's."""
        room = self._turn_bytes
        while not gathered or time.perf_counter() < until:
            sized, self._pending = self._pending or next(self._batches, None), None
            if sized is None:
                self._exhausted = True
                break
            room -= sized.bytes + HEADER_BYTES
            if gathered and room < 0:
                self._pending = sized
                break
            gathered.append(sized.batch)

    def _result(self, worker: int) -> JobResult:
        files: tuple[tuple[int, str, int], ...] = ()
        if self._parts is not None:
            files = self._parts.complete()
            self._parts = None
        return JobResult(worker, self._rows, self._bytes, self.busy_s, self._schema, files)


@dataclass(frozen=True, slots=True)
class _Sized:
    """A batch and its size, as far as rows are of like size."""

    batch: pa.RecordBatch
    bytes: int


def cut(batch: pa.RecordBatch, max_rows: int, max_bytes: int) -> Iterator[_Sized]:
    """Slice a batch into parts of at most `max_rows` and, as far as rows are of like size, `max_bytes`; none of no rows.

    >>> [(part.batch.num_rows, part.bytes) for part in cut(pa.record_batch({"a": pa.array(range(10), pa.int64())}), 8, 40)]
    [(5, 40), (5, 40)]
    """
    rows, size = batch.num_rows, batch.get_total_buffer_size()
    if not rows:
        return
    parts = max(-(-rows // max_rows), -(-size // max_bytes))
    if parts == 1:
        yield _Sized(batch, size)
        return
    step = max(1, -(-rows // parts))
    for first in range(0, rows, step):
        yield _Sized(batch.slice(first, step), size * min(step, rows - first) // rows)


def with_views(sql: str, views: tuple[tuple[str, str], ...]) -> str:
    """Put named queries in front of a SELECT.

    They are part of the statement, not views of the catalog, because a view cannot have parameters.

    >>> print(with_views("SELECT * FROM v", (("v", "SELECT $p1 AS a"),)))
    WITH "v" AS NOT MATERIALIZED (
    SELECT $p1 AS a
    )
    SELECT * FROM v
    """
    if not views:
        return sql
    named = ",\n".join(f"{_quoted(name)} AS NOT MATERIALIZED (\n{query}\n)" for name, query in views)
    own = _WITH.match(sql)
    if own is None:
        return f"WITH {named}\n{sql}"
    return f"WITH{own['recursive'] or ''} {named},\n{sql[own.end() :]}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def read_files(files: ArrowFiles) -> pa.Table:
    """Map Arrow files: the rows stay in the page cache, and are read as they are needed."""
    batches: list[pa.RecordBatch] = []
    for path in files.paths:
        with pa.memory_map(path) as source:
            reader = pa.ipc.open_file(source)
            batches += [reader.get_batch(number) for number in range(reader.num_record_batches)]
    return pa.Table.from_batches(batches, files.schema)
