"""The public face: `connect()`, and a database embedded in the program. Wiring only; what it offers is done elsewhere."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from copy import copy
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import anyio
import anyio.from_thread
import anyio.to_thread
import pyarrow as pa

from streamq.config import Config
from streamq.connectors import registered
from streamq.database import AskedQuery, Database
from streamq.errors import QueryTimeout, ResourceLimit, SourceError, UnsupportedError
from streamq.execution.analyze import analyze_continuous, analyze_query, explain_continuous, explain_query
from streamq.execution.cuts import cut_ready
from streamq.execution.host import QueryHost
from streamq.execution.planning import PlannedContinuous, PlannedQuery, Planner, QueryAtCut, is_continuous
from streamq.execution.query import Query, QueryRequest, RunningQuery
from streamq.execution.results import ExecuteResult
from streamq.execution.stages import PlanContext
from streamq.execution.statements import drop, queries_table, run_statement
from streamq.execution.statistics import DatabaseStatistics, QueryStatistics, RelationStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.sql.catalog import RelationInfo
from streamq.sql.depth import bounded_depth
from streamq.sql.parse import parse_one, parse_select
from streamq.sql.prepared import PreparedSelect
from streamq.sql.statements import CreateView, Drop, Explain, Insert, Parameters, Select, Show, Statement
from streamq.storage.catalog import Catalog
from streamq.storage.insertion import Insertion
from streamq.storage.rows import InsertResult

if TYPE_CHECKING:
    import ssl

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
    block ends the queries that were started in it. `token` is what the service asks of its clients; `tls` says which certificates of an
    ``https://`` one are trusted, and holds the one to show it, if it asks for that.

    A connection that cannot be made is tried again for a moment. What only asks what the service knows is asked again where a
    connection breaks; queries and writes never are: the error says what is known of them.

    Raises:
        UnsupportedError: `target` names a directory, which this version does not have.
        ValueError: a setting is out of range, `target` is no address, or there is a token for a database that is not a service's.
    """

    def __init__(self, target: str | None = None, *, token: str | None = None, tls: ssl.SSLContext | None = None, **settings: Any) -> None:
        self._opening: AbstractAsyncContextManager[Database, bool | None]
        if target is not None and target.startswith(("http://", "https://")):
            from streamq.client import RemoteConnection

            self._opening = RemoteConnection(target, token, tls, Config.load(**settings))
        elif target is None and (token is not None or tls is not None):
            raise ValueError("token and tls are for a service: streamq.connect('http://…', token=…)")
        elif target is not None:
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
        return EmbeddedDatabase(await self._host.__aenter__(), self._catalog, self._planner)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        try:
            return await self._host.__aexit__(kind, error, trace)
        finally:
            self._planner.close()
            self._catalog.close()


class EmbeddedDatabase(Database):
    """A database in this program."""

    def __init__(self, host: QueryHost, catalog: Catalog, planner: Planner) -> None:
        self._host = host
        self._catalog = catalog
        self._planner = planner
        self._creating = anyio.Lock()
        self._lends = False
        self._begins: Callable[[str], None] = _for_nobody
        self._sees: Callable[[str], bool] = _everything

    def as_used_by(self, begins: Callable[[str], None], sees: Callable[[str], bool]) -> EmbeddedDatabase:
        """Give the same database for one of several users.

        `begins` is told the id of each query before it starts, and what it raises keeps it from starting; SHOW QUERIES lists those that
        the user `sees`.
        """
        database = copy(self)
        database._begins, database._sees = begins, sees
        return database

    def as_read_at_once(self) -> EmbeddedDatabase:
        """Give the same database for who lets go of each batch of a query soon: a worker may need its memory again."""
        database = copy(self)
        database._lends = True
        return database

    # Queries

    async def explain(self, sql: str, params: Parameters = None, *, analyze: bool = False) -> str:
        self._host.check_open()
        with bounded_depth(sql):
            return await self._explain(await self._in_thread(parse_select, sql), params, analyze)

    async def relations(self) -> tuple[RelationInfo, ...]:
        return tuple((await self._in_thread(self._catalog.infos)).values())

    async def queries(self) -> tuple[QueryStatistics, ...]:
        return self._host.queries()

    async def cancel(self, query_id: str) -> bool:
        return await self._host.cancel(query_id)

    async def statistics(self) -> DatabaseStatistics:
        return self.statistics_nowait()

    def statistics_nowait(self) -> DatabaseStatistics:
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
        self._host.check_open()
        with bounded_depth(sql):
            return await self._execute(await self._in_thread(parse_one, sql), sql, params)

    async def finish(self, relation: str) -> None:
        self._host.check_open()
        await self._in_thread(self._catalog.finish, relation)

    async def register(self, name: str, obj_or_path: object, *, watermark: str | None = None) -> None:
        self._host.check_open()
        with bounded_depth(watermark):
            relation = await self._in_thread(registered, name, obj_or_path, watermark)
        await self._in_thread(self._catalog.add, relation)

    async def unregister(self, name: str) -> None:
        self._host.check_open()
        await self._in_thread(self._catalog.remove, name)

    async def _insert_at_once(self, relation: str, rows: object) -> InsertResult:
        return await self._insert(partial(self._catalog.insertion, relation, rows))

    async def _insert_each(self, relation: str, items: AsyncIterable[object]) -> InsertResult:
        self._host.check_open()
        rows, first, last = 0, None, -1
        try:
            async for item in items:
                result = await self._insert(partial(self._catalog.insertion, relation, item))
                rows += result.rows
                first = result.first_offset if first is None else first
                last = result.last_offset
        except SourceError as error:
            raise type(error)(f"{error} ({rows} rows had gone in before)") from error
        except ResourceLimit as error:
            # Not the same again: those rows would be there twice.
            raise type(error)(f"{error} ({rows} rows had gone in before)", retryable=error.retryable and not rows) from error
        return InsertResult(rows, first or 0, last)

    # How it is wired

    async def _execute(self, statement: Statement, sql: str, params: Parameters) -> ExecuteResult:
        match statement:
            case Select():
                raise UnsupportedError(
                    "execute() runs statements, not queries", sql=sql, hint="use query() or fetch() for a SELECT, over HTTP /v1/query"
                )
            case Explain(query=select, analyze=analyze):
                text = await self._explain(select, params, analyze)
                return ExecuteResult("explain", 0, pa.table({"explain": text.splitlines()}))
            case Show(what="queries"):
                return ExecuteResult("show", 0, queries_table([query for query in self._host.queries() if self._sees(query.query_id)]))
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

    async def _in_thread(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Run what takes more than a moment (parsing, binding, planning, converting rows) off the event loop."""
        self._host.check_open()
        return await anyio.to_thread.run_sync(function, *args, limiter=self._host.limiter)

    def _stream(self, asked: AskedQuery) -> QueryBatchStream:
        async def start() -> RunningQuery:
            deadline = anyio.current_time() + asked.timeout if asked.timeout is not None else float("inf")
            with anyio.CancelScope(deadline=deadline), bounded_depth(asked.sql):
                begun = await self._in_thread(_begun, self._planner, asked)
                if isinstance(begun, PlannedContinuous):
                    return await self._start_continuous(asked, begun, deadline)
                return await self._start(await self._planned(begun), asked.batch_rows, deadline, asked.timeout, lend=self._lends)
            raise QueryTimeout(f"the query did not start within its timeout of {asked.timeout} s")

        return QueryBatchStream(start, self._host.drop)

    async def _start_continuous(self, asked: AskedQuery, planned: PlannedContinuous, deadline: float) -> ContinuousQuery:
        opened = await self._in_thread(_unopened, planned, self._catalog, self._host, asked.batch_rows, asked.epoch_rows)
        return await self._follow(opened, deadline, asked.timeout, asked.progress)

    async def _follow(self, opened: OpenedQuery, deadline: float, timeout: float | None, progress: bool) -> ContinuousQuery:
        from streamq.streaming.query import ContinuousQuery, ContinuousRequest

        try:
            await self._in_thread(opened.open)
            # No await from here on: from its launch, the query closes what is open.
            host = self._host
            request = ContinuousRequest(self._new_id(), opened.planned.sql, opened, deadline, timeout, progress, host.pool)
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

    async def _plan(self, select: Select, params: Parameters) -> PlannedQuery:
        """Bind a snapshot query, take its cut, wait for the views in it, and plan it."""
        return await self._planned(await self._in_thread(_planned_once, self._planner, select, params))

    async def _planned(self, begun: PlannedQuery | QueryAtCut) -> PlannedQuery:
        """Plan a query, once its cut is there."""
        if isinstance(begun, PlannedQuery):
            return begun
        await cut_ready(begun.cut)
        return await self._in_thread(self._planner.plan, begun)

    async def _start(self, planned: PlannedQuery, batch_rows: int, deadline: float, timeout: float | None, *, lend: bool = False) -> Query:
        pool = await self._host.pool(planned.executor.kind)
        context = PlanContext(
            query_id=self._new_id(),
            plan=planned.plan,
            snapshots=planned.snapshots,
            scans=planned.scans,
            parameters=planned.bound.parameters,
            batch_rows=batch_rows,
            target_partitions=planned.target_partitions,
            lend=lend,
        )
        return self._host.start(QueryRequest(planned.bound.sql, context, pool, deadline, timeout))

    def _new_id(self) -> str:
        """Name a query that starts now."""
        query_id = self._host.new_id()
        self._begins(query_id)
        return query_id

    async def _read(self, select: Select, params: Parameters, check: Callable[[pa.Schema], object]) -> pa.Table:
        planned = await self._plan(select, params)
        check(planned.bound.schema)

        async def start() -> Query:
            return await self._start(planned, 32_768, float("inf"), None)

        async with QueryBatchStream(start, self._host.drop) as stream:
            return await stream.read_all()

    async def _explain(self, select: Select, params: Parameters, analyze: bool) -> str:
        if is_continuous(select):
            continuous = await self._in_thread(self._planner.plan_continuous, select, params, None)
            return await (self._analyze(continuous, select) if analyze else self._in_thread(explain_continuous, continuous))
        planned = await self._plan(select, params)
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
        opened = await self._in_thread(_unopened, planned, self._catalog, self._host, 32_768, None)
        query = await self._follow(opened, float("inf"), None, progress=False)
        try:
            return await analyze_continuous(planned, query)
        finally:
            query.cancel()
            with anyio.CancelScope(shield=True):
                await query.wait_ended()

    async def _insert(self, convert: Callable[[], Insertion]) -> InsertResult:
        self._host.check_open()
        return await self._host.inserts.write(convert)


def _begun(planner: Planner, asked: AskedQuery) -> PlannedQuery | QueryAtCut | PlannedContinuous:
    """Parse a query, and plan it as far as that goes without waiting; no further once nobody waits for it any more."""
    query = planner.prepare(asked.sql)
    anyio.from_thread.check_cancelled()
    if is_continuous(query.select) and not asked.snapshot:
        return planner.follow(query, asked.params, asked.partitions)
    return _planned_at_once(planner, query, asked.params, asked.partitions)


def _planned_at_once(planner: Planner, query: PreparedSelect, params: Parameters, partitions: int | None) -> PlannedQuery | QueryAtCut:
    """Plan a snapshot query, unless its cut has to be waited for."""
    at_cut = planner.cut(query, params, partitions)
    anyio.from_thread.check_cancelled()
    return planner.plan(at_cut) if at_cut.cut.ready else at_cut


def _planned_once(planner: Planner, select: Select, params: Parameters) -> PlannedQuery | QueryAtCut:
    """Do the same for a query that is part of another statement, and will not come again."""
    return _planned_at_once(planner, PreparedSelect(select), params, None)


def _view_creation() -> Callable[[CreateView, Parameters, Catalog, Planner, QueryHost], Awaitable[bool]]:
    """Give what makes materialized views, which brings the compiled kernels."""
    from streamq.streaming.views import create_view

    return create_view


def _unopened(planned: PlannedContinuous, catalog: Catalog, host: QueryHost, batch_rows: int, epoch_rows: int | None) -> OpenedQuery:
    """Make what runs a continuous query. The first one brings the compiled kernels, which snapshot queries do without."""
    from streamq.streaming.opened import OpenedQuery

    return OpenedQuery(planned, catalog, host.config, host.epoch_session, batch_rows=batch_rows, epoch_rows=epoch_rows)


def _for_nobody(query_id: str) -> None:
    """Tell nobody of a query."""


def _everything(query_id: str) -> bool:
    """Have every query seen."""
    return True
