"""An inbox: what other threads leave for a task of the event loop.

Waking the loop costs more than an item, so a burst of items wakes it once. Works on every backend: the loop waits for a
socket, and a post writes to it only if nobody has since the last time the items were taken.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

T = TypeVar("T")


class Inbox(Generic[T]):
    """Carries items from any thread to the one task that iterates it, in the order of each poster.

    The number of waiting items is bounded by its posters: workers post only what was granted to them.
    """

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._woken = False
        # Reentrant, because a post may come from a finalizer that runs inside another post of the same thread.
        self._closing = threading.RLock()
        self._closed = False

    def post(self, item: T) -> None:
        """Leave an item. May be called from any thread; never blocks. An item for a closed inbox is dropped."""
        self._items.append(item)
        if not self._woken:
            with self._closing:
                if not self._closed and not self._woken:
                    self._woken = True
                    self._sender.send(b"\0")

    def post_all(self, items: Iterable[T]) -> None:
        """Leave several items as one: the receiver finds all of them together. See `post`."""
        *others, last = items
        self._items.extend(others)
        self.post(last)

    async def take(self) -> list[T]:
        """Wait for items and take all that are there. Always a checkpoint."""
        await anyio.lowlevel.checkpoint()
        while not self._items:
            await anyio.wait_readable(self._receiver)
            with suppress(BlockingIOError):  # waits may end without a reason
                self._receiver.recv(64)
            # In this order: a post that comes in between is among the items that are taken below.
            self._woken = False
        items = []
        while self._items:
            items.append(self._items.popleft())
        return items

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            for item in await self.take():
                yield item

    def close(self) -> None:
        """Close the sockets. Nobody may be waiting in `take`."""
        with self._closing:
            self._closed = True
            self._receiver.close()
            self._sender.close()
