"""The bell: rings of any thread reach whoever waits, with a task or without."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint

from streamq.flow.bell import Bell
from streamq.flow.latch import Latch

pytestmark = pytest.mark.anyio


async def test_rings_of_another_thread_are_waited_for() -> None:
    """A ring before the wait counts as one during it, and several count once."""
    bell = Bell()
    for _ in range(2):
        await anyio.to_thread.run_sync(bell.ring)
    await bell.wait()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bell.wait)
            await checkpoint()
            await anyio.to_thread.run_sync(bell.ring)


async def test_a_nudge_is_no_ring() -> None:
    """Who waits for either is told which it was."""
    bell, seen = Bell(), []

    async def wait() -> None:
        seen.append(await bell.wait_or_nudge())

    for nudge in (bell.nudge, bell.ring):
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wait)
                for _ in range(5):
                    await checkpoint()
                nudge()
    assert seen == [False, True]


async def test_a_ring_starts_what_waits_without_a_task() -> None:
    """It is called in the event loop, where it can start a task, once; what was rung before is said at once."""
    bell, started = Bell(), anyio.Event()

    async def run() -> None:
        started.set()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            assert bell.answer(lambda: tasks.start_soon(run))
            await anyio.to_thread.run_sync(bell.ring)
            await started.wait()
        assert bell.answer(lambda: pytest.fail("taken back"))
        bell.answer(None)
        bell.ring()
        assert not bell.answer(lambda: pytest.fail("rung before"))
        assert bell.answer(lambda: pytest.fail("that ring was told of"))
        await checkpoint()


async def test_a_latch_lets_everybody_go_on() -> None:
    """Those who wait when it is set, and those who come later."""
    latch = Latch()
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(latch.wait)
            await checkpoint()
            latch.set()
        await latch.wait()
    assert latch.is_set
