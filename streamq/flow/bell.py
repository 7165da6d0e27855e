"""A bell: any thread rings it, one task of the event loop waits for it, or is started by it.

Works on every backend, by what each has for calls from other threads. So a bell that nobody rings costs no descriptor and no thread.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial

import anyio
import anyio.lowlevel


class Bell:
    """Remembers that it was rung, however often, until somebody has waited for it. Belongs to the event loop in which it is made."""

    __slots__ = ("_answer", "_call_soon", "_rung", "_waiting")

    def __init__(self) -> None:
        self._call_soon = _caller()
        self._rung = False
        self._waiting: anyio.Event | None = None
        self._answer: Callable[[], None] | None = None

    def ring(self) -> None:
        """Wake whoever waits, or the next one that does. May be called from any thread, also by a finalizer; never blocks."""
        if not self._rung:
            self._rung = True
            # A loop that has ended cannot be called, and nobody waits in it.
            with suppress(RuntimeError):
                self._call_soon(self._wake)

    def nudge(self) -> None:
        """Have a `wait_or_nudge` return, without a ring. To be called in the event loop."""
        if self._waiting is not None:
            self._waiting.set()

    async def wait(self) -> None:
        """Wait until the bell has been rung since the last wait. Always a checkpoint."""
        while not await self.wait_or_nudge():
            pass

    async def wait_or_nudge(self) -> bool:
        """Wait as `wait` does, or until nudged; tells whether the bell was rung. Always a checkpoint."""
        await anyio.lowlevel.checkpoint()
        if not self._rung:
            self._waiting = anyio.Event()
            try:
                await self._waiting.wait()
            finally:
                self._waiting = None
        if not self._rung:
            return False
        # Only once it was seen: a ring that comes in between is not forgotten.
        self._rung = False
        return True

    def answer(self, call: Callable[[], None] | None) -> bool:
        """Wait without a task: the next ring calls `call()`, once, in the event loop. A bell that has been rung since the last wait gives
        False, and calls nothing. None has nothing called any more.
        """
        if call is not None and self._rung:
            self._rung = False
            return False
        self._answer = call
        return True

    def _wake(self) -> None:
        if not self._rung:
            return  # somebody has come to wait since, and gone
        if self._waiting is not None:
            self._waiting.set()
        elif self._answer is not None:
            call, self._answer = self._answer, None
            self._rung = False
            call()


def _caller() -> Callable[[Callable[[], None]], object]:
    """Give what has the event loop that runs call a function, from any thread."""
    if "trio" in sys.modules:
        import trio

        if trio.lowlevel.in_trio_run():
            return trio.lowlevel.current_trio_token().run_sync_soon
    # In the context of who waits: that of another thread knows of no event loop.
    return partial(asyncio.get_running_loop().call_soon_threadsafe, context=copy_context())
