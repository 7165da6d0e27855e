"""A middleware for answers that last: they are given when the route that found them has returned.

So a follower keeps nothing of its way through the routes, nor of its request.
"""

from __future__ import annotations

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_LASTING = "streamq.lasting"


class Lasting(Response):
    """What a route returns in place of an answer that lasts."""

    def __init__(self, answer: ASGIApp) -> None:
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Leave the answer to `AnswerOutside`."""
        scope[_LASTING] = self._answer


class AnswerOutside:
    """Gives the answers that routes left to it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and give its answer if that is left to be done."""
        await self._app(scope, receive, send)
        answer: ASGIApp | None = scope.pop(_LASTING, None)
        if answer is not None:
            await answer(scope, receive, send)
