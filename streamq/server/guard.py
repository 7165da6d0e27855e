"""A middleware that lets in only who may come in: by address, by token, by right.

Without tokens whoever reaches the service may do anything, so it must not be reached through a browser: a page of another site may neither
send it requests nor, by giving its own name the address of this machine, read what it answers.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streamq.config.tokens import ANYONE, Caller
from streamq.errors import ConnectionLost, StreamqError, Unauthorized
from streamq.server.logs import note
from streamq.server.names import is_loopback
from streamq.server.refusals import CrossSite, Misdirected
from streamq.server.responses import error_response
from streamq.server.rights import check_right, is_open, right_for
from streamq.server.service import Service

CALLER = "streamq.caller"
"""Where a request's scope has who makes it."""


class Guard:
    """Refuses requests before anything of them is read, and ends those that a shutdown leaves no time."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", ""))
        try:
            scope[CALLER] = self._caller(method, path, Headers(scope=scope))
        except StreamqError as error:
            note(scope, error=type(error).__name__, reason=str(error))
            await error_response(error)(scope, receive, send)
            return
        note(scope, token=scope[CALLER].name or None)
        # A query tells its client of the shutdown itself, in its result.
        if method in ("POST", "PUT") and path != "/v1/query":
            await self._work(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _caller(self, method: str, path: str, headers: Headers) -> Caller:
        """Tell who makes a request.

        Raises:
            StreamqError: nobody who may.
        """
        if is_open(method, path):
            return ANYONE
        check_origin(headers)
        tokens = self._service.tokens
        if tokens is None:
            check_host(headers, self._service.hosts)
            caller = ANYONE
        else:
            scheme, _, text = headers.get("authorization", "").partition(" ")
            found = tokens.find(text.strip()) if scheme.lower() == "bearer" else None
            if found is None:
                raise Unauthorized("the service needs a token that it knows, as in the header `Authorization: Bearer streamq_…`")
            caller = found
        check_right(caller, right_for(method, path))
        if self._service.stopping and method in ("POST", "PUT"):
            raise ConnectionLost("the service is shutting down")
        return caller

    async def _work(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on a request that is ended, and told of it, where it takes longer than a shutdown does."""
        began = False

        async def send_noting(message: Message) -> None:
            nonlocal began
            began = True
            await send(message)

        with self._service.working() as working:
            await self._app(scope, receive, send_noting)
        if working.cancelled_caught and not began:
            error = ConnectionLost("the service was shut down before the request had completed: part of it may have been done")
            await error_response(error)(scope, receive, send)


def check_origin(headers: Headers) -> None:
    """Check that no page of another site has a browser make a request.

    Browsers of today say so in Sec-Fetch-Site; older ones name the site in Origin. Programs send neither.

    Raises:
        CrossSite: one does.
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        ours = site in ("same-origin", "none")
    else:
        ours = origin is None or origin.lower().partition("://")[2] == headers.get("host", "").lower()
    if not ours:
        raise CrossSite("a browser sent this for a page of another site: only the service's own pages may")


def check_host(headers: Headers, hosts: frozenset[str]) -> None:
    """Check that a request calls the service by a name that is its own: this machine's, or one of `hosts`.

    Raises:
        Misdirected: it calls another.
    """
    called = headers.get("host")
    if called is None:
        return
    name = _name_of(called)
    if not (is_loopback(name) or name.lower() in hosts or "*" in hosts):
        message = (
            f"without tokens the service answers to localhost, not to {name!r}: it needs a token file, or the name in its setting hosts"
        )
        raise Misdirected(message)


def _name_of(host: str) -> str:
    """Give the name in a header Host, without the port; nothing if it is none.

    >>> _name_of("localhost:8471"), _name_of("[::1]:8471"), _name_of("[::1")
    ('localhost', '::1', '')
    """
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
