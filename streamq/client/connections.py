"""The connections under a client's requests: how they are made, kept and read."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from contextlib import suppress
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
GATHERED_BYTES = 16 << 10
"""So much of a request is sent at once: its head and what it asks, instead of one after the other."""


class Connections(httpx.AsyncHTTPTransport):
    """Connects to a service, and keeps so many idle connections.

    With `gathers`, requests are sent as soon as their answer is asked for: not for those whose body takes its time.
    """

    def __init__(self, tls: ssl.SSLContext | None, *, kept: int, gathers: bool = False) -> None:
        # Instead of httpx's own, which lets nobody say how connections are read, and reads certificates even where there is no TLS.
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=kept,
            keepalive_expiry=KEEP_ALIVE_S,
            retries=CONNECT_RETRIES,
            socket_options=_probes(),
            network_backend=_Network(gathers),
        )


class _Network(httpcore.AsyncNetworkBackend):
    """Connects as httpcore does, on either event loop."""

    def __init__(self, gathers: bool) -> None:
        self._backend = httpcore.AnyIOBackend()
        self._gathers = gathers

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect."""
        stream = await self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, READ_BYTES, self._gathers)

    async def sleep(self, seconds: float) -> None:
        """Wait before it is tried again."""
        await self._backend.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection of which so much is read at once, and on which what is small is written with what follows, or before the next read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, read_bytes: int, gathers: bool) -> None:
        self._stream = stream
        self._read_bytes = read_bytes
        self._gathers = gathers
        self._gathered = b""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Read what there is; httpcore asks for less than it can take."""
        if self._gathered:
            # A service that has refused a request may have closed its side, and still have answered: as httpcore does, this is read.
            with suppress(httpcore.WriteError):
                await self._write_gathered(timeout)
        return await self._stream.read(max(max_bytes, self._read_bytes), timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Write all of it, now or with what comes next."""
        if self._gathers and len(self._gathered) + len(buffer) <= GATHERED_BYTES:
            self._gathered += buffer
            return
        if self._gathered:
            await self._write_gathered(timeout)
        await self._stream.write(buffer, timeout)

    async def _write_gathered(self, timeout: float | None) -> None:
        gathered, self._gathered = self._gathered, b""
        await self._stream.write(gathered, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Give the connection with TLS, whose records are small."""
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout), 0, self._gathers)

    def get_extra_info(self, info: str) -> Any:
        """Tell what is known of the connection."""
        return self._stream.get_extra_info(info)


def _probes() -> list[tuple[int, int, int]]:
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)]
    # Whose names are not the same on all systems.
    idle = getattr(socket, "TCP_KEEPIDLE", getattr(socket, "TCP_KEEPALIVE", None))
    return options if idle is None else [*options, (socket.IPPROTO_TCP, idle, PROBE_AFTER_S)]
