"""The totals from which the numbers of a database are read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from threading import Lock

from streamq.execution.histogram import NO_EPOCHS, NO_QUERIES, Histogram
from streamq.execution.jobs import PoolStatistics
from streamq.execution.statistics import (
    KINDS,
    NO_INSERTS,
    NO_WAITS,
    OUTCOMES,
    ContinuousTotals,
    DatabaseStatistics,
    InsertStatistics,
    Outcome,
    QueryKind,
    QueryStatistics,
    QueryTotals,
    RelationStatistics,
    ResourceStatistics,
    TakenLate,
    Waits,
)


class Totals:
    """Adds up the queries of a database, which owns it.

    Queries start and end on the event loop; a snapshot may be taken on any thread, because that is where Prometheus
    collects. The lock makes a query that ends meanwhile count exactly once, so totals never go down.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[str, Callable[[], QueryStatistics]] = {}
        self._dropped = 0
        self._ended = {kind: _Sums() for kind in KINDS}
        self._durations = {kind: {outcome: NO_QUERIES for outcome in OUTCOMES} for kind in KINDS}

    def query_started(self, query_id: str, read: Callable[[], QueryStatistics]) -> None:
        """Count a query that starts. `read` gives its statistics at any time until it ends; it neither waits nor blocks."""
        with self._lock:
            self._running[query_id] = read

    def query_ended(self, statistics: QueryStatistics) -> None:
        """Count a started query that has ended. `statistics` are its last: its `outcome` is not `running`.

        Raises:
            ValueError: the query is still running.
        """
        if statistics.outcome == "running":
            raise ValueError(f"query {statistics.query_id} has not ended")
        kind = statistics.kind
        with self._lock:
            del self._running[statistics.query_id]
            durations = self._durations[kind]
            durations[statistics.outcome] = durations[statistics.outcome].counting(statistics.elapsed_s)
            self._ended[kind] += _Sums.of(statistics)

    def batch_taken(self, taken: TakenLate) -> None:
        """Count a batch that was left of a query when it ended: its last statistics do not have it."""
        first = NO_QUERIES if taken.first_batch_s is None else NO_QUERIES.counting(taken.first_batch_s)
        with self._lock:
            self._ended[taken.kind] += _Sums(rows_out=taken.rows, bytes_out=taken.bytes, batches_out=1, first_batch_s=first)

    def stream_dropped(self) -> None:
        """Count a stream whose last reference went before it was closed. Its query still ends (as `cancelled`)."""
        self._dropped += 1

    def running(self) -> tuple[QueryStatistics, ...]:
        """Give the statistics of the queries that run now, in the order in which they started."""
        with self._lock:
            return tuple(read() for read in self._running.values())

    def snapshot(
        self,
        *,
        pools: Iterable[PoolStatistics] = (),
        relations: Iterable[RelationStatistics] = (),
        inserts: InsertStatistics = NO_INSERTS,
        resources: Iterable[ResourceStatistics] = (),
        channel_limit_bytes: int = 0,
        memory_limit_bytes: int = 0,
    ) -> DatabaseStatistics:
        """Give the totals, with what the running queries have done so far on top."""
        with self._lock:
            durations = {kind: dict(by_outcome) for kind, by_outcome in self._durations.items()}
            by_kind = dict(self._ended)
            running = tuple(read() for read in self._running.values())
        for query in running:
            by_kind[query.kind] += _Sums.of(query)
        sums = sum(by_kind.values(), start=_Sums())
        return DatabaseStatistics(
            kinds={kind: _of_kind(kind, by_kind[kind], durations[kind], running) for kind in KINDS},
            dropped_streams=self._dropped,
            strategies=sums.strategies,
            splits=sums.splits,
            splits_pruned=sums.splits_pruned,
            fallbacks=sums.fallbacks,
            tasks=sums.tasks,
            channel_batches=sum(query.channel_batches for query in running),
            channel_bytes=sum(query.channel_bytes for query in running),
            pools=tuple(pools),
            relations=tuple(relations),
            continuous=_continuous(by_kind["continuous"], running),
            splits_done=sums.splits_done,
            splits_left=sum(scan.splits - scan.splits_done for query in running for scan in query.scans),
            channel_limit_bytes=channel_limit_bytes,
            memory_limit_bytes=memory_limit_bytes,
            inserts=inserts,
            resources=tuple(resources),
        )


@dataclass(frozen=True, slots=True)
class _Sums:
    """What is added up over queries, whether they have ended or not."""

    rows_in: int = 0
    rows_out: int = 0
    bytes_out: int = 0
    batches_out: int = 0
    tasks: int = 0
    splits_pruned: int = 0
    epochs: int = 0
    late_rows: int = 0
    waited: Waits = NO_WAITS
    first_batch_s: Histogram = NO_QUERIES
    epoch_s: Histogram = NO_EPOCHS
    strategies: Counter[str] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    splits_done: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, query: QueryStatistics) -> _Sums:
        """Give what one query adds."""
        continuous = query.continuous
        return cls(
            rows_in=query.rows_in,
            rows_out=query.rows_out,
            bytes_out=query.bytes_out,
            batches_out=query.batches_out,
            tasks=query.tasks,
            splits_pruned=query.splits_pruned,
            epochs=0 if continuous is None else continuous.epochs,
            late_rows=0 if continuous is None else continuous.late_rows,
            waited=query.waited,
            first_batch_s=NO_QUERIES if query.first_batch_s is None else NO_QUERIES.counting(query.first_batch_s),
            epoch_s=NO_EPOCHS if continuous is None else continuous.epoch_s,
            strategies=Counter([query.strategy]),
            fallbacks=Counter([] if query.fallback is None else [query.fallback]),
            splits=_by_unit((scan.unit, scan.splits) for scan in query.scans),
            splits_done=_by_unit((scan.unit, scan.splits_done) for scan in query.scans),
        )

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(self)))


def _by_unit(counts: Iterable[tuple[str, int]]) -> Counter[str]:
    splits: Counter[str] = Counter()
    for unit, count in counts:
        splits[unit] += count
    return splits


def _of_kind(kind: QueryKind, sums: _Sums, durations: Mapping[Outcome, Histogram], running: Sequence[QueryStatistics]) -> QueryTotals:
    return QueryTotals(
        running=sum(query.kind == kind for query in running),
        rows_in=sums.rows_in,
        rows_out=sums.rows_out,
        bytes_out=sums.bytes_out,
        batches_out=sums.batches_out,
        first_batch_s=sums.first_batch_s,
        durations_s={str(outcome): counted for outcome, counted in durations.items()},
        waited=sums.waited,
    )


def _continuous(sums: _Sums, running: Sequence[QueryStatistics]) -> ContinuousTotals:
    now = [query.continuous for query in running if query.continuous is not None]
    rows: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for operator in (operator for query in now for operator in query.operators):
        rows[operator.kind] += operator.state_rows
        sizes[operator.kind] += operator.state_bytes
    return ContinuousTotals(
        running=len(now),
        epochs=sums.epochs,
        rows_in=sums.rows_in,
        late_rows=sums.late_rows,
        blocked_s=sums.waited.channel_s,
        state_bytes={kind: size for kind, size in sorted(sizes.items()) if size},
        watermark_lag_s=max((query.watermark_lag_s for query in now if query.watermark_lag_s is not None), default=None),
        state_rows={kind: count for kind, count in sorted(rows.items()) if count},
        epoch_s=sums.epoch_s,
    )
