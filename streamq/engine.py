"""The public face: a database embedded in the program. Wiring only; what it offers is done elsewhere."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
import pyarrow as pa

from streamq.config import Config
from streamq.connectors import registered
from streamq.errors import QueryTimeout, ResourceLimit, SourceError, UnsupportedError
from streamq.execution.analyze import analyze_continuous, analyze_query, explain_continuous, explain_query
from streamq.execution.cuts import cut_ready
from streamq.execution.host import QueryHost
from streamq.execution.inserts import insert_when_room
from streamq.execution.planning import PlannedContinuous, PlannedQuery, Planner, QueryAtCut, is_continuous, parse_select
from streamq.execution.query import Query, QueryRequest, RunningQuery
from streamq.execution.stages import PlanContext
from streamq.execution.statements import ExecuteResult, drop, queries_table, run_statement
from streamq.execution.statistics import DatabaseStatistics, QueryStatistics, RelationStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.sql.catalog import RelationInfo
from streamq.sql.parse import parse_one
from streamq.sql.statements import CreateView, Drop, Explain, Insert, Parameters, Select, Show
from streamq.storage.catalog import Catalog
from streamq.storage.insertion import Insertion
from streamq.storage.rows import InsertResult

if TYPE_CHECKING:
    from streamq.streaming.opened import OpenedQuery
    from streamq.streaming.query import ContinuousQuery

T = TypeVar("T")
Args = TypeVarTuple("Args")


class connect:
    """Open a database: in memory and embedded in this program, or that of a service.

    `target` None is a new, empty database that lives as long as the block. Keyword arguments are the settings of
    `streamq.Config`; what is not given comes from ``STREAMQ_<NAME>`` in the environment. Leaving the block ends every
    query, worker and temporary file of the database.

    A `target` like ``http://127.0.0.1:8471`` is a service (`streamq serve`), which needs ``pip install 'streamq[service]'``. Leaving the
    block ends the queries that were started in it. `token` is what the service asks of its clients.

    Raises:
        UnsupportedError: `target` names a directory, which this version does not have.
        ValueError: a setting is out of range.
    """

    def __init__(self, target: str | None = None, *, token: str | None = None, **settings: Any) -> None:
        self._opening: AbstractAsyncContextManager[Database, bool | None]
        if target is not None and target.startswith(("http://", "https://")):
            from streamq.client import RemoteConnection

            self._opening = RemoteConnection(target, token, Config.load(**settings))
        elif target is not None or token is not None:
            raise UnsupportedError(
                f"cannot connect to {target!r}: a durable directory is not supported by this version",
                hint="streamq.connect() opens a database in memory, streamq.connect('http://…') one that a service has",
            )
        else:
            self._opening = _Embedded(Config.load(**settings))

    async def __aenter__(self) -> Database:
        return await self._opening.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        return await self._opening.__aexit__(kind, error, trace)


class _Embedded:
    """A database in memory, from its opening to its end."""

    def __init__(self, config: Config) -> None:
        self._host = QueryHost(config)
        self._catalog = Catalog(config)
        self._planner = Planner(self._catalog, config)

    async def __aenter__(self) -> Database:
        return Database(await self._host.__aenter__(), self._catalog, self._planner)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        try:
            return await self._host.__aexit__(kind, error, trace)
        finally:
            self._planner.close()
            self._catalog.close()


class Database:
    """Relations, and the queries over them. Made by `connect()`."""

    def __init__(self, host: QueryHost, catalog: Catalog, planner: Planner) -> None:
        self._host = host
        self._catalog = catalog
        self._planner = planner
        self._creating = anyio.Lock()

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
            ValueError: `batch_rows`, `epoch_rows` or `timeout` is not positive.
        """
        check_query_options(timeout, batch_rows, epoch_rows)

        async def follow(select: Select, deadline: float) -> RunningQuery:
            planned = await self._in_thread(self._planner.plan_continuous, select, params, partitions)
            opened = await self._in_thread(_unopened, planned, self._catalog, self._host.config, batch_rows, epoch_rows)
            return await self._follow(opened, select, deadline, timeout, progress)

        return self._stream(sql, params, timeout, batch_rows, partitions, follow)

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
        return self._stream(sql, params, timeout, batch_rows, partitions)

    async def fetch(self, sql: str, params: Parameters = None, *, timeout: float | None = None, partitions: int | None = None) -> pa.Table:
        """Give the whole answer of a snapshot query.

        Raises:
            SqlError: the query cannot be run as written, or is a continuous one.
            QueryError, SourceError: it failed.
        """
        async with self.snapshot(sql, params, timeout=timeout, partitions=partitions) as stream:
            return await stream.read_all()

    async def explain(self, sql: str, params: Parameters = None, *, analyze: bool = False) -> str:
        """Describe how a query runs: strategy and reason, splits, fragments, merge. With `analyze` it is run, its rows counted and dropped.

        Of a continuous query: its changelog and key, the operators, what each keeps and when that is freed, what is final when. With
        `analyze` its sources must be bounded: files, objects, sources that are finished.

        Raises:
            SqlError: the query cannot be run as written, or would have no end.
            QueryError, SourceError: it was run and failed.
        """
        self._host.check_open()
        return await self._explain(await self._in_thread(parse_select, sql), params, analyze)

    async def relations(self) -> tuple[RelationInfo, ...]:
        """List everything that a query can name: sources, tables, views and what was registered, with their schemas."""
        return tuple((await self._in_thread(self._catalog.infos)).values())

    async def queries(self) -> tuple[QueryStatistics, ...]:
        """List the running queries: of continuous ones, `continuous` tells epochs, late rows, watermarks and state."""
        return self._host.queries()

    async def cancel(self, query_id: str) -> bool:
        """Abort a query; its reader gets QueryCancelled. Returns when nothing of it is left; False if no such query runs."""
        return await self._host.cancel(query_id)

    async def statistics(self) -> DatabaseStatistics:
        """Tell what the database has done so far and what it holds."""
        return self.statistics_nowait()

    def statistics_nowait(self) -> DatabaseStatistics:
        """Do what `statistics()` does, for callers that cannot wait, such as a metrics collector on the same thread."""
        states = self._catalog.statistics()
        return self._host.statistics(
            RelationStatistics(
                state.name,
                state.kind,
                state.rows,
                state.bytes,
                state.inserted,
                state.followers.count,
                state.followers.behind_rows,
                state.followers.behind_bytes,
            )
            for state in states
        )

    # Everything else

    async def execute(self, sql: str, params: Parameters = None) -> ExecuteResult:
        """Run a statement that is not a SELECT.

        Raises:
            SqlError: it cannot be run as written.
            QueryError, SourceError: it failed; nothing of it was done.
        """
        self._host.check_open()
        statement = await self._in_thread(parse_one, sql)
        match statement:
            case Select():
                raise UnsupportedError("execute() runs statements, not queries", sql=sql, hint="use query() or fetch() for a SELECT")
            case Explain(query=select, analyze=analyze):
                text = await self._explain(select, params, analyze)
                return ExecuteResult("explain", 0, pa.table({"explain": text.splitlines()}))
            case Show(what="queries"):
                return ExecuteResult("show", 0, queries_table(self._host.queries()))
            case Insert(relation=relation, columns=columns, query=select):
                rows = await self._read(select, params, lambda schema: self._catalog.check_insert(relation, columns, len(schema), sql=sql))
                inserted = await self._insert(partial(self._catalog.insertion_columns, relation, columns, rows))
                return ExecuteResult("insert", inserted.rows)
            case CreateView(materialized=True):
                return await self._create_view(statement, params)
            case Drop():
                result, gone = await self._in_thread(drop, statement, self._catalog)
                await self._host.end_views(gone)
                return result
            case _:
                return await self._in_thread(run_statement, statement, self._catalog, self._planner, params)

    async def insert(self, relation: str, rows: object) -> InsertResult:
        """Insert rows into a source or a table: a RecordBatch, a Table, any Arrow stream, dicts, or an async iterable of these.

        When it returns, the rows are visible to every later snapshot. One batch is atomic; an async iterable commits batch by batch.
        Missing columns are NULL. Values are converted without loss or not at all.

        Raises:
            SourceError: no such relation, rows that do not fit; for an async iterable the message says how many rows went in.
            ResourceLimit: the source is full.
        """
        self._host.check_open()
        if not isinstance(rows, AsyncIterable):
            return await self._insert(partial(self._catalog.insertion, relation, rows))
        return await self._insert_all(relation, rows)

    async def finish(self, relation: str) -> None:
        """End a pushed source: no more rows come.

        Raises:
            SourceError: no such source.
        """
        self._host.check_open()
        await self._in_thread(self._catalog.finish, relation)

    async def register(self, name: str, obj_or_path: object, *, watermark: str | None = None) -> None:
        """Give a name to files (a path, a glob, a list of paths) or to an object with Arrow data.

        A `pyarrow.RecordBatchReader` is read once, now. Files are pinned as they are now.

        Raises:
            SourceError: a file is missing, unreadable or has another schema than the others; the object has no Arrow data.
            BindError: the watermark does not fit.
        """
        self._host.check_open()
        relation = await self._in_thread(registered, name, obj_or_path, watermark)
        await self._in_thread(self._catalog.add, relation)

    async def unregister(self, name: str) -> None:
        """Forget a registered relation. Running queries keep what they read.

        Raises:
            SourceError: no such registered relation.
        """
        self._host.check_open()
        await self._in_thread(self._catalog.remove, name)

    # How it is wired

    async def _in_thread(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Run what takes more than a moment (parsing, binding, planning, converting rows) off the event loop."""
        self._host.check_open()
        return await anyio.to_thread.run_sync(function, *args, limiter=self._host.limiter)

    def _stream(
        self,
        sql: str,
        params: Parameters,
        timeout: float | None,
        batch_rows: int,
        partitions: int | None,
        follow: Callable[[Select, float], Awaitable[RunningQuery]] | None = None,
    ) -> QueryBatchStream:
        """Make the stream of a query. `follow` starts a continuous one; without it there are only snapshot queries."""

        async def start() -> RunningQuery:
            deadline = anyio.current_time() + timeout if timeout is not None else float("inf")
            with anyio.CancelScope(deadline=deadline):
                select = await self._in_thread(parse_select, sql)
                if follow is not None and is_continuous(select):
                    return await follow(select, deadline)
                planned = await self._plan(select, params, partitions)
                return await self._start(planned, batch_rows, deadline, timeout)
            raise QueryTimeout(f"the query did not start within its timeout of {timeout} s")

        return QueryBatchStream(start, self._host.drop)

    async def _follow(self, opened: OpenedQuery, select: Select, deadline: float, timeout: float | None, progress: bool) -> ContinuousQuery:
        from streamq.streaming.query import ContinuousQuery, ContinuousRequest

        try:
            await self._in_thread(opened.open)
            # No await from here on: from its launch, the query closes what is open.
            host = self._host
            request = ContinuousRequest(host.new_id(), select.written or select.sql, opened, deadline, timeout, progress, host.pool)
            return host.launch(ContinuousQuery(request, host.waiting, host.epoch_limiter, host.query_ended))
        except BaseException:
            opened.close()
            raise

    async def _create_view(self, statement: CreateView, params: Parameters) -> ExecuteResult:
        create_view = await self._in_thread(_view_creation)
        # One after the other: IF NOT EXISTS finds what was being created.
        async with self._creating:
            made = await create_view(statement, params, self._catalog, self._planner, self._host)
        return ExecuteResult(f"create materialized view{'' if made else ' (exists)'}", 0)

    async def _plan(self, select: Select, params: Parameters, partitions: int | None) -> PlannedQuery:
        """Bind a snapshot query, take its cut, wait for the views in it, and plan it."""
        planned = await self._in_thread(_planned_at_once, self._planner, select, params, partitions)
        if isinstance(planned, PlannedQuery):
            return planned
        await cut_ready(planned.cut)
        return await self._in_thread(self._planner.plan, planned)

    async def _start(self, planned: PlannedQuery, batch_rows: int, deadline: float, timeout: float | None) -> Query:
        pool = await self._host.pool(planned.executor.kind)
        context = PlanContext(
            query_id=self._host.new_id(),
            plan=planned.plan,
            snapshots=planned.snapshots,
            scans=planned.scans,
            parameters=planned.bound.parameters,
            batch_rows=batch_rows,
            target_partitions=planned.target_partitions,
        )
        return self._host.start(QueryRequest(planned.bound.sql, context, pool, deadline, timeout))

    async def _read(self, select: Select, params: Parameters, check: Callable[[pa.Schema], object]) -> pa.Table:
        planned = await self._plan(select, params, None)
        check(planned.bound.schema)

        async def start() -> Query:
            return await self._start(planned, 32_768, float("inf"), None)

        async with QueryBatchStream(start, self._host.drop) as stream:
            return await stream.read_all()

    async def _explain(self, select: Select, params: Parameters, analyze: bool) -> str:
        if is_continuous(select):
            continuous = await self._in_thread(self._planner.plan_continuous, select, params, None)
            return await (self._analyze(continuous, select) if analyze else self._in_thread(explain_continuous, continuous))
        planned = await self._plan(select, params, None)
        if not analyze:
            return explain_query(planned)
        query = await self._start(planned, 32_768, float("inf"), None)
        try:
            return await analyze_query(planned, query)
        finally:
            query.cancel()
            with anyio.CancelScope(shield=True):
                await query.wait_ended()

    async def _analyze(self, planned: PlannedContinuous, select: Select) -> str:
        states = {state.name: state for state in self._catalog.statistics()}
        endless = [states[name] for name in sorted(planned.bound.relations) if name in states and not states[name].finished]
        if endless:
            raise UnsupportedError(
                f"EXPLAIN ANALYZE reads a query to its end, and {endless[0].kind} {endless[0].name!r} has none yet",
                sql=select.sql,
                hint="use EXPLAIN, and `await stream.statistics()` of the running query",
            )
        opened = await self._in_thread(_unopened, planned, self._catalog, self._host.config, 32_768, None)
        query = await self._follow(opened, select, float("inf"), None, progress=False)
        try:
            return await analyze_continuous(planned, query)
        finally:
            query.cancel()
            with anyio.CancelScope(shield=True):
                await query.wait_ended()

    async def _insert(self, convert: Callable[[], Insertion]) -> InsertResult:
        self._host.check_open()
        return await insert_when_room(convert, self._host.limiter, self._host.check_open)

    async def _insert_all(self, relation: str, batches: AsyncIterable[object]) -> InsertResult:
        rows, first, last = 0, None, -1
        try:
            async for batch in batches:
                result = await self._insert(partial(self._catalog.insertion, relation, batch))
                rows += result.rows
                first = result.first_offset if first is None else first
                last = result.last_offset
        except (SourceError, ResourceLimit) as error:
            raise type(error)(f"{error} ({rows} rows had gone in before)") from error
        finally:
            if isinstance(batches, AsyncGenerator):
                await batches.aclose()
        return InsertResult(rows, first or 0, last)


def check_query_options(timeout: float | None, batch_rows: int, epoch_rows: int | None) -> None:
    """Raise ValueError for what `Database.query` does not take."""
    if batch_rows < 1:
        raise ValueError(f"batch_rows must be at least 1, not {batch_rows}")
    if timeout is not None and timeout <= 0:
        raise ValueError(f"timeout must be positive, not {timeout}")
    if epoch_rows is not None and epoch_rows < 1:
        raise ValueError(f"epoch_rows must be at least 1, not {epoch_rows}")


def _planned_at_once(planner: Planner, select: Select, params: Parameters, partitions: int | None) -> PlannedQuery | QueryAtCut:
    """Plan a snapshot query, unless its cut has to be waited for."""
    query = planner.cut(select, params, partitions)
    return planner.plan(query) if query.cut.ready else query


def _view_creation() -> Callable[[CreateView, Parameters, Catalog, Planner, QueryHost], Awaitable[bool]]:
    """Give what makes materialized views, which brings the compiled kernels."""
    from streamq.streaming.views import create_view

    return create_view


def _unopened(planned: PlannedContinuous, catalog: Catalog, config: Config, batch_rows: int, epoch_rows: int | None) -> OpenedQuery:
    """Make what runs a continuous query. The first one brings the compiled kernels, which snapshot queries do without."""
    from streamq.streaming.opened import OpenedQuery

    return OpenedQuery(planned, catalog, config, batch_rows=batch_rows, epoch_rows=epoch_rows)
