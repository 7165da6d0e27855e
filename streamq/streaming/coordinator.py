"""The coordinator of a continuous query: waits for rows, has epochs computed, hands what comes out to the reader.

While an epoch is handed over the next one is computed, but no further one: while the reader stalls nothing is read, and what waited
then comes as one larger epoch. Nothing is polled; feeds ring.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from streamq.errors import StreamClosed, StreamqError
from streamq.flow.bell import Bell
from streamq.flow.scopes import one_error
from streamq.flow.stopwatch import Stopwatch
from streamq.kernels.session import Interrupted
from streamq.streaming.epochs import Emission, Epochs

INTERRUPT_INTERVAL_S = 0.02
"""An interrupt that comes between two pieces of work is lost, so it is repeated this often until the work has ended."""


T = TypeVar("T")
Outgoing = Emission | None
"""What goes to the task that hands over. It has no room: to send is to wait until what was sent before has been handed over, and
None is sent for nothing but that."""


class Waker(Protocol):
    """What tells that an epoch may be there: the feeds of a query, and its pace."""

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Call `notify()`, from any thread; None stops that."""


class _Request:
    """Something to be done between two epochs."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.done = anyio.Event()
        self.error: StreamqError | None = None
        self.served = False
        self._work = work

    def serve(self) -> None:
        try:
            self._work()
            self.served = True
        except Interrupted:
            raise
        except StreamqError as error:
            self.error = error


class Coordinator:
    """Runs the epochs of one query to their end."""

    def __init__(
        self,
        epochs: Epochs,
        wakers: Sequence[Waker],
        emit: Callable[[Emission], Awaitable[None]],
        *,
        every_s: float | None,
        interrupt: Callable[[], None],
        limiter: anyio.CapacityLimiter,
    ) -> None:
        self._epochs = epochs
        self._wakers = wakers
        self._emit = emit
        self._every_s = every_s
        self._interrupt = interrupt
        self._limiter = limiter
        self._due_s = 0.0
        self._requests: deque[_Request] | None = deque()
        self._bell: Bell | None = None
        self._idle = anyio.Event()
        self._idle.set()
        self.for_rows = Stopwatch()
        """Runs while there is nothing to compute."""
        self.for_epochs = Stopwatch()
        """Runs while an epoch is computed."""

    async def run(self) -> None:
        """Return when the last epoch has been handed over.

        Raises:
            StreamqError: the query failed.
        """
        self._bell = bell = Bell()
        try:
            for waker in self._wakers:
                waker.wake(bell.ring)
            send, receive = anyio.create_memory_object_stream[Outgoing]()
            with receive:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._interrupt_when_cancelled)
                    async with anyio.create_task_group() as handing_over:
                        handing_over.start_soon(self._hand_over, receive)
                        with send:
                            await self._loop(bell, send)
                    tasks.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            error = one_error(group)
            raise error from error.__cause__
        finally:
            for waker in self._wakers:
                waker.wake(None)
            requests, self._requests = self._requests or (), None
            for request in requests:
                request.done.set()
            bell.close()

    async def between_epochs(self, work: Callable[[], None]) -> None:
        """Run `work` in a thread between two epochs, when what was computed has been handed over. What it raises is raised here.

        Raises:
            StreamClosed: the query ended before.
        """
        request = _Request(work)
        if self._requests is not None:
            self._requests.append(request)
            if self._bell is not None:
                self._bell.ring()
            await request.done.wait()
        if request.error is not None:
            raise request.error
        if not request.served:
            raise StreamClosed("the query has ended")

    async def _loop(self, bell: Bell, outgoing: MemoryObjectSendStream[Outgoing]) -> None:
        while True:
            while self._requests:
                await outgoing.send(None)
                request = self._requests.popleft()
                try:
                    await self._in_thread(request.serve)
                finally:
                    request.done.set()
            try:
                advanced, emission = await self._in_thread(self._step)
            except StreamqError:
                # The epochs before the one that failed are the reader's.
                await outgoing.send(None)
                raise
            if emission is not None:
                await outgoing.send(emission)
            if self._epochs.ended and not self._epochs.waiting:
                return
            if not advanced:
                with anyio.move_on_after(self._patience_s()), self.for_rows:
                    await bell.wait()

    async def _hand_over(self, outgoing: MemoryObjectReceiveStream[Outgoing]) -> None:
        async for emission in outgoing:
            if emission is not None:
                await self._emit(emission)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._idle = anyio.Event()
        try:
            with self.for_epochs:
                return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        except Interrupted:
            # What was cancelled ends as that, and nothing else interrupts.
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise
        finally:
            self._idle.set()

    def _step(self) -> tuple[bool, Emission | None]:
        advanced = self._epochs.advance()
        now = time.monotonic()
        if not self._epochs.waiting or (now < self._due_s and not self._epochs.ended):
            return advanced, None
        if self._every_s is not None:
            self._due_s = now + self._every_s
        return advanced, self._epochs.emit()

    def _patience_s(self) -> float:
        """Tell how long nothing can happen unless a feed rings."""
        wanted = (self._epochs.idle_at_s, self._due_s if self._epochs.waiting else None)
        times = [at_s for at_s in wanted if at_s is not None]
        return max(0.0, min(times) - time.monotonic()) if times else float("inf")

    async def _interrupt_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            # A thread cannot be cancelled: whoever waits for it does so until the work that it does was interrupted.
            with anyio.CancelScope(shield=True):
                while not self._idle.is_set():
                    self._interrupt()
                    with anyio.move_on_after(INTERRUPT_INTERVAL_S):
                        await self._idle.wait()
