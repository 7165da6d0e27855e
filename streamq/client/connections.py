"""The connections under a client's requests: how they are made, kept and read."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

CONNECT_RETRIES = 2
"""A service that is being started again is there a moment later. Nothing has been sent before there is a connection."""
KEEP_ALIVE_S = 5.0
"""Shorter than servers keep an idle connection: none is reused that is just being closed."""
PROBE_AFTER_S = 60
"""A service whose machine has gone says nothing: after so long a silence it is asked whether it is there."""
READ_BYTES = 256 << 10
"""What is read at once: each read costs as much as some ten thousand bytes, and more than this falls out of a processor's own cache while
it is taken apart."""


class Connections(httpx.AsyncHTTPTransport):
    """Connects to a service, and keeps so many idle connections."""

    def __init__(self, tls: ssl.SSLContext | None, *, kept: int) -> None:
        # Instead of httpx's own, which lets nobody say how connections are read, and reads certificates even where there is no TLS.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=kept,
            keepalive_expiry=KEEP_ALIVE_S,
            retries=CONNECT_RETRIES,
            socket_options=_probes(),
            network_backend=_Network(),
        )


class _Network(httpcore.AsyncNetworkBackend):
    """Connects as httpcore does, on either event loop."""

    def __init__(self) -> None:
        self._backend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect."""
        return _Stream(await self._backend.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        """Wait before it is tried again."""
        await self._backend.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection of which much is read at once."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what there is; httpcore asks for less than it can take."""
        return await self._stream.read(max(max_bytes, READ_BYTES), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Give the connection with TLS, whose records are small."""
        return await self._stream.start_tls(ssl_context, server_hostname, timeout)

    def get_extra_info(self, info: str) -> Any:
        """Tell what is known of the connection."""
        return self._stream.get_extra_info(info)


def _probes() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    # Whose names are not the same on all systems.
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    return options if idle is None else [*options, (socket.IPPROTO_TCP, idle, PROBE_AFTER_S)]
