"""Makes the epochs of a query: takes a cut, writes its record, computes it, makes its changes net. Synchronous, decides everything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from streamq.errors import DataError, ResourceLimit
from streamq.execution.histogram import NO_EPOCHS, Histogram
from streamq.operators.base import Delta
from streamq.plan.dataflow import Dataflow, First, Map, Node, Read
from streamq.storage.barriers import Reached
from streamq.storage.feeds import Feed
from streamq.streaming.changelog import ChangeWriter
from streamq.streaming.cuts import EPOCH_ROWS, Inlet, is_drained, take_cut
from streamq.streaming.instances import NodeStatistics
from streamq.streaming.late import LateRowCounter
from streamq.streaming.pace import Pace
from streamq.streaming.partitions import Partitions
from streamq.streaming.records import EpochRecord
from streamq.streaming.saved import SavedQuery, added, fingerprint
from streamq.streaming.watermarks import Partition, Reading, WatermarkTracker

MOST_WAITING_ROWS = 1 << 20
"""Changes that may wait for the next time to emit: then sources are read no further until it has come."""


@dataclass(frozen=True, slots=True)
class Emission:
    """What the reader gets of the epochs since the last emission: their net change, where it stands."""

    record: EpochRecord
    batches: tuple[pa.RecordBatch, ...]
    reached: Reached | None = None
    """The place in the order of writes where the query stands now, if anybody waits for it there."""


@dataclass(frozen=True, slots=True)
class EpochReport:
    """How far a query is. Made after each epoch, and never changed.

    `partitions` are the watermarks of all partitions with event time, `peak_state_bytes` is the most that was kept after an epoch,
    `epoch_s` are the times that epochs took to compute.
    """

    record: EpochRecord | None = None
    rows_in: Mapping[str, int] = field(default_factory=dict)
    late_rows: int = 0
    nodes: tuple[NodeStatistics, ...] = ()
    partitions: Mapping[Partition, int | None] = field(default_factory=dict)
    peak_state_bytes: int = 0
    epoch_s: Histogram = NO_EPOCHS


class Epochs:
    """The epochs of one query. Used by one thread at a time; `report` may be read from any."""

    __slots__ = (
        "_arrived", "_before", "_dataflow", "_emitted", "_first", "_inlets", "_late", "_max_rows", "_pace", "_partitions", "_reads",
        "_steady_s", "_taken_over", "_tracker", "_wall_us", "_whole", "_writer", "ended", "report",
    )  # fmt: skip

    def __init__(
        self,
        dataflow: Dataflow,
        inlets: Sequence[Inlet],
        partitions: Partitions,
        writer: ChangeWriter,
        late: LateRowCounter,
        *,
        pace: Pace,
        epoch_rows: int | None = None,
        wall_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._dataflow = dataflow
        self._inlets = inlets
        self._partitions = partitions
        self._writer = writer
        self._late = late
        self._pace = pace
        self._max_rows = EPOCH_ROWS if epoch_rows is None else epoch_rows
        self._wall_us = wall_us
        self._steady_s = steady_s
        self._tracker = WatermarkTracker(dataflow.continuous.idle_timeout_s)
        self._reads = {node.id: node for node in dataflow.nodes if isinstance(node, Read)}
        self._first = _first(dataflow)
        self._emitted = True
        self._taken_over: SavedQuery | None = None
        self._before: dict[str, NodeStatistics] = {}
        self._whole = True
        self._arrived = False
        self.report = EpochReport()
        self.ended = False
        """The last epoch has been computed."""

    @property
    def waiting(self) -> bool:
        """An epoch has been computed and not emitted, and may be; or somebody waits for the place where the query stands."""
        return (not self._emitted and self._whole) or (self._arrived and self._pace.reached is not None)

    @property
    def idle_at_s(self) -> float | None:
        """When, on the steady clock, a partition may become idle."""
        return self._tracker.idle_at_s(self._steady_s())

    def advance(self) -> bool:
        """Compute the next epoch, if there is one; tells whether the query has come further.

        Raises:
            StreamqError: the query cannot go on; nothing of the epoch counts.
        """
        if self.ended or (self._whole and self._writer.waiting_rows >= MOST_WAITING_ROWS):
            return False
        ceiling = self._pace.ceiling()
        if ceiling is None:
            return False
        self._restore()
        before = self.report.record
        rows = take_cut(self._inlets, self._max_rows, ceiling)
        record = self._record(before)
        computed = before is None or rows > 0 or record.ended or record.watermarks.query != before.watermarks.query
        if computed:
            self._compute(record, before)
            self._emitted = False
        arrived = self._arrive(ceiling)
        return computed or arrived

    def emit(self) -> Emission:
        """Give the net change since the last emission."""
        assert self.report.record is not None
        self._emitted, self._arrived = True, False
        return Emission(self.report.record, tuple(self._writer.write()), self._pace.reached)

    def save(self) -> SavedQuery:
        """Give all that the query is now, for `resume` in another run."""
        self._restore()
        record = self.report.record
        return SavedQuery(
            plan=fingerprint(self._dataflow),
            record=record,
            ended=self.ended,
            bookmarks={inlet.feed.name: inlet.feed.bookmark() for inlet in self._inlets},
            tracker=self._tracker.save(self._steady_s()),
            late_rows=self._late.rows,
            waiting=self._writer.save(),
            emitted=self._emitted,
            nodes=self.report.nodes,
            states={} if record is None else self._partitions.snapshot(),
        )

    def resume(self, saved: SavedQuery) -> None:
        """Go on where another run was, before anything is computed. The feeds must stand where it left them."""
        self._tracker.resume(saved.tracker, self._steady_s())
        self._late.rows = saved.late_rows
        self._writer.resume(saved.waiting)
        self._emitted = saved.emitted
        self._whole = saved.emitted or not self._pace.whole
        self.ended = saved.ended
        if saved.record is not None:
            rows = saved.record.rows
            self.report = EpochReport(saved.record, rows, saved.late_rows, saved.nodes, self._partition_watermarks())
            self._taken_over = saved

    def _restore(self) -> None:
        """Give the operators their state, now that they run."""
        if self._taken_over is not None:
            self._partitions.restore(self._taken_over.states)
            self._before = {node.node: node for node in self._taken_over.nodes}
            self._taken_over = None

    def _statistics(self) -> tuple[NodeStatistics, ...]:
        """Tell what the nodes have done, in other runs too."""
        nodes = self._partitions.statistics()
        return tuple(added(self._before[node.node], node) for node in nodes) if self._before else nodes

    def _arrive(self, ceiling: int) -> bool:
        """Note how far the query has come; tells whether that is a place to which it was going."""
        self._whole = self.ended or not self._pace.whole or is_drained(self._inlets, ceiling)
        arrived = self._whole and self._pace.arrive(ceiling)
        self._arrived = self._arrived or arrived
        return arrived

    def _record(self, before: EpochRecord | None) -> EpochRecord:
        feeds = [inlet.feed for inlet in self._inlets]
        return EpochRecord(
            number=1 if before is None else before.number + 1,
            # A clock that was set back does not take the query's time with it.
            now_us=max(self._wall_us(), 0 if before is None else before.now_us),
            positions={feed.name: feed.position for feed in feeds},
            watermarks=self._tracker.advance([_reading(feed) for feed in feeds], self._steady_s()),
            ended=all(inlet.feed.ended for inlet in self._inlets if inlet.awaited),
        )

    def _compute(self, record: EpochRecord, before: EpochRecord | None) -> None:
        epoch = record.epoch(self._dataflow.continuous.lateness_us)
        started = self._steady_s()
        try:
            inputs = self._inputs()
            late = self._late.find(inputs, epoch)
            outputs = self._partitions.step(epoch, inputs)
        except DataError as error:
            raise DataError(f"{error} [{_where(record, before)}]") from error
        nodes = self._statistics()
        self._check_state(nodes)
        self._late.hand_on(late)
        # Behind all that may fail: what waits is always that of complete epochs.
        self._writer.add(outputs)
        peak = max(self.report.peak_state_bytes, sum(node.state_bytes for node in nodes))
        took = self.report.epoch_s.counting(self._steady_s() - started)
        self.report = EpochReport(record, record.rows, self._late.rows, nodes, self._partition_watermarks(), peak, took)
        self.ended = record.ended or self._is_full(nodes)

    def _inputs(self) -> dict[str, Delta]:
        inputs = {}
        for inlet in self._inlets:
            delta = inlet.give()
            if delta is not None:
                for read in inlet.reads:
                    inputs[read] = _columns_of(delta, self._reads[read].schema)
        return inputs

    def _partition_watermarks(self) -> dict[Partition, int | None]:
        feeds = [inlet.feed for inlet in self._inlets]
        return {(feed.name, number): watermark for feed in feeds for number, watermark in feed.watermarks.items()}

    def _check_state(self, nodes: Sequence[NodeStatistics]) -> None:
        limit = self._dataflow.continuous.max_state_bytes
        total = sum(node.state_bytes for node in nodes)
        if limit is None or total <= limit:
            return
        largest = max(nodes, key=lambda node: node.state_bytes)
        raise ResourceLimit(
            f"the query keeps {total:,} bytes, more than max_state_bytes allows ({limit:,}): {largest.node} has "
            f"{largest.state_bytes:,} of them for {largest.state_rows:,} rows"
        )

    def _is_full(self, nodes: Sequence[NodeStatistics]) -> bool:
        """Tell whether a LIMIT has been reached, which ends the query."""
        first = self._first
        return first is not None and any(node.node == first.id and node.rows_out >= first.limit for node in nodes)


def _first(dataflow: Dataflow) -> First | None:
    """Give the LIMIT behind which rows are only mapped."""
    nodes: dict[str, Node] = {node.id: node for node in dataflow.nodes}
    node = nodes[dataflow.output]
    while isinstance(node, Map):
        node = nodes[node.input.node]
    return node if isinstance(node, First) else None


def _reading(feed: Feed) -> Reading:
    return Reading(feed.name, feed.watermarks, feed.position.offsets, feed.external, feed.ended)


def _columns_of(delta: Delta, schema: pa.Schema) -> Delta:
    rows = delta.rows
    if rows.schema.equals(schema):
        return delta
    return Delta(pa.RecordBatch.from_arrays([rows.column(name) for name in schema.names], schema=schema), delta.weights)


def _where(record: EpochRecord, before: EpochRecord | None) -> str:
    """Say which rows an epoch had."""
    parts = []
    for relation, position in record.positions.items():
        for partition, end in position.offsets.items():
            start = 0 if before is None else before.positions[relation].offsets.get(partition, 0)
            if end > start:
                number = f" partition {partition}" if len(position.offsets) > 1 else ""
                parts.append(f"{relation}{number} row {start}" if end == start + 1 else f"{relation}{number} rows {start} to {end - 1}")
    return f"epoch {record.number}{': ' if parts else ''}{', '.join(parts)}"
