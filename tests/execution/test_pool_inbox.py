"""The inbox between threads and the event loop."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread
import pytest

from streamq.flow.inbox import Inbox

pytestmark = pytest.mark.anyio


async def test_items_come_in_the_order_of_each_poster() -> None:
    """Nothing is lost or swapped when several threads post at once."""
    inbox: Inbox[tuple[int, int]] = Inbox()

    def post_all(poster: int) -> None:
        for number in range(10_000):
            inbox.post((poster, number))

    threads = [threading.Thread(target=post_all, args=(poster,)) for poster in range(4)]
    for thread in threads:
        thread.start()
    received: dict[int, list[int]] = {poster: [] for poster in range(4)}
    with anyio.fail_after(30):
        while sum(map(len, received.values())) < 40_000:
            for poster, number in await inbox.take():
                received[poster].append(number)
    for thread in threads:
        thread.join()
    inbox.close()
    assert received == {poster: list(range(10_000)) for poster in range(4)}


async def test_a_waiting_task_is_woken() -> None:
    """A post from a thread reaches a task that already waits, item by item where it iterates."""
    inbox: Inbox[int] = Inbox()
    received = []
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:

            async def receive() -> None:
                async for item in inbox:
                    received.append(item)
                    if item == 2:
                        tasks.cancel_scope.cancel()

            tasks.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
            for item in range(3):
                await anyio.to_thread.run_sync(inbox.post, item)
    inbox.close()
    assert received == [0, 1, 2]


async def test_a_post_to_a_closed_inbox_is_dropped() -> None:
    """A finalizer may come late."""
    inbox: Inbox[int] = Inbox()
    inbox.close()
    inbox.post(1)
