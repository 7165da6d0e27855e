"""A middleware that sees every request to its end: for the metrics, for the log, and for those that fail as nobody thought of."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamq.metrics.requests import Requests
from streamq.server.failures import tell_failure
from streamq.server.logs import STATUS, begin_notes, log_request

LEFT = "left"
"""In place of a status code, where a client did not wait for the answer to begin."""


class WatchRequests:
    """Counts each request when it has ended, under what answered it and its status code, logs it, and answers where it failed.

    One middleware does all three: each would be kept for as long as a follower follows.
    """

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = app
        self._requests = requests

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.monotonic()
        begin_notes(scope)

        async def send_noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                scope[STATUS] = message["status"]
            await send(message)

        self._requests.began()
        try:
            await self._app(scope, receive, send_noting)
        except Exception as error:
            if STATUS in scope:
                raise
            await tell_failure(error, scope, receive, send_noting)
        finally:
            elapsed_s, status = time.monotonic() - started, scope.get(STATUS)
            log_request(scope, status or 0, elapsed_s)
            self._requests.ended(route_of(scope), str(status or LEFT), elapsed_s)


def route_of(scope: Scope) -> str:
    """Name what answered a request: never by its path, of which there are as many as clients think of.

    >>> def query() -> None: ...
    >>> route_of({"endpoint": query}), route_of({})
    ('query', 'other')
    """
    return getattr(scope.get("endpoint"), "__name__", "other")
