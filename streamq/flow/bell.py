"""A bell: any thread rings it, one task of the event loop waits for it.

Works on every backend, by what each has for calls from other threads. So a bell that nobody rings costs no descriptor and no thread.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress

import anyio
import anyio.lowlevel


class Bell:
    """Remembers that it was rung, however often, until somebody has waited for it. Belongs to the event loop in which it is made."""

    def __init__(self) -> None:
        self._call_soon = _caller()
        self._rung = False
        self._waiting: anyio.Event | None = None

    def ring(self) -> None:
        """Wake whoever waits, or the next one that does. May be called from any thread, also by a finalizer; never blocks."""
        if not self._rung:
            self._rung = True
            # A loop that has ended cannot be called, and nobody waits in it.
            with suppress(RuntimeError):
                self._call_soon(self._wake)

    async def wait(self) -> None:
        """Wait until the bell has been rung since the last wait. Always a checkpoint."""
        await anyio.lowlevel.checkpoint()
        while not self._rung:
            self._waiting = anyio.Event()
            await self._waiting.wait()
        self._waiting = None
        self._rung = False

    def _wake(self) -> None:
        if self._waiting is not None:
            self._waiting.set()


def _caller() -> Callable[[Callable[[], None]], object]:
    """Give what has the event loop that runs call a function, from any thread."""
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            return trio.lowlevel.current_trio_token().run_sync_soon
    return asyncio.get_running_loop().call_soon_threadsafe
