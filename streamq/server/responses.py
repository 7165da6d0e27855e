"""Responses that are streamed: each owns its query, from its start until nothing of it is left.

Whoever is no longer there to read ends the query: a response listens for that while it answers, in the same scope.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from streamq.errors import StreamqError
from streamq.execution.stream import QueryBatchStream
from streamq.flow.scopes import one_error
from streamq.server.formats import ResultFormat
from streamq.server.service import Service
from streamq.wire.errors import error_record, status_of

T = TypeVar("T")

PIECE_BYTES = 1 << 20
"""What a server is given to send at once: it may not be able to stop in the middle of it."""
INLINE_BYTES = 256 << 10
"""A batch up to this size is written on the event loop: a thread would take longer to begin."""
PARTING_S = 5.0
"""How long a client whose query was ended may take to hear of it."""


class QueryResponse(Response):
    """Runs a query and sends its result. What keeps it from starting is an answer in JSON with the status that fits."""

    def __init__(self, service: Service, stream: QueryBatchStream, result: ResultFormat) -> None:
        self.stream = stream
        self.query_id: str | None = None
        self._service = service
        self._format = result
        self._answering = anyio.CancelScope()
        self._reason: StreamqError | None = None
        self._sending = False

    def end(self, reason: StreamqError) -> None:
        """Stop: the client gets `reason` in place of what is left."""
        self._reason = reason
        self._answering.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Returns when nothing of the query is left."""
        try:
            with self._service.answering(self):
                await while_connected(receive, lambda: self._answer(scope, receive, send))
        except (ClientDisconnect, OSError):
            return
        except StreamqError as error:
            await error_response(error)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            try:
                with self._endable():
                    await self.stream.start()
                if self._reason is not None:
                    raise self._reason
            except (StreamqError, ValueError) as error:
                await error_response(error)(scope, receive, send)
                return
            self.query_id = self.stream.query_id
            headers = [(b"content-type", self._format.content_type.encode()), (b"cache-control", b"no-store")]
            headers += [(b"x-streamq-query", self.query_id.encode()), (b"x-accel-buffering", b"no")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            if await self._send_result(send) or scope["http_version"] not in ("1.0", "1.1"):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            # Else the body is left without an end in HTTP too, for clients that look no deeper.
        finally:
            await self.stream.aclose()

    async def _send_result(self, send: Send) -> bool:
        """Send the whole result, or the error in place of its end; tells which it was."""
        try:
            with self._endable():
                await self._send_pieces(send, self._format.begin(self.stream))
                async for batch in self.stream:
                    progress = self.stream.progress
                    if batch.nbytes > INLINE_BYTES:
                        data = await anyio.to_thread.run_sync(self._format.batch, batch, progress)
                    else:
                        data = self._format.batch(batch, progress)
                    await self._send_pieces(send, data)
                await self._send_pieces(send, self._format.end(await self.stream.statistics(), self.stream.progress))
                return True
            assert self._reason is not None, "nobody else cancels this scope"
            error: Exception = self._reason
        except StreamqError as failure:
            error = failure
        await self.stream.aclose()
        # Stopped in the middle of sending, nothing that is sent now could be understood: the body is cut, and the client sees that.
        if not self._sending:
            with anyio.move_on_after(PARTING_S):
                await self._send_pieces(send, self._format.error(error, await self.stream.statistics()))
        return False

    def _endable(self) -> anyio.CancelScope:
        """Give a scope that `end()` cancels."""
        self._answering = anyio.CancelScope()
        if self._reason is not None:
            self._answering.cancel()
        return self._answering

    async def _send_pieces(self, send: Send, data: bytes) -> None:
        view = memoryview(data)
        self._sending = True
        for start in range(0, len(data), PIECE_BYTES):
            await send({"type": "http.response.body", "body": bytes(view[start : start + PIECE_BYTES]), "more_body": True})
        self._sending = False


def error_response(error: Exception, status: int | None = None) -> JSONResponse:
    """Give an error as JSON, with the status that fits it."""
    return JSONResponse(error_record(error), status_of(error) if status is None else status)


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Do something for a client, whose whole request has been read, for as long as it is there.

    Raises:
        ClientDisconnect: it has left, and the work was cancelled.
    """
    results: list[T] = []
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_on_disconnect, receive, tasks.cancel_scope)
            results.append(await work())
            tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        error = one_error(group)
        raise error from error.__cause__
    if not results:
        raise ClientDisconnect
    return results[0]


async def read_body(request: Request, max_bytes: int) -> bytes:
    """Read a request's body.

    Raises:
        TooLarge: it has more than `max_bytes`.
        ClientDisconnect: the client has left.
    """
    pieces, size = [], 0
    async with aclosing(request.stream()) as body:
        async for piece in body:
            size += len(piece)
            if size > max_bytes:
                raise TooLarge(f"the request is larger than the {max_bytes:,} bytes that this service takes")
            pieces.append(piece)
    return b"".join(pieces)


class TooLarge(ValueError):
    """A request is larger than the service takes."""


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    message: Message = {"type": ""}
    while message["type"] != "http.disconnect":
        message = await receive()
    scope.cancel()
