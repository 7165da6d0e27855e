"""What becomes of a request that fails as nobody thought of: a defect of the service, or of the machine."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from streamq.errors import StreamqError
from streamq.server.logs import LOGGER, note
from streamq.server.responses import error_response


async def tell_failure(error: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Log what happened, and answer 500."""
    LOGGER.error("a request failed", exc_info=error, extra={"event": "request_failed", "path": scope["path"]})
    note(scope, error=type(error).__name__)
    # What went wrong is for those who run the service, not for those who use it.
    await error_response(StreamqError("the service failed, which it should not have: its log says where"), 500)(scope, receive, send)
