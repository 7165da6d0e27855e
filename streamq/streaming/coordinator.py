"""The coordinator of a continuous query: waits for rows, has epochs computed, hands what comes out to the reader.

While an epoch is handed over the next one is computed, but no further one: while the reader stalls nothing is read, and what waited
then comes as one larger epoch. Nothing is polled; feeds ring. While nothing is to be done no task is needed either: `sleep`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from streamq.errors import StreamClosed, StreamqError
from streamq.flow.bell import Bell
from streamq.flow.latch import Latch
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
        self.done = Latch()
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

    __slots__ = (
        "_asleep", "_bell", "_computed", "_due_s", "_emit", "_epochs", "_every_s", "_handed_over", "_interrupt", "_limiter", "_requests",
        "_wakers", "for_epochs", "for_rows",
    )  # fmt: skip

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
        self._requests: list[_Request] | None = []
        self._bell: Bell | None = None
        self._asleep = False
        self._handed_over = Latch()
        self._handed_over.set()
        self._computed: Emission | None = None
        self.for_rows = Stopwatch()
        """Runs while there is nothing to compute."""
        self.for_epochs = Stopwatch()
        """Runs while an epoch is computed."""

    async def run(self) -> None:
        """Return when the last epoch has been handed over.

        Raises:
            StreamqError: the query failed.
        """
        try:
            while not await self.advance():
                with self.for_rows:
                    await self._ring().wait()
        finally:
            self.end()

    async def advance(self) -> bool:
        """Return when everything that is there has been computed and handed over: True if that was the last epoch. After False, and after
        an error, either this or `end` is to be called again.

        Raises:
            StreamqError: the query failed.
        """
        bell = self._ring()
        self._wake_up()
        with raising_one():
            async with anyio.create_task_group() as tasks:
                last = await self._loop(tasks, bell)
        return last

    def sleep(self, call: Callable[[], None]) -> bool:
        """Have `call()` called, once, in the event loop, when `advance` has something to do; False where it has now."""
        self._asleep = self._ring().answer(call)
        if self._asleep:
            self.for_rows.start()
        return self._asleep

    def rest(self) -> Emission | None:
        """Give, when the run has failed, what the complete epochs changed and nobody was given to hand over."""
        if self._computed is None and self._epochs.waiting:
            self._computed = self._epochs.emit()
        return self._computed

    def end(self) -> None:
        """Let the feeds go, and have nobody wait for the time between two epochs: no more will come. What ran ends so by itself."""
        self._wake_up()
        if self._bell is not None:
            for waker in self._wakers:
                waker.wake(None)
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

    def _ring(self) -> Bell:
        """Give the bell, which is hung up at the first call."""
        if self._bell is None:
            self._bell = Bell()
            for waker in self._wakers:
                waker.wake(self._bell.ring)
        return self._bell

    def _wake_up(self) -> None:
        if self._asleep:
            self._asleep = False
            self.for_rows.stop()
            self._ring().answer(None)

    async def _loop(self, tasks: anyio.abc.TaskGroup, bell: Bell) -> bool:
        while True:
            while self._requests:
                await self._handed_over.wait()
                request = self._requests.pop(0)
                try:
                    await self._in_thread(tasks, request.serve)
                finally:
                    request.done.set()
            advanced, self._computed = await self._in_thread(tasks, self._step)
            if self._computed is not None:
                await self._handed_over.wait()
                self._handed_over = Latch()
                tasks.start_soon(self._hand_over, bell, self._computed, name="streamq: changes to the reader")
                # What is waited for next may take long: the reader is to have the changes, and nobody else.
                self._computed = None
            if self._epochs.ended and not self._epochs.waiting:
                return True
            if not advanced and await self._nothing_to_do(bell):
                return False

    async def _nothing_to_do(self, bell: Bell) -> bool:
        """Wait for something to do; True where only the bell can bring it."""
        patience_s = self._patience_s()
        if patience_s < math.inf:
            with anyio.move_on_after(patience_s), self.for_rows:
                await bell.wait()
            return False
        while not self._handed_over.is_set:
            with self.for_rows:
                if await bell.wait_or_nudge():
                    return False
        return True

    async def _hand_over(self, bell: Bell, emission: Emission) -> None:
        await self._emit(emission)
        self._handed_over.set()
        bell.nudge()

    async def _in_thread(self, tasks: anyio.abc.TaskGroup, work: Callable[[], T]) -> T:
        done = anyio.Event()
        tasks.start_soon(self._interrupt_when_cancelled, done, name="streamq: interrupt")
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
        return max(0.0, min(times) - time.monotonic()) if times else math.inf

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
