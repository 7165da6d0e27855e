"""What a database does, wherever it is: in this program, or in a service."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass

import pyarrow as pa

from streamq.execution.results import ExecuteResult
from streamq.execution.statistics import DatabaseStatistics, QueryStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.sql.catalog import RelationInfo
from streamq.sql.statements import Parameters
from streamq.storage.rows import InsertResult

MOST_ROWS = 2**31 - 1
"""No batch of Arrow has more, wherever it is read."""
LONGEST_S = 10**9
"""The longest timeout, thirty years: clocks of event loops take no number that is far larger, and none that is no number."""


@dataclass(frozen=True, slots=True)
class AskedQuery:
    """A SELECT, and how it is to be run: the arguments of `Database.query()`. With `snapshot` one with EMIT is refused.

    Raises:
        ValueError: `batch_rows`, `epoch_rows` or `timeout` is not positive, or far too large.
    """

    sql: str
    params: Parameters
    timeout: float | None
    batch_rows: int
    partitions: int | None
    epoch_rows: int | None = None
    progress: bool = False
    snapshot: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.batch_rows <= MOST_ROWS:
            raise ValueError(f"batch_rows must be at least 1 and at most {MOST_ROWS:,}, not {self.batch_rows}")
        if self.timeout is not None and not 0 < self.timeout <= LONGEST_S:
            raise ValueError(f"timeout must be positive and at most {LONGEST_S:,} seconds, not {self.timeout}")
        if self.epoch_rows is not None and not 1 <= self.epoch_rows <= MOST_ROWS:
            raise ValueError(f"epoch_rows must be at least 1 and at most {MOST_ROWS:,}, not {self.epoch_rows}")


class Database(ABC):
    """Relations, and the queries over them. Made by `connect()`."""

    # Queries

    def query(
        self,
        sql: str,
        params: Parameters = None,
        *,
        timeout: float | None = None,
        batch_rows: int = 32_768,
        epoch_rows: int | None = None,
        partitions: int | None = None,
        progress: bool = False,
    ) -> QueryBatchStream:
        """Make a stream of a SELECT's answer. Only stores its arguments: the stream's start binds, plans and takes the cut.

        `params` is a sequence for ``?`` and ``$1``, a mapping for ``$name``. `timeout` is in seconds, from the start to the
        last row read. A batch has at most `batch_rows` rows. `partitions` is the parallelism (1 to 256; None: the
        database's). Of a continuous query, one with EMIT, `epoch_rows` bounds the rows that are computed together (1: a change for
        every row), and with `progress` an epoch that changes nothing gives a batch without rows.

        Raises:
            ValueError: `batch_rows`, `epoch_rows` or `timeout` is not positive, or far too large.
        """
        return self._stream(AskedQuery(sql, params, timeout, batch_rows, partitions, epoch_rows, progress))

    def snapshot(
        self,
        sql: str,
        params: Parameters = None,
        *,
        timeout: float | None = None,
        batch_rows: int = 32_768,
        partitions: int | None = None,
    ) -> QueryBatchStream:
        """Make a stream of a snapshot query's answer: as `query()` does, but one with EMIT is refused, which has no one answer."""
        return self._stream(AskedQuery(sql, params, timeout, batch_rows, partitions, snapshot=True))

    async def fetch(self, sql: str, params: Parameters = None, *, timeout: float | None = None, partitions: int | None = None) -> pa.Table:
        """Give the whole answer of a snapshot query.

        Raises:
            SqlError: the query cannot be run as written, or is a continuous one.
            QueryError, SourceError: it failed.
        """
        async with self.snapshot(sql, params, timeout=timeout, partitions=partitions) as stream:
            return await stream.read_all()

    @abstractmethod
    async def explain(self, sql: str, params: Parameters = None, *, analyze: bool = False) -> str:
        """Describe how a query runs: strategy and reason, splits, fragments, merge. With `analyze` it is run, its rows counted and dropped.

        Of a continuous query: its changelog and key, the operators, what each keeps and when that is freed, what is final when. With
        `analyze` its sources must be bounded: files, objects, sources that are finished.

        Raises:
            SqlError: the query cannot be run as written, or would have no end.
            QueryError, SourceError: it was run and failed.
        """

    @abstractmethod
    async def relations(self) -> tuple[RelationInfo, ...]:
        """List everything that a query can name: sources, tables, views and what was registered, with their schemas."""

    @abstractmethod
    async def queries(self) -> tuple[QueryStatistics, ...]:
        """List the running queries: of a service those that were asked with the same token, with the right `admin`, or where there are no
        tokens, those of all clients. `continuous` of one with EMIT tells epochs, late rows, watermarks and state."""

    @abstractmethod
    async def cancel(self, query_id: str) -> bool:
        """Abort a query, one of those that `queries()` lists; its reader gets QueryCancelled. Returns when nothing of it is left; False if
        no such query runs."""

    @abstractmethod
    async def statistics(self) -> DatabaseStatistics:
        """Tell what the database has done so far and what it holds."""

    @abstractmethod
    def statistics_nowait(self) -> DatabaseStatistics:
        """Do what `statistics()` does, for callers that cannot wait, such as a metrics collector on the same thread.

        Raises:
            UnsupportedError: the database is that of a service, which has to be asked.
        """

    # Everything else

    @abstractmethod
    async def execute(self, sql: str, params: Parameters = None) -> ExecuteResult:
        """Run a statement that is not a SELECT.

        Raises:
            SqlError: it cannot be run as written.
            QueryError, SourceError: it failed; nothing of it was done.
        """

    async def insert(self, relation: str, rows: object) -> InsertResult:
        """Insert rows into a source or a table: a RecordBatch, a Table, any Arrow stream, dicts, or an async iterable of these.

        When it returns, the rows are visible to every later snapshot. One batch is atomic; an async iterable commits batch by batch.
        Missing columns are NULL. Values are converted without loss or not at all.

        Raises:
            SourceError: no such relation, rows that do not fit; for an async iterable the message says how many rows went in.
            ResourceLimit: the source is full.
        """
        if not isinstance(rows, AsyncIterable):
            return await self._insert_at_once(relation, rows)
        try:
            return await self._insert_each(relation, rows)
        finally:
            if isinstance(rows, AsyncGenerator):
                await rows.aclose()

    @abstractmethod
    async def finish(self, relation: str) -> None:
        """End a pushed source: no more rows come.

        Raises:
            SourceError: no such source.
        """

    @abstractmethod
    async def register(self, name: str, obj_or_path: object, *, watermark: str | None = None) -> None:
        """Give a name to files (a path, a glob, a list of paths) or to an object with Arrow data.

        A `pyarrow.RecordBatchReader` is read once, now. Files are pinned as they are now. A service is sent the object's rows, and keeps
        them; paths would be those of another machine.

        Raises:
            SourceError: a file is missing, unreadable or has another schema than the others; the object has no Arrow data.
            BindError: the name is taken, the watermark does not fit.
            UnsupportedError: a path, for a service.
        """

    @abstractmethod
    async def unregister(self, name: str) -> None:
        """Forget a registered relation. Running queries keep what they read.

        Raises:
            SourceError: no such registered relation.
        """

    # What is left to those that are one

    @abstractmethod
    def _stream(self, asked: AskedQuery) -> QueryBatchStream:
        """Make the stream of a query."""

    @abstractmethod
    async def _insert_at_once(self, relation: str, rows: object) -> InsertResult:
        """Insert rows, all or none."""

    @abstractmethod
    async def _insert_each(self, relation: str, items: AsyncIterable[object]) -> InsertResult:
        """Insert items, each all or none; an error says how many rows had gone in."""
