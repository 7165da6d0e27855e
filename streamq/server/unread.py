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
        unread = True

        async def receive_marking() -> Message:
            nonlocal unread
            message = await receive()
            unread = message["type"] == "http.request" and message.get("more_body", False)
            return message

        async def send_reading(message: Message) -> None:
            if not unread or message["type"] != "http.response.body" or message.get("more_body", False):
                await send(message)
                return
            await send({**message, "more_body": True})
            with anyio.move_on_after(LINGER_S):
                while unread:
                    await receive_marking()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_discard, receive)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
                tasks.cancel_scope.cancel()

        await self._app(scope, receive_marking, send_reading)


async def _discard(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
