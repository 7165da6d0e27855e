"""The application on a socket, by hypercorn, on the event loop that runs: asyncio or trio."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.abc
from starlette.applications import Starlette

from streamq.flow.scopes import raising_one
from streamq.server.logs import LOGGER
from streamq.server.names import is_loopback
from streamq.server.service import Service

LEAVING_S = 5.0
"""How long connections may take to close once everything on them was answered."""
HANDSHAKE_S = 10.0
"""How long a client may take to agree on encryption, and to show its certificate."""
BACKLOG = 1_024
"""Connections that wait to be taken: as many clients may come at once."""
KEEP_ALIVE_S = 75.0
"""Longer than clients keep an idle connection, so that it is they who close it."""
_OPEN_FILES = "/dev/fd"
MOST_USER_TIMEOUT_MS, MOST_KEEP_IDLE_S = 2**31 - 1, 2**15 - 1
"""Linux takes no more."""


def listen(host: str, port: int, *, stall_timeout_s: float = 60.0) -> socket.socket:
    """Open a socket that clients can connect to, once it is served. `port` 0 takes a free one.

    A client that takes nothing of what it is sent for `stall_timeout_s` loses its connection, where the system can see to that.

    Raises:
        OSError: the address is in use, or not of this machine.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(min(stall_timeout_s * 1_000, MOST_USER_TIMEOUT_MS))))
            # A client whose machine has gone says nothing, and is asked.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(min(stall_timeout_s, MOST_KEEP_IDLE_S))))
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


def check_reach(host: str, *, has_tokens: bool, has_tls: bool, insecure: bool) -> None:
    """Check that nobody gets at a database who should not.

    Raises:
        ValueError: other machines could connect to `host`, and do there what they like, or read the tokens of others on their way.
    """
    if is_loopback(host):
        return
    if not has_tokens:
        raise ValueError(
            f"will not listen on {host}, where other machines can connect, without tokens: "
            "`streamq token --name NAME --rights read --file FILE` makes one for --token-file FILE"
        )
    if not has_tls and not insecure:
        raise ValueError(
            f"will not listen on {host} without HTTPS, where tokens can be read on the way: "
            "give it --certificate and --private-key, or --insecure if what is in front of it has HTTPS"
        )


def url_of(listener: socket.socket, *, has_tls: bool = False) -> str:
    """Give the address of a socket of `listen()` as clients want it."""
    host, port = listener.getsockname()[:2]
    return f"http{'s' if has_tls else ''}://{f'[{host}]' if ':' in host else host}:{port}"


async def serve(
    application: Starlette,
    listener: socket.socket,
    *,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    grace_s: float = 10.0,
    leaving_s: float = LEAVING_S,
    until: Callable[[], Awaitable[object]] = anyio.sleep_forever,
    ready: Callable[[str], object] | None = None,
    task_status: anyio.abc.TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application of `streamq.server.app()` until `until()` returns or the task is cancelled. Takes the socket over.

    With `tls` (see `server_context`) it serves HTTPS. `insecure` lets other machines connect without it; without tokens nothing does.

    In the end no connection is taken any more, the queries that run have `grace_s` to complete, and what is left is ended: its clients get
    ConnectionLost. Connections on which a client takes nothing of that are broken off after another `leaving_s`. `ready` and `task_status`
    are given the URL once clients can connect.

    Raises:
        ValueError: others than this machine could connect, see `check_reach`.
    """
    service: Service = application.state.service
    check_reach(listener.getsockname()[0], has_tokens=service.tokens is not None, has_tls=tls is not None, insecure=insecure)
    url = url_of(listener, has_tls=tls is not None)
    port = listener.getsockname()[1]
    stopping, ended = anyio.Event(), anyio.Event()
    server = anyio.CancelScope(shield=True)
    config = _config(listener, tls, grace_s)

    async def run() -> None:
        try:
            with server:
                await _hypercorn()(application, config, shutdown_trigger=stopping.wait)
        finally:
            ended.set()

    with raising_one():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, name="streamq: server")
            try:
                if ready is not None:
                    ready(url)
                task_status.started(url)
                LOGGER.info(
                    "the service listens on %s", url, extra={"event": "service_started", "url": url, "tokens": len(service.tokens or ())}
                )
                await until()
            finally:
                with anyio.CancelScope(shield=True):
                    stopping.set()
                    LOGGER.info("the service takes no more requests", extra={"event": "service_stopping", "running": service.running})
                    await service.drain(grace_s)
                    with anyio.move_on_after(leaving_s):
                        await ended.wait()
                    if not ended.is_set():
                        _break_off(port)
                        with anyio.move_on_after(leaving_s):
                            await ended.wait()
                server.cancel()


def _break_off(port: int) -> None:
    """Break the connections off that this process has taken on a port. A server that is sending on one cannot be cancelled in the middle.

    Servers tell nobody which connections they have: they are looked for among the open files, where the system lists these.
    """
    for name in os.listdir(_OPEN_FILES) if os.path.isdir(_OPEN_FILES) else ():
        with suppress(OSError):  # it has just been closed
            if stat.S_ISSOCK(os.fstat(int(name)).st_mode):
                with socket.fromfd(int(name), socket.AF_INET, socket.SOCK_STREAM) as connection:
                    _break_off_one(connection, port)


def _break_off_one(connection: socket.socket, port: int) -> None:
    match connection.getsockname():
        case (_, taken_on, *_) if taken_on == port:
            connection.shutdown(socket.SHUT_RDWR)


def _hypercorn() -> Callable[..., Awaitable[None]]:
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            from hypercorn.trio import serve as serve_trio

            return serve_trio
    from hypercorn.asyncio import serve as serve_asyncio

    return serve_asyncio


def _config(listener: socket.socket, tls: ssl.SSLContext | None, grace_s: float) -> Any:
    from hypercorn.config import Config

    class WithContext(Config):
        """Has a TLS context instead of the files that it would be made of."""

        @property
        def ssl_enabled(self) -> bool:
            return tls is not None

        def create_ssl_context(self) -> ssl.SSLContext | None:
            return tls

    config = WithContext()
    config.errorlog = logging.getLogger("streamq.server.http")
    config.accesslog = None
    config.include_server_header = False
    config.backlog = BACKLOG
    config.ssl_handshake_timeout = HANDSHAKE_S
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = sys.maxsize
    config.graceful_timeout = 2 * grace_s + LEAVING_S
    # It listens before the server is there: whoever connects meanwhile waits.
    listener.listen(config.backlog)
    config.bind = [f"fd://{listener.detach()}"]
    return config
