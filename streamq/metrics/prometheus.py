"""Gives the statistics of a database to Prometheus.

Nothing is counted here and nothing is pushed: every scrape reads one snapshot, so all its numbers belong together.
Labels have few values each; no query, relation or user is a label.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from streamq.execution.jobs import PoolStatistics
from streamq.execution.statistics import ContinuousTotals, DatabaseStatistics, Totals

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector


class SupportsStatistics(Protocol):
    """What has the numbers of a database at hand: `streamq.Database`."""

    def statistics_nowait(self) -> DatabaseStatistics:
        """Give a snapshot at once. Callable from any thread."""


def collector(database: SupportsStatistics) -> Collector:
    """Make a collector that a ``prometheus_client`` registry can scrape, from any thread.

    ::

        registry = prometheus_client.CollectorRegistry()
        registry.register(streamq.metrics.collector(db))

    A registry holds one database: its ``register`` raises ValueError for a second one.

    Raises:
        ImportError: ``prometheus_client`` is not installed (``pip install 'streamq[metrics]'``).
    """
    from prometheus_client.registry import Collector

    class DatabaseCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            return _families(database.statistics_nowait())

        def describe(self) -> Iterator[Metric]:
            # The names without a database's values: a registry refuses a second database, whose series would be the same.
            return _families(Totals().snapshot())

    return DatabaseCollector()


def _families(statistics: DatabaseStatistics) -> Iterator[Metric]:
    yield from _queries(statistics)
    yield from _output(statistics)
    yield from _reading(statistics)
    yield from _continuous(statistics.continuous)
    yield from _workers(statistics.pools)


def _queries(statistics: DatabaseStatistics) -> Iterator[Metric]:
    yield _gauge("streamq_queries_running", "Queries that run now.", statistics.running)
    yield _counters("streamq_queries", "Queries that have ended, by how they ended.", "outcome", statistics.outcomes)
    yield _counters("streamq_query_strategies", "Queries by partition strategy.", "strategy", statistics.strategies)
    yield _counters("streamq_fallback", "Queries that nothing parallel fitted, by reason.", "reason", statistics.fallbacks)
    yield _counter("streamq_dropped_streams", "Streams that were neither read to their end nor closed.", statistics.dropped_streams)


def _output(statistics: DatabaseStatistics) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    first_batch = statistics.first_batch_s
    yield HistogramMetricFamily(
        "streamq_first_batch_seconds",
        "Time from the start of a query to its first batch.",
        buckets=[("+Inf" if bound == float("inf") else str(bound), count) for bound, count in first_batch.cumulative],
        sum_value=first_batch.sum,
    )
    yield _counter("streamq_rows_out", "Rows handed to readers.", statistics.rows_out)
    yield _counter("streamq_bytes_out", "Bytes of Arrow buffers handed to readers.", statistics.bytes_out)
    yield _counter("streamq_batches_out", "Batches handed to readers.", statistics.batches_out)
    yield _gauge("streamq_channel_batches", "Batches that wait for their readers.", statistics.channel_batches)
    yield _gauge("streamq_channel_bytes", "Bytes of Arrow buffers that wait for their readers.", statistics.channel_bytes)
    yield _counter("streamq_channel_blocked_seconds", "Time that producers waited for readers, all added up.", statistics.blocked_s)


def _reading(statistics: DatabaseStatistics) -> Iterator[Metric]:
    splits = {unit.replace(" ", "_"): count for unit, count in statistics.splits.items()}
    yield _counters("streamq_splits", "Splits that queries read, by what they were made of.", "strategy", splits)
    yield _counter("streamq_splits_pruned", "Splits that statistics ruled out.", statistics.splits_pruned)
    yield _counter("streamq_tasks", "Pieces of work that were done.", statistics.tasks)
    counts, rows, sizes, followers, behind = (Counter[str]() for _ in range(5))
    for relation in statistics.relations:
        kind = relation.kind.replace(" ", "_")
        counts[kind] += 1
        rows[kind] += relation.rows
        sizes[kind] += relation.bytes
        followers[kind] += relation.followers
        behind[kind] = max(behind[kind], relation.behind_bytes)
    yield _gauges("streamq_relations", "Relations, by kind.", "kind", counts)
    yield _gauges("streamq_relation_rows", "Rows in relations, by kind.", "kind", rows)
    yield _gauges("streamq_relation_bytes", "Bytes in relations, by kind.", "kind", sizes)
    yield _gauges("streamq_relation_followers", "Continuous queries that read relations, by kind.", "kind", followers)
    yield _gauges("streamq_relation_behind_bytes", "What the slowest follower of a relation has not taken, by kind.", "kind", behind)


def _continuous(totals: ContinuousTotals) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    yield _gauge("streamq_continuous_queries_running", "Continuous queries that run now.", totals.running)
    yield _counter("streamq_epochs", "Epochs that continuous queries have computed.", totals.epochs)
    yield _counter("streamq_rows_in", "Rows and changes that continuous queries have read.", totals.rows_in)
    yield _counter("streamq_late_rows", "Rows that came too late for their window or time bound.", totals.late_rows)
    yield _gauges("streamq_state_bytes", "What running continuous queries keep, by kind of operator.", "operator", totals.state_bytes)
    # Without a sample where nothing waits for event time: 0 would say that all is well.
    text = "How far the watermark is behind the clock, of the running query for which that is most."
    yield GaugeMetricFamily("streamq_watermark_lag_seconds", text, value=totals.watermark_lag_s)
    yield _counter("streamq_continuous_blocked_seconds", "Time that continuous queries waited for readers, all added up.", totals.blocked_s)


def _workers(pools: tuple[PoolStatistics, ...]) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    workers = GaugeMetricFamily("streamq_workers", "Workers, by what they are and whether they have work.", labels=("executor", "state"))
    jobs = GaugeMetricFamily("streamq_worker_jobs", "Jobs that are open.", labels=("executor",))
    busy = CounterMetricFamily("streamq_worker_busy_seconds", "Time that workers worked, all added up.", labels=("executor",))
    done = CounterMetricFamily("streamq_worker_jobs_done", "Jobs that ended.", labels=("executor",))
    restarts = CounterMetricFamily("streamq_worker_restarts", "Workers that were started in place of one that died.", labels=("executor",))
    for pool in pools:
        working = sum(worker.jobs > 0 for worker in pool.workers)
        workers.add_metric((pool.kind, "busy"), working)
        workers.add_metric((pool.kind, "idle"), len(pool.workers) - working)
        jobs.add_metric((pool.kind,), sum(worker.jobs for worker in pool.workers))
        busy.add_metric((pool.kind,), sum(worker.busy_s for worker in pool.workers))
        done.add_metric((pool.kind,), sum(worker.done for worker in pool.workers))
        restarts.add_metric((pool.kind,), sum(worker.restarts for worker in pool.workers))
    yield from (workers, jobs, busy, done, restarts)


def _counter(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, text, value=value)


def _counters(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    return _labelled(CounterMetricFamily(name, text, labels=(label,)), values)


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return _labelled(GaugeMetricFamily(name, text, labels=(label,)), values)


def _labelled(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, float]) -> Metric:
    for key, value in values.items():
        family.add_metric((key,), value)
    return family
