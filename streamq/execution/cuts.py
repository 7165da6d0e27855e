"""Waits for cuts of which materialized views are not there yet: as tasks, without a thread."""

from __future__ import annotations

from streamq.flow.bell import Bell
from streamq.storage.cut import Cut


async def cut_ready(cut: Cut) -> None:
    """Return when every view is at the cut, or one never will be. A view that ends, for whatever reason, tells."""
    if cut.ready:
        return
    bell = Bell()
    try:
        cut.wake(bell.ring)
        while not cut.ready:
            await bell.wait()
    finally:
        cut.wake(None)
