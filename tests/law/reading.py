"""Reads a continuous query epoch by epoch, through restarts: the query is snapshotted while it runs, cancelled, and goes on elsewhere."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any, Self

import anyio
import pyarrow as pa
from hypothesis import strategies as st

import streamq
from streamq.streaming.query import ContinuousQuery
from streamq.streaming.resume import resumed
from streamq.streaming.snapshots import read_snapshot
from tests.law.engine import EXECUTORS, PARTITIONS, Executor


@dataclass(frozen=True, slots=True)
class Restart:
    """A point at which a query is restarted, `after` so many epochs that were read, and how it goes on."""

    after: int
    partitions: int | None
    executor: Executor


restarts = st.builds(Restart, st.sampled_from([0, 1, 1, 2, 3, 5]), st.sampled_from((*PARTITIONS, None)), st.sampled_from(EXECUTORS))


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a continuous query."""

    executor: Executor = "thread"
    partitions: int | None = 2
    epoch_rows: int | None = None
    batch_rows: int = 32_768
    restarts: tuple[Restart, ...] = ()


ways = st.builds(
    Way,
    st.sampled_from(EXECUTORS),
    st.sampled_from((*PARTITIONS, None)),
    st.sampled_from([None, None, 1, 3, 10]),
    st.sampled_from([1, 7, 32_768]),
    st.just(()) | st.lists(restarts, min_size=1, max_size=3).map(tuple),
)


class Reader:
    """Reads a query in some way. The epochs that come are numbered without a gap, over all restarts."""

    def __init__(self, db: streamq.Database, sql: str, way: Way) -> None:
        self.stream = db.query(sql, epoch_rows=way.epoch_rows, partitions=way.partitions, batch_rows=way.batch_rows, progress=True)
        self.ended = False
        self.epochs = 0
        self._db = db
        self._sql = sql
        self._way = way
        self._restarts = list(way.restarts)
        self._number = 0
        self._complete = True
        self._streams = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._streams.__aenter__()
        await self._streams.enter_async_context(self.stream)
        await self.stream.start()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._streams.__aexit__(*error)

    def take(self, batch: pa.RecordBatch) -> None:
        """Use a batch."""

    def end_epoch(self) -> None:
        """Use what the epoch has given."""

    async def catch_up(self) -> None:
        """Read what has been written so far, if it is to be read before the end."""

    async def see(self, table: str) -> None:
        """Read until a write to a table has been consumed, if it is to be read before the end. All before it has been caught up with."""

    async def finish(self) -> None:
        """Read to the end, once the sources have ended."""
        while not self.ended:
            await self.step()

    @property
    def restarts_next(self) -> bool:
        """It is time for a restart."""
        return bool(self._restarts) and self.epochs >= self._restarts[0].after

    async def step(self) -> None:
        """Restart, if it is time for it, or read an epoch."""
        if self.restarts_next:
            await self._restart(self._restarts.pop(0))
        else:
            await self.epoch()

    async def epoch(self) -> None:
        """Read one whole epoch, or find the end."""
        while await self._batch() and not self._complete:
            pass

    async def _batch(self, snapshot: list[int] | None = None) -> bool:
        """Read a batch; tells whether it is used, and not one behind the epoch of a snapshot."""
        batch = await anext(self.stream, None)
        if batch is None:
            self.ended = True
            return False
        progress = self.stream.progress
        if snapshot and progress.epoch > snapshot[0]:
            return False
        assert progress.epoch == self._number + self._complete, f"epoch {progress.epoch} follows {self._number}"
        self._number, self._complete = progress.epoch, progress.epoch_complete
        self.take(batch)
        if self._complete:
            self.epochs += 1
            self.end_epoch()
        return True

    async def _restart(self, restart: Restart) -> None:
        db, way = self._db, self._way
        with TemporaryDirectory(prefix="law-") as parent:
            directory = os.path.join(parent, "snapshot")
            if not await self._snapshot(directory):
                return
            self.stream = resumed(
                db._host,
                db._catalog,
                db._planner,
                self._sql,
                None,
                directory,
                batch_rows=way.batch_rows,
                epoch_rows=way.epoch_rows,
                partitions=restart.partitions,
                executor=restart.executor,
                progress=True,
            )
            await self._streams.enter_async_context(self.stream)
            await self.stream.start()

    async def _snapshot(self, directory: str) -> bool:
        """Snapshot the query while its epochs are read, and let it go at the snapshot's epoch; False if it ended before."""
        query, stream = self._db._host._queries.get(self.stream.query_id), self.stream
        if query is None:
            return False
        assert isinstance(query, ContinuousQuery)
        taken: list[int] = []

        async def read() -> None:
            with suppress(streamq.StreamClosed, streamq.QueryCancelled):
                while not (taken and self._is_at(taken[0])) and await self._batch(taken):
                    pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            try:
                await query.snapshot(directory)
            except streamq.StreamClosed:
                return False
            record = read_snapshot(directory).record
            taken.append(0 if record is None else record.number)
            if self._is_at(taken[0]):
                # Whoever reads waits for an epoch that does not concern anybody any more.
                await stream.aclose()
        await stream.aclose()
        self.ended = False
        assert self._is_at(taken[0]), f"the snapshot is of epoch {taken[0]}, and {self._number} was read"
        return True

    def _is_at(self, number: int) -> bool:
        return self._complete and self._number == number
