"""A middleware that counts requests, for `/metrics`."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamq.metrics.requests import Requests
from streamq.server.logs import STATUS

LEFT = "left"
"""In place of a status code, where a client did not wait for the answer to begin."""


class CountRequests:
    """Counts each request when it has ended, under what answered it and its status code, which it notes for the others in here."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope[STATUS] = message["status"]
            await send(message)

        self._requests.began()
        try:
            await self._app(scope, receive, send_noting)
        finally:
            self._requests.ended(route_of(scope), str(scope.get(STATUS, LEFT)), time.monotonic() - started)


def route_of(scope: Scope) -> str:
    """Name what answered a request: never by its path, of which there are as many as clients think of.

    >>> def query() -> None: ...
    >>> route_of({"endpoint": query}), route_of({})
    ('query', 'other')
    """
    return getattr(scope.get("endpoint"), "__name__", "other")
