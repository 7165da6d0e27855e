"""A middleware for requests that fail as nobody thought of: a defect of the service, or of the machine."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from streamq.errors import StreamqError
from streamq.server.logs import LOGGER, STATUS, note
from streamq.server.responses import error_response


class TellFailures:
    """Logs what happened, and answers 500; what has begun to be answered is cut instead."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if STATUS in scope or scope["type"] != "http":
                raise
            LOGGER.error("a request failed", exc_info=error, extra={"event": "request_failed", "path": scope["path"]})
            note(scope, error=type(error).__name__)
            # What went wrong is for those who run the service, not for those who use it.
            await error_response(StreamqError("the service failed, which it should not have: its log says where"), 500)(
                scope, receive, send
            )
