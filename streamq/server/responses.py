"""Responses that are streamed: each owns its query, from its start until nothing of it is left.

Whoever is no longer there to read ends the query: a response listens for that while it answers, in the same scope.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TypeVar

import anyio
import anyio.to_thread
import pyarrow as pa
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from streamq.config.tokens import Caller
from streamq.errors import QueryTimeout, ResourceLimit, StreamqError
from streamq.execution.statistics import QueryStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.flow.scopes import raising_one
from streamq.server.formats import ResultFormat
from streamq.server.held import HOLD_S, HeldBack
from streamq.server.logs import note
from streamq.server.refusals import CrossSite, Forbidden, Misdirected, TooLarge
from streamq.server.service import Service
from streamq.wire.errors import error_record, status_of
from streamq.wire.pieces import Pieces, cut, length

T = TypeVar("T")
Patience = Callable[[], Awaitable[float]]
"""Tells after how many seconds it is to be asked again, or raises what ends the work for a client."""

PIECE_BYTES = 512 << 10
"""What a server is given to send at once. It copies it, and may not be able to stop in the middle of it: larger ones fall out of a
processor's own cache between one copy and the next, smaller ones cost more steps."""
INLINE_BYTES = 256 << 10
"""Text that is not larger is written and read on the event loop: a thread would take longer to begin."""
_SOON = {"retry-after": "1"}
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"www-authenticate": 'Bearer realm="streamq"'},
    429: _SOON,
    503: _SOON,
}
PARTING_S = 5.0
"""How long a client whose query was ended may take to hear of it."""


class QueryResponse(Response):
    """Runs a query and sends its result. What keeps it from starting is an answer in JSON with the status that fits."""

    def __init__(self, service: Service, stream: QueryBatchStream, result: ResultFormat, caller: Caller) -> None:
        self.stream = stream
        self.caller = caller
        self._service = service
        self._limits = service.limits
        self._format = result
        self._answering = anyio.CancelScope()
        self._deadline = math.inf
        self._max_bytes: float = math.inf
        self._reason: StreamqError | None = None
        self._sent_bytes = 0
        self._sending_since: float | None = None

    def end(self, reason: StreamqError) -> None:
        """Stop: the client gets `reason` in place of what is left."""
        self._reason = reason
        self._answering.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Returns when nothing of the query is left."""
        try:
            with self._service.answering(self) as began:
                await while_connected(receive, lambda: self._answer(began, scope, receive, send), self._patience_s)
        except ClientStalled:
            note(scope, reason=f"the client took nothing for {self._limits.stall_s} s")
        except (ClientDisconnect, OSError):
            note(scope, reason="the client left")
        except StreamqError as error:
            await self._refuse(error, scope, receive, send)

    async def statistics(self) -> QueryStatistics:
        """Tell what the query has done, once it has started."""
        return await self.stream.statistics()

    async def _answer(self, began: Callable[[str], None], scope: Scope, receive: Receive, send: Send) -> None:
        try:
            try:
                await self._start()
            except (StreamqError, ValueError) as error:
                await self._refuse(error, scope, receive, send)
                return
            query_id = self.stream.query_id
            began(query_id)
            note(scope, query_id=query_id)
            headers = [(b"content-type", self._format.content_type.encode()), (b"cache-control", b"no-store")]
            headers += [(b"x-streamq-query", query_id.encode()), (b"x-accel-buffering", b"no")]
            held = HeldBack(send)
            await held({"type": "http.response.start", "status": 200, "headers": headers})
            failure = await self._send_result(held)
            note(scope, bytes_out=self._sent_bytes, error=None if failure is None else type(failure).__name__)
            told = self._sending_since is None and not self._format.cut_by_errors
            if failure is None:
                return
            if told or scope["http_version"] not in ("1.0", "1.1"):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            # Else the body is left without an end in HTTP too.
        finally:
            await self.stream.aclose()

    async def _refuse(self, error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
        note(scope, error=type(error).__name__)
        await error_response(error)(scope, receive, send)

    async def _start(self) -> None:
        """Start the query, and set the limits of what it is."""
        limits = self._limits
        if limits.max_query_s is not None:
            self._deadline = anyio.current_time() + limits.max_query_s
        with self._endable():
            await self.stream.start()
        if self._answering.cancel_called:
            raise self._why_ended()
        if limits.max_query_s is None and limits.max_result_bytes is None:
            return
        if (await self.stream.statistics()).continuous is not None:
            self._deadline = math.inf
        elif limits.max_result_bytes is not None:
            self._max_bytes = limits.max_result_bytes

    async def _send_result(self, send: HeldBack) -> Exception | None:
        """Send the whole result, or an error in place of its end; gives that error."""
        try:
            with self._endable():
                await self._send_pieces(send, [await self._begin()])
                # A client for whom nothing comes costs nothing of what came before: no batch is named here.
                while await self._send_next(send):
                    pass
                await self._send_pieces(send, [self._format.end(await self.stream.statistics(), self.stream.progress)], last=True)
                return None
            error: Exception = self._why_ended()
        except StreamqError as failure:
            error = failure
        await self.stream.aclose()
        # Stopped in the middle of sending, nothing that is sent now could be understood: the body is cut, and the client sees that.
        if self._sending_since is None:
            self._max_bytes = math.inf
            with anyio.move_on_after(PARTING_S):
                await self._send_pieces(send, [self._format.error(error, await self.stream.statistics())])
                await self._release(send)
        return error

    async def _begin(self) -> bytes:
        if self._format.makes_text:
            return await anyio.to_thread.run_sync(self._format.begin, self.stream)
        return self._format.begin(self.stream)

    async def _send_next(self, send: HeldBack) -> bool:
        """Send the next batch; False at the end."""
        batch = await self._next(send)
        if batch is None:
            return False
        progress = self.stream.progress
        if self._format.makes_text and batch.nbytes > INLINE_BYTES:
            pieces = await anyio.to_thread.run_sync(self._format.batch, batch, progress)
        else:
            pieces = self._format.batch(batch, progress)
        await self._send_pieces(send, pieces)
        return True

    async def _next(self, send: HeldBack) -> pa.RecordBatch | None:
        """Give the next batch, None at the end. While it is waited for, the client hears from time to time that all is well."""
        if send.holds:
            with anyio.move_on_after(HOLD_S):
                return await anext(self.stream, None)
            await self._release(send)
        quiet_s = self._limits.keep_alive_s if self._format.keep_alive else math.inf
        while True:
            with anyio.move_on_after(quiet_s):
                return await anext(self.stream, None)
            await self._send_pieces(send, [self._format.keep_alive])

    def _endable(self) -> anyio.CancelScope:
        """Give a scope that ends at the deadline, and by `end()`."""
        self._answering = anyio.CancelScope(deadline=self._deadline)
        if self._reason is not None:
            self._answering.cancel()
        return self._answering

    def _why_ended(self) -> StreamqError:
        """Tell why the scope was cancelled."""
        return self._reason or QueryTimeout(
            f"the query took longer than the {self._limits.max_query_s} s that this service allows (max_query_s)"
        )

    async def _send_pieces(self, send: Send, pieces: Pieces, *, last: bool = False) -> None:
        """Send some of the body; `last` is its end in HTTP too."""
        self._sent_bytes += length(pieces)
        if self._sent_bytes > self._max_bytes:
            raise ResourceLimit(f"the result is larger than the {self._max_bytes:,} bytes that this service gives (max_result_bytes)")
        for data in cut(pieces, PIECE_BYTES):
            self._sending_since = anyio.current_time()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        if last:
            self._sending_since = anyio.current_time()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        self._sending_since = None

    async def _release(self, send: HeldBack) -> None:
        """Send what was held back."""
        self._sending_since = anyio.current_time()
        await send.release()
        self._sending_since = None

    async def _patience_s(self) -> float:
        """Tell how long the client may still take before it is to be asked again; its query ends when it has taken too long.

        The server cannot always be stopped while it sends. Nothing of the query is left all the same.

        Raises:
            ClientStalled: it has taken nothing for too long.
        """
        stall_s = self._limits.stall_s
        if self._sending_since is None:
            return stall_s
        left_s = self._sending_since + stall_s - anyio.current_time()
        if left_s > 0:
            return left_s
        await self.stream.aclose()
        raise ClientStalled


class ClientStalled(Exception):
    """A client takes nothing of what it is sent."""


def error_response(error: Exception, status: int | None = None) -> JSONResponse:
    """Give an error as JSON, with the status that fits it, and what that status says in headers."""
    match error:
        case _ if status is not None:
            pass
        case Forbidden() | CrossSite() | TooLarge() | Misdirected():
            status = error.status
        case _:
            status = status_of(error)
    return JSONResponse(error_record(error), status, _HEADERS.get(status))


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]], patience_s: Patience | None = None) -> T:
    """Do something for a client, whose whole request has been read, for as long as it is there.

    Raises:
        ClientDisconnect: it has left, and the work was cancelled.
    """
    results: list[T] = []
    with raising_one():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_on_disconnect, receive, tasks.cancel_scope, patience_s or _for_ever)
            results.append(await work())
            tasks.cancel_scope.cancel()
    if not results:
        raise ClientDisconnect
    return results[0]


async def within(seconds: float | None, work: Awaitable[T]) -> T:
    """Wait for something that may take so long.

    Raises:
        QueryTimeout: it has taken longer, and was cancelled.
    """
    with anyio.move_on_after(seconds):
        return await work
    raise QueryTimeout(f"it took longer than the {seconds} s that this service allows (max_query_s)")


async def read_body(request: Request, max_bytes: int, stall_s: float) -> bytes:
    """Read a request's body.

    Raises:
        TooLarge: it has more than `max_bytes`.
        HTTPException: nothing of it came for `stall_s`.
        ClientDisconnect: the client has left.
    """
    pieces: list[bytes] = []
    size = 0
    async with aclosing(request.stream()) as body:
        while True:
            with anyio.move_on_after(stall_s) as patience:
                piece = await anext(body, None)
            if patience.cancelled_caught:
                raise HTTPException(408, f"nothing more of the request came for {stall_s} s")
            if piece is None:
                return b"".join(pieces)
            size += len(piece)
            if size > max_bytes:
                raise TooLarge(f"the request is larger than the {max_bytes:,} bytes that this service takes")
            pieces.append(piece)


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope, patience_s: Patience) -> None:
    while True:
        with anyio.move_on_after(await patience_s()):
            if (await receive())["type"] == "http.disconnect":
                scope.cancel()
                return


async def _for_ever() -> float:
    return math.inf
