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
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from streamq.errors import StreamClosed, StreamqError
from streamq.flow.bell import Bell
from streamq.flow.scopes import raising_one
from streamq.flow.stopwatch import Stopwatch
from streamq.kernels.session import Interrupted
from streamq.streaming.epochs import Emission, Epochs

INTERRUPT_INTERVAL_S = 0.02
"""An interrupt that comes between two pieces of work is lost, so it is repeated this often until the work has ended."""


T = TypeVar("T")


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
        self._handed_over = anyio.Event()
        self._handed_over.set()
        self._computed: Emission | None = None
        self._tasks: anyio.abc.TaskGroup
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
            with raising_one():
                # A query that waits has no other task than this one: those that compute and hand over end with the epoch.
                async with anyio.create_task_group() as self._tasks:
                    await self._loop(bell)
        finally:
            for waker in self._wakers:
                waker.wake(None)
            self.end()

    def rest(self) -> Emission | None:
        """Give, when the run has failed, what the complete epochs changed and nobody was given to hand over."""
        if self._computed is None and self._epochs.waiting:
            self._computed = self._epochs.emit()
        return self._computed

    def end(self) -> None:
        """Have nobody wait for the time between two epochs: no more will come. What ran ends so by itself."""
        requests, self._requests = self._requests or (), None
        for request in requests:
            request.done.set()

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

    async def _loop(self, bell: Bell) -> None:
        while True:
            while self._requests:
                await self._handed_over.wait()
                request = self._requests.popleft()
                try:
                    await self._in_thread(request.serve)
                finally:
                    request.done.set()
            advanced, self._computed = await self._in_thread(self._step)
            if self._computed is not None:
                await self._handed_over.wait()
                self._handed_over = anyio.Event()
                self._tasks.start_soon(self._hand_over, self._computed, name="streamq: changes to the reader")
                # What is waited for next may take long: the reader is to have the changes, and nobody else.
                self._computed = None
            if self._epochs.ended and not self._epochs.waiting:
                return
            if not advanced:
                with anyio.move_on_after(self._patience_s()), self.for_rows:
                    await bell.wait()

    async def _hand_over(self, emission: Emission) -> None:
        await self._emit(emission)
        self._handed_over.set()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        done = anyio.Event()
        self._tasks.start_soon(self._interrupt_when_cancelled, done, name="streamq: interrupt")
        try:
            with self.for_epochs:
                return await anyio.to_thread.run_sync(work, limiter=self._limiter)
        except Interrupted:
            # What was cancelled ends as that, and nothing else interrupts.
            await anyio.lowlevel.checkpoint_if_cancelled()
            raise
        finally:
            done.set()

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

    async def _interrupt_when_cancelled(self, done: anyio.Event) -> None:
        try:
            await done.wait()
        finally:
            # A thread cannot be cancelled: whoever waits for it does so until the work that it does was interrupted.
            with anyio.CancelScope(shield=True):
                while not done.is_set():
                    self._interrupt()
                    with anyio.move_on_after(INTERRUPT_INTERVAL_S):
                        await done.wait()
