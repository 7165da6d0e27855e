"""The console: the page at ``/``, and what belongs to it, which are files of this package (`console/`).

The page knows no more than any other client: it has no token, and asks for one as soon as the service does. So it is open to everybody.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, stat_result
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

FILES = Path(__file__).with_name("console")

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "connect-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
    "require-trusted-types-for": "'script'",
}
"""What the page may do: run its own files, and ask its own service. Nothing that a query returns can become a script."""

HEADERS: Mapping[str, str] = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in POLICY.items()),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # Always asked for again, so that a page never runs with the files of another version.
    "cache-control": "no-cache",
}


async def page(_: Request) -> Response:
    """Give the page."""
    return FileResponse(FILES / "index.html", headers=HEADERS)


class ConsoleFiles(StaticFiles):
    """Gives what the page loads, with the page's headers."""

    def file_response(self, full_path: str | PathLike[str], stat_result: stat_result, scope: Scope, status_code: int = 200) -> Response:
        """Give one file, or say that the client has it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        MutableHeaders(raw=response.raw_headers).update(HEADERS)
        return response


def routes() -> tuple[BaseRoute, ...]:
    """Make the routes of the console."""
    return (Route("/", page, methods=["GET"], include_in_schema=False), Mount("/console", ConsoleFiles(directory=FILES)))
