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
        """Pass a part of the answer on; before the last one all of the request is read."""
        if not self._unread or message["type"] != "http.response.body" or message.get("more_body", False):
            await self._send(message)
            return
        await self._send({**message, "more_body": True})
        with anyio.move_on_after(LINGER_S):
            while self._unread:
                await self.receive()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._discard)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            tasks.cancel_scope.cancel()

    async def _discard(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
