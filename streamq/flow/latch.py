"""A latch: an event that costs next to nothing as long as nobody waits for it."""

from __future__ import annotations

import anyio
import anyio.lowlevel


class Latch:
    """Is set once, and stays so. Every query has several of them, and most are never waited for."""

    __slots__ = ("_event", "_set")

    def __init__(self) -> None:
        self._set = False
        self._event: anyio.Event | None = None

    def set(self) -> None:
        """Let everybody go on who waits, now and later."""
        self._set = True
        if self._event is not None:
            self._event.set()
            self._event = None

    @property
    def is_set(self) -> bool:
        return self._set

    async def wait(self) -> None:
        """Wait until it is set. Always a checkpoint."""
        if self._set:
            await anyio.lowlevel.checkpoint()
            return
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
