"""Where queries live: the one scope that owns every query and worker of a database.

Queries are started into this scope, not into their reader's, so that a stream can be handed around, dropped or closed from
anywhere. Leaving the scope ends everything in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self, TypeVar

import anyio
import anyio.abc

from streamq.config import Config
from streamq.errors import QueryCancelled, StreamClosed, StreamqError
from streamq.execution.budget import Admission, PoolKind, channel_budget, session_bytes
from streamq.execution.directories import pool_directory
from streamq.execution.events import emit_query_ended
from streamq.execution.inserts import Inserts
from streamq.execution.jobs import PoolStatistics, WorkerPool
from streamq.execution.processes import ProcessPool
from streamq.execution.query import Query, QueryRequest, RunningQuery
from streamq.execution.statistics import DatabaseStatistics, QueryStatistics, RelationStatistics, ResourceStatistics
from streamq.execution.threads import ThreadPool
from streamq.execution.totals import Totals
from streamq.flow.inbox import Inbox
from streamq.flow.scopes import leaves, one_error
from streamq.kernels.session import SharedSession, translate

PLANNING_THREADS = 8
"""Binding, planning, inserts and merges of all queries share these; more would only take turns on the interpreter lock."""
EPOCH_THREADS = 32
"""So many continuous queries compute an epoch at once, besides those that write late rows. Threads of their own, so that no insert waits
for a long epoch."""

AnyQuery = TypeVar("AnyQuery", bound=RunningQuery)


class _Opening:
    """A pool that is being opened, and what became of it."""

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.failure: StreamqError | None = None


class QueryHost:
    """Owns the queries of a database and the pools that run them. An async context manager."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.limiter = anyio.CapacityLimiter(PLANNING_THREADS)
        self.epoch_limiter = anyio.CapacityLimiter(EPOCH_THREADS)
        self.waiting = channel_budget(config)
        self.epoch_session = SharedSession(session_bytes(config, "thread"), pool_directory(config.temp_dir))
        self.inserts = Inserts(self.limiter, self.check_open)
        self._admissions: dict[PoolKind, Admission] = {kind: Admission(config, kind) for kind in ("process", "thread")}
        self._totals = Totals()
        self._queries: dict[str, RunningQuery] = {}
        self._pools: dict[PoolKind, WorkerPool] = {}
        self._opening: dict[PoolKind, _Opening] = {}
        self._numbers = itertools.count(1)
        self._dropped: Inbox[str]
        self._tasks: anyio.abc.TaskGroup
        self._ending: anyio.Event
        self._dropping: anyio.CancelScope
        self._closed = False

    async def __aenter__(self) -> Self:
        self._dropped = Inbox()
        self._ending = anyio.Event()
        self._dropping = anyio.CancelScope()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._abort_dropped, name="streamq: dropped streams")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        self._closed = True
        # The body's own error is kept out of the task group, which would put it into a group: it goes on as itself.
        own = error is not None and not _is_cancellation(error)
        try:
            try:
                with anyio.CancelScope(shield=True):
                    await self._end_queries()
            finally:
                # Whatever came in between: what is left now ends, or is cancelled.
                self._ending.set()
                self._dropping.cancel()
                await self._tasks.__aexit__(*((None, None, None) if own else (kind, error, trace)))
        except BaseExceptionGroup as group:
            failure = one_error(group)
            if not own:
                raise failure from failure.__cause__
            assert error is not None
            error.add_note(f"at the same time: {type(failure).__name__}: {failure}")
        finally:
            self._dropped.close()
            self.epoch_session.close()
        return False

    # Queries

    def new_id(self) -> str:
        """Name a query: unique in this database."""
        return f"q{next(self._numbers)}"

    def start(self, request: QueryRequest) -> Query:
        """Start a planned query.

        Raises:
            StreamClosed: the database has been closed.
        """
        return self.launch(Query(request, self._admissions[request.pool.kind], self.waiting, self.limiter, self.query_ended))

    def launch(self, query: AnyQuery) -> AnyQuery:
        """Start the task of a query, which tells `query_ended` of its end.

        Raises:
            StreamClosed: the database has been closed.
        """
        self.check_open()
        query.started()
        self._queries[query.id] = query
        self._totals.query_started(query.id, query.statistics)
        query.launch(self._tasks, self._totals.batch_taken)
        return query

    async def cancel(self, query_id: str) -> bool:
        """Abort a query, return when nothing of it is left; False if no such query runs."""
        query = self._queries.get(query_id)
        if query is None:
            return False
        query.cancel(QueryCancelled(f"query {query_id} was cancelled"))
        await query.wait_ended()
        return True

    async def end_views(self, gone: Iterable[object]) -> None:
        """End the queries of materialized views that are no more; returns when nothing of them is left."""
        ids = {id(entry) for entry in gone}
        queries = [query for query in self._queries.values() if query.keeps is not None and id(query.keeps) in ids]
        for query in queries:
            query.cancel(QueryCancelled(f"query {query.id} has ended: what it kept was dropped"))
        with anyio.CancelScope(shield=True):
            for query in queries:
                await query.wait_ended()

    def drop(self, query_id: str) -> None:
        """Leave word, from any thread, that nobody can read a query any more."""
        self._dropped.post(query_id)

    def queries(self) -> tuple[QueryStatistics, ...]:
        """Tell what the running queries have done so far."""
        return self._totals.running()

    def statistics(self, relations: Iterable[RelationStatistics]) -> DatabaseStatistics:
        """Tell what all queries have done so far, and how the pools and the other things are that they share. Callable from any thread."""
        pools: list[PoolStatistics] = [pool.statistics() for pool in list(self._pools.values())]
        return self._totals.snapshot(
            pools=pools,
            relations=relations,
            inserts=self.inserts.statistics(),
            resources=self._resources(),
            channel_limit_bytes=self.waiting.max_bytes,
            memory_limit_bytes=self.config.memory_bytes,
        )

    def _resources(self) -> Iterator[ResourceStatistics]:
        yield ResourceStatistics("planning threads", self.limiter.borrowed_tokens, PLANNING_THREADS)
        yield ResourceStatistics("epoch threads", self.epoch_limiter.borrowed_tokens, EPOCH_THREADS)
        for kind in list(self._pools):
            yield from self._admissions[kind].statistics()

    def check_open(self) -> None:
        """Raise StreamClosed if the database has been closed."""
        if self._closed:
            raise StreamClosed("the database was closed")

    # Pools

    async def pool(self, kind: PoolKind) -> WorkerPool:
        """Give the pool of a kind, opening it at the first call. Its workers start with their first jobs.

        Raises:
            StreamqError: the platform cannot run such a pool.
        """
        if kind in self._pools:
            return self._pools[kind]
        opening = self._opening.get(kind)
        if opening is None:
            # A task of the host opens it: a caller that is cancelled meanwhile takes nothing from the others that wait for it.
            opening = self._opening[kind] = _Opening()
            self._tasks.start_soon(self._hold_pool, kind, opening, name=f"streamq: {kind} pool")
        await opening.done.wait()
        self.check_open()
        if opening.failure is not None:
            raise opening.failure
        return self._pools[kind]

    async def _hold_pool(self, kind: PoolKind, opening: _Opening) -> None:
        async with AsyncExitStack() as stack:
            try:
                self._pools[kind] = await stack.enter_async_context((ProcessPool if kind == "process" else ThreadPool)(self.config))
            except Exception as error:
                opening.failure = translate(error, f"starting the {kind} pool")
                return
            finally:
                del self._opening[kind]
                opening.done.set()
            await self._ending.wait()

    # The end of queries

    def query_ended(self, query: RunningQuery) -> None:
        """Forget a query that has ended, but for what it adds to the totals."""
        del self._queries[query.id]
        statistics = query.statistics()
        self._totals.query_ended(statistics)
        emit_query_ended(statistics)

    async def _end_queries(self) -> None:
        running = list(self._queries.values())
        for query in running:
            query.cancel(QueryCancelled(f"query {query.id} was cancelled: its database was closed"))
        for query in running:
            await query.wait_ended()

    async def _abort_dropped(self) -> None:
        with self._dropping:
            while True:
                for query_id in await self._dropped.take():
                    self._totals.stream_dropped()
                    if (query := self._queries.get(query_id)) is not None:
                        query.cancel(QueryCancelled(f"query {query_id} was dropped by its reader"))


def _is_cancellation(error: BaseException) -> bool:
    return any(isinstance(leaf, anyio.get_cancelled_exc_class()) for leaf in leaves(error))
