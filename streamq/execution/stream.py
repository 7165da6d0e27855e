"""The stream through which a query's answer is read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import anyio
import pyarrow as pa

from streamq.errors import QueryCancelled, StreamBusy, StreamClosed, StreamNotStarted
from streamq.execution.query import Progress, RunningQuery
from streamq.execution.statistics import QueryStatistics
from streamq.plan.dataflow import Changelog


class QueryBatchStream:
    """The answer to a query, as Arrow batches.

    ::

        async with db.query("SELECT …") as stream:
            async for batch in stream:
                ...

    Leaving the block is the abort. Without ``async with`` the query is detached: it starts with the first read or `start()`, and
    `aclose()`, its timeout, or dropping the last reference aborts it. Iteration that ends without an error has given the whole answer.

    Iterating raises:
        SqlError: the query cannot be run (raised where it starts).
        QueryError, SourceError: it failed; what was read before is part of no complete answer. Of a continuous query it was all that
            its complete epochs changed.
        StreamClosed: after `aclose()`.
        StreamBusy: another task is reading.
    """

    __slots__ = ("__weakref__", "_busy", "_closed", "_complete", "_drop", "_query", "_start")

    def __init__(self, start: Callable[[], Awaitable[RunningQuery]], drop: Callable[[str], None]) -> None:
        self._start: Callable[[], Awaitable[RunningQuery]] | None = start
        self._drop = drop
        self._query: RunningQuery | None = None
        self._busy = False
        self._closed = False
        self._complete = False

    # What it is

    @property
    def query_id(self) -> str:
        """The name by which `Database.cancel` and `queries()` know the query.

        Raises:
            StreamNotStarted: before the query has started.
        """
        return self._started().id

    @property
    def schema(self) -> pa.Schema:
        """The schema of every batch.

        Raises:
            StreamNotStarted: before the query has started.
        """
        return self._started().schema

    @property
    def key(self) -> tuple[str, ...] | None:
        """The key of a continuous query's result, by output names: ``()`` for one row, None where none is known and for a snapshot query.

        Raises:
            StreamNotStarted: before the query has started.
        """
        return self._started().key

    @property
    def changelog(self) -> Changelog:
        """What a batch means.

        ``append``: it adds rows; so do those of a snapshot query. ``upsert``: its last column ``_op`` says what happened to the row of a
        key: `insert`, `update` (this is the new row) or `delete` (this is the old one). ``retract``: ``_op`` is `insert` or `delete`, which
        removes one such row. Within an epoch deletes come first. `streamq.apply_changes` folds batches into a table.

        Raises:
            StreamNotStarted: before the query has started.
        """
        return self._started().changelog

    @property
    def progress(self) -> Progress:
        """Where the batch last handed over stands.

        Raises:
            StreamNotStarted: before the query has started.
        """
        return self._started().progress(self._complete)

    # Reading

    async def start(self) -> None:
        """Start the query, if it has not: bind and plan it and take its cut.

        Raises:
            SqlError: the query cannot be run as written.
            StreamClosed, StreamBusy: see the class.
        """
        self._check_open()
        if self._start is not None:
            self._claim()
            try:
                self._query = await self._start()
                # What only the start needed is not kept for as long as the query runs.
                self._start = None
            finally:
                self._busy = False
            if self._closed:
                # In the meantime, when there was no query to abort.
                await self.aclose()
                self._check_open()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        await self.start()
        self._claim()
        try:
            batch = None if self._complete else await self._started().receive()
        finally:
            self._busy = False
        if batch is None:
            self._complete = True
            raise StopAsyncIteration
        return batch

    def answer(self, call: Callable[[], None] | None) -> bool:
        """Wait for the next batch, or the end, without a task: `call()` is called once, in the event loop, when it is there. If it
        is there now this gives False, and calls nothing; also for a snapshot query, which is not worth it. None takes it back.

        Raises:
            StreamNotStarted: before the query has started.
        """
        return self._started().answer(call)

    async def rows(self) -> AsyncIterator[dict[str, Any]]:
        """Iterate the rows as dicts. Raises as iteration does."""
        async for batch in self:
            for row in batch.to_pylist():
                yield row

    async def read_all(self) -> pa.Table:
        """Read what is left as one table. Raises as iteration does."""
        batches = [batch async for batch in self]
        return pa.Table.from_batches(batches, schema=self.schema)

    async def statistics(self) -> QueryStatistics:
        """Tell what the query has done so far: rows, bytes, seconds, splits, stages.

        Of a continuous query, `continuous` tells epochs, rows read and late, watermarks and who holds them back, and what each operator
        has done and keeps; `blocked_s` is how long it has waited for its reader.

        Raises:
            StreamNotStarted: before the query has started.
        """
        return await self._started().current_statistics()

    # Letting go

    async def cancel(self) -> None:
        """Abort the query; its reader gets QueryCancelled. Returns when nothing of it is left."""
        if self._query is not None:
            self._query.cancel(QueryCancelled(f"query {self._query.id} was cancelled"))
            await self._wait_ended(self._query)

    async def aclose(self) -> None:
        """Close the stream, aborting the query if it has not completed. Returns when nothing of it is left; may be called again.

        A query that is just being started is aborted as soon as it has; then `start` raises StreamClosed.
        """
        self._closed = True
        if self._query is not None:
            self._query.cancel()
            await self._wait_ended(self._query)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # A finalizer may run on any thread, so it only leaves word.
        query = getattr(self, "_query", None)
        if query is not None and not self._closed and not self._complete:
            self._drop(query.id)

    def __repr__(self) -> str:
        state = "not started" if self._query is None else self._query.outcome
        return f"<QueryBatchStream {'closed' if self._closed else state}>"

    def _started(self) -> RunningQuery:
        if self._query is None:
            raise StreamNotStarted("the query has not started: use `async with`, read from it, or `await stream.start()` first")
        return self._query

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosed("the stream was closed")

    def _claim(self) -> None:
        self._check_open()
        if self._busy:
            raise StreamBusy("another task is reading this stream")
        self._busy = True

    @staticmethod
    async def _wait_ended(query: RunningQuery) -> None:
        # The end is bounded: a worker that does not stop within the grace period is killed.
        with anyio.CancelScope(shield=True):
            await query.wait_ended()
