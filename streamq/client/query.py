"""A query that runs in a service and is read here.

A task of the client's own reads the answer into a bounded channel. So a reader may be cancelled and go on, a stream that is dropped
is noticed, and while nobody reads, nothing is taken from the connection: the service's query waits.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx
import pyarrow as pa

from streamq.client.transport import Transport
from streamq.errors import ConnectionLost, StreamqError, StreamTruncated
from streamq.execution.query import CHANNEL_BYTES, CHANNEL_ROWS, OnEnd, Progress, RunningQuery
from streamq.execution.statistics import QueryStatistics
from streamq.flow.channel import ByteBudget, Channel
from streamq.wire import arrow
from streamq.wire.arrow import ArrowDecoder, Decoded, NotArrow, query_metadata
from streamq.wire.errors import error_of
from streamq.wire.records import from_json, progress_from_json

PARTING_S = 5.0
"""How long the service may take to confirm the end of a query that is let go. Closing the connection ends it anyway."""


class Answer:
    """The body of an answer, as batches."""

    def __init__(self, transport: Transport, response: httpx.Response) -> None:
        self._transport = transport
        self._response = response
        self._decoder = ArrowDecoder()
        self._batches = self._read()

    async def begin(self) -> tuple[pa.Schema, Mapping[str, Any], Progress]:
        """Read what is known at the start: the schema, what the query is, where it starts.

        Raises:
            ConnectionLost, StreamTruncated: the answer was cut.
        """
        first = await anext(self._batches, None)
        if first is None:
            raise StreamTruncated(f"the answer of {self._transport.url} has no beginning")
        schema, description = query_metadata(first.batch.schema)
        if not isinstance(description, dict) or arrow.PROGRESS not in first.metadata:
            raise StreamTruncated(f"the answer of {self._transport.url} is not that of a streamq service")
        return schema, description, progress_from_json(first.metadata[arrow.PROGRESS])

    async def next(self) -> Decoded | None:
        """Read a batch; None where the answer ends, whether it is whole or not."""
        return await anext(self._batches, None)

    @property
    def whole(self) -> bool:
        """The end-of-stream marker has come."""
        return self._decoder.ended

    async def aclose(self) -> None:
        """Close the connection, if not all of the answer was read."""
        await self._response.aclose()
        # What was reading runs into the closed connection, and so ends: left as it is, event loops would find generators without an end.
        with suppress(StreamqError):
            async for _ in self._batches:
                pass

    async def _read(self) -> AsyncGenerator[Decoded]:
        with self._transport.failures("the query ends with it"):
            async for data in self._response.aiter_raw():
                try:
                    for decoded in self._decoder.feed(data):
                        yield decoded
                except NotArrow as error:
                    raise ConnectionLost(f"the answer of {self._transport.url} makes no sense: {error}") from error


@dataclass(frozen=True, slots=True)
class RemoteRequest:
    """A query that the service has started."""

    sql: str
    schema: pa.Schema
    description: Mapping[str, Any]
    progress: Progress
    answer: Answer
    deadline: float
    timeout_s: float | None


class RemoteQuery(RunningQuery):
    """Reads the answer, and tells the service when nobody wants the rest."""

    def __init__(self, request: RemoteRequest, transport: Transport, waiting: ByteBudget, on_end: OnEnd) -> None:
        said = request.description
        channel = Channel(CHANNEL_ROWS, CHANNEL_BYTES, waiting)
        super().__init__(said["id"], request.sql, request.schema, channel, request.deadline, request.timeout_s, on_end)
        self.changelog = said["changelog"]
        self.key = None if said["key"] is None else tuple(said["key"])
        self._answer = request.answer
        self._transport = transport
        self._progress = request.progress
        self._last_progress: Progress | None = None
        self._sent: deque[Progress] = deque()
        self._final: QueryStatistics | None = None
        self._over = False

    async def receive(self) -> pa.RecordBatch | None:
        """Take the next batch; None is the end.

        Raises:
            StreamqError: the query failed, as the service says.
            ConnectionLost, StreamTruncated: the answer was cut.
        """
        batch = await super().receive()
        if batch is not None:
            self._progress = self._sent.popleft()
        return batch

    def progress(self, complete: bool) -> Progress:
        """Tell where the batch last handed over stands."""
        return (self._last_progress if complete else None) or self._progress

    def started(self) -> None:
        """Do nothing: the service logs it."""

    def statistics(self) -> QueryStatistics:
        """Tell what is known here: what the service said at the end, or what has been read."""
        if self._final is not None:
            return self._final
        return self._statistics(strategy="Remote", executor="service", tasks=0)

    async def current_statistics(self) -> QueryStatistics:
        """Ask the service, while the query runs there."""
        if not self._over:
            # A query that has just ended there has its last statistics at the end of the answer.
            said = await self._transport.read(f"/v1/queries/{self.id}", may_be_absent=True)
            if said is not None:
                return from_json(QueryStatistics, said)
        return self.statistics()

    async def _work(self) -> None:
        said: Mapping[str, Any] = {}
        progress = self._progress
        while (decoded := await self._answer.next()) is not None:
            if (end := decoded.metadata.get(arrow.END)) is not None:
                self._final = from_json(QueryStatistics, end["statistics"])
                self._last_progress = progress_from_json(end["progress"])
            elif (failure := decoded.metadata.get(arrow.ERROR)) is not None:
                self._over = True
                self._final = from_json(QueryStatistics, failure["statistics"])
                raise error_of(failure)
            else:
                if decoded.metadata is not said:
                    said, progress = decoded.metadata, progress_from_json(decoded.metadata[arrow.PROGRESS])
                self._sent.append(progress)
                await self.channel.send(decoded.batch.replace_schema_metadata(self.schema.metadata))
        self._over = True
        if not self._answer.whole:
            raise StreamTruncated(f"the answer to query {self.id} ended without its end-of-stream marker")

    async def _close(self) -> None:
        try:
            if not self._over:
                await self._cancel_there()
        finally:
            self._over = True
            await self._answer.aclose()

    async def _cancel_there(self) -> None:
        """Have the service end the query, so that nothing of it is left once this returns."""
        # Where that fails, the connection is gone or goes now, and the query with it.
        with anyio.move_on_after(PARTING_S), suppress(StreamqError):
            said = await self._transport.call("DELETE", f"/v1/queries/{self.id}", may_be_absent=True)
            if said is not None and said["statistics"] is not None:
                self._final = from_json(QueryStatistics, said["statistics"])

    def _end(self, error: StreamqError | None) -> None:
        super()._end(error)
        if self._final is None:
            self._final = replace(self.statistics(), started_at=time.time() - self.elapsed_s)
