"""A job on a worker of a pool, as its reader sees it: its batches, how it ended, and what it wrote."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress

import anyio
import pyarrow as pa

from streamq.errors import StreamqError
from streamq.execution.jobs import JobResult
from streamq.flow.stopwatch import Stopwatch


class PooledJob:
    """A job on a worker, and the batches of it that wait to be taken.

    `ended` tells that the worker is done with it, `finished` that its reader knows.
    """

    def __init__(self, grant: Callable[[], None], waiting: Stopwatch) -> None:
        self.ended = anyio.Event()
        self.finished = False
        self._grant = grant
        self._waiting = waiting
        self._batches: deque[tuple[pa.RecordBatch, bool]] = deque()
        self._changed = anyio.Event()
        self._result: JobResult | None = None
        self._error: StreamqError | None = None
        self._delivered = False

    def __aiter__(self) -> AsyncIterator[pa.RecordBatch]:
        return self

    async def __anext__(self) -> pa.RecordBatch:
        # No checkpoint where a batch is there already: the reader's channel, behind this, is one for every batch.
        if not self._batches and not self.ended.is_set():
            with self._waiting:
                while not self._batches and not self.ended.is_set():
                    self._changed = anyio.Event()
                    await self._changed.wait()
        if self._batches:
            self._delivered = True
            batch, last = self._batches.popleft()
            if last and not self.ended.is_set():
                self._grant()
            return batch
        if self._error is not None:
            raise self._error
        self.finished = True
        raise StopAsyncIteration

    @property
    def delivered(self) -> bool:
        return self._delivered

    @property
    def result(self) -> JobResult:
        if self._result is None:
            raise RuntimeError("a job has its result when its iteration has ended")
        return self._result

    def give(self, batches: Sequence[pa.RecordBatch]) -> None:
        """Leave the batches of a turn; taking the last of them grants another turn."""
        self._batches.extend((batch, number == len(batches)) for number, batch in enumerate(batches, 1))
        self._changed.set()

    def discard(self) -> None:
        """Drop what the reader has not taken, and the files of a job that was let go when it was just done."""
        self._batches.clear()
        for _, path, _ in self._result.files if self._result is not None else ():
            with suppress(FileNotFoundError):
                os.unlink(path)

    def end(self, outcome: JobResult | StreamqError) -> None:
        if isinstance(outcome, JobResult):
            self._result = outcome
        else:
            self._error = outcome
        self.ended.set()
        self._changed.set()
