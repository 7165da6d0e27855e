"""A bell: any thread rings it, one task of the event loop waits for it.

Works on every backend: the loop waits for a socket, and a ring writes to it only if nobody has rung since the last wait.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

import anyio
import anyio.lowlevel


class Bell:
    """Remembers that it was rung, however often, until somebody has waited for it."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        # Reentrant, because a ring may come from a finalizer that runs inside another ring of the same thread.
        self._lock = threading.RLock()
        self._rung = False
        self._closed = False

    def ring(self) -> None:
        """Wake whoever waits, or the next one that does. May be called from any thread; never blocks."""
        if self._rung:
            return
        with self._lock:
            # Once more, now that nobody else is here.
            if not (self._closed or self._rung):
                self._rung = True
                self._sender.send(b"\0")

    async def wait(self) -> None:
        """Wait until the bell has been rung since the last wait. Always a checkpoint."""
        await anyio.lowlevel.checkpoint()
        while not self._rung:
            await anyio.wait_readable(self._receiver)
        with self._lock:
            self._rung = False
            with suppress(BlockingIOError):
                self._receiver.recv(1)

    def close(self) -> None:
        """Close the sockets. Nobody may be waiting; later rings do nothing."""
        with self._lock:
            self._closed = True
            self._receiver.close()
            self._sender.close()
