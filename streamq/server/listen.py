"""The application on a socket, by hypercorn, on the event loop that runs: asyncio or trio."""

from __future__ import annotations

import ipaddress
import logging
import socket
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
from starlette.applications import Starlette

from streamq.server.service import Service

LEAVING_S = 5.0
"""How long connections may take to close once everything on them was answered."""
KEEP_ALIVE_S = 75.0
"""Longer than clients keep an idle connection, so that it is they who close it."""


def listen(host: str, port: int, *, stall_timeout_s: float = 60.0) -> socket.socket:
    """Open a socket that clients can connect to. `port` 0 takes a free one.

    A client that takes nothing of what it is sent for `stall_timeout_s` loses its connection, where the system can see to that.

    Raises:
        ValueError: `host` is not of this machine alone: others could do with the database what they like.
        OSError: the address is in use, or not of this machine.
    """
    if not is_loopback(host):
        raise ValueError(f"will not listen on {host}: whoever reaches the service may do anything; use 127.0.0.1 or ::1")
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    opened = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform == "linux":
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_timeout_s * 1_000))
            # A client whose machine has gone says nothing, and is asked.
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(stall_timeout_s)))
        opened.bind(address)
    except BaseException:
        opened.close()
        raise
    return opened


def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to a host.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "192.168.0.7", "")]
    [True, True, True, False, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def url_of(listener: socket.socket) -> str:
    """Give the address of a socket of `listen()` as clients want it."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(
    application: Starlette,
    listener: socket.socket,
    *,
    grace_s: float = 10.0,
    until: Callable[[], Awaitable[object]] = anyio.sleep_forever,
    ready: Callable[[str], object] | None = None,
    task_status: anyio.abc.TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an application of `streamq.server.app()` until `until()` returns or the task is cancelled. Takes the socket over.

    Then no connection is taken any more, the queries that run have `grace_s` to complete, and what is left is ended: its clients get
    ConnectionLost. `ready` and `task_status` are given the URL once clients can connect.
    """
    service: Service = application.state.service
    url = url_of(listener)
    stopping, ended = anyio.Event(), anyio.Event()
    server = anyio.CancelScope(shield=True)
    config = _config(listener, grace_s)

    async def run() -> None:
        try:
            with server:
                await _hypercorn()(application, config, shutdown_trigger=stopping.wait)
        finally:
            ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, name="streamq: server")
        if ready is not None:
            ready(url)
        task_status.started(url)
        try:
            await until()
        finally:
            with anyio.CancelScope(shield=True):
                stopping.set()
                await service.drain(grace_s)
                with anyio.move_on_after(LEAVING_S):
                    await ended.wait()
            server.cancel()


def _hypercorn() -> Callable[..., Awaitable[None]]:
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            from hypercorn.trio import serve as serve_trio

            return serve_trio
    from hypercorn.asyncio import serve as serve_asyncio

    return serve_asyncio


def _config(listener: socket.socket, grace_s: float) -> Any:
    from hypercorn.config import Config

    config = Config()
    config.errorlog = logging.getLogger("streamq.server")
    config.accesslog = None
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = sys.maxsize
    config.graceful_timeout = 2 * grace_s + LEAVING_S
    # It listens before the server is there: whoever connects meanwhile waits.
    listener.listen(config.backlog)
    config.bind = [f"fd://{listener.detach()}"]
    return config
