"""The ASGI application of a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from streamq.config.service import Limits
from streamq.config.tokens import Tokens
from streamq.database import Database
from streamq.engine import EmbeddedDatabase, connect
from streamq.errors import SourceError, StreamqError
from streamq.server import console, openapi
from streamq.server.guard import Guard
from streamq.server.logs import note
from streamq.server.outside import AnswerOutside
from streamq.server.responses import error_response
from streamq.server.routes import ROUTES
from streamq.server.service import Service
from streamq.server.unread import ReadToTheEnd
from streamq.server.watching import WatchRequests

CLIENT_LEFT = 499
"""What logs show for a request whose client did not wait for the answer."""


def app(
    database: Database | str | None = None,
    *,
    limits: Limits | None = None,
    tokens: Tokens | None = None,
    hosts: Iterable[str] = (),
    **settings: Any,
) -> Starlette:
    """Make the application that serves a database over HTTP, for an ASGI server, or to be mounted in another application.

    Who has one of the `tokens` (see `read_tokens`) may use it. Without these everybody may who reaches it, and calls it by a name of this
    machine alone (``localhost``, ``127.0.0.1``) or by one of `hosts`: an application that has its own door may say ``hosts=["*"]``.

    `database` is an open database. Otherwise it is what `streamq.connect()` takes, with its `settings`: that one is opened when the
    application starts and closed when it ends (which an application that mounts this one would have to pass on).

    Raises:
        ValueError: settings for a database that is open, or a database that is that of another service.
    """
    if isinstance(database, Database):
        if settings:
            raise ValueError(f"an open database takes no settings: {', '.join(settings)}")
        service, opened = Service(_own(database), limits or Limits(), tokens, hosts), None
    else:
        service, opened = Service(None, limits or Limits(), tokens, hosts), connect(database, **settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[Mapping[str, Any]]:
        if opened is None:
            yield {}
            return
        async with opened as opened_database:
            service.database = _own(opened_database)
            try:
                yield {}
            finally:
                service.database = None

    routes = [*ROUTES, openapi.route(ROUTES, has_tokens=tokens is not None), *console.routes()]
    middleware = [
        Middleware(WatchRequests, requests=service.requests),
        Middleware(ReadToTheEnd),
        Middleware(AnswerOutside),
        Middleware(Guard, service=service),
    ]
    application = Starlette(routes=routes, lifespan=lifespan, exception_handlers=_HANDLERS, middleware=middleware)
    application.state.service = service
    # Where there is nothing, nothing else is meant.
    application.router.redirect_slashes = False
    return application


def _own(database: Database) -> EmbeddedDatabase:
    if not isinstance(database, EmbeddedDatabase):
        raise ValueError("a service serves a database of its own program, not that of another service")
    # A batch is let go once it is sent.
    return database.as_read_at_once()


async def _streamq_error(request: Request, error: Exception) -> Response:
    # A relation that does not exist is what a path names wrongly, not what is wrong with rows; one that is being registered need not.
    service: Service = request.app.state.service
    name = request.path_params.get("name")
    note(request.scope, error=type(error).__name__)
    if isinstance(error, SourceError) and name is not None and request.method != "PUT":
        known = {relation.name.lower() for relation in await service.database.relations()}
        if name.lower() not in known:
            return error_response(error, 404)
    return error_response(error)


async def _client_left(request: Request, error: Exception) -> Response:
    note(request.scope, reason="the client left")
    return Response(status_code=CLIENT_LEFT)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = error_response(StreamqError(error.detail), error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.detail == HTTPStatus.NOT_FOUND.phrase:
        error.detail = f"there is nothing at {request.scope['path']}: /openapi.json says what there is"
    return await _http_error(request, error)


async def _other_method(request: Request, _: Exception) -> Response:
    methods = sorted({method for route in ROUTES if route.matches(request.scope)[0] != Match.NONE for method in route.methods or ()})
    allowed = ", ".join(methods or ["GET", "HEAD"])
    error = HTTPException(405, f"{request.scope['path']} takes {allowed}, not {request.method}", {"allow": allowed})
    return await _http_error(request, error)


_HANDLERS: Mapping[Any, Any] = {
    StreamqError: _streamq_error,
    ValueError: _streamq_error,
    ClientDisconnect: _client_left,
    HTTPStatus.NOT_FOUND.value: _not_found,
    HTTPStatus.METHOD_NOT_ALLOWED.value: _other_method,
    HTTPException: _http_error,
}
