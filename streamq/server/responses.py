"""Responses that are streamed: each owns its query, from its start until nothing of it is left.

Whoever is no longer there to read ends the query: a response listens for that while it answers, in the same scope. As long as there is
nothing to send, listening is all that it does.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import anyio
import anyio.abc
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import Message, Receive, Scope, Send

from streamq.config.tokens import Caller
from streamq.errors import QueryTimeout, ResourceLimit, StreamClosed, StreamqError
from streamq.execution.statistics import QueryStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.flow.scopes import raising_one
from streamq.server.formats import ResultFormat
from streamq.server.held import HOLD_S, HeldBack
from streamq.server.logs import note
from streamq.server.refusals import Refusal
from streamq.server.service import Service
from streamq.wire.errors import error_record, status_of
from streamq.wire.pieces import Pieces, cut, length

T = TypeVar("T")
INLINE_BYTES = 256 << 10
"""Text that is not larger is written and read on the event loop: a thread would take longer to begin."""
_SOON = {"retry-after": "1"}
_HEADERS: Mapping[int, Mapping[str, str]] = {
    401: {"www-authenticate": 'Bearer realm="streamq"'},
    429: _SOON,
    503: _SOON,
}
AHEAD = 4
"""So many pieces of a request, which are of 64 KiB at most, are read before they are wanted."""
PARTING_S = 5.0
"""How long a client whose query was ended may take to hear of it."""


class QueryResponse:
    """Runs a query and sends its result. What keeps it from starting is an answer in JSON with the status that fits."""

    __slots__ = (
        "_answering", "_asleep", "_complete", "_deadline", "_format", "_held", "_limits", "_max_bytes", "_reason", "_request", "_sending",
        "_sent_bytes", "_service", "_tasks", "caller", "stream",
    )  # fmt: skip

    def __init__(self, service: Service, stream: QueryBatchStream, result: ResultFormat, caller: Caller) -> None:
        self.stream = stream
        self.caller = caller
        self._service = service
        self._limits = service.limits
        self._format = result
        self._request: tuple[Scope, Receive, Send]
        self._tasks: anyio.abc.TaskGroup
        self._held: HeldBack
        self._answering: anyio.CancelScope | None = None
        self._asleep = False
        self._complete = False
        self._deadline = math.inf
        self._max_bytes: float = math.inf
        self._reason: StreamqError | None = None
        self._sent_bytes = 0
        self._sending = False

    def end(self, reason: StreamqError) -> None:
        """Stop: the client gets `reason` in place of what is left."""
        self._reason = reason
        if self._answering is not None:
            self._answering.cancel()
        self._wake()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request. Returns when nothing of the query is left."""
        self._request = scope, receive, send
        try:
            with self._service.answering(self) as began:
                await self._answer_while_connected(began)
        except ClientStalled:
            note(scope, reason=f"the client took nothing for {self._limits.stall_s} s")
        except (ClientDisconnect, OSError):
            note(scope, reason="the client left")
        except StreamqError as error:
            await self._refuse(error)

    async def statistics(self) -> QueryStatistics:
        """Tell what the query has done, once it has started."""
        return await self.stream.statistics()

    # The client

    async def _answer_while_connected(self, began: Callable[[str], None]) -> None:
        """Listen to the client, while another task answers. The scope of both has a deadline while something is sent.

        Raises:
            ClientDisconnect: it has left.
            ClientStalled: it takes nothing.
        """
        _, receive, _ = self._request
        try:
            with raising_one():
                async with anyio.create_task_group() as self._tasks:
                    self._tasks.start_soon(self._answer, began)
                    try:
                        while (await receive())["type"] != "http.disconnect":
                            pass
                    finally:
                        # Nothing is started in a group that is being left.
                        self._asleep = False
                        # The server cannot always be stopped while it sends. Nothing of the query is left all the same.
                        await self.stream.aclose()
                    self._tasks.cancel_scope.cancel()
        finally:
            # It may have started in the meantime.
            await self.stream.aclose()
        if self._stalled:
            raise ClientStalled
        if not self._complete:
            raise ClientDisconnect

    def _begin_sending(self) -> None:
        self._sending = True
        self._tasks.cancel_scope.deadline = anyio.current_time() + self._limits.stall_s

    def _end_sending(self) -> None:
        self._sending = False
        self._tasks.cancel_scope.deadline = math.inf

    @property
    def _stalled(self) -> bool:
        return self._sending and anyio.current_time() >= self._tasks.cancel_scope.deadline

    # The answer

    async def _answer(self, began: Callable[[str], None]) -> None:
        """Start the query, and begin to send its result."""
        scope, _, send = self._request
        try:
            await self._start()
        except StreamClosed:
            # The client has left: nobody is to be told.
            return
        except (StreamqError, ValueError) as error:
            await self._refuse(error)
            self._leave()
            return
        query_id = self.stream.query_id
        began(query_id)
        note(scope, query_id=query_id)
        headers = [(b"content-type", self._format.content_type.encode()), (b"cache-control", b"no-store")]
        headers += [(b"x-streamq-query", query_id.encode()), (b"x-accel-buffering", b"no")]
        self._held = HeldBack(send)
        await self._held({"type": "http.response.start", "status": 200, "headers": headers})
        await self._go_on(self._held, begins=True)

    async def _go_on(self, send: HeldBack, *, begins: bool = False) -> None:
        """Send what there is. Unless that is all, `_wake` goes on when there is more."""
        failure = await self._send_result(send, begins)
        if self._asleep:
            return
        scope, _, send_now = self._request
        note(scope, bytes_out=self._sent_bytes, error=None if failure is None else type(failure).__name__)
        told = not self._sending and not self._format.cut_by_errors
        if failure is not None and (told or scope["http_version"] not in ("1.0", "1.1")):
            await send_now({"type": "http.response.body", "body": b"", "more_body": False})
        # Else a body that is not complete is left without an end in HTTP too.
        self._leave()

    def _leave(self) -> None:
        self._complete = True
        self._tasks.cancel_scope.cancel()

    def _sleeps(self, send: HeldBack) -> bool:
        """Tell whether nothing is to be sent before the query has something."""
        if send.holds or self._format.keep_alive or self._reason is not None or self._deadline < math.inf:
            return False
        self._asleep = self.stream.answer(self._wake)
        if self._asleep:
            self._format.rest()
        return self._asleep

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._tasks.start_soon(self._go_on, self._held)

    async def _refuse(self, error: Exception) -> None:
        scope, receive, send = self._request
        note(scope, error=type(error).__name__)
        await error_response(error)(scope, receive, send)

    async def _start(self) -> None:
        """Start the query, and set the limits of what it is."""
        limits = self._limits
        if limits.max_query_s is not None:
            self._deadline = anyio.current_time() + limits.max_query_s
        with self._endable() as answering:
            await self.stream.start()
        if answering.cancel_called:
            raise self._why_ended()
        if limits.max_query_s is None and limits.max_result_bytes is None:
            return
        if (await self.stream.statistics()).continuous is not None:
            self._deadline = math.inf
        elif limits.max_result_bytes is not None:
            self._max_bytes = limits.max_result_bytes

    async def _send_result(self, send: HeldBack, begins: bool) -> Exception | None:
        """Send the result until there is nothing to send, or an error in place of its end; gives that error."""
        try:
            with self._endable():
                if begins:
                    await self._send_pieces(send, [await self._begin()])
                # A client for whom nothing comes costs nothing of what came before: no batch is named here.
                while not self._sleeps(send) and await self._send_next(send):
                    pass
                if self._asleep:
                    self._answering = None
                    return None
                await self._send_pieces(send, [self._format.end(await self.stream.statistics(), self.stream.progress)], last=True)
                return None
            error: Exception = self._why_ended()
        except StreamqError as failure:
            error = failure
        await self.stream.aclose()
        # Stopped in the middle of sending, nothing that is sent now could be understood: the body is cut, and the client sees that.
        if not self._sending:
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
        """Send the next batch; False at the end. One that does not come soon is left for the next call, and the client hears that all is
        well.
        """
        quiet_s = self._limits.keep_alive_s if self._format.keep_alive else math.inf
        with anyio.move_on_after(HOLD_S if send.holds else quiet_s) as waiting:
            batch = await anext(self.stream, None)
        if waiting.cancelled_caught:
            await (self._release(send) if send.holds else self._send_pieces(send, [self._format.keep_alive]))
            return True
        if batch is None:
            return False
        progress = self.stream.progress
        if self._format.makes_text and batch.nbytes > INLINE_BYTES:
            pieces = await anyio.to_thread.run_sync(self._format.batch, batch, progress)
        else:
            pieces = self._format.batch(batch, progress)
        await self._send_pieces(send, pieces)
        return True

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
        for data in cut(pieces, self._service.piece_bytes):
            self._begin_sending()
            await send({"type": "http.response.body", "body": data, "more_body": True})
        if last:
            self._begin_sending()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        self._end_sending()

    async def _release(self, send: HeldBack) -> None:
        """Send what was held back."""
        self._begin_sending()
        await send.release()
        self._end_sending()


class ClientStalled(Exception):
    """A client takes nothing of what it is sent."""


def error_response(error: Exception, status: int | None = None) -> JSONResponse:
    """Give an error as JSON, with the status that fits it, and what that status says in headers."""
    match error:
        case _ if status is not None:
            pass
        case Refusal():
            status = error.status
        case _:
            status = status_of(error)
    return JSONResponse(error_record(error), status, _HEADERS.get(status))


async def while_connected(receive: Receive, work: Callable[[], Awaitable[T]]) -> T:
    """Do something for a client, whose whole request has been read, for as long as it is there.

    Raises:
        ClientDisconnect: it has left, and the work was cancelled.
    """
    results: list[T] = []
    with raising_one():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_on_disconnect, receive, tasks.cancel_scope)
            results.append(await work())
            tasks.cancel_scope.cancel()
    if not results:
        raise ClientDisconnect
    return results[0]


async def while_sending(request: Request, work: Callable[[Request], Awaitable[T]]) -> T:
    """Do something with a request that is read as it comes, for as long as its client is there.

    It is read ahead a little: who has sent all of a small one, and leaves while its rows wait for their place, is noticed.

    Raises:
        ClientDisconnect: it has left, and the work was cancelled.
    """
    results: list[T] = []
    taken, pieces = anyio.create_memory_object_stream[Message](AHEAD)
    with raising_one(), taken, pieces:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_on_disconnect, request.receive, tasks.cancel_scope, taken.send)
            results.append(await work(Request(request.scope, pieces.receive)))
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


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope, take: Send | None = None) -> None:
    """Cancel a scope once the client has left; until then `take` what it says."""
    while (message := await receive())["type"] != "http.disconnect":
        if take is not None:
            await take(message)
    scope.cancel()
