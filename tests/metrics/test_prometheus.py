"""The exposition that Prometheus scrapes, as its own parser reads it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace

import pytest

from streamq.execution.histogram import NO_EPOCHS
from streamq.execution.jobs import PoolStatistics, WorkerStatistics
from streamq.execution.statistics import (
    ContinuousStatistics,
    DatabaseStatistics,
    InsertStatistics,
    OperatorStatistics,
    QueryStatistics,
    RelationStatistics,
    ResourceStatistics,
    ScanStatistics,
    Waits,
)
from streamq.execution.totals import Totals
from streamq.metrics import collector
from streamq.metrics.definitions import METRICS, Metric
from streamq.metrics.requests import Requests

prometheus_client = pytest.importorskip("prometheus_client")
parser = pytest.importorskip("prometheus_client.parser")

QUERY = QueryStatistics(
    query_id="q1",
    sql="SELECT 1",
    outcome="running",
    started_at=0.0,
    elapsed_s=1.5,
    first_batch_s=0.02,
    rows_out=10,
    bytes_out=80,
    batches_out=2,
    strategy="BroadcastJoin",
    executor="process",
    fallback="no_equi_key",
    scans=(ScanStatistics("flights", "row group", max_parallelism=20, splits=17, pruned=3, rows=340_000, rows_done=40_000, splits_done=2),),
    tasks=4,
    channel_batches=1,
    channel_bytes=40,
    waited=Waits(client_s=1.0, channel_s=0.25, worker_s=0.5),
)
CONTINUOUS = ContinuousStatistics(
    epochs=5,
    rows_in={"clicks": 70, "users": 30},
    late_rows=3,
    watermark=None,
    watermarks={},
    idle=frozenset(),
    operators=(
        OperatorStatistics("query/first", 10, 10, 4, 400, 0.1, "top_n"),
        OperatorStatistics("query/limit", 10, 10, 1, 100, 0.1, "top_n"),
        OperatorStatistics("query/input/map", 100, 10, 0, 0, 0.1, "map"),
    ),
    watermark_lag_s=7.5,
    epoch_s=NO_EPOCHS.counting(0.002).counting(0.2),
)
FOLLOWING = replace(
    QUERY, query_id="q2", strategy="Continuous", scans=(), fallback=None, waited=Waits(channel_s=0.5, source_s=2.0), continuous=CONTINUOUS
)
GONE = 1 << 22
"""No process has this number: it is above the largest that there may be."""
WORKERS = (WorkerStatistics(0, os.getpid(), 2, 7, 1.25, 1), WorkerStatistics(1, GONE, 0, 3, 0.25, 0))


class Numbers:
    """A database of which only the numbers are needed."""

    def __init__(self) -> None:
        self.totals = Totals()

    def statistics_nowait(self) -> DatabaseStatistics:
        relations = (RelationStatistics("a", "source", 5, 50), RelationStatistics("b", "source", 7, 70, followers=3, behind_bytes=9))
        return self.totals.snapshot(
            pools=(PoolStatistics("process", WORKERS),),
            relations=relations,
            inserts=InsertStatistics(inserts=2, rows=12, bytes=120, waited_s=0.75),
            resources=(ResourceStatistics("epoch threads", 3, 32),),
            channel_limit_bytes=4_096,
            memory_limit_bytes=32_768,
        )


@pytest.fixture
def numbers() -> Numbers:
    numbers = Numbers()
    numbers.totals.query_started("q0", lambda: QUERY)
    numbers.totals.query_ended(replace(QUERY, query_id="q0", outcome="cancelled"))
    numbers.totals.query_started("q1", lambda: QUERY)
    numbers.totals.stream_dropped()
    return numbers


def scrape(numbers: Numbers, requests: Requests | None = None) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Give the samples by name and labels."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(collector(numbers, requests))
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in parser.text_string_to_metric_families(prometheus_client.generate_latest(registry).decode()):
        for sample in family.samples:
            samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return samples


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("streamq_queries_running", {"kind": "snapshot"}, 1),
        ("streamq_queries_running", {"kind": "continuous"}, 0),
        ("streamq_queries_total", {"kind": "snapshot", "outcome": "cancelled"}, 1),
        ("streamq_queries_total", {"kind": "continuous", "outcome": "timed_out"}, 0),
        ("streamq_query_duration_seconds_bucket", {"kind": "snapshot", "outcome": "cancelled", "le": "1.0"}, 0),
        ("streamq_query_duration_seconds_bucket", {"kind": "snapshot", "outcome": "cancelled", "le": "2.5"}, 1),
        ("streamq_query_duration_seconds_sum", {"kind": "snapshot", "outcome": "cancelled"}, 1.5),
        ("streamq_first_batch_seconds_bucket", {"kind": "snapshot", "le": "0.01"}, 0),
        ("streamq_first_batch_seconds_bucket", {"kind": "snapshot", "le": "0.025"}, 2),
        ("streamq_first_batch_seconds_bucket", {"kind": "snapshot", "le": "+Inf"}, 2),
        ("streamq_first_batch_seconds_count", {"kind": "snapshot"}, 2),
        ("streamq_first_batch_seconds_sum", {"kind": "snapshot"}, 0.04),
        ("streamq_query_wait_seconds_total", {"kind": "snapshot", "stage": "client"}, 2.0),
        ("streamq_query_wait_seconds_total", {"kind": "snapshot", "stage": "channel"}, 0.5),
        ("streamq_query_wait_seconds_total", {"kind": "snapshot", "stage": "worker"}, 1.0),
        ("streamq_query_wait_seconds_total", {"kind": "snapshot", "stage": "source"}, 0.0),
        ("streamq_query_strategies_total", {"strategy": "BroadcastJoin"}, 2),
        ("streamq_query_fallbacks_total", {"reason": "no_equi_key"}, 2),
        ("streamq_dropped_streams_total", {}, 1),
        ("streamq_rows_in_total", {"kind": "snapshot"}, 80_000),
        ("streamq_rows_out_total", {"kind": "snapshot"}, 20),
        ("streamq_bytes_out_total", {"kind": "snapshot"}, 160),
        ("streamq_batches_out_total", {"kind": "snapshot"}, 4),
        ("streamq_inserts_total", {}, 2),
        ("streamq_inserted_rows_total", {}, 12),
        ("streamq_inserted_bytes_total", {}, 120),
        ("streamq_insert_wait_seconds_total", {}, 0.75),
        ("streamq_channel_batches", {}, 1),
        ("streamq_channel_bytes", {}, 40),
        ("streamq_channel_limit_bytes", {}, 4_096),
        ("streamq_splits_total", {"unit": "row_group"}, 34),
        ("streamq_splits_done_total", {"unit": "row_group"}, 4),
        ("streamq_splits_left", {}, 15),
        ("streamq_splits_pruned_total", {}, 6),
        ("streamq_tasks_total", {}, 8),
        ("streamq_relations", {"kind": "source"}, 2),
        ("streamq_relation_rows", {"kind": "source"}, 12),
        ("streamq_relation_bytes", {"kind": "source"}, 120),
        ("streamq_relation_followers", {"kind": "source"}, 3),
        ("streamq_relation_behind_bytes", {"kind": "source"}, 9),
        ("streamq_workers", {"executor": "process", "state": "busy"}, 1),
        ("streamq_workers", {"executor": "process", "state": "idle"}, 1),
        ("streamq_worker_jobs", {"executor": "process"}, 2),
        ("streamq_worker_busy_seconds_total", {"executor": "process"}, 1.5),
        ("streamq_worker_jobs_done_total", {"executor": "process"}, 10),
        ("streamq_worker_restarts_total", {"executor": "process"}, 1),
        ("streamq_memory_limit_bytes", {}, 32_768),
        ("streamq_resource_used", {"resource": "epoch_threads"}, 3),
        ("streamq_resource_limit", {"resource": "epoch_threads"}, 32),
    ],
)
def test_sample(numbers: Numbers, name: str, labels: Mapping[str, str], value: float) -> None:
    """Each number is under its name and labels."""
    assert scrape(numbers)[name][frozenset(labels.items())] == pytest.approx(value)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("streamq_queries_running", {"kind": "continuous"}, 2),
        ("streamq_queries_running", {"kind": "snapshot"}, 1),
        ("streamq_queries_total", {"kind": "continuous", "outcome": "completed"}, 1),
        ("streamq_epoch_duration_seconds_count", {}, 6),
        ("streamq_epoch_duration_seconds_bucket", {"le": "0.0025"}, 3),
        ("streamq_rows_in_total", {"kind": "continuous"}, 300),
        ("streamq_late_rows_total", {}, 9),
        ("streamq_state_bytes", {"operator": "top_n"}, 1_000),
        ("streamq_state_rows", {"operator": "top_n"}, 10),
        ("streamq_watermark_lag_seconds", {}, 60),
        ("streamq_query_wait_seconds_total", {"kind": "continuous", "stage": "channel"}, 1.5),
        ("streamq_query_wait_seconds_total", {"kind": "continuous", "stage": "source"}, 6.0),
    ],
)
def test_sample_of_continuous_queries(numbers: Numbers, name: str, labels: Mapping[str, str], value: float) -> None:
    """Two run and one has ended: counters have all three, gauges those that run, and of the lags the largest."""
    for query_id, lag_s in (("q2", 7.5), ("q3", 60.0), ("q4", 900.0)):
        query = replace(FOLLOWING, query_id=query_id, continuous=replace(CONTINUOUS, watermark_lag_s=lag_s))
        numbers.totals.query_started(query_id, lambda query=query: query)  # type: ignore[misc]
    numbers.totals.query_ended(replace(FOLLOWING, query_id="q4", outcome="completed"))
    assert scrape(numbers)[name][frozenset(labels.items())] == pytest.approx(value)


def test_no_lag_is_not_a_lag_of_zero(numbers: Numbers) -> None:
    """Where no query waits for event time there is no sample; nor is there one for operators that keep nothing."""
    samples = scrape(numbers)
    assert "streamq_watermark_lag_seconds" not in samples
    assert "streamq_state_bytes" not in samples


def test_processes_are_asked_for_their_memory(numbers: Numbers) -> None:
    """This one and each worker that still lives."""
    samples = scrape(numbers)
    for name in ("streamq_resident_memory_bytes", "streamq_cpu_seconds_total"):
        assert {process for labels in samples[name] for _, process in labels} == {"main", "worker-0"}
        assert all(samples[name].values())


def test_requests_of_a_service_count_by_route_and_code(numbers: Numbers) -> None:
    """Those that have ended; times by route."""
    requests = Requests()
    for route, code, elapsed_s in (("query", "200", 0.2), ("query", "400", 0.001), ("explain", "200", 0.3)):
        requests.began()
        requests.ended(route, code, elapsed_s)
    requests.began()
    samples = scrape(numbers, requests)
    assert samples["streamq_http_requests_total"][frozenset({("route", "query"), ("code", "400")})] == 1
    assert samples["streamq_http_request_duration_seconds_sum"][frozenset({("route", "query")})] == pytest.approx(0.201)
    assert samples["streamq_http_requests_running"][frozenset()] == 1


@pytest.mark.parametrize("metric", METRICS, ids=str)
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    """Counters end in _total, and before that in their unit; words are in lower case; the text is a sentence."""
    base = metric.name.removesuffix("_total")
    assert (base != metric.name) == (metric.kind == "counter")
    assert re.fullmatch(r"streamq(_[a-z]+)+", base)
    assert metric.unit not in ("seconds", "bytes") or metric.unit in base.split("_")
    assert metric.text.endswith(".")


def test_names_and_constants_are_unique() -> None:
    """No metric is defined twice."""
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_every_metric_says_something(numbers: Numbers) -> None:
    """Each has a sample of what a busy database tells, with the labels that its definition has."""
    numbers.totals.query_started("q2", lambda: FOLLOWING)
    requests = Requests()
    requests.began()
    requests.ended("query", "200", 0.1)
    samples = scrape(numbers, requests)
    for metric in METRICS:
        name = f"{metric.name}_count" if metric.kind == "histogram" else metric.name
        assert {tuple(sorted(dict(labels))) for labels in samples[name]} == {tuple(sorted(metric.labels))}


def test_two_databases_do_not_share_a_registry() -> None:
    """Their series would be the same, so the registry refuses the second."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(collector(Numbers()))
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(collector(Numbers()))


def test_registering_reads_nothing_of_the_database() -> None:
    """A collector can be registered before its database is ready."""

    class Unready:
        def statistics_nowait(self) -> DatabaseStatistics:
            raise AssertionError("read")

    prometheus_client.CollectorRegistry().register(collector(Unready()))
