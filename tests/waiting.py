"""How tests wait for what threads, processes and others bring about."""

from __future__ import annotations

import anyio


async def pause() -> None:
    """Wait a moment before a condition is looked at again: a loop without one would keep the interpreter lock from those who work on it."""
    await anyio.sleep(0.002)
