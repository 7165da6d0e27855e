"""A bounded channel of record batches, from the tasks that make them to the one reader of a query.

The bound is in rows and in bytes, because a bound that counts batches of any size is none. Completion and failure travel
in the channel: a reader that has seen the end without an error has seen every batch, and one that has seen that the query failed
has seen what was sent before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import pyarrow as pa

from streamq.flow.latch import Latch
from streamq.flow.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class ChannelStatistics:
    """What waits in a channel now. Since it was made, senders have waited for room for `blocked_s`, all of them together, and there was
    something for the reader, who had not taken it, for `unread_s`. Waits that last are counted as far as they are."""

    batches: int
    rows: int
    bytes: int
    blocked_s: float
    unread_s: float


class ByteBudget:
    """What may wait in several channels together. `used` is what waits now."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0

    @property
    def spent(self) -> bool:
        """No more may wait, except a first batch in a channel."""
        return self.used >= self.max_bytes


class Channel:
    """Carries batches from many senders to one reader, in the order in which they were sent.

    A batch is accepted while what waits is below `max_rows` and `max_bytes`, so what waits never exceeds either by more than
    one batch a sender. With a `budget` that is spent, only an empty channel accepts a batch: so nobody waits for another
    channel's reader. `max_batches` counts where batches may be tiny or have no rows.
    """

    __slots__ = (
        "_batches", "_blocked", "_budget", "_bytes", "_call", "_drained", "_ended", "_error", "_max_batches", "_readable", "_rows",
        "_unread", "_writable", "bytes_taken", "max_bytes", "max_rows",
    )  # fmt: skip

    def __init__(self, max_rows: int, max_bytes: int, budget: ByteBudget | None = None, max_batches: int | None = None) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self._max_batches = max_batches
        self._budget = budget or ByteBudget(max_bytes)
        # Nothing while nothing waits: most channels of followers are empty for most of the time.
        self._batches: deque[tuple[pa.RecordBatch, int]] | None = None
        self.bytes_taken = 0
        self._rows = 0
        self._bytes = 0
        self._blocked = Stopwatch()
        self._unread = Stopwatch()
        self._ended = False
        self._error: BaseException | None = None
        self._readable: anyio.Event | None = None
        self._call: Callable[[], None] | None = None
        self._writable: anyio.Event | None = None
        self._drained = Latch()

    async def send(self, batch: pa.RecordBatch) -> None:
        """Hand over a batch, waiting until there is room. No checkpoint where there is: `receive` is one for every batch."""
        if self._full():
            with self._blocked:
                while self._full():
                    if self._writable is None:
                        self._writable = anyio.Event()
                    await self._writable.wait()
        self._append(batch)
        self._tell_reader()

    def close(self) -> None:
        """End the channel: what was sent is still read, then comes the end."""
        self._ended = True
        self._tell_reader()
        self._check_drained()

    def fail(self, error: BaseException, rest: Iterable[pa.RecordBatch] = ()) -> None:
        """End the channel with an error: what was sent is still read, and `rest`, which its senders could not send any more.

        Nobody else is to wait for its reader, who may never come: what waits no longer counts in the budget.
        """
        self._budget.used -= self._bytes
        self._budget = ByteBudget(self.max_bytes)
        self._budget.used = self._bytes
        for batch in rest:
            self._append(batch)
        self._error = error
        self.close()

    def abort(self, error: BaseException) -> None:
        """End the channel with an error, dropping what waits: the reader's next call raises it, or one that was there before.

        Does nothing once the reader has had the end.
        """
        if self._drained.is_set:
            return
        self._ended = True
        self._error = self._error or error
        if self._batches is not None:
            self._unread.stop()
            self._batches = None
        self._count(-self._rows, -self._bytes)
        self._tell_reader()
        self._tell_senders()
        self._check_drained()

    async def wait_drained(self) -> None:
        """Wait until the channel has ended and the reader has taken every batch."""
        await self._drained.wait()

    async def receive(self) -> pa.RecordBatch | None:
        """Take the next batch; None is the end. Always a checkpoint.

        Raises:
            BaseException: the error that the channel has ended with, at every call from then on.
        """
        await anyio.lowlevel.checkpoint()
        while self._batches is None and not self._ended:
            self._readable = anyio.Event()
            try:
                await self._readable.wait()
            finally:
                self._readable = None
        if self._batches is None:
            if self._error is not None:
                raise self._error
            return None
        batch, size = self._batches.popleft()
        if not self._batches:
            self._batches = None
            self._unread.stop()
        self._count(-batch.num_rows, -size)
        self.bytes_taken += size
        if not self._full():
            self._tell_senders()
        self._check_drained()
        return batch

    def answer(self, call: Callable[[], None] | None) -> bool:
        """Wait without a task: what comes next, be it a batch or the end, calls `call()`, once. Where something is there already it gives
        False, and calls nothing. None has nothing called any more.
        """
        if call is not None and (self._batches is not None or self._ended):
            return False
        self._call = call
        return True

    def statistics(self) -> ChannelStatistics:
        return ChannelStatistics(len(self._batches or ()), self._rows, self._bytes, self._blocked.seconds, self._unread.seconds)

    def _append(self, batch: pa.RecordBatch) -> None:
        # The memory that the batch keeps. Unlike `nbytes`, asking for it does not let go of the interpreter lock.
        size = batch.get_total_buffer_size()
        if self._batches is None:
            self._batches = deque()
            self._unread.start()
        self._batches.append((batch, size))
        self._count(batch.num_rows, size)

    def _tell_reader(self) -> None:
        if self._readable is not None:
            self._readable.set()
        if self._call is not None:
            call, self._call = self._call, None
            call()

    def _tell_senders(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def _check_drained(self) -> None:
        if self._ended and self._batches is None:
            self._drained.set()

    def _count(self, rows: int, bytes: int) -> None:
        self._rows += rows
        self._bytes += bytes
        self._budget.used += bytes

    def _full(self) -> bool:
        if self._max_batches is not None and len(self._batches or ()) >= self._max_batches:
            return True
        return self._rows >= self.max_rows or self._bytes >= self.max_bytes or (self._batches is not None and self._budget.spent)
