"""Epochs: when there is one, what its record says, what its nodes get."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pyarrow as pa
import pytest

from streamq.errors import ResourceLimit, StreamClosed
from streamq.kernels.evaluate import Evaluator
from streamq.kernels.session import Session
from streamq.operators.base import Delta, Epoch, State
from streamq.plan.dataflow import INPUT, Dataflow, Map, Read
from streamq.plan.exchanges import Edge, Keep
from streamq.sql.logical import Continuous, Scan
from streamq.storage.feeds import Position
from streamq.streaming.changelog import ChangeWriter
from streamq.streaming.coordinator import Coordinator
from streamq.streaming.cuts import Inlet
from streamq.streaming.epochs import Emission, Epochs
from streamq.streaming.late import LateRowCounter
from streamq.streaming.pace import AsWritten
from streamq.streaming.partitions import LocalPartitions
from tests.streaming.feeds import ListFeed

SCHEMA = ListFeed.schema
CHANGES = Continuous("changes")
READ = Read("read", Scan("s#1", "s", ("n",)), SCHEMA, retracts=False)


class Passing:
    """An operator that passes rows on and remembers the epochs."""

    state_rows = 3
    state_bytes = 1_000

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        self.epochs.append(epoch)
        return inputs[0]

    def snapshot(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        assert not state


class TwoPartitions(ListFeed):
    """An external feed with a second partition, whose watermark stands still."""

    @property
    def watermarks(self) -> Mapping[int, int | None]:
        return {**super().watermarks, 1: 1}

    @property
    def position(self) -> Position:
        return Position({**super().position.offsets, 1: 1})


class Query:
    """A query that passes rows on, at a time of its own."""

    def __init__(self, evaluator: Evaluator, *feeds: ListFeed, continuous: Continuous = CHANGES, epoch_rows: int = 100) -> None:
        node = Map("map", Edge("read", Keep()), f'SELECT * FROM "{INPUT}"', SCHEMA, retracts=False)
        dataflow = Dataflow((READ, node), "map", SCHEMA, None, "append", False, continuous)
        self.now_s = 0.0
        self.wall_us = 1_000
        self.operator = Passing()
        self.partitions = LocalPartitions(dataflow, 1, lambda node, partition: self.operator)
        self.epochs = Epochs(
            dataflow,
            [Inlet(feed, ("read",)) for feed in feeds],
            self.partitions,
            ChangeWriter(dataflow, 100),
            LateRowCounter(dataflow, evaluator, None),
            pace=AsWritten(lambda: 1_000),
            epoch_rows=epoch_rows,
            wall_us=lambda: self.wall_us,
            steady_s=lambda: self.now_s,
        )

    def emitted(self) -> list[int]:
        """Give the values that come out now."""
        return values(self.epochs.emit())


def values(emission: Emission) -> list[int]:
    return [value for batch in emission.batches for value in batch.column("n").to_pylist()]


@pytest.fixture
def evaluator(tmp_path: Path) -> Iterator[Evaluator]:
    with Session(1 << 26, str(tmp_path)) as session, Evaluator(session) as evaluator:
        yield evaluator


def test_the_first_epoch_needs_no_rows(evaluator: Evaluator) -> None:
    """There is an answer for the empty prefix; then nothing happens until rows come."""
    feed = ListFeed("s")
    query = Query(evaluator, feed)
    assert query.epochs.advance()
    assert query.emitted() == []
    assert not query.epochs.advance()
    feed.write(1, [5])
    assert query.epochs.advance()
    assert query.emitted() == [5]


def test_the_end_is_an_epoch(evaluator: Evaluator) -> None:
    """When all feeds have ended the last epoch says so, and there is no other."""
    feed = ListFeed("s", (1, [5]))
    query = Query(evaluator, feed)
    query.epochs.advance()
    feed.finish()
    assert query.epochs.advance()
    assert query.epochs.ended
    assert [epoch.ended for epoch in query.operator.epochs] == [False, True]
    assert not query.epochs.advance()


def test_the_clock_never_goes_back(evaluator: Evaluator) -> None:
    """Whatever the machine's clock does, epochs are in order of time."""
    feed = ListFeed("s", (1, [5]))
    query = Query(evaluator, feed)
    query.epochs.advance()
    query.wall_us = 500
    feed.write(2, [6])
    query.epochs.advance()
    assert [epoch.now_us for epoch in query.operator.epochs] == [1_000, 1_000]


def test_the_record_says_what_was_read(evaluator: Evaluator) -> None:
    """Number, positions and watermark are those after the epoch."""
    query = Query(evaluator, ListFeed("s", (1, [5, 8]), (2, [7]), event_time=True), epoch_rows=2)
    query.epochs.advance()
    record = query.epochs.report.record
    assert record is not None
    assert (record.number, record.rows, record.watermarks.query, record.ended) == (1, {"s": 2}, 8, False)


def test_time_alone_can_make_an_epoch(evaluator: Evaluator) -> None:
    """When a partition of an external source becomes idle the watermark goes on, and windows can close."""
    feed = TwoPartitions("s", (0, [50]), external=True, event_time=True)
    query = Query(evaluator, feed)
    query.epochs.advance()
    assert query.epochs.idle_at_s == 30
    query.now_s = 29
    feed.write(0, [60])
    query.epochs.advance()
    assert not query.epochs.advance()
    query.now_s = 31
    assert query.epochs.advance()
    assert [epoch.horizon_us for epoch in query.operator.epochs] == [1, 1, 60]


def test_lateness_holds_the_horizon_back(evaluator: Evaluator) -> None:
    """Windows stay open for as long as late rows are waited for."""
    query = Query(evaluator, ListFeed("s", (1, [50]), event_time=True), continuous=Continuous("changes", lateness_us=20))
    query.epochs.advance()
    assert query.operator.epochs[0].horizon_us == 30


def test_changes_of_epochs_that_wait_come_together(evaluator: Evaluator) -> None:
    """Nothing is lost between two emissions, and it stands where the last epoch does."""
    query = Query(evaluator, ListFeed("s", (1, [1]), (2, [2]), (3, [3])), epoch_rows=1)
    while query.epochs.advance():
        assert query.epochs.waiting
    emission = query.epochs.emit()
    assert (values(emission), emission.record.number) == ([1, 2, 3], 3)
    assert not query.epochs.waiting


def test_too_much_state_ends_the_query(evaluator: Evaluator) -> None:
    """The error names the operator that keeps most, and nothing of the epoch counts."""
    query = Query(evaluator, ListFeed("s", (1, [1])), continuous=Continuous("changes", max_state_bytes=999))
    with pytest.raises(ResourceLimit, match=r"1,000 bytes.*\(999\): map has"):
        query.epochs.advance()
    assert query.epochs.report.record is None


@pytest.mark.anyio
async def test_a_feed_wakes_the_coordinator_from_any_thread(evaluator: Evaluator, anyio_backend: object) -> None:
    """Rows and the end come from other threads; every row comes out, and then the run is over."""
    feed = ListFeed("s")
    query = Query(evaluator, feed)
    seen: list[int] = []
    arrived = anyio.Event()

    async def emit(emission: Emission) -> None:
        seen.extend(values(emission))
        if seen:
            arrived.set()

    coordinator = Coordinator(
        query.epochs, [feed], emit, every_s=None, interrupt=query.partitions.interrupt, limiter=anyio.CapacityLimiter(1)
    )
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(coordinator.run)
            await anyio.to_thread.run_sync(feed.write, 1, [1, 2])
            await arrived.wait()
            await anyio.to_thread.run_sync(feed.write, 2, [3])
            await anyio.to_thread.run_sync(feed.finish)
    assert seen == [1, 2, 3]


@pytest.mark.anyio
async def test_a_cancelled_coordinator_lets_its_feeds_go(evaluator: Evaluator, anyio_backend: object) -> None:
    """After a cancellation, in whichever wait, nothing rings any more."""
    for checkpoints in range(12):
        feed = ListFeed("s", (1, [1, 2, 3]))
        query = Query(evaluator, feed, epoch_rows=1)

        async def emit(emission: Emission) -> None:
            await anyio.lowlevel.checkpoint()

        coordinator = Coordinator(
            query.epochs, [feed], emit, every_s=None, interrupt=query.partitions.interrupt, limiter=anyio.CapacityLimiter(1)
        )
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(coordinator.run)
                for _ in range(checkpoints):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        assert feed.wakes is None


@pytest.mark.anyio
async def test_nobody_waits_for_a_coordinator_that_never_ran(evaluator: Evaluator, anyio_backend: object) -> None:
    """What was to be done between two epochs is refused when the query ends before its first one."""
    query = Query(evaluator, ListFeed("s"))

    async def emit(emission: Emission) -> None:
        raise AssertionError("nothing is computed")

    coordinator = Coordinator(query.epochs, [], emit, every_s=None, interrupt=query.partitions.interrupt, limiter=anyio.CapacityLimiter(1))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_when_asked, coordinator)
            with pytest.raises(StreamClosed, match="has ended"):
                await coordinator.between_epochs(lambda: None)
    with pytest.raises(StreamClosed, match="has ended"):
        await coordinator.between_epochs(lambda: None)


async def _end_when_asked(coordinator: Coordinator) -> None:
    await anyio.lowlevel.checkpoint()
    coordinator.end()


def test_reads_of_one_relation_get_the_same_rows(evaluator: Evaluator) -> None:
    """Several reads share a feed, each with its own columns, so that no epoch has a row for one and not for the other."""
    other = Read("other", Scan("s#2", "s", ("n",)), pa.schema([("n", pa.int64())]), retracts=False)
    nodes = [READ, other]
    dataflow = Dataflow(tuple(nodes), "other", SCHEMA, None, "append", False, Continuous("changes"))
    seen: list[Mapping[str, Delta]] = []

    class Partitions(LocalPartitions):
        def step(self, epoch: Epoch, inputs: Mapping[str, Delta]) -> list[Delta]:
            seen.append(inputs)
            return super().step(epoch, inputs)

    epochs = Epochs(
        dataflow,
        [Inlet(ListFeed("s", (1, [1, 2])), ("read", "other"))],
        Partitions(dataflow, 1, lambda node, partition: Passing()),
        ChangeWriter(dataflow, 100),
        LateRowCounter(dataflow, evaluator, None),
        pace=AsWritten(lambda: 1_000),
    )
    epochs.advance()
    assert {name: delta.num_rows for name, delta in seen[0].items()} == {"read": 2, "other": 2}
