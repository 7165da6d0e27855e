"""A middleware for requests that are answered before all of them was read."""

from __future__ import annotations

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class ReadToTheEnd:
    """Goes on reading what a client still sends while the end of its answer goes out.

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
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_discard, receive)
                await send(message)
                tasks.cancel_scope.cancel()

        await self._app(scope, receive_marking, send_reading)


async def _discard(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
