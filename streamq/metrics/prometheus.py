"""Gives the statistics of a database to Prometheus.

Nothing is counted here and nothing is pushed: every scrape reads one snapshot, so all its numbers belong together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Protocol, assert_never

from streamq.execution.histogram import Histogram
from streamq.execution.statistics import DatabaseStatistics
from streamq.metrics.definitions import METRICS
from streamq.metrics.definitions import Metric as Definition
from streamq.metrics.requests import Requests
from streamq.metrics.samples import Sample, samples

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector


class SupportsStatistics(Protocol):
    """What has the numbers of a database at hand: `streamq.Database`."""

    def statistics_nowait(self) -> DatabaseStatistics:
        """Give a snapshot at once. Callable from any thread."""


def collector(database: SupportsStatistics, requests: Requests | None = None) -> Collector:
    """Make a collector that a ``prometheus_client`` registry can scrape, from any thread. A service adds its `requests`.

    ::

        registry = prometheus_client.CollectorRegistry()
        registry.register(streamq.metrics.collector(db))

    A registry holds one database: its ``register`` raises ValueError for a second one.

    Raises:
        ImportError: ``prometheus_client`` or ``psutil`` is not installed (``pip install 'streamq[metrics]'``).
    """
    from prometheus_client.registry import Collector

    from streamq.metrics.processes import process_samples

    class DatabaseCollector(Collector):
        def collect(self) -> Iterator[Metric]:
            statistics = database.statistics_nowait()
            of_service = () if requests is None else requests.samples()
            return _families(chain(samples(statistics), process_samples(statistics.pools), of_service))

        def describe(self) -> Iterator[Metric]:
            # The names without a database's values: a registry refuses a second database, whose series would be the same.
            return _families(())

    return DatabaseCollector()


def _families(values: Iterable[Sample]) -> Iterator[Metric]:
    """Give every metric, with those of the samples that are its own."""
    found: dict[Definition, list[Sample]] = {metric: [] for metric in METRICS}
    for sample in values:
        found[sample.metric].append(sample)
    return (_family(metric, own) for metric, own in found.items())


def _family(metric: Definition, values: Iterable[Sample]) -> Metric:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    match metric.kind:
        case "counter" | "gauge" as kind:
            family = (CounterMetricFamily if kind == "counter" else GaugeMetricFamily)(metric.name, metric.text, labels=metric.labels)
            for sample in values:
                assert not isinstance(sample.value, Histogram)
                family.add_metric(sample.labels, sample.value)
            return family
        case "histogram":
            histogram = HistogramMetricFamily(metric.name, metric.text, labels=metric.labels)
            for sample in values:
                assert isinstance(sample.value, Histogram)
                histogram.add_metric(sample.labels, _buckets(sample.value), sample.value.sum)
            return histogram
        case _:
            assert_never(metric.kind)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    return [("+Inf" if bound == float("inf") else str(bound), count) for bound, count in histogram.cumulative]
