"""What each metric says, of one snapshot of a database: all its numbers belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from streamq.execution.histogram import Histogram
from streamq.execution.jobs import PoolStatistics
from streamq.execution.statistics import (
    ContinuousTotals,
    DatabaseStatistics,
    InsertStatistics,
    QueryTotals,
    RelationStatistics,
    ResourceStatistics,
    Waits,
)
from streamq.metrics import definitions as m
from streamq.metrics.definitions import Metric


@dataclass(frozen=True, slots=True)
class Sample:
    """One number, or one histogram, with the values of the metric's labels in their order."""

    metric: Metric
    labels: tuple[str, ...]
    value: float | Histogram


def samples(statistics: DatabaseStatistics) -> Iterator[Sample]:
    """Give what is in a snapshot."""
    for kind, queries in statistics.kinds.items():
        yield from _queries(kind, queries)
    yield from _by_label(m.STRATEGIES, statistics.strategies)
    yield from _by_label(m.FALLBACKS, statistics.fallbacks)
    yield Sample(m.DROPPED_STREAMS, (), statistics.dropped_streams)
    yield from _channels(statistics)
    yield from _splits(statistics)
    yield from _inserts(statistics.inserts)
    yield from _relations(statistics.relations)
    yield from _continuous(statistics.continuous)
    for pool in statistics.pools:
        yield from _workers(pool)
    yield from _resources(statistics.resources)
    yield Sample(m.MEMORY_LIMIT, (), statistics.memory_limit_bytes)


def _queries(kind: str, queries: QueryTotals) -> Iterator[Sample]:
    yield Sample(m.QUERIES_RUNNING, (kind,), queries.running)
    for outcome, durations in queries.durations_s.items():
        yield Sample(m.QUERIES, (kind, outcome), durations.count)
        yield Sample(m.QUERY_DURATION, (kind, outcome), durations)
    yield Sample(m.FIRST_BATCH, (kind,), queries.first_batch_s)
    for stage, seconds in _stages(queries.waited).items():
        yield Sample(m.QUERY_WAITS, (kind, stage), seconds)
    yield Sample(m.ROWS_IN, (kind,), queries.rows_in)
    yield Sample(m.ROWS_OUT, (kind,), queries.rows_out)
    yield Sample(m.BYTES_OUT, (kind,), queries.bytes_out)
    yield Sample(m.BATCHES_OUT, (kind,), queries.batches_out)


def _stages(waited: Waits) -> Mapping[str, float]:
    return {"client": waited.client_s, "channel": waited.channel_s, "worker": waited.worker_s, "source": waited.source_s}


def _channels(statistics: DatabaseStatistics) -> Iterator[Sample]:
    yield Sample(m.CHANNEL_BATCHES, (), statistics.channel_batches)
    yield Sample(m.CHANNEL_BYTES, (), statistics.channel_bytes)
    yield Sample(m.CHANNEL_LIMIT, (), statistics.channel_limit_bytes)


def _splits(statistics: DatabaseStatistics) -> Iterator[Sample]:
    yield from _by_label(m.SPLITS, statistics.splits)
    yield from _by_label(m.SPLITS_DONE, statistics.splits_done)
    yield Sample(m.SPLITS_LEFT, (), statistics.splits_left)
    yield Sample(m.SPLITS_PRUNED, (), statistics.splits_pruned)
    yield Sample(m.TASKS, (), statistics.tasks)


def _inserts(inserts: InsertStatistics) -> Iterator[Sample]:
    yield Sample(m.INSERTS, (), inserts.inserts)
    yield Sample(m.ROWS_INSERTED, (), inserts.rows)
    yield Sample(m.BYTES_INSERTED, (), inserts.bytes)
    yield Sample(m.INSERT_WAITS, (), inserts.waited_s)


def _relations(relations: Iterable[RelationStatistics]) -> Iterator[Sample]:
    counts, rows, sizes, followers, behind = (Counter[str]() for _ in range(5))
    for relation in relations:
        counts[relation.kind] += 1
        rows[relation.kind] += relation.rows
        sizes[relation.kind] += relation.bytes
        followers[relation.kind] += relation.followers
        behind[relation.kind] = max(behind[relation.kind], relation.behind_bytes)
    yield from _by_label(m.RELATIONS, counts)
    yield from _by_label(m.RELATION_ROWS, rows)
    yield from _by_label(m.RELATION_BYTES, sizes)
    yield from _by_label(m.FOLLOWERS, followers)
    yield from _by_label(m.BEHIND, behind)


def _continuous(totals: ContinuousTotals) -> Iterator[Sample]:
    yield Sample(m.EPOCH_DURATION, (), totals.epoch_s)
    yield Sample(m.LATE_ROWS, (), totals.late_rows)
    # None where nothing waits for event time: 0 would say that all is well.
    if totals.watermark_lag_s is not None:
        yield Sample(m.WATERMARK_LAG, (), totals.watermark_lag_s)
    yield from _by_label(m.STATE_BYTES, totals.state_bytes)
    yield from _by_label(m.STATE_ROWS, totals.state_rows)


def _workers(pool: PoolStatistics) -> Iterator[Sample]:
    working = sum(worker.jobs > 0 for worker in pool.workers)
    yield Sample(m.WORKERS, (pool.kind, "busy"), working)
    yield Sample(m.WORKERS, (pool.kind, "idle"), len(pool.workers) - working)
    yield Sample(m.WORKER_JOBS, (pool.kind,), sum(worker.jobs for worker in pool.workers))
    yield Sample(m.WORKER_JOBS_DONE, (pool.kind,), sum(worker.done for worker in pool.workers))
    yield Sample(m.WORKER_BUSY, (pool.kind,), sum(worker.busy_s for worker in pool.workers))
    yield Sample(m.WORKER_RESTARTS, (pool.kind,), sum(worker.restarts for worker in pool.workers))


def _resources(resources: Iterable[ResourceStatistics]) -> Iterator[Sample]:
    for resource in resources:
        yield Sample(m.RESOURCE_USED, (_label(resource.name),), resource.used)
        yield Sample(m.RESOURCE_LIMIT, (_label(resource.name),), resource.limit)


def _by_label(metric: Metric, values: Mapping[str, float]) -> Iterator[Sample]:
    for name, value in values.items():
        yield Sample(metric, (_label(name),), value)


def _label(name: str) -> str:
    return name.replace(" ", "_")
