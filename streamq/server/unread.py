"""A middleware for requests that are answered before all of them was read."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LINGER_S = 5.0
"""How long a client may take to notice that it was answered. Closed on while it sends, it might not get to see the answer."""


class ReadToTheEnd:
    """Goes on reading what a client still sends when its answer is there, before the answer ends and after.

    Otherwise a server would wait to hand the rest over, to an application that is no longer there.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        reading = _Reading(receive, send)
        await self._app(scope, reading.receive, reading.send)


class _Reading:
    """The two ways between one client and the application."""

    __slots__ = ("_receive", "_send", "_unread")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._unread = True

    async def receive(self) -> Message:
        """Give what the client says next."""
        message = await self._receive()
        self._unread = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, and read on meanwhile; before the last part all of the request is read."""
        if not self._unread:
            await self._send(message)
            return
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        all_read = anyio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._discard, all_read)
            # A server that finds that the client has left may wait to say so, behind all that is not read.
            await self._send({**message, "more_body": True} if is_last else message)
            if is_last:
                with anyio.move_on_after(LINGER_S):
                    await all_read.wait()
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()

    async def _discard(self, all_read: anyio.Event) -> None:
        while (await self.receive())["type"] != "http.disconnect":
            if not self._unread:
                all_read.set()
        all_read.set()
