"""An open job inside a worker: its SQL, started at its first turn, and its rows, taken a few batches a turn."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from streamq.errors import QueryError
from streamq.execution.commands import BatchesReady, Done, Event
from streamq.execution.jobs import ArrowFiles, Job, JobResult, ToFiles, ToReader
from streamq.execution.parts import PartFiles
from streamq.kernels.session import Session

_WITH = re.compile(r"\s*WITH\b(?P<recursive>\s+RECURSIVE\b)?", re.IGNORECASE)
FIRST_TURN_S = 0.005
TURN_S = 0.02
"""No batch is begun later in a turn. A turn's batches are handed over together: to wake their reader costs as much as a quick batch. But
the first are waited for."""
HEADER_BYTES = 1_024
"""What a batch takes besides its columns when it is handed over."""


class OpenJob:
    """One job: its cursor, its reader, and how many turns it may still take."""

    def __init__(self, job_id: int, job: Job, credits: int, turn_bytes: int) -> None:
        self.job_id = job_id
        self.job = job
        self.credits = credits
        self.queued = False
        self._lend = isinstance(job.output, ToReader) and job.output.lend
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
        self._interrupted = False
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
        self._advance(session, tell, self._turn_began + (FIRST_TURN_S if self._reader is None else TURN_S))
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
            tell(BatchesReady(self.job_id, batches, self._lend))

    def interrupt(self) -> None:
        self._interrupted = True
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
        while not gathered or (time.perf_counter() < until and not self._interrupted):
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
